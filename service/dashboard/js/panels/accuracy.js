// Rolling top-1 of each stage with Wilson's 95 % interval, chance and n. A stage's figures stay as they were when its results
// came. Not there in a blinded view.

import { STAGES, WINDOW, allTrials } from "../model/figures.js";
import { chance as chanceText, count } from "../model/format.js";
import { Chart, rule } from "../ui/chart.js";
import { h, setAttr, setText } from "../ui/dom.js";
import { INK } from "../ui/palette.js";
import { Panel } from "../ui/panel.js";

const FEW = 20;
const LINES = {
  fast: { stroke: INK.amber, dash: "dotted", band: "rgba(230, 162, 60, 0.10)" },
  revised: { stroke: INK.violet, dash: "dashed", band: "rgba(164, 139, 224, 0.12)" },
  final: { stroke: INK.green, dash: "solid", band: "rgba(87, 184, 148, 0.15)" },
};
const PARTS = ["p", "low", "high"];

class AccuracyPanel extends Panel {
  title_ = "Top-1";
  #at = null;

  build(body) {
    const row = (stage) => {
      const cells = Object.fromEntries(["top1", "band", "n"].map((name) => [name, h("td", { class: name })]));
      const swatch = h("i", { class: `dash ${LINES[stage].dash}` });
      swatch.style.color = LINES[stage].stroke;
      return { el: h("tr", {}, h("th", { scope: "row", "data-stage": stage }, swatch, stage), ...Object.values(cells)), ...cells };
    };
    this.rows = Object.fromEntries(STAGES.map((stage) => [stage, row(stage)]));
    const head = h("tr", {}, ...["stage", "top-1", "95 %", "n"].map((text) => h("th", { scope: "col", text })));
    const host = h("div", { class: "lines" });
    body.append(host, h("table", {}, h("thead", {}, head), h("tbody", {}, ...STAGES.map((stage) => this.rows[stage].el))));
    const lines = STAGES.flatMap((stage) => PARTS.map((part) => ({
      name: stage, stroke: part === "p" ? LINES[stage].stroke : "transparent", dash: LINES[stage].dash, width: part === "p" ? 1.8 : 0, hidden: true,
    })));
    const bands = STAGES.map((stage, i) => ({ series: [3 * i + 3, 3 * i + 2], fill: LINES[stage].band }));
    const hovered = (at) => {
      if (at === this.#at) return;
      this.#at = at;
      this.draw(this.view);
    };
    this.chart = new Chart(host, { lines, bands, caption: "", levels: () => [0, 0.5, 1], hovered });
  }

  inputs(view) {
    return [view.session.accuracy, allTrials(view.session).length];
  }

  draw(view) {
    this.view = view;
    const { accuracy } = view.session;
    const trials = allTrials(view.session);
    const place = new Map(trials.map((trial, i) => [`${trial.run}-${trial.trial}`, i]));
    const last = STAGES.map((stage) => accuracy[stage].at(-1)).findLast(Boolean) ?? null;
    this.#setTitle(last, trials[this.#at ?? -1]);
    const columns = STAGES.flatMap((stage) => {
      const values = PARTS.map(() => trials.map(() => null));
      for (const s of accuracy[stage]) PARTS.forEach((part, i) => (values[i][place.get(`${s.run}-${s.trial}`)] = s[part]));
      return values;
    });
    const readings = STAGES.map((stage) => this.#setRow(stage, accuracy[stage], trials[this.#at ?? -1] ?? null));
    this.chart.draw({
      data: [trials.map((_, i) => i), ...columns],
      limits: [0, 1],
      range: [0, Math.max(FEW, trials.length) - 1],
      label: `rolling top-1 accuracy: ${readings.filter(Boolean).join(", ") || "no result yet"}`,
      under: (u, ctx) => last && rule(u, ctx, last.chance, INK.ink),
      over: (u, ctx) => this.#paintPoints(u, ctx, accuracy, place),
    });
  }

  #setTitle(last, at) {
    const title = last ? `Top-1 of ${count(last.poolSize)}` : "Top-1";
    const what = last ? `╌ chance ${chanceText(last.chance)} · last ${WINDOW} of a stage` : "no result with its truth yet";
    this.setHeading(title, at ? `at trial ${at.trial} of run ${at.run}` : what);
  }

  /** The stage's figures now, or as they were at a trial; returns them in words. */
  #setRow(stage, series, trial) {
    const at = trial ? series.findLast((s) => s.run === trial.run && s.trial === trial.trial) : series.at(-1);
    const { el, top1, band, n } = this.rows[stage];
    setText(top1, at ? at.p.toFixed(2) : "–");
    setText(band, at ? `${at.low.toFixed(2)}–${at.high.toFixed(2)}` : "");
    setText(n, at ? String(at.n) : "");
    const few = at && at.n < FEW;
    el.classList.toggle("few", Boolean(few));
    setAttr(el, "title", few ? `fewer than ${FEW} results: the interval is wide` : null);
    return at ? `${stage} ${at.p.toFixed(2)} [${at.low.toFixed(2)}, ${at.high.toFixed(2)}] of ${at.n}` : "";
  }

  /** A lone result has no line to be seen by. */
  #paintPoints(u, ctx, accuracy, place) {
    for (const stage of STAGES) {
      if (accuracy[stage].length !== 1) continue;
      const [s] = accuracy[stage];
      ctx.fillStyle = LINES[stage].stroke;
      const side = 4 * devicePixelRatio;
      ctx.fillRect(u.valToPos(place.get(`${s.run}-${s.trial}`), "x", true) - side / 2, u.valToPos(s.p, "y", true) - side / 2, side, side);
    }
  }
}

customElements.define("ms-accuracy", AccuracyPanel);
