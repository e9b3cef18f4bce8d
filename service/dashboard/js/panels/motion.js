// Head motion over the run: three translations and three rotations relative to the reference.

import { motionMeasured } from "../model/figures.js";
import { signed } from "../model/format.js";
import { Chart, nice } from "../ui/chart.js";
import { ChartPanel, markTrial, xs } from "../ui/chart_panel.js";

// One family of colours, since colour is state and these are only data: the dashes tell them apart.
const LINES = [
  { name: "x", stroke: "#e3eef8", dash: "solid", width: 1.3 },
  { name: "y", stroke: "#5aa9e6", dash: "dashed", width: 1.6 },
  { name: "z", stroke: "#86b8dd", dash: "dotted", width: 2.2 },
];
const GROUPS = [
  { caption: "translation mm", name: "translation", unit: "mm", pick: (v) => v?.translationMm, least: 0.5 },
  { caption: "rotation deg", name: "rotation", unit: "deg", pick: (v) => v?.rotationDeg, least: 0.5 },
];
const levels = ([low, high]) => [low, 0, high];

class MotionPanel extends ChartPanel {
  title_ = "Motion";

  makeCharts(axis) {
    return GROUPS.map(({ caption }) => new Chart(this.body, { lines: LINES, caption, axis, levels }));
  }

  inputs(view) {
    return [view.run?.volumes, view.run?.nVolumes, view.run, view.shown, view.at, view.axis.isZoomed];
  }

  drawCharts(view) {
    const { run } = view;
    const last = run?.volumes.findLast((v) => v?.translationMm);
    this.setHeading("Motion", this.headingOf(view, last && `now ${Math.max(...last.translationMm.map(Math.abs)).toFixed(2)} mm from the reference`));
    const given = run?.volumes.some((v) => typeof v?.fdMm === "number");
    this.setInstead(run && !last && motionMeasured(run) !== null
      ? (given ? "motion was estimated by another program: only its displacement is known" : "motion is not measured in this run")
      : "");
    GROUPS.forEach((group, i) => this.#drawGroup(this.charts[i], view, group));
  }

  #drawGroup(chart, view, { name, unit, pick, least }) {
    const rows = view.run ? view.run.volumes.map((v) => pick(v) ?? null) : [];
    const known = rows.filter(Boolean);
    const limit = Math.max(least, nice(Math.max(0.01, ...known.map((row) => Math.max(...row.map(Math.abs))))));
    const now = (view.at === null ? known.at(-1) : rows[view.at]) ?? null;
    LINES.forEach((_, i) => chart.setValue(i, now ? signed(now[i], 2) : "–"));
    const words = now ? LINES.map((line, i) => `${line.name} ${signed(now[i], 2)} ${unit}`).join(", ") : "no volume yet";
    chart.draw({
      data: [xs(rows), ...LINES.map((_, i) => rows.map((row) => row && row[i]))],
      limits: [-limit, limit],
      label: `${name} over the run: ${words}`,
      under: (u, ctx) => markTrial(u, ctx, view),
    });
  }
}

customElements.define("ms-motion", MotionPanel);
