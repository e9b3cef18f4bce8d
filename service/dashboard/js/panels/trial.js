// What did the brain say: one trial's stimulus beside its reconstruction, never without its fit and how it was made. The places
// stay where they are; while a reconstruction is drawn, the last one stays in its place, dimmed.

import {
  allTrials, betaStageOf, captionOf, drawingOf, fitOf, isDecoded, reconstructionOf, resultOf, stageOf, trialState, truthKnown,
} from "../model/figures.js";
import { clock, count, duration, fixed, short } from "../model/format.js";
import { nameOf } from "../model/log.js";
import { h, setAttr, setText } from "../ui/dom.js";
import { show } from "../ui/images.js";
import { Panel } from "../ui/panel.js";

const SIGN = { planned: "·", waiting: "○", fast: "◔", revised: "◑", final: "●", undecoded: "–" };
const FLAGS = {
  motion: "motion", spike: "spike", pose: "no head position", missing: "volume missing", early: "response cut off",
  registration: "not registered",
};

const FIT = "Cosine between the reconstruction's tokens, encoded again, and those it was made from. Percentile: the share of"
  + " other trials' reconstructions that fit these tokens worse, by the calibration of this stage.";

/** A framed image, or a text instead, with a caption below it and a note on the right. */
function figure(name) {
  const img = h("img", { alt: "", hidden: true });
  const words = h("p", { class: "placeholder" });
  const sentence = h("p", { class: "sentence" });
  const over = h("p", { class: "over" });
  const frame = h("div", { class: "frame" }, img, words, sentence, over);
  const caption = h("b", { text: name });
  const note = h("span", { class: "note" });
  return { el: h("figure", {}, frame, h("figcaption", {}, caption, note)), frame, img, words, sentence, over, caption, note };
}

/** "made in 120 ms", of whichever version it is; false if that was not measured. */
function madeIn({ preview, generate, refine }) {
  const took = refine ?? generate ?? preview;
  return took !== undefined && `made in ${duration(took)}`;
}

class TrialPanel extends Panel {
  title_ = "Trial";

  build(body) {
    this.stimulus = figure("Stimulus");
    this.reconstruction = figure("Reconstruction");
    this.bar = h("i", { class: "fill" });
    this.track = h("div", { class: "track" }, this.bar);
    this.reading = h("span", { class: "reading" });
    this.how = h("p", { class: "how" });
    const back = { type: "button", class: "back", title: "return to the newest trial", text: "◀ looking back · Esc", onclick: () => this.#backToLive() };
    this.back = h("button", back);
    body.append(
      h("div", { class: "pair" }, this.stimulus.el, this.reconstruction.el),
      h("div", { class: "fit", title: FIT }, h("span", { text: "Token cosine" }), this.track, this.reading),
      this.how,
    );
  }

  inputs(view) {
    const trial = view.trial;
    const { blinded, closedT, archive } = view.session;
    return [trial, blinded, closedT, archive, view.live, trial && trialState(view.session, trial), view.truthHidden];
  }

  draw(view) {
    const trial = view.trial;
    if (!trial) return this.#drawEmpty(view);
    this.setHeading(`Trial ${trial.trial} · run ${trial.run}`);
    this.#drawAside(view, trial);
    this.#drawStimulus(view, trial);
    this.#drawReconstruction(view, trial);
    this.#drawProvenance(view, trial);
  }

  #backToLive() {
    this.dispatchEvent(new CustomEvent("ms-select", { bubbles: true, detail: null }));
  }

  #drawEmpty(view) {
    this.setHeading("Trial");
    this.stimulus.frame.classList.toggle("hidden-truth", view.truthHidden);
    const waiting = view.session.closedT === null ? "waiting for the first trial" : "no trial in this session";
    this.#drawPlaceholder(this.stimulus, view.truthHidden ? "hidden until unblinding" : "no stimulus yet");
    this.#drawPlaceholder(this.reconstruction, waiting);
    for (const part of [this.stimulus, this.reconstruction]) setText(part.note, "");
    this.#setDrawing("");
    this.#drawCaption(null);
    setText(this.reconstruction.caption, "Reconstruction");
    this.#drawFit(null, null);
    setText(this.how, "");
  }

  #drawAside(view, trial) {
    const state = trialState(view.session, trial);
    const decoded = isDecoded(view.session, trial);
    const words = state === "waiting" ? "waiting for the response" : decoded || state === "planned" ? state : `${state} beta, no bundle`;
    const parts = [h("span", { class: "stage-tag", "data-stage": state, text: `${SIGN[state]} ${words}` })];
    if (trial.flagged) {
      const why = trial.flaggedBy.map((reason) => FLAGS[reason] ?? reason).join(", ") || "flagged";
      parts.push(h("span", { class: "flag", title: `this trial is flagged: ${why}`, text: `⚑ ${why}` }));
    }
    if (!view.live) parts.push(this.back);
    this.aside.replaceChildren(...parts);
    setAttr(this, "data-looking-back", view.live ? null : "");
  }

  #drawStimulus(view, trial) {
    const part = this.stimulus;
    part.frame.classList.toggle("hidden-truth", view.truthHidden && !truthKnown(trial) && !trial.stimulus);
    if (trial.stimulus) {
      this.#drawImage(part, trial.stimulus, `stimulus of trial ${trial.trial}`);
    } else if (truthKnown(trial)) {
      this.#drawPlaceholder(part, nameOf({ label: trial.label, id: trial.candidate }), "its image was not declared", "large");
    } else if (view.truthHidden) {
      this.#drawPlaceholder(part, "hidden until unblinding", "not sent to this client");
    } else {
      this.#drawPlaceholder(part, "not declared", "the event does not say what was shown");
    }
    setText(part.caption, trial.stimulus && trial.label ? `Stimulus · ${trial.label}` : "Stimulus");
    setAttr(part.caption, "title", trial.label);
    setText(part.note, `at ${clock(trial.onsetS)}.${Math.floor((trial.onsetS % 1) * 10)} for ${trial.durationS.toFixed(1)} s`);
  }

  #drawReconstruction(view, trial) {
    const part = this.reconstruction;
    const drawing = drawingOf(view.session, trial);
    const made = reconstructionOf(trial);
    // until the trial has one of its own, the one before it stays, dimmed
    const shown = made ?? (drawing.state === "drawing" ? this.#kept(view, trial) : null);
    this.#drawCaption(made && captionOf(trial, made));
    this.#drawFit(trial, made);
    this.#setDrawing(drawing.state === "drawing" ? "drawing…" : "", shown);
    const version = made && (made.version === "full" || made.version === undefined ? made.stage : `${made.stage} · ${made.version}`);
    if (shown) {
      if (made) this.last = made;
      this.#drawImage(part, shown.image, `reconstruction of trial ${shown.trial}, ${version ?? "dimmed"}`, true);
      setText(part.caption, made ? `Reconstruction · ${version}` : "Reconstruction");
      setText(part.note, made ? `${count(made.evaluations)} steps` : `dimmed: ${shown.run === trial.run ? "" : `run ${shown.run} `}trial ${shown.trial}`);
      return;
    }
    setText(part.caption, "Reconstruction");
    setText(part.note, "");
    const result = resultOf(trial);
    if (drawing.state === "drawing") this.#drawPlaceholder(part, "");
    else if (drawing.state === "waiting") this.#drawPlaceholder(part, "waiting for the response");
    else if (!result) this.#drawPlaceholder(part, isDecoded(view.session, trial) ? "no result" : "not decoded", drawing.why);
    else this.#drawPlaceholder(part, nameOf(result.candidates[0] ?? { id: "no candidate" }), `closest candidate; ${drawing.why}`, "large");
  }

  /** What stays in the frame while a trial's first reconstruction is drawn: what was there, or else the one before it. */
  #kept({ session }, trial) {
    const known = this.last && session.runs[this.last.run]?.trials[this.last.trial];
    this.last = known ? this.last : lastBefore(session, trial);
    return this.last;
  }

  /** The reconstruction in the frame is not yet this stage's. */
  #setDrawing(words, shown = null) {
    this.reconstruction.frame.classList.toggle("drawing", words !== "" && shown !== null);
    setText(this.reconstruction.over, words);
  }

  /** The sentence that describes this reconstruction, across its lower edge. */
  #drawCaption(caption) {
    setText(this.reconstruction.sentence, caption ? caption.text : "");
    setAttr(this.reconstruction.sentence, "title", caption ? `${caption.text}\ncaption, by the captioner ${short(caption.model)}` : null);
  }

  #drawImage(part, digest, alt, keep = false) {
    part.img.alt = alt;
    show(part.img, digest, (missing) => this.#drawWords(part, missing ? "image not available" : ""), keep);
  }

  #drawPlaceholder(part, words, more = "", size = "") {
    part.img.hidden = true;
    part.img.dataset.digest = "";
    this.#drawWords(part, words, more, size);
  }

  #drawWords(part, words, more = "", size = "") {
    part.words.className = `placeholder ${size}`;
    part.words.title = more ? `${words}\n${more}` : words;
    part.words.replaceChildren(...(words ? [h("span", { text: words }), h("small", { text: more })] : []));
  }

  /** What the reconstruction itself is worth; the ranking's confidence is with its candidates. */
  #drawFit(trial, made) {
    const fit = made && fitOf(trial, made);
    this.bar.style.width = fit ? `${100 * Math.max(0, fit.token_cosine)}%` : "0";
    const meter = { role: "meter", "aria-label": "token cosine", "aria-valuemin": "-1", "aria-valuemax": "1", "aria-valuenow": fit?.token_cosine };
    for (const [name, value] of Object.entries(meter)) setAttr(this.track, name, fit ? String(value) : null);
    if (!fit) return this.reading.replaceChildren(made ? "not measured" : "–");
    const percentile = fit.fit_percentile ?? null;
    this.reading.replaceChildren(
      h("b", { text: fixed(fit.token_cosine, 2) }),
      percentile === null ? " percentile not calibrated" : ` percentile ${Math.floor(percentile)}`,
    );
  }

  #drawProvenance(view, trial) {
    const result = resultOf(trial);
    const made = reconstructionOf(trial);
    const beta = trial.stages[stageOf(trial) ?? betaStageOf(trial)]?.beta;
    const parts = [
      made && `generator ${short(made.generator)} seed ${made.seed}`,
      made && madeIn(made.latency_ms ?? {}),
      typeof made?.from_ranking === "number" && `guided by the ranking: ${Math.round(100 * made.from_ranking)} %`,
      made && captionOf(trial, made) && `captioner ${short(captionOf(trial, made).model)}`,
      result && `decoder ${short(result.model)}`,
      result && `pool ${short(result.pool)} (${count(result.pool_size)})`,
      result && `z-score ${result.normalised_by}`,
      result?.n_repeats > 1 && `mean of ${count(result.n_repeats)} trials`,
      beta && `beta of ${count(beta.n_volumes)} volumes, ${count(beta.n_voxels)} voxels`,
    ];
    const words = parts.filter(Boolean).join(" · ");
    setText(this.how, words);
    setAttr(this.how, "title", made ? `${words}\ngenerator ${made.generator}\ndecoder ${result?.model}\npool ${result?.pool}` : words || null);
  }
}

/** The last reconstruction of the trials before one, or null. */
function lastBefore(session, trial) {
  const trials = allTrials(session);
  const before = trials.slice(0, trials.indexOf(trial)).findLast(reconstructionOf);
  return before ? reconstructionOf(before) : null;
}

customElements.define("ms-trial", TrialPanel);
