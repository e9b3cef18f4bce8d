// What did the brain say: one trial's stimulus beside its reconstruction, never without its fit and how it was made.

import { STAGES, captionOf, fitOf, reconstructionOf, resultOf, skippedOf, stageOf, trialState, truthKnown } from "../model/figures.js";
import { clock, count, duration, short } from "../model/format.js";
import { nameOf } from "../model/log.js";
import { h, setAttr, setText } from "../ui/dom.js";
import { show } from "../ui/images.js";
import { Panel } from "../ui/panel.js";

const SIGN = { planned: "·", waiting: "○", fast: "◔", revised: "◑", final: "●", undecoded: "–" };

const FIT = "Cosine between the reconstruction's tokens, encoded again, and those it was made from. Percentile: the share of"
  + " other trials' reconstructions that fit these tokens worse, by the calibration of this stage.";

/** A framed image, or a text instead, with a caption below it and a note on the right. */
function figure(name) {
  const img = h("img", { alt: "", hidden: true });
  const words = h("p", { class: "placeholder" });
  const sentence = h("p", { class: "sentence" });
  const frame = h("div", { class: "frame" }, img, words, sentence);
  const caption = h("b", { text: name });
  const note = h("span", { class: "note" });
  return { el: h("figure", {}, frame, h("figcaption", {}, caption, note)), frame, img, words, sentence, caption, note };
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
    const meter = { role: "meter", "aria-label": "token cosine", "aria-valuemin": "0", "aria-valuemax": "1" };
    this.track = h("div", { class: "track", ...meter }, this.bar);
    this.reading = h("span", { class: "reading" });
    this.how = h("p", { class: "how" });
    const back = { type: "button", class: "back", text: "◀ looking back · Esc: live", onclick: () => this.#backToLive() };
    this.back = h("button", back);
    body.append(
      h("div", { class: "pair" }, this.stimulus.el, this.reconstruction.el),
      h("div", { class: "fit", title: FIT }, h("span", { text: "Token cosine" }), this.track, this.reading),
      this.how,
    );
  }

  inputs(view) {
    const trial = view.trial;
    const { blinded, closedT } = view.session;
    return [trial, blinded, closedT, view.live, trial && trialState(view.session, trial), view.truthHidden];
  }

  draw(view) {
    const trial = view.trial;
    if (!trial) return this.#drawEmpty(view);
    this.setHeading(`Trial ${trial.trial} · run ${trial.run}`);
    this.#drawAside(view, trial);
    this.#drawStimulus(view, trial);
    this.#drawReconstruction(view, trial);
    this.#drawFit(trial);
    this.#drawProvenance(view, trial);
  }

  #backToLive() {
    this.dispatchEvent(new CustomEvent("ms-select", { bubbles: true, detail: null }));
  }

  #drawEmpty(view) {
    this.setHeading("Trial");
    this.stimulus.frame.classList.toggle("hidden-truth", view.session.blinded);
    const waiting = view.session.closedT === null ? "waiting for the first trial" : "no trial in this session";
    this.#drawPlaceholder(this.stimulus, view.session.blinded ? "hidden until unblinding" : "no stimulus yet");
    this.#drawPlaceholder(this.reconstruction, waiting);
    for (const part of [this.stimulus, this.reconstruction]) setText(part.note, "");
    this.#drawCaption(null);
    setText(this.reconstruction.caption, "Reconstruction");
    this.#drawFit(null);
    setText(this.how, "");
  }

  #drawAside(view, trial) {
    const state = trialState(view.session, trial);
    const parts = [h("span", { text: `onset ${clock(trial.onsetS)}.${Math.floor((trial.onsetS % 1) * 10)}` })];
    for (const stage of STAGES) {
      if (!trial.stages[stage]?.result) continue;
      parts.push(h("span", { class: "stage-tag", "data-stage": stage, text: `${SIGN[stage]} ${stage}` }));
    }
    const words = state === "waiting" ? "waiting for the response" : state;
    if (!stageOf(trial)) parts.push(h("span", { text: `${SIGN[state]} ${words}` }));
    if (trial.flagged) parts.push(h("span", { class: "flag", text: "⚑ motion" }));
    if (!view.live) parts.push(this.back);
    this.aside.replaceChildren(...parts);
    setAttr(this, "data-looking-back", view.live ? null : "");
  }

  #drawStimulus(view, trial) {
    const part = this.stimulus;
    const hidden = view.truthHidden && view.session.blinded;
    part.frame.classList.toggle("hidden-truth", !truthKnown(trial) && !trial.stimulus);
    if (trial.stimulus) {
      this.#drawImage(part, trial.stimulus, `stimulus of trial ${trial.trial}`);
    } else if (trial.label) {
      this.#drawPlaceholder(part, trial.label, "", "large");
    } else if (hidden) {
      this.#drawPlaceholder(part, "hidden until unblinding", "not sent to this client");
    } else {
      this.#drawPlaceholder(part, "no stimulus known", "not sent to this client");
    }
    setText(part.caption, trial.stimulus && trial.label ? `Stimulus · ${nameOf({ label: trial.label })}` : "Stimulus");
    setText(part.note, `shown ${trial.durationS.toFixed(1)} s`);
  }

  #drawReconstruction(view, trial) {
    const part = this.reconstruction;
    const made = reconstructionOf(trial);
    const result = resultOf(trial);
    this.#drawCaption(made && captionOf(trial, made));
    if (made) {
      const version = made.version === "full" || made.version === undefined ? made.stage : `${made.stage} · ${made.version}`;
      this.#drawImage(part, made.image, `reconstruction of trial ${trial.trial}, ${version}`);
      setText(part.caption, `Reconstruction · ${version}`);
      setText(part.note, `${count(made.evaluations)} steps`);
      return;
    }
    setText(part.caption, "Reconstruction");
    setText(part.note, "");
    if (!result) this.#drawPlaceholder(part, view.session.closedT === null ? "waiting for the response" : "no result");
    else {
      const why = skippedOf(trial)?.text ?? "no reconstruction";
      this.#drawPlaceholder(part, nameOf(result.candidates[0]), `closest candidate; ${why}`, "large");
    }
  }

  /** The sentence that describes this reconstruction, across its lower edge. */
  #drawCaption(caption) {
    setText(this.reconstruction.sentence, caption ? caption.text : "");
    setAttr(this.reconstruction.sentence, "title", caption ? `caption, by the captioner ${short(caption.model)}` : null);
  }

  #drawImage(part, digest, alt) {
    setText(part.words, "");
    part.img.alt = alt;
    show(part.img, digest, () => this.#drawPlaceholder(part, "image not available"));
  }

  #drawPlaceholder(part, words, more = "", size = "") {
    part.img.hidden = true;
    part.img.dataset.digest = "";
    part.words.className = `placeholder ${size}`;
    part.words.replaceChildren(h("span", { text: words }), h("small", { text: more }));
  }

  /** What the reconstruction itself is worth; the ranking's confidence is with its candidates. */
  #drawFit(trial) {
    const made = trial && reconstructionOf(trial);
    const fit = made && fitOf(trial, made);
    this.bar.style.width = fit ? `${100 * Math.max(0, fit.token_cosine)}%` : "0";
    setAttr(this.track, "aria-valuenow", fit ? String(fit.token_cosine) : null);
    if (!fit) return this.reading.replaceChildren(made ? "not measured" : "–");
    const percentile = fit.fit_percentile ?? null;
    this.reading.replaceChildren(
      h("b", { text: fit.token_cosine.toFixed(2) }),
      percentile === null ? " percentile not calibrated" : ` percentile ${Math.floor(percentile)}`,
    );
  }

  #drawProvenance(view, trial) {
    const result = resultOf(trial);
    const made = reconstructionOf(trial);
    const beta = trial.stages[stageOf(trial)]?.beta;
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
    setText(this.how, parts.filter(Boolean).join(" · "));
    setAttr(this.how, "title", made ? `generator ${made.generator}\ndecoder ${result?.model}\npool ${result?.pool}` : null);
  }
}

customElements.define("ms-trial", TrialPanel);
