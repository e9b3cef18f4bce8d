// The eight candidates closest to the trial's beta, with score and calibrated probability.

import { h, setAttr, setText } from "../dom.js";
import { isTruth, resultOf } from "../figures.js";
import { chance, count, fixed } from "../format.js";
import { show } from "../images.js";
import { Panel } from "../panel.js";
import { nameOf } from "../words.js";

const SHOWN = 8;

class CandidatesPanel extends Panel {
  title_ = "Closest candidates";

  build(body) {
    this.tiles = Array.from({ length: SHOWN }, (_, i) => this.#tile(i + 1));
    body.append(h("ol", {}, ...this.tiles.map((tile) => tile.el)));
  }

  inputs(view) {
    const trial = view.trial;
    return [trial && resultOf(trial), trial?.candidate, trial?.label];
  }

  draw(view) {
    const result = view.trial && resultOf(view.trial);
    const note = result ? `score · probability | chance ${chance(result.chance)}` : "";
    this.say(result ? `Closest of ${count(result.pool_size)}` : "Closest candidates", note);
    this.tiles.forEach((tile, i) => this.#fill(tile, view.trial, result?.candidates[i] ?? null));
  }

  #tile(rank) {
    const img = h("img", { alt: "", hidden: true });
    const instead = h("span", { class: "instead" });
    const mark = h("span", { class: "mark" });
    const fill = h("i");
    const name = h("span", { class: "name" });
    const figures = h("span", { class: "figures" });
    const frame = h("div", { class: "frame" }, img, instead, mark);
    const row = h("div", { class: "row" }, h("b", { text: String(rank) }), figures);
    const el = h("li", {}, frame, h("div", { class: "bar" }, fill), row, name);
    return { el, frame, img, instead, mark, fill, name, figures };
  }

  #fill(tile, trial, candidate) {
    tile.el.classList.toggle("empty", candidate === null);
    const truth = candidate !== null && isTruth(trial, candidate) === true;
    tile.frame.classList.toggle("truth", truth);
    setText(tile.mark, truth ? "● shown" : "");
    if (candidate === null) {
      tile.img.hidden = true;
      tile.img.dataset.digest = "";
      for (const el of [tile.instead, tile.name, tile.figures]) setText(el, "");
      tile.fill.style.width = "0";
      return;
    }
    const name = nameOf(candidate);
    setText(tile.instead, candidate.image ? "" : name);
    setText(tile.name, candidate.image ? name : "");
    setAttr(tile.name, "title", candidate.id);
    const p = candidate.probability ?? null;
    setText(tile.figures, fixed(candidate.score, 2) + (p === null ? "" : ` · ${p.toFixed(2)}`));
    tile.fill.style.width = `${100 * (p ?? 0)}%`;
    tile.img.alt = name;
    if (candidate.image) {
      show(tile.img, candidate.image, () => setText(tile.instead, name));
    } else {
      tile.img.hidden = true;
      tile.img.dataset.digest = "";
    }
  }
}

customElements.define("ms-candidates", CandidatesPanel);
