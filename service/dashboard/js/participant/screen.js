// What the participant sees: the fixation cross, or what was fed back, and the photodiode's patch. Knows nothing of the
// connection. A change is drawn in one animation frame, together with the patch, and reported with that frame's time.

import { h } from "../ui/dom.js";

const SVG = "http://www.w3.org/2000/svg";

export class Screen {
  #white = false;
  #fixation = null; // timer that brings the cross back
  #last = Promise.resolve();

  constructor() {
    this.stage = h("div", { class: "stage cross", role: "img", "aria-label": "fixation cross" });
    this.patch = h("div", { class: "patch none black", "aria-hidden": "true" });
    this.element = h("div", { class: "running stage" }, this.stage, this.patch);
    this.plan = { patch: "none", hold_s: 2 };
  }

  lay(plan) {
    this.plan = plan;
    this.#colour();
  }

  /**
   * Draws what is to be shown; one after the other. Resolves with the frame that it came with.
   * @returns {Promise<{requested: number, drawn: number, patch: "black"|"white"}>} times of performance.now()
   */
  show(show, picture) {
    this.#last = this.#last.then(() => this.#show(show, picture));
    return this.#last;
  }

  async #show(show, picture) {
    const content = await this.#content(show, picture);
    const requested = performance.now();
    await frame();
    clearTimeout(this.#fixation);
    if (show.what !== "hold") {
      this.stage.className = show.what === "nothing" ? "stage cross" : "stage";
      this.stage.setAttribute("aria-label", show.what === "nothing" ? "fixation cross" : "feedback");
      this.stage.replaceChildren(...content);
    }
    this.#white = !this.#white;
    this.#colour();
    const drawn = await frame(); // the next frame begins when the one before it is presented
    if (show.what !== "nothing") this.#fixation = setTimeout(() => this.#cross(), this.plan.hold_s * 1000);
    return { requested, drawn, patch: this.#white ? "white" : "black" };
  }

  /** The elements, ready to be drawn at once: a picture is decoded before. */
  async #content(show, picture) {
    if (show.what === "text") return [h("p", { text: show.text })];
    if (show.what === "bar") return [bar(show.value)];
    if (show.what !== "picture") return [];
    const image = h("img", { alt: "feedback" });
    image.src = URL.createObjectURL(new Blob([picture], { type: show.media_type }));
    try {
      await image.decode();
    } finally {
      URL.revokeObjectURL(image.src);
    }
    return [image];
  }

  #cross() {
    this.stage.className = "stage cross";
    this.stage.setAttribute("aria-label", "fixation cross");
    this.stage.replaceChildren();
  }

  #colour() {
    this.patch.className = `patch ${this.plan.patch} ${this.#white ? "white" : "black"}`;
  }
}

/** The time of the next animation frame, as the browser tells it. */
const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));

function bar(value) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("preserveAspectRatio", "none");
  const full = document.createElementNS(SVG, "rect");
  for (const [name, of] of Object.entries({ x: 0, y: 1 - value, width: 1, height: value })) full.setAttribute(name, of);
  svg.append(full);
  return h("div", { class: "bar", role: "img", "aria-label": `${Math.round(value * 100)} of 100` }, svg);
}
