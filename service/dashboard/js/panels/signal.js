// Signal quality: temporal signal-to-noise so far in the run, and DVARS of each volume.

import { Chart, nice } from "../ui/chart.js";
import { ChartPanel, markTrial, xs } from "../ui/chart_panel.js";
import { h } from "../ui/dom.js";
import { LimitsForm } from "../ui/limits_form.js";
import { INK } from "../ui/palette.js";

const GROUPS = [
  { name: "tSNR", caption: "so far in the run", pick: (v) => v?.tsnr, decimals: 0, dash: "solid" },
  { name: "DVARS", caption: "% of the signal", pick: (v) => v?.dvarsPercent, decimals: 1, dash: "dashed" },
];

class SignalPanel extends ChartPanel {
  title_ = "Signal";

  build(body) {
    super.build(body);
    this.form = new LimitsForm();
    const open = () => this.form.open(this.view.name, { ...this.view.limits, usable_min: this.view.usableMin });
    this.set = h("button", { type: "button", class: "small", text: "limits", onclick: open });
    this.querySelector("header").append(this.set);
    this.append(this.form.element);
  }

  makeCharts(axis) {
    return GROUPS.map(({ name, caption, dash }) =>
      new Chart(this.body, { lines: [{ name, stroke: INK.blue, dash }], caption, axis }));
  }

  inputs(view) {
    return [view.run?.volumes, view.run?.nVolumes, view.run, view.shown, view.limits, view.session.closedT, view.at, view.axis.isZoomed];
  }

  drawCharts(view) {
    this.view = view;
    this.set.hidden = view.session.closedT !== null;
    this.setHeading("Signal", this.headingOf(view, ""));
    GROUPS.forEach((group, i) => this.#drawGroup(this.charts[i], view, group));
  }

  #drawGroup(chart, view, { name, pick, decimals }) {
    const values = (view.run?.volumes ?? []).map((v) => pick(v) ?? null);
    const known = values.filter((v) => v !== null);
    const now = view.at === null ? known.at(-1) : values[view.at];
    const reading = typeof now === "number" ? now.toFixed(decimals) : "–";
    chart.setValue(0, reading);
    chart.draw({
      data: [xs(values), values],
      limits: [0, nice(Math.max(0.1, known.reduce((most, v) => Math.max(most, v), 0)))],
      label: `${name} ${reading}`,
      under: (u, ctx) => markTrial(u, ctx, view),
    });
  }
}

customElements.define("ms-signal", SignalPanel);
