// The eight candidates closest to the trial's beta, with score and calibrated probability, and how sure the first is.

import { failureOf, isDecoded, isTruth, resultOf, warmingUp } from "../model/figures.js";
import { chance, count, fixed } from "../model/format.js";
import { nameOf } from "../model/log.js";
import { h, setAttr, setText } from "../ui/dom.js";
import { show } from "../ui/images.js";
import { Panel } from "../ui/panel.js";

const SHOWN = 8;

class CandidatesPanel extends Panel {
  title_ = "Candidates";

  build(body) {
    this.tiles = Array.from({ length: SHOWN }, (_, i) => this.#tile(i + 1));
    body.append(h("ol", {}, ...this.tiles.map((tile) => tile.el)));
  }

  inputs(view) {
    const trial = view.trial;
    return [trial && resultOf(trial), trial?.candidate, trial?.label, this.#absence(view)];
  }

  draw(view) {
    const result = view.trial && resultOf(view.trial);
    this.#drawConfidence(view, result);
    this.tiles.forEach((tile, i) => this.#fill(tile, view.trial, result?.candidates[i] ?? null));
  }

  /** The ranking's own figure: of the reconstruction it says nothing. */
  #drawConfidence(view, result) {
    this.aside.replaceChildren(result ? "" : this.#absence(view));
    if (!result) return;
    const meter = { role: "meter", "aria-label": "first candidate right", "aria-valuemin": "0", "aria-valuemax": "1" };
    const sure = h("b", { ...meter, "aria-valuenow": String(result.confidence), text: result.confidence.toFixed(2) });
    const levels = ` · null ${result.null_confidence.toFixed(2)} · chance ${chance(result.chance)}`;
    if (result.warming_up) this.aside.append(h("span", { class: "warming-up", text: warmingUp(result) }), " · ");
    this.aside.append(`first of ${count(result.pool_size)} right: `, sure, levels);
  }

  /** Why there are no candidates. */
  #absence({ session, trial }) {
    if (session.session === null) return "";
    if (trial ? !isDecoded(session, trial) : session.bundle === null) return "no bundle: betas are not decoded";
    if (trial && failureOf(trial) && !resultOf(trial)) return "no result";
    return session.closedT === null ? "no result yet" : "no result";
  }

  #tile(rank) {
    const img = h("img", { alt: "", hidden: true });
    const placeholder = h("span", { class: "placeholder" });
    const mark = h("span", { class: "mark" });
    const fill = h("i");
    const name = h("span", { class: "name" });
    const frame = h("div", { class: "frame" }, img, placeholder, h("b", { text: String(rank) }), mark);
    const score = h("span", { class: "score", title: "score: cosine of the tokens" });
    const p = h("span", { class: "p", title: "calibrated probability" });
    const row = h("div", { class: "row" }, score, p);
    const el = h("li", {}, frame, h("div", { class: "bar" }, fill), row, name);
    return { el, frame, img, placeholder, mark, fill, name, score, p };
  }

  #fill(tile, trial, candidate) {
    tile.el.classList.toggle("absent", candidate === null);
    const truth = candidate !== null && isTruth(trial, candidate) === true;
    tile.frame.classList.toggle("truth", truth);
    setText(tile.mark, truth ? "● shown" : "");
    if (candidate === null) {
      tile.img.hidden = true;
      tile.img.dataset.digest = "";
      for (const el of [tile.placeholder, tile.name, tile.score, tile.p]) setText(el, "");
      tile.fill.style.width = "0";
      return;
    }
    const name = nameOf(candidate);
    setAttr(tile.placeholder, "title", name);
    setText(tile.name, candidate.image ? name : "");
    setAttr(tile.name, "title", name === candidate.id ? name : `${name}\n${candidate.id}`);
    const p = candidate.probability ?? null;
    setText(tile.score, fixed(candidate.score, 2));
    setText(tile.p, p === null ? "" : p.toFixed(2));
    tile.fill.style.width = `${100 * (p ?? 0)}%`;
    tile.img.alt = name;
    if (candidate.image) {
      show(tile.img, candidate.image, (missing) => setText(tile.placeholder, missing ? name : ""));
    } else {
      setText(tile.placeholder, name);
      tile.img.hidden = true;
      tile.img.dataset.digest = "";
    }
  }
}

customElements.define("ms-candidates", CandidatesPanel);
