// Framewise displacement, which volumes are censored and why, and how much usable data there is and is still needed.

import { motionMeasured, usable, usableMinutes } from "../model/figures.js";
import { count } from "../model/format.js";
import { Chart, bars, box, hatch, rule } from "../ui/chart.js";
import { ChartPanel, markTrial, xs } from "../ui/chart_panel.js";
import { h } from "../ui/dom.js";
import { INK, em, font } from "../ui/palette.js";

const HIGHEST = 2; // bars taller than this many limits are cut, and labelled with their height
const LINES = [
  { name: "FD", stroke: INK.blue, fill: INK.blue, paths: bars, width: 0 },
  { name: "censored", stroke: INK.red, fill: INK.red, paths: bars, width: 0, hidden: true },
];

class DisplacementPanel extends ChartPanel {
  title_ = "FD";

  makeCharts(axis) {
    const levels = ([, high]) => [0, high / HIGHEST, high];
    return [new Chart(this.body, { lines: LINES, caption: "framewise, mm", axis, levels, numbered: true })];
  }

  inputs(view) {
    const minutes = usableMinutes(view.session);
    return [view.run?.volumes, view.run?.nVolumes, view.run, view.shown, view.fdLimitMm, view.usableMin, minutes, view.at, view.axis.isZoomed];
  }

  drawCharts(view) {
    const { run } = view;
    const rows = run?.volumes ?? [];
    const measured = run ? motionMeasured(run) : null;
    const { ok, due } = run ? usable(run) : { ok: null, due: 0 };
    this.setHeading("FD", view.at === null ? this.#dataOf(view, measured, ok, due) : this.headingOf(view));
    this.setInstead(measured === false ? "motion is not measured in this run: which volumes are usable is not known" : "");
    const [chart] = this.charts;
    const shown = view.at === null ? rows.findLast((v) => typeof v?.fdMm === "number") : rows[view.at];
    chart.setValue(0, typeof shown?.fdMm === "number" ? shown.fdMm.toFixed(2) : "–");
    this.#list(chart, view, rows, shown);
    const censored = rows.filter((v) => v?.censored).length;
    const limit = HIGHEST * view.fdLimitMm;
    chart.draw({
      data: [xs(rows), rows.map((v) => (v?.censored ? null : (v?.fdMm ?? null))), rows.map((v) => (v?.censored ? (v.fdMm ?? null) : null))],
      limits: [0, limit],
      label: `framewise displacement: ${ok ?? "unknown"} of ${due} volumes usable, ${censored} censored`,
      under: (u, ctx) => this.#paintUnder(u, ctx, view, rows),
      over: (u, ctx) => this.#paintOver(u, ctx, view, rows, limit),
    });
  }

  /** Minutes of usable data, as people plan by them: of all runs, and how many are still needed. */
  #dataOf(view, measured, ok, due) {
    if (!due) return "";
    if (measured !== true) return measured === null ? "" : "motion not measured";
    const minutes = usableMinutes(view.session);
    const share = `${Math.round((100 * ok) / due)} % usable`;
    if (view.usableMin === null) return `${share} · ${minutes.toFixed(1)} min`;
    const left = view.usableMin - minutes;
    const need = left > 0 ? `${left.toFixed(1)} min more of ${view.usableMin}` : `all ${view.usableMin} min`;
    return `${need} · ${share}`;
  }

  /** Below the value: the limit, and how many volumes are lost to what. */
  #list(chart, view, rows, shown) {
    const nCensored = rows.filter((v) => v?.censored).length;
    const of = (why) => rows.filter((v) => v?.censoredBy === why).length;
    const lost = [
      ["╌", `limit ${view.fdLimitMm.toFixed(2)}`, ""],
      ["✕", `${count(nCensored)} censored`, nCensored ? "bad" : ""],
      ["▨", `${count(rows.filter((v) => v?.missing).length)} missing`, ""],
    ];
    if (view.at !== null) lost[1] = shown?.censored ? ["✕", `censored: ${shown.censoredBy ?? "yes"}`, "bad"] : ["·", "used", ""];
    if (view.at !== null && shown?.missing) lost[1] = ["▨", "missing", ""];
    const items = lost.map(([sign, text, level]) => h("li", { class: level, title: text }, h("i", { text: sign }), h("span", { text })));
    const why = `motion ${of("motion")}, spike ${of("spike")}, no head position ${of("pose")}`;
    items[1].title = `censored: ${why}`;
    chart.more.replaceChildren(...items);
  }

  #paintUnder(u, ctx, view, rows) {
    markTrial(u, ctx, view);
    rows.forEach((v, i) => v?.missing && hatch(ctx, box(u, i, i + 1, 3), INK.dim));
    rule(u, ctx, view.fdLimitMm, INK.dim);
  }

  #paintOver(u, ctx, view, rows, limit) {
    const { top, height, left, width } = u.bbox;
    const letter = em() * devicePixelRatio;
    let free = left;
    ctx.save();
    ctx.font = font(0.75).replace(/^\d+/, (px) => String(px * devicePixelRatio));
    ctx.textBaseline = "middle";
    ctx.textAlign = "center";
    ctx.strokeStyle = ctx.fillStyle = INK.red;
    ctx.lineWidth = 1.3 * devicePixelRatio;
    rows.forEach((v, i) => {
      if (!v?.censored) return;
      const x = u.valToPos(i + 0.5, "x", true);
      if (x < left || x > left + width) return;
      this.#cross(ctx, x, top + height - letter * 0.3, letter * 0.22);
      // only the first of neighbouring cut bars is labelled, so that no label covers another
      const words = v.fdMm > limit ? v.fdMm.toFixed(1) : "";
      const half = ctx.measureText(words).width / 2 + 2 * devicePixelRatio;
      if (!words || x - half < free || x + half > left + width) return;
      ctx.clearRect(x - half, top, 2 * half, letter);
      ctx.fillText(words, x, top + letter * 0.5);
      free = x + half;
    });
    ctx.restore();
  }

  /** A cross on the axis: censored, also without colour. */
  #cross(ctx, x, y, r) {
    ctx.beginPath();
    ctx.moveTo(x - r, y - r);
    ctx.lineTo(x + r, y + r);
    ctx.moveTo(x + r, y - r);
    ctx.lineTo(x - r, y + r);
    ctx.stroke();
  }
}

customElements.define("ms-displacement", DisplacementPanel);
