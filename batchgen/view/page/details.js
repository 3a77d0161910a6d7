// One image with all that is known of it. Knows a row, and asks for its facts.
import { ask, byId, element } from "./asking.js";
import { isUnsafe } from "./cell.js";

const dialog = byId("details");
let shown = null;

export const isOpen = () => dialog.open;
export const current = () => shown;
export const close = () => dialog.close();

// The end of a prompt that an encoder did not read is marked.
function prompt(said) {
  const text = said.prompt ?? "", cuts = Object.entries(said.cut).sort(([, one], [, two]) => two.length - one.length);
  const box = byId("prompt");
  box.replaceChildren();
  const found = cuts.find(([, cut]) => text.endsWith(cut));
  if (!found) { box.textContent = text; return; }
  box.append(text.slice(0, text.length - found[1].length));
  const end = element("mark", found[1]);
  end.title = `not read by ${cuts.map(([name]) => name).join(", ")}`;
  box.append(end);
}

function facts(pairs) {
  byId("facts").replaceChildren(...pairs.map(([name, value]) => {
    const row = element("tr");
    row.append(element("td", name), element("td", value));
    return row;
  }));
}

export function showMark(row) {
  for (const mark of ["keep", "drop"]) {
    byId(mark).setAttribute("aria-pressed", String(row.mark === mark));
    byId(mark).disabled = row.failed !== null;
  }
}

export async function open(row) {
  shown = row;
  const image = byId("whole");
  image.hidden = row.picture === null;
  image.parentElement.classList.toggle("unsafe", isUnsafe(row));
  if (row.picture !== null) image.src = `/whole/${row.picture}`;
  else image.removeAttribute("src");
  image.alt = row.prompt;
  byId("no-picture").textContent = row.failed === null ? "" : `failed: ${row.failed}`;
  byId("prompt").textContent = row.prompt;
  byId("alike").disabled = row.failed !== null;
  facts([]);
  byId("coded").hidden = true;
  showMark(row);
  if (!dialog.open) dialog.showModal();
  const said = await ask("details", { number: row.number });
  if (shown !== row) return;
  prompt(said);
  facts(said.facts);
  byId("coded").hidden = said.code === null;
  byId("code").textContent = said.code ?? "";
}

byId("close").addEventListener("click", close);
byId("copy").addEventListener("click", () => navigator.clipboard.writeText(byId("code").textContent));
