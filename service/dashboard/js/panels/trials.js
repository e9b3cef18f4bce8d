// Every trial of the session, a row per run. Colour and the height of the fill both show the stage.

import { allTrials, hit, isDecoded, trialState, truthKnown } from "../model/figures.js";
import { count, plural } from "../model/format.js";
import { h } from "../ui/dom.js";
import { Panel } from "../ui/panel.js";
import { Canvas, text } from "../ui/canvas.js";
import { INK } from "../ui/palette.js";

const FILL = {
  planned: [0, INK.line], waiting: [0, INK.dim], undecoded: [0, INK.line],
  fast: [1 / 3, INK.amber], revised: [2 / 3, INK.violet], final: [1, INK.green],
};
const LETTER = { waiting: "○", fast: "f", revised: "r", final: "F", undecoded: "–" };
const LEGEND = {
  final: "F final", revised: "r revised", fast: "f fast", waiting: "○ waiting", flagged: "⚑ flagged",
};

const total = (runs) => runs.reduce((n, row) => n + row.length, 0);
const fitsOneLine = (runs, w, em) => total(runs) * em * 1.7 + runs.length * em <= w;

/** Few trials: run after run on one line, as tall as the strip. */
function oneLine(runs, w, height, em) {
  const pitch = Math.min(em * 4.2, (w - (runs.length - 1) * em) / total(runs));
  let x = 0;
  return runs.map((cells) => {
    const rowHeight = Math.min(em * 7, height - em * 1.2);
    const place = { cells, label: { x, y: em * 0.5 }, x, y: em * 1.2, pitch, rowHeight };
    x += cells.length * pitch + em;
    return place;
  });
}

/** Many trials: a row for each run, in as many columns as it takes to keep the rows apart. */
function rowPerRun(runs, w, height, em) {
  const label = em * 3.4;
  const columns = Math.ceil((runs.length * em * 1.15) / height);
  const rows = Math.ceil(runs.length / columns);
  const width = w / columns;
  const pitch = Math.min(em * 8, (width - label - em) / Math.max(...runs.map((row) => row.length)));
  const rowHeight = Math.min(em * 4.6, height / rows);
  return runs.map((cells, r) => {
    const x = Math.floor(r / rows) * width;
    return { cells, label: { x }, x: x + label, y: (r % rows) * rowHeight, pitch, rowHeight };
  });
}

class TrialsPanel extends Panel {
  title_ = "Trials";

  build(body) {
    const host = h("div", { class: "strip" });
    this.plot = new Canvas(host, { role: "slider", tabindex: "0", "aria-valuemin": "1" });
    this.plot.canvas.addEventListener("click", (event) => this.#click(event));
    this.hits = h("span", { class: "hits", text: "● rank 1 was shown  ○ it was not" });
    const legend = Object.entries(LEGEND).map(([state, words]) => h("span", { "data-stage": state, text: words }));
    const keys = h("span", { class: "keys", text: "← → look back · Esc live" });
    body.append(host, h("p", { class: "legend" }, ...legend, this.hits, keys));
  }

  inputs(view) {
    const { session } = view;
    const states = allTrials(session).map((trial) => trialState(session, trial)).join();
    return [states, view.trial, view.live, ...Object.values(session.runs).map((run) => run.trials)];
  }

  draw(view) {
    const { session } = view;
    const trials = allTrials(session);
    const states = trials.map((trial) => trialState(session, trial));
    const n = (state) => states.filter((s) => s === state).length;
    const flagged = trials.filter((t) => t.flagged).length;
    const known = trials.some(truthKnown);
    this.hits.hidden = !known;
    const parts = [
      trials.length && plural(trials.length, "trial"),
      n("waiting") && `${count(n("waiting"))} waiting for the response`,
      flagged && `${count(flagged)} flagged`,
      trials.length > 0 && !trials.some((trial) => isDecoded(session, trial)) && "no bundle: stages of the betas",
    ];
    this.setHeading("Trials", parts.filter(Boolean).join(" · "));
    this.#announce(view, trials, states);
    this.plot.draw((ctx, w, height, em) => this.#paint(ctx, w, height, em, view, trials, states, known));
  }

  /** For a screen reader the strip is a slider: its value is the trial shown. */
  #announce(view, trials, states) {
    const at = trials.indexOf(view.trial);
    const { canvas } = this.plot;
    canvas.setAttribute("aria-label", "trial shown");
    canvas.setAttribute("aria-valuemax", String(trials.length || 1));
    canvas.setAttribute("aria-valuenow", String(at + 1));
    const { trial } = view;
    const words = at < 0 ? ["none"] : [`trial ${trial.trial} of run ${trial.run}`, states[at], trial.flagged && "flagged"];
    canvas.setAttribute("aria-valuetext", [...words, view.live && "live"].filter(Boolean).join(", "));
  }

  #paint(ctx, w, height, em, view, trials, states, known) {
    const numbers = [...new Set(trials.map((t) => t.run))];
    const all = trials.map((trial, i) => ({ trial, state: states[i] }));
    const runs = numbers.map((run) => all.filter((cell) => cell.trial.run === run));
    this.cells = [];
    const places = fitsOneLine(runs, w, em) ? oneLine(runs, w, height, em) : rowPerRun(runs, w, height, em);
    for (const { cells, label, x, y, pitch, rowHeight } of places) {
      const marks = known && rowHeight >= em * 2.6 ? em * 1.1 : 0;
      const cellHeight = rowHeight - marks - Math.min(5, rowHeight * 0.2);
      text(ctx, `run ${cells[0].trial.run}`, label.x, label.y ?? y + cellHeight / 2, INK.dim);
      cells.forEach((cell, i) => {
        const width = Math.max(2, pitch - Math.min(5, pitch * 0.2));
        const box = { x: x + i * pitch, y, w: width, h: cellHeight, pitch, rowHeight };
        this.cells.push({ ...box, trial: cell.trial });
        this.#cell(ctx, box, cell, em, cell.trial === view.trial, marks);
      });
    }
  }

  #cell(ctx, box, { trial, state }, em, shown, marks) {
    const [level, fill] = FILL[state];
    const { x, y, w, h: height } = box;
    ctx.fillStyle = INK.bg;
    ctx.fillRect(x, y, w, height);
    ctx.fillStyle = fill;
    ctx.fillRect(x, y + height * (1 - level), w, height * level);
    if (level === 0) {
      ctx.strokeStyle = fill;
      ctx.strokeRect(x + 0.5, y + 0.5, w - 1, height - 1);
    }
    if (trial.flagged) this.#flag(ctx, box, em);
    const roomy = w >= em * 0.9 && height >= em * 1.1;
    if (roomy && LETTER[state] && (level === 0 || height * level >= em)) {
      text(ctx, LETTER[state], x + w / 2, y + height - em * 0.6, level ? INK.bg : INK.dim, "center");
    }
    if (roomy && !trial.flagged && height >= em * 2.4 && w >= em * 1.4) {
      text(ctx, String(trial.trial), x + w / 2, y + height * 0.17, level === 1 ? INK.bg : INK.dim, "center");
    }
    const was = hit(trial);
    if (marks && was !== null) this.#mark(ctx, x + w / 2, y + height + marks * 0.55, Math.min(em * 0.3, w / 2.4), was);
    if (!shown) return;
    ctx.strokeStyle = INK.ink;
    ctx.lineWidth = 2;
    ctx.strokeRect(x + 1, y + 1, w - 2, height - 2);
    ctx.lineWidth = 1;
  }

  #flag(ctx, { x, y, w, h: height }, em) {
    const cap = height / 4;
    ctx.fillStyle = INK.red;
    ctx.fillRect(x, y, w, Math.max(3, cap));
    if (cap > em * 0.7) text(ctx, "⚑", x + w / 2, y + cap / 2, INK.bg, "center");
  }

  #mark(ctx, x, y, r, filled) {
    ctx.beginPath();
    ctx.arc(x, y, r, 0, 2 * Math.PI);
    ctx.fillStyle = ctx.strokeStyle = filled ? INK.ink : INK.dim;
    if (filled) ctx.fill();
    else ctx.stroke();
  }

  #click(event) {
    const hitCell = this.cells?.find((c) =>
      event.offsetX >= c.x && event.offsetX < c.x + c.pitch && event.offsetY >= c.y && event.offsetY < c.y + c.rowHeight);
    if (!hitCell) return;
    const detail = { run: hitCell.trial.run, trial: hitCell.trial.trial };
    this.dispatchEvent(new CustomEvent("ms-select", { bubbles: true, detail }));
  }
}

customElements.define("ms-trials", TrialsPanel);
