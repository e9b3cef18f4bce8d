// Where in the brain: the map of the shown trial's beta, where the session makes one.

import { STAGES } from "../model/figures.js";
import { h } from "../ui/dom.js";
import { show } from "../ui/images.js";
import { Panel } from "../ui/panel.js";

/** The newest brain map of a trial with its stage, or null. */
export function brainMapOf(trial) {
  const made = STAGES.map((stage) => trial?.stages[stage]?.reconstruction).findLast((it) => it?.brain_map);
  return made ?? null;
}

class BrainPanel extends Panel {
  title_ = "Brain";

  build(body) {
    this.img = h("img", { alt: "", hidden: true });
    this.words = h("p", { class: "none" });
    this.key = h("p", { class: "none", text: "orange above the voxel's mean, blue below" });
    body.append(this.img, this.words, this.key);
  }

  inputs(view) {
    return [view.trial];
  }

  draw(view) {
    const made = brainMapOf(view.trial);
    const beta = made && view.trial.stages[made.stage].beta;
    this.setHeading("Brain", made ? `beta of trial ${made.trial}, ${made.stage}${beta ? ` · ${beta.n_voxels} voxels` : ""}` : "");
    this.words.textContent = made ? "" : "no map of this trial";
    this.key.hidden = !made;
    if (!made) {
      this.img.hidden = true;
      this.img.dataset.digest = "";
      return;
    }
    this.img.alt = `map of the beta of trial ${made.trial}`;
    show(this.img, made.brain_map, () => (this.words.textContent = "map not available"));
  }
}

customElements.define("ms-brain", BrainPanel);
