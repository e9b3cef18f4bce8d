// Where in the brain: a map of the shown trial's beta as an image, or, opened, the volumes themselves.

import { STAGES } from "../model/figures.js";
import { h, setText } from "../ui/dom.js";
import { show } from "../ui/images.js";
import { Panel } from "../ui/panel.js";

const OPENED = "mindsight.brain"; // in this tab's storage: "open" once the volumes were opened

/** The newest brain map of a trial with its stage, or null. */
export function brainMapOf(trial) {
  const made = STAGES.map((stage) => trial?.stages[stage]?.reconstruction).findLast((it) => it?.brain_map);
  return made ?? null;
}

class BrainPanel extends Panel {
  title_ = "Brain";
  viewer = null;
  #opening = false;

  build(body) {
    this.img = h("img", { alt: "", hidden: true });
    this.words = h("p", { class: "none" });
    this.key = h("p", { class: "none", text: "orange above the voxel's mean, blue below" });
    this.picture = h("div", { class: "picture" }, this.img, this.words, this.key);
    this.toggle = h("button", { type: "button", class: "small", onclick: () => this.#toggle() });
    this.querySelector("header").append(this.toggle);
    body.append(this.picture);
    this.#name();
  }

  disconnectedCallback() {
    this.#close();
  }

  inputs(view) {
    return [view.trial, view.run, view.session.space, view.session.rois, view.session.closedT, view.stale];
  }

  draw(view) {
    this.view = view;
    if (!this.viewer && !this.#opening && sessionStorage.getItem(OPENED) === "open" && view.run) this.#open();
    this.viewer?.update(view);
    this.#head(view);
    if (!this.viewer) this.#drawPicture(view);
  }

  #head(view) {
    const made = this.viewer ? newestBeta(view.trial) : brainMapOf(view.trial);
    const beta = made && view.trial.stages[made.stage].beta;
    this.setHeading("Brain", made ? `beta of trial ${made.trial}, ${made.stage}${beta ? ` · ${beta.n_voxels} voxels` : ""}` : "");
  }

  #drawPicture(view) {
    const made = brainMapOf(view.trial);
    this.key.hidden = !made;
    if (!made) {
      setText(this.words, "no map of this trial; “volumes” shows the scan itself");
      this.img.hidden = true;
      this.img.dataset.digest = "";
      return;
    }
    this.img.alt = `map of the beta of trial ${made.trial}`;
    show(this.img, made.brain_map, (missing) => setText(this.words, missing ? "map not available" : ""));
  }

  #name() {
    setText(this.toggle, this.viewer ? "map" : "volumes");
    this.toggle.setAttribute("aria-pressed", String(this.viewer !== null));
  }

  #toggle() {
    sessionStorage.setItem(OPENED, this.viewer ? "" : "open");
    if (this.viewer) this.#close();
    else if (!this.#opening) this.#open();
  }

  async #open() {
    this.#opening = true;
    setText(this.words, "loading the viewer…");
    let viewer = null;
    try {
      const { BrainViewer } = await import("./brain_viewer.js");
      viewer = new BrainViewer(this.body, this.view.axis);
      this.picture.hidden = true;
      await viewer.open();
      this.viewer = viewer;
      viewer.update(this.view);
      this.#head(this.view);
    } catch {
      viewer?.close();
      this.picture.hidden = false;
      sessionStorage.setItem(OPENED, "");
      setText(this.words, "this browser cannot draw volumes: it needs WebGL 2, see its settings");
    }
    this.#opening = false;
    this.#name();
  }

  #close() {
    this.viewer?.close();
    this.viewer = null;
    this.picture.hidden = false;
    this.#name();
    if (this.view) this.#drawPicture(this.view);
  }
}

/** The trial's newest beta, or null. */
const newestBeta = (trial) => STAGES.map((stage) => trial?.stages[stage]?.beta).findLast(Boolean) ?? null;

customElements.define("ms-brain", BrainPanel);
