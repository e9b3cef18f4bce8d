// The base of every panel: a titled section that redraws itself only when its inputs have changed.

import { h, setAttr, setText } from "./dom.js";

/**
 * A panel gives `title_`, `build(body)`, `inputs(view)` (what it shows, compared by identity) and `draw(view)`.
 * pages/live.js describes a view.
 */
export class Panel extends HTMLElement {
  #last = null;

  connectedCallback() {
    if (this.body) return;
    const id = `${this.localName}-title`;
    this.heading = h("h2", { id, text: this.title_ });
    this.aside = h("p", { class: "aside" });
    this.body = h("div", { class: "body" });
    this.setAttribute("role", "region");
    this.setAttribute("aria-labelledby", id);
    this.append(h("header", {}, this.heading, this.aside), this.body);
    this.build(this.body);
  }

  update(view) {
    const inputs = this.inputs(view);
    if (this.#last && inputs.every((value, i) => value === this.#last[i])) return;
    this.#last = inputs;
    this.draw(view);
  }

  /** The title, and the figures on its right. */
  setHeading(title, aside = "") {
    setText(this.heading, title);
    setText(this.aside, aside);
    setAttr(this.aside, "title", aside || null);
  }
}
