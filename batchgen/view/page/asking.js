// Questions to the server, and what the page asks to see at this moment. Text is only ever set as text.

export const asked = { where: "", search: "", order: "", descending: "", group: "", near: "", bits: "", marked: "" };
let edition = "";

export const byId = (id) => document.getElementById(id);

export function element(kind, text, name) {
  const made = document.createElement(kind);
  if (text !== undefined && text !== null) made.textContent = text;
  if (name) made.className = name;
  return made;
}

async function answered(response) {
  const said = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  if (!response.ok || said.error) throw new Error(said.error || `the server answered ${response.status}`);
  return said;
}

const given = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));

export async function about() {
  const said = await answered(await fetch("/api/about"));
  edition = String(said.edition);
  return said;
}

export async function ask(what, values, signal) {
  return answered(await fetch(`/api/${what}?${new URLSearchParams({ ...given(asked), ...values, edition })}`, { signal }));
}

export async function tell(what, values) {
  const body = JSON.stringify({ ...given(asked), ...values, edition });
  return answered(await fetch(`/api/${what}`, { method: "POST", headers: { "Content-Type": "application/json" }, body }));
}

// What is asked for stands behind the # of the address, so that it is there again when the page is loaded again.
export function remember() {
  history.replaceState(null, "", `/#${new URLSearchParams(given(asked))}`);
}

export function recall() {
  const said = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(asked)) if (name !== "near" && name !== "bits") asked[name] = said.get(name) || "";
}
