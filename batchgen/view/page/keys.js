// The keyboard: which key does what. Knows no row.
import { byId, element } from "./asking.js";

const LIST = [
  ["← ↑ → ↓", "the picture beside, above, below"],
  ["Page Up, Page Down, Home, End", "a screen further, to the beginning, to the end"],
  ["Enter", "all that is known of it"],
  ["Escape", "back"],
  ["k", "keep; again: no mark"],
  ["d", "drop; again: no mark"],
  ["n", "its near duplicates; again: all"],
  ["c", "cells side by side"],
  ["/", "search in prompts"],
  ["f", "filter by an expression"],
  ["b", "blur above the score of NSFW"],
  ["s", "save a selection"],
  ["?", "these keys"],
];

function isTyping(target) {
  return target.matches?.("input:not([type=checkbox]):not([type=radio]), select, textarea");
}

// actions: by the name of a key. Those of letters do not hold while one types.
export function listen(actions, isClosed) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") { event.target.blur(); byId("scroller").focus(); }
      return;
    }
    if (event.target.matches?.("button") && (event.key === "Enter" || event.key === " ")) return;
    const action = actions[event.key];
    if (!action || isClosed(event.key)) return;
    event.preventDefault();
    action();
  });
}

byId("key-list").append(...LIST.map(([key, words]) => {
  const row = element("tr");
  row.append(element("td", key), element("td", words));
  return row;
}));
for (const id of ["end-help"]) byId(id).addEventListener("click", () => byId("keys").close());
