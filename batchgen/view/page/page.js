// The page of batchgen view: its parts put together. All that it shows comes as JSON; text is only ever set as text.
import { about, ask, asked, byId, element, recall, remember, tell } from "./asking.js";
import { blurAbove, cell, line, showMarks, titleOf } from "./cell.js";
import * as details from "./details.js";
import * as filter from "./filter.js";
import { GAP, Grid } from "./grid.js";
import { listen } from "./keys.js";
import * as saving from "./saving.js";

const BELOW = 57, LINE = 46, BITS = "8", scroller = byId("scroller");
let known = null, turn = 0, at = 0, columns = [];

const grid = new Grid(scroller, byId("canvas"), {
  load: async (offset, limit, signal) => (await ask(beside() ? "lines" : "rows", { offset, limit }, signal)).rows,
  draw: (item, place) => beside()
    ? line(item, grid.wide, place === grid.current ? at : -1)
    : cell(item, place === grid.current),
});
grid.complain = complain;

const beside = () => byId("beside").checked;
const number = (count) => count.toLocaleString("en");

function complain(error) {
  if (error?.name === "AbortError") return;
  byId("problem").textContent = error ? error.message : "";
  byId("problem").hidden = !error;
}

// Ask for the first rows, and with them how many there are.
async function show() {
  const mine = ++turn;
  byId("group").disabled = beside(); // lines have no headings
  byId("count").textContent = "…";
  try {
    const groups = !beside() && asked.group ? (await ask("groups", {})).groups : null;
    const first = await ask(beside() ? "lines" : "rows", { offset: 0, limit: 1 });
    if (mine !== turn) return;
    complain(null);
    const images = beside() ? first.images : first.count;
    byId("count").textContent = images === known.rows ? `${number(images)} images` : `${number(images)} of ${number(known.rows)} images`;
    heads(beside() ? first.columns : []);
    at = 0;
    const all = groups?.map((group) => ({ title: `${asked.group}: ${titleOf(group.value)}`, count: group.count }));
    grid.open(all ?? [{ title: null, count: first.count }], beside() ? LINE : BELOW, columns.length);
  } catch (error) {
    if (mine !== turn) return;
    byId("count").textContent = "";
    complain(error);
  }
}

// Names of the columns, above them.
function heads(names) {
  columns = names;
  const box = byId("columns");
  box.hidden = !names.length;
  box.replaceChildren(...names.map((name) => element("div", name)));
}

grid.laid = () => { byId("columns").style.gridAutoColumns = `${grid.wide}px`; };

function row() {
  const item = grid.item(grid.current);
  return beside() ? item?.[at] ?? null : item ?? null;
}

function go(item, column = at) {
  const before = grid.current;
  if (beside()) at = Math.min(Math.max(0, column), columns.length - 1);
  grid.go(item);
  if (beside()) { grid.redraw(before); grid.redraw(grid.current); aside(); }
  if (details.isOpen() && row()) details.open(row()).catch(complain);
}

// Scroll to the column that is chosen.
function aside() {
  const left = 16 + at * (grid.wide + GAP);
  if (left < scroller.scrollLeft) scroller.scrollLeft = left - 16;
  else if (left + grid.wide > scroller.scrollLeft + scroller.clientWidth) scroller.scrollLeft = left + grid.wide + 16 - scroller.clientWidth;
}

async function mark(name) {
  const one = details.isOpen() ? details.current() : row();
  if (!one || one.failed !== null) return;
  const said = one.mark === name ? "" : name;
  try {
    showMarks((await tell("mark", { number: String(one.number), mark: said })).marks);
  } catch (error) {
    complain(error);
    return;
  }
  one.mark = said;
  const place = grid.current;
  grid.redraw(place);
  if (details.isOpen()) details.showMark(one);
  if (asked.marked) show().then(() => grid.go(place)).catch(complain); // it may be one of them no more
}

function alike() {
  const one = details.isOpen() ? details.current() : row();
  if (asked.near !== "") { filter.change({ near: "", bits: "" }); return; }
  if (!one || one.failed !== null) return;
  if (details.isOpen()) details.close();
  filter.change({ near: String(one.number), bits: BITS });
}

function side(by) {
  if (beside()) go(grid.current, at + by);
  else go(grid.current + by);
}

function clicked(event) {
  const found = event.target.closest(".cell");
  if (!found) return;
  for (const [place, one] of grid.shown)
    if (one.contains(found)) {
      go(place, Number(found.dataset.at ?? 0));
      if (row()) details.open(row()).catch(complain);
      return;
    }
}

function toggle(id) { byId(id).click(); }

const actions = {
  ArrowLeft: () => side(-1),
  ArrowRight: () => side(1),
  ArrowUp: () => go(grid.current - grid.perLine),
  ArrowDown: () => go(grid.current + grid.perLine),
  PageUp: () => go(grid.current - grid.page * grid.perLine),
  PageDown: () => go(grid.current + grid.page * grid.perLine),
  Home: () => go(0),
  End: () => go(grid.count - 1),
  Enter: () => row() && !details.isOpen() && details.open(row()).catch(complain),
  Escape: () => { if (details.isOpen()) details.close(); else if (asked.near !== "") alike(); },
  k: () => mark("keep"),
  d: () => mark("drop"),
  n: alike,
  c: () => toggle("beside"),
  b: () => known.nsfw && toggle("blur"),
  s: () => saving.open(),
  "/": () => byId("search").focus(),
  f: () => byId("where").focus(),
  "?": () => byId("keys").showModal(),
};

// In a dialog only its own keys hold.
function isClosed(key) {
  if (byId("keys").open || byId("saving").open) return true;
  return details.isOpen() && !["ArrowLeft", "ArrowRight", "Escape", "k", "d", "n", "b"].includes(key);
}

async function begin() {
  recall();
  remember(); // the address without its token
  known = await about();
  document.title = `${known.runs.join(", ")} – batchgen view`;
  byId("title").textContent = known.runs.join(", ");
  if (known.rows < known.planned) byId("title").append(element("span", ` · ${number(known.planned - known.rows)} not rendered yet`));
  showMarks(known.marks);
  byId("blurring").hidden = !known.nsfw;
  const above = known.blur_above ?? 0.5;
  byId("blur-words").textContent = `blur above ${above} of ${known.nsfw}`;
  blurAbove(above);
  byId("blur").checked = known.blur_above !== null;
  document.body.classList.toggle("blur", byId("blur").checked);
  filter.begin(known, show);
  await show();
  scroller.focus();
}

byId("blur").addEventListener("change", () => document.body.classList.toggle("blur", byId("blur").checked));
byId("beside").addEventListener("change", show);
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("keep").addEventListener("click", () => mark("keep"));
byId("drop").addEventListener("click", () => mark("drop"));
byId("alike").addEventListener("click", alike);
scroller.addEventListener("click", clicked);
scroller.addEventListener("scroll", () => { byId("columns").scrollLeft = scroller.scrollLeft; });
listen(actions, isClosed);
begin().catch(complain);
