// All sessions as cards, open ones first; reloaded every few seconds.

import { ApiError, listSessions } from "../net/api.js";
import { h, setText } from "../ui/dom.js";
import { bundle, timeOfDay } from "../model/format.js";

const EVERY_MS = 5000;
const STATES = { open: "● OPEN", closed: "■ CLOSED", archived: "▣ ARCHIVED" };

const day = (t) => new Date(t * 1000).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });

function card(item) {
  const open = item.state === "open";
  return h("li", {}, h("a", { href: `#session=${encodeURIComponent(item.session)}`, class: "card" },
    h("span", { class: "row" }, h("strong", { text: item.subject }),
      h("span", { class: "chip", "data-state": open ? "LIVE" : "CLOSED", text: STATES[item.state] })),
    h("span", { text: item.session }),
    h("span", { class: "caption", text: item.bundle ? `bundle ${bundle(item.bundle)}` : "no bundle" }),
    h("span", { class: "row caption" }, h("span", { text: `opened ${day(item.opened_t)} ${timeOfDay(item.opened_t)}` }),
      item.options.blinded ? h("span", { class: "badge", text: "◧ BLINDED" }) : "")));
}

export class SessionList {
  #timer = null;
  #shown = "";

  constructor(refused) {
    this.refused = refused;
    this.note = h("p", { class: "note", role: "status", text: "loading…" });
    this.list = h("ul", { class: "cards" });
    this.element = h("section", { class: "landing" }, h("h1", { text: "Sessions" }), this.note, this.list);
  }

  async start() {
    try {
      this.#draw(await listSessions());
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return this.refused();
      const why = error instanceof ApiError ? error.message : "the server does not respond";
      setText(this.note, `▲ Could not load the list: ${why}. Trying again.`);
    }
    if (this.#timer !== "stopped") this.#timer = setTimeout(() => this.start(), EVERY_MS);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = "stopped";
  }

  #draw(items) {
    setText(this.note, items.length ? "" : "No session yet. `mindsight demo` runs a simulated one.");
    const text = JSON.stringify(items);
    if (text === this.#shown) return;
    this.#shown = text;
    const open = (item) => (item.state === "open" ? 1 : 0);
    items.sort((a, b) => open(b) - open(a) || b.opened_t - a.opened_t);
    this.list.replaceChildren(...items.map(card));
  }
}
