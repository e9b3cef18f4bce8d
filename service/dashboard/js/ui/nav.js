// The bar that leads to every page. The live page has its own header and shows the bar as a menu there.

import { h } from "./dom.js";

const PAGES = [
  ["sessions", "Sessions"],
  ["new", "New session"],
  ["subjects", "Subjects"],
  ["calibrate", "Calibrate"],
  ["replay", "Replay"],
  ["admin", "Admin"],
];

const links = (current) => PAGES.map(([name, text]) =>
  h("a", { href: `#${name}`, "aria-current": name === current ? "page" : null, text }));

/** The same as a menu, for a page that has no room for the bar. */
export function menu() {
  const list = h("nav", { class: "menu", id: "pages-menu", popover: "auto", "aria-label": "pages" }, ...links(null));
  const button = h("button", { type: "button", class: "control", popovertarget: "pages-menu", "aria-label": "Pages", title: "Pages", text: "☰" });
  return h("span", { class: "menu-holder" }, button, list);
}

/** @param {?string} current the page's name, as in the address */
export const navigation = (current) =>
  h("nav", { class: "pages", "aria-label": "pages" }, h("a", { class: "skip", href: "#page", text: "Skip to the content",
    onclick: (event) => { event.preventDefault(); document.querySelector("main h1, main")?.focus(); } }),
    h("strong", { text: "Mindsight" }), ...links(current));
