// A report of the service in a window of this page: its address needs the key, which no link can carry.
//
// The report is shown in a shadow tree, with its own styles: the page's policy forbids inline styles and frames of
// anything else, and scripts that are parsed this way never run.

import { fetchText } from "../net/api.js";
import { h } from "./dom.js";

const SHEET = /<style[^>]*>([\s\S]*?)<\/style>/g;

/** Shows a page of the service that loads nothing from elsewhere. */
export async function openReport(path, title) {
  const text = await fetchText(path);
  const host = h("div", { class: "content", tabindex: "0", role: "document", "aria-label": title });
  const tree = host.attachShadow({ mode: "open" });
  tree.adoptedStyleSheets = [...text.matchAll(SHEET)].map(([, rules]) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(rules.replaceAll(/(^|[},\s])(html|body|:root)(?=[\s,{])/g, "$1:host"));
    return sheet;
  });
  // styles are taken out before it is parsed: even a document that is shown nowhere keeps the page's policy
  const plain = text.replaceAll(SHEET, "").replaceAll(/(<[a-z][^<>]*?)\sstyle=(["'])/gi, "$1 data-style=$2");
  const report = new DOMParser().parseFromString(plain, "text/html");
  for (const unwanted of report.querySelectorAll("script, link, iframe")) unwanted.remove();
  tree.append(...[...report.body.childNodes].map((node) => document.importNode(node, true)));
  for (const styled of tree.querySelectorAll("[data-style]")) styled.style.cssText = styled.dataset.style;
  const dialog = h("dialog", { class: "sheet report", "aria-label": title },
    h("form", { method: "dialog", class: "row" }, h("h2", { text: title }), h("button", { text: "Close" })), host);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
