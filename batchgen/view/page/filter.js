// The controls above the grid: what is searched, filtered, ordered and grouped. Tells its listener when they change.
import { ask, asked, byId, element, remember } from "./asking.js";

const CHIPS = [
  ["failed", { where: "status = 'failed'" }],
  ["cut", { where: "(truncated_clip_l is not null or truncated_clip_g is not null or truncated_t5 is not null)" }],
  ["suspect", { where: "suspect is not null" }],
  ["kept", { marked: "keep" }],
  ["dropped", { marked: "drop" }],
];
let changed = () => {};
let delay = 0;

const quoted = (name) => `"${name.replaceAll('"', '""')}"`;
const isNumber = (kind) => /^(u?int|float|double|half|decimal)/.test(kind);

function literal(value, kind) {
  if (typeof value === "boolean") return String(value);
  return isNumber(kind) ? String(value) : `'${String(value).replaceAll("'", "''")}'`;
}

function option(value, text) {
  const made = element("option", text ?? value);
  made.value = value;
  return made;
}

export function update() {
  for (const name of ["where", "search", "order", "group"]) byId(name).value = asked[name];
  byId("descending").checked = asked.descending === "1";
  byId("descending").disabled = !asked.order;
  for (const chip of byId("chips").children) {
    const of = CHIPS.find(([name]) => name === chip.dataset.name);
    if (!of) continue;
    const on = Object.entries(of[1]).every(([name, value]) => asked[name] === value);
    chip.setAttribute("aria-pressed", String(on));
  }
  alike();
}

// Of one picture's near duplicates: in how many bits they may differ, and the way back.
function alike() {
  byId("near")?.remove();
  if (asked.near === "") return;
  const chip = element("label", "within "), bits = element("input"), back = element("button", "×");
  Object.assign(bits, { id: "bits", type: "number", min: 0, max: 64, value: asked.bits });
  bits.addEventListener("change", () => bits.reportValidity() && change({ bits: bits.value || "0" }));
  back.addEventListener("click", () => change({ near: "", bits: "" }));
  back.title = "all pictures";
  chip.id = "near";
  chip.append(bits, " bits of one picture ", back);
  byId("chips").append(chip);
}

export function change(values) {
  Object.assign(asked, values);
  remember();
  update();
  changed();
}

function and(expression) {
  const before = asked.where;
  change({ where: before ? `${/\bor\b/i.test(before) ? `(${before})` : before} and ${expression}` : expression });
}

// The values of a column to choose from or, where they are too many, its name in the filter.
async function values(columns) {
  const name = byId("column").value, list = byId("value");
  list.hidden = true;
  if (!name) return;
  const kind = columns.find((one) => one.name === name).kind;
  try {
    const { groups } = await ask("groups", { group: name });
    list.replaceChildren(option("", "value …"), ...groups.map((group, at) => option(at, `${group.value ?? "none"}  (${group.count})`)));
    list.hidden = false;
    list.onchange = () => {
      if (list.value === "") return;
      const { value } = groups[Number(list.value)];
      list.hidden = true;
      byId("column").value = "";
      and(value === null ? `${quoted(name)} is null` : `${quoted(name)} = ${literal(value, kind)}`);
    };
    list.focus();
  } catch {
    byId("column").value = "";
    const where = byId("where");
    where.value = `${where.value ? `${where.value} and ` : ""}${quoted(name)} ${isNumber(kind) ? ">" : "="} `;
    where.focus();
  }
}

export function begin(about, listener) {
  changed = listener;
  const names = about.columns.map((column) => column.name);
  byId("order").append(option("", "of the plan"), ...names.map((name) => option(name)));
  byId("group").append(option("", "none"), ...names.map((name) => option(name)));
  byId("column").append(option("", "column …"), ...names.map((name) => option(name)));
  for (const [name, on] of CHIPS) {
    const chip = element("button", name);
    chip.dataset.name = name;
    chip.addEventListener("click", () => {
      const pressed = chip.getAttribute("aria-pressed") === "true";
      change(pressed ? Object.fromEntries(Object.keys(on).map((key) => [key, ""])) : on);
    });
    byId("chips").append(chip);
  }
  byId("search").addEventListener("input", () => {
    clearTimeout(delay);
    delay = setTimeout(() => change({ search: byId("search").value.trim() }), 300);
  });
  byId("where").addEventListener("change", () => change({ where: byId("where").value.trim() }));
  byId("order").addEventListener("change", () => change({ order: byId("order").value, ...(byId("order").value ? {} : { descending: "" }) }));
  byId("descending").addEventListener("change", () => change({ descending: byId("descending").checked ? "1" : "" }));
  byId("group").addEventListener("change", () => change({ group: byId("group").value }));
  byId("column").addEventListener("change", () => values(about.columns));
  update();
}
