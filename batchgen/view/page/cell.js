// One picture of the grid with what is to be seen at once: failed, cut, suspect, its mark. Knows a row, and no place.
import { byId, element } from "./asking.js";

let threshold = 2;

export function blurAbove(value) { threshold = value; }

export const isUnsafe = (row) => row.nsfw !== null && row.nsfw > threshold;

export const titleOf = (value) => (value === null ? "none" : String(value));

function frame(row) {
  if (row.failed !== null) return element("div", row.failed, "frame none");
  const made = element("div", undefined, isUnsafe(row) ? "frame unsafe" : "frame");
  const image = element("img");
  image.decoding = "async";
  image.alt = row.prompt;
  image.src = `/small/${row.picture}`;
  made.append(image);
  return made;
}

function notes(row, inLine) {
  const made = element("div", undefined, "notes");
  if (row.mark) made.append(element("b", row.mark, row.mark));
  if (row.failed !== null) made.append(element("b", "failed", "failed"));
  if (row.cut.length) made.append(element("b", "cut"));
  if (row.suspect) made.append(element("b", row.suspect));
  const seed = row.seed === null ? null : `seed ${row.seed}`, named = row.cell === "default" ? null : row.cell;
  const rest = inLine ? [] : [row.value === null ? null : titleOf(row.value), named, seed].filter(Boolean);
  made.append(rest.join(" · "));
  made.title = [...rest, row.cut.length ? `${row.cut.join(", ")} did not read the end of the prompt` : ""].join(" · ");
  return made;
}

export function cell(row, current, inLine = false) {
  const made = element("div", undefined, ["cell", row.mark, current ? "current" : ""].join(" "));
  made.append(frame(row), ...(inLine ? [] : [element("div", row.prompt, "caption")]), notes(row, inLine));
  made.dataset.number = row.number;
  return made;
}

// A line of pictures of one prompt and seed, one for each column.
export function line(rows, wide, current) {
  const made = element("div", undefined, "line");
  const first = rows.find(Boolean);
  const words = element("div", first.prompt, "across");
  if (first.seed !== null) words.append(element("span", `  seed ${first.seed}`));
  made.append(words);
  rows.forEach((row, at) => {
    const one = row ? cell(row, at === current, true) : element("div", undefined, "cell");
    if (!row) one.append(element("div", "not there", "frame none"));
    one.style.left = `${16 + at * (wide + 10)}px`;
    one.style.top = "24px";
    one.dataset.at = at;
    made.append(one);
  });
  return made;
}

export function showMarks(marks) {
  byId("marks").textContent = marks.keep || marks.drop ? `${marks.keep} kept, ${marks.drop} dropped` : "";
}
