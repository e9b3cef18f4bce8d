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

/** @param {?string} current the page's name, as in the address */
export const navigation = (current) =>
  h("nav", { class: "pages", "aria-label": "pages" }, h("a", { class: "skip", href: "#content", text: "Skip to the content",
    onclick: (event) => { event.preventDefault(); document.querySelector("main h1, main")?.focus(); } }),
    h("strong", { text: "Mindsight" }), ...links(current));
