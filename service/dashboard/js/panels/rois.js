// Regions of interest: percent signal change of each over the run, beside the events.

import { plural, signed } from "../model/format.js";
import { Chart, box, rule } from "../ui/chart.js";
import { ChartPanel, xs } from "../ui/chart_panel.js";
import { setText } from "../ui/dom.js";
import { INK } from "../ui/palette.js";

// One family of colours, since colour is state: dashes tell them apart, as in the outlines of the brain their shade.
export const ROI_LINES = [
  { stroke: "#5aa9e6", dash: "solid", width: 1.6 },
  { stroke: "#e3eef8", dash: "solid", width: 1.6 },
  { stroke: "#86b8dd", dash: "dashed", width: 1.8 },
  { stroke: "#bfd8ee", dash: "dotted", width: 2.2 },
];
const levels = ([low, high]) => [low, 0, high];
const LEAST = 1; // %

/** What a region's change is relative to, in words. */
export function relativeTo({ kind, from_s: from, until_s: until, label }) {
  if (kind === "seconds") return `% change from the mean at ${from} to ${until} s`;
  if (kind === "label") return `% change from the mean in ${label ?? "events of one kind"}`;
  return "% change from the mean between events";
}

class RoisPanel extends ChartPanel {
  title_ = "Regions";
  #charts = new Map();

  makeCharts() {
    return []; // one for each region, as they are declared
  }

  inputs(view) {
    return [view.run, view.session.rois, view.at];
  }

  drawCharts(view) {
    const rois = Object.values(view.session.rois);
    const baselines = [...new Set(rois.map((roi) => relativeTo(roi.baseline)))];
    this.setHeading("Regions of interest", this.headingOf(view, baselines.length === 1 ? baselines[0] : ""));
    const limit = largest(view.run, rois); // one for all, so that they can be compared
    rois.forEach((roi, k) => this.#drawRegion(this.#chartOf(roi, k, view.axis), view, roi, limit));
  }

  #chartOf(roi, k, axis) {
    if (!this.#charts.has(roi.name)) {
      const line = { name: roi.name, ...ROI_LINES[k % ROI_LINES.length] };
      this.#charts.set(roi.name, new Chart(this.body, { lines: [line], caption: "", axis, levels }));
    }
    return this.#charts.get(roi.name);
  }

  #drawRegion(chart, view, roi, limit) {
    const rows = view.run?.rois[roi.name] ?? [];
    const values = Array.from(rows, (row) => (row && !row.censored ? row.percent : null));
    const now = view.at === null ? rows.at(-1) : rows[view.at];
    const percent = typeof now?.percent === "number" ? `${signed(now.percent, 2)} %` : "–";
    chart.setValue(0, percent);
    const inside = rows.at(-1)?.nVoxels ?? roi.nVoxels;
    setText(chart.caption, inside === roi.nVoxels ? plural(inside, "voxel") : `${inside} of ${roi.nVoxels} voxels`);
    chart.caption.title = relativeTo(roi.baseline);
    chart.draw({
      data: [xs(values), values],
      limits: [-limit, limit],
      label: `${roi.name}: ${percent} ${relativeTo(roi.baseline)}`,
      under: (u, ctx) => markEvents(u, ctx, view.run),
      over: (u, ctx) => rule(u, ctx, 0, INK.line),
    });
  }
}

/** The largest change of any region in the run, in steps of half a percent. */
function largest(run, rois) {
  let most = LEAST;
  for (const roi of rois) {
    for (const row of run?.rois[roi.name] ?? []) if (row && !row.censored) most = Math.max(most, Math.abs(row.percent ?? 0));
  }
  return Math.ceil(most * 2) / 2;
}

/** Every event of the run as a box behind the lines. */
function markEvents(u, ctx, run) {
  if (!run?.trS) return;
  ctx.fillStyle = INK.line;
  for (const { onsetS, durationS } of run.events) {
    const { x, y, w, h } = box(u, onsetS / run.trS, (onsetS + durationS) / run.trS);
    if (w > 0) ctx.fillRect(x, y, w, h);
  }
}

customElements.define("ms-rois", RoisPanel);
