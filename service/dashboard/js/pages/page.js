// The base of the pages around the live one: a title, a notice, and a reload every few seconds while it is shown.

import { ApiError } from "../net/api.js";
import { h } from "../ui/dom.js";
import { Notice } from "../ui/forms.js";

/** A page gives `build()` (its nodes) and `load()` (asks the server and draws). */
export class Page {
  #timer = null;
  #stopped = false;

  /** @param {string} title @param {(why?: string) => void} refused @param {number} everyMs 0: loaded once */
  constructor(title, refused, everyMs = 5000) {
    this.refused = refused;
    this.everyMs = everyMs;
    this.notice = new Notice();
    this.heading = h("h1", { tabindex: "-1", text: title });
    this.element = h("section", { class: "landing" }, this.heading, this.notice.element);
    document.title = `${title} · Mindsight`;
  }

  async start() {
    if (!this.built) {
      this.built = true;
      this.element.append(...this.build());
    }
    try {
      await this.load();
      this.#recovered();
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return this.refused();
      this.failed = true;
      this.notice.fail(error);
    }
    if (!this.#stopped && this.everyMs) this.#timer = setTimeout(() => this.start(), this.everyMs);
  }

  /** Loads now, and not only after the pause. */
  async reload() {
    clearTimeout(this.#timer);
    await this.start();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  get stopped() {
    return this.#stopped;
  }

  #recovered() {
    if (this.failed) this.notice.say("");
    this.failed = false;
  }
}
