// The eight candidates closest to the trial's beta, with score and calibrated probability, and how sure the first is.

import { hit, isTruth, resultOf } from "../model/figures.js";
import { chance, count, fixed } from "../model/format.js";
import { nameOf } from "../model/log.js";
import { h, setAttr, setText } from "../ui/dom.js";
import { show } from "../ui/images.js";
import { Panel } from "../ui/panel.js";

const SHOWN = 8;

class CandidatesPanel extends Panel {
  title_ = "Closest candidates";

  build(body) {
    this.tiles = Array.from({ length: SHOWN }, (_, i) => this.#tile(i + 1));
    this.first = h("span");
    this.bar = h("i", { class: "fill" });
    this.null_ = h("i", { class: "null" });
    const meter = { role: "meter", "aria-label": "first candidate right", "aria-valuemin": "0", "aria-valuemax": "1" };
    this.track = h("div", { class: "track", ...meter }, this.bar, this.null_);
    this.reading = h("span", { class: "reading" });
    body.append(
      h("ol", {}, ...this.tiles.map((tile) => tile.el)),
      h("div", { class: "confidence" }, this.first, this.track, this.reading),
    );
  }

  inputs(view) {
    const trial = view.trial;
    return [trial && resultOf(trial), trial?.candidate, trial?.label];
  }

  draw(view) {
    const result = view.trial && resultOf(view.trial);
    const note = result ? `score · probability | chance ${chance(result.chance)}` : "";
    this.setHeading(result ? `Closest of ${count(result.pool_size)}` : "Closest candidates", note);
    this.#drawConfidence(view.trial, result);
    this.tiles.forEach((tile, i) => this.#fill(tile, view.trial, result?.candidates[i] ?? null));
  }

  #drawConfidence(trial, result) {
    setText(this.first, result ? `First of ${count(result.pool_size)} right` : "First right");
    this.null_.hidden = !result;
    this.bar.style.width = result ? `${100 * result.confidence}%` : "0";
    if (result) this.null_.style.left = `${100 * result.null_confidence}%`;
    setAttr(this.track, "aria-valuenow", result ? String(result.confidence) : null);
    if (!result) return this.reading.replaceChildren("–");
    const was = hit(trial);
    const verdict = was ? " ● rank 1 was shown" : " ○ rank 1 was not shown";
    this.reading.replaceChildren(
      h("b", { text: result.confidence.toFixed(2) }),
      ` (null ${result.null_confidence.toFixed(2)})`,
      was === null ? "" : h("span", { class: was ? "hit" : "miss", text: verdict }),
    );
  }

  #tile(rank) {
    const img = h("img", { alt: "", hidden: true });
    const placeholder = h("span", { class: "placeholder" });
    const mark = h("span", { class: "mark" });
    const fill = h("i");
    const name = h("span", { class: "name" });
    const figures = h("span", { class: "figures" });
    const frame = h("div", { class: "frame" }, img, placeholder, mark);
    const row = h("div", { class: "row" }, h("b", { text: String(rank) }), figures);
    const el = h("li", {}, frame, h("div", { class: "bar" }, fill), row, name);
    return { el, frame, img, placeholder, mark, fill, name, figures };
  }

  #fill(tile, trial, candidate) {
    tile.el.classList.toggle("empty", candidate === null);
    const truth = candidate !== null && isTruth(trial, candidate) === true;
    tile.frame.classList.toggle("truth", truth);
    setText(tile.mark, truth ? "● shown" : "");
    if (candidate === null) {
      tile.img.hidden = true;
      tile.img.dataset.digest = "";
      for (const el of [tile.placeholder, tile.name, tile.figures]) setText(el, "");
      tile.fill.style.width = "0";
      return;
    }
    const name = nameOf(candidate);
    setText(tile.placeholder, candidate.image ? "" : name);
    setText(tile.name, candidate.image ? name : "");
    setAttr(tile.name, "title", candidate.id);
    const p = candidate.probability ?? null;
    setText(tile.figures, fixed(candidate.score, 2) + (p === null ? "" : ` · ${p.toFixed(2)}`));
    tile.fill.style.width = `${100 * (p ?? 0)}%`;
    tile.img.alt = name;
    if (candidate.image) {
      show(tile.img, candidate.image, () => setText(tile.placeholder, name));
    } else {
      tile.img.hidden = true;
      tile.img.dataset.digest = "";
    }
  }
}

customElements.define("ms-candidates", CandidatesPanel);
