// Marks become a selection that has a name. Knows the dialog, and tells the server.
import { byId, tell } from "./asking.js";

const dialog = byId("saving");

export function open() {
  byId("saved").textContent = "";
  dialog.showModal();
  byId("name").focus();
}

async function save() {
  const what = dialog.querySelector("input[name=what]:checked").value, name = byId("name").value.trim();
  try {
    const { saved } = await tell("select", { name, what });
    const counts = Object.entries(saved).map(([run, count]) => `${count} images of ${run}`);
    byId("saved").textContent = `${name}: ${counts.join(", ")}. To use it: --selection ${name}`;
  } catch (error) {
    byId("saved").textContent = error.message;
  }
}

byId("save").addEventListener("click", open);
byId("do-save").addEventListener("click", save);
byId("end-save").addEventListener("click", () => dialog.close());
byId("name").addEventListener("keydown", (event) => { if (event.key === "Enter") save(); });
