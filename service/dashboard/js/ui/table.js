// A table with a caption for those who do not see it, and a sentence where it is empty.

import { h } from "./dom.js";

/** @param {string[]} heads @param {(string|Node)[][]} rows */
export function table(caption, heads, rows, empty = "none yet") {
  if (!rows.length) return h("p", { class: "caption", text: empty });
  const cell = (content) => h("td", {}, content);
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption }, h("table", {}, h("caption", { class: "unseen", text: caption }),
    h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head || h("span", { class: "unseen", text: "what can be done" }))))),
    h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map(cell))))));
}
