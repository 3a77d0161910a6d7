"use strict";
// The page of a comparison. All that it shows is in the block of data; text is only ever set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const list = byId("prompts"), sort = byId("sort"), scorer = byId("scorer"), category = byId("category");

function element(kind, text, name) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

const scoreOf = (image, name) => (image && image.scores[name] !== undefined ? image.scores[name] : null);

// The mean score of a prompt in each column, over its lines (seeds); null where there is none.
function means(prompt, name) {
  return data.columns.map((_, at) => {
    const found = prompt.lines.map((line) => scoreOf(line.images[at], name)).filter((score) => score !== null);
    return found.length ? found.reduce((sum, one) => sum + one, 0) / found.length : null;
  });
}

function spread(prompt, name) {
  const found = means(prompt, name).filter((one) => one !== null);
  return found.length > 1 ? Math.max(...found) - Math.min(...found) : -1;
}

function picture(image, at, best) {
  const cell = element("div");
  if (!image) {
    cell.append(element("div", "no image", "none"), element("div", data.columns[at]));
    return cell;
  }
  const shown = element("img");
  shown.src = image.source;
  shown.alt = data.columns[at];
  cell.append(shown, element("div", data.columns[at], best ? "best" : ""));
  const said = Object.entries(image.scores).map(([name, score]) => `${name} ${score.toPrecision(4)}`);
  cell.append(element("div", [...said, image.id, ...image.notes].join(" · "), "small"));
  return cell;
}

function section(prompt) {
  const whole = element("section", undefined, "prompt");
  whole.tabIndex = 0;
  whole.append(element("div", prompt.text, "words"));
  const found = means(prompt, scorer.value);
  const top = data.higher[scorer.value] === false
    ? Math.min(...found.filter((one) => one !== null)) : Math.max(...found.filter((one) => one !== null));
  for (const line of prompt.lines) {
    whole.append(element("div", [`seed ${line.seed}`, prompt.category].filter(Boolean).join(" · "), "small"));
    const row = element("div", undefined, "line");
    line.images.forEach((image, at) => row.append(picture(image, at, found[at] !== null && found[at] === top)));
    whole.append(row);
  }
  return whole;
}

function chosen() {
  return data.prompts.filter((prompt) => !category.value || prompt.category === category.value);
}

function show() {
  const prompts = [...chosen()], name = scorer.value;
  if (sort.value === "differ") prompts.sort((one, two) => spread(two, name) - spread(one, name));
  if (sort.value === "best" || sort.value === "worst") {
    const mean = (prompt) => {
      const found = means(prompt, name).filter((one) => one !== null);
      return found.length ? found.reduce((sum, one) => sum + one, 0) / found.length : NaN;
    };
    const sign = sort.value === "best" ? -1 : 1;
    prompts.sort((one, two) => sign * ((mean(one) || 0) - (mean(two) || 0)));
  }
  list.replaceChildren(...prompts.map(section));
  byId("count").textContent = `${prompts.length} of ${data.prompts.length} prompts`;
}

function fill(select, values, words = (value) => value) {
  for (const value of values) {
    const option = element("option", words(value));
    option.value = value;
    select.append(option);
  }
}

// ---- blind votes: two columns, sides drawn anew for each pair, nothing says which is which ----
const dialog = byId("blind"), votes = [];
let pairs = [], pair = null;

function draw() {
  pair = pairs.pop() || null;
  const done = votes.length;
  byId("asked").textContent = pair ? pair.text : `No more pairs: ${done} votes. Save them.`;
  byId("progress").textContent = `${done} votes, ${pairs.length + (pair ? 1 : 0)} pairs left`;
  for (const side of ["left", "right"]) {
    byId(side).hidden = !pair;
    if (pair) byId(side).src = pair[side].source;
  }
}

function shuffled(items) {
  const found = [...items];
  for (let at = found.length - 1; at > 0; at--) {
    const other = crypto.getRandomValues(new Uint32Array(1))[0] % (at + 1);
    [found[at], found[other]] = [found[other], found[at]];
  }
  return found;
}

function begin() {
  const one = Number(byId("one").value), two = Number(byId("two").value);
  if (one === two) return;
  pairs = [];
  for (const prompt of chosen())
    for (const line of prompt.lines)
      if (line.images[one] && line.images[two]) {
        const [left, right] = shuffled([{ ...line.images[one], column: one }, { ...line.images[two], column: two }]);
        pairs.push({ text: prompt.text, key: prompt.key, seed: line.seed, left, right });
      }
  pairs = shuffled(pairs);
  dialog.showModal();
  draw();
}

function vote(answer) {
  if (!pair) return;
  const said = { rater: byId("rater").value || "anonymous", prompt: pair.key, seed: pair.seed, vote: answer };
  for (const side of ["left", "right"]) {
    said[side] = pair[side].id;
    said[`${side}_run`] = data.runs[pair[side].column];
    said[`${side}_column`] = data.columns[pair[side].column];
  }
  votes.push(said);
  draw();
}

function save() {
  const text = votes.map((one) => JSON.stringify(one) + "\n").join("");
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" }));
  link.download = "votes.jsonl";
  link.click();
  URL.revokeObjectURL(link.href);
}

function step(by) {
  const all = [...list.children], at = all.indexOf(document.activeElement);
  const next = all[Math.min(all.length - 1, Math.max(0, at + by))];
  if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
}

document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.target.tagName === "SELECT") return;
  if (dialog.open) {
    const answer = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" }[event.key];
    if (answer) { event.preventDefault(); vote(answer); }
    return;
  }
  if (event.key === "j") step(1);
  if (event.key === "k") step(-1);
  if (event.key === "s") { sort.selectedIndex = (sort.selectedIndex + 1) % sort.options.length; show(); }
});

fill(scorer, data.scorers);
fill(category, [...new Set(data.prompts.map((prompt) => prompt.category).filter(Boolean))].sort());
const columns = data.columns.map((_, at) => at);
fill(byId("one"), columns, (at) => data.columns[at]);
fill(byId("two"), columns, (at) => data.columns[at]);
byId("two").selectedIndex = Math.min(1, columns.length - 1);
for (const select of [sort, scorer, category]) select.addEventListener("change", show);
byId("begin").addEventListener("click", begin);
byId("save").addEventListener("click", save);
byId("close").addEventListener("click", () => dialog.close());
for (const answer of ["left", "right", "tie"]) byId(`vote-${answer}`).addEventListener("click", () => vote(answer));
show();
