// Head motion over the run: three translations and three rotations relative to the reference.

import { signed } from "../model/format.js";
import { Panel } from "../ui/panel.js";
import { INK, Plot, endLabels, nice, rule, text, trace } from "../ui/plot.js";
import { markTrial, runNote, volumeAxis } from "../ui/volume_axis.js";

const AXES = ["x", "y", "z"];
const SHADES = ["#e3eef8", "#5aa9e6", "#4388bd"]; // one family: colour is state, these are only data
const WIDTHS = [1.2, 1.5, 1.9];

class MotionPanel extends Panel {
  title_ = "Motion";

  build(body) {
    this.translation = new Plot(body.appendChild(document.createElement("div")));
    this.rotation = new Plot(body.appendChild(document.createElement("div")));
  }

  inputs(view) {
    return [view.run?.volumes, view.run?.nVolumes, view.run, view.shown];
  }

  draw(view) {
    const run = view.run;
    const last = run?.volumes.findLast((v) => v?.translationMm);
    const largest = last ? Math.max(...last.translationMm.map(Math.abs)) : 0;
    this.setHeading("Motion", last ? `${runNote(view, run)}now ${largest.toFixed(2)} mm from the reference` : "");
    this.#group(this.translation, view, "translation", "mm", (v) => v?.translationMm, 0.5);
    this.#group(this.rotation, view, "rotation", "deg", (v) => v?.rotationDeg, 0.5);
  }

  #group(plot, view, name, unit, pick, least) {
    const rows = view.run ? view.run.volumes.map((v) => pick(v) ?? null) : [];
    const known = rows.filter(Boolean);
    const now = known.at(-1);
    const label = now ? AXES.map((a, i) => `${a} ${signed(now[i], 2)} ${unit}`).join(", ") : "no volume yet";
    plot.draw((ctx, w, h, em) => {
      const top = em * 1.6;
      const bottom = h - em * 0.4;
      const { left, right, x } = volumeAxis(view.run, w, em);
      const limit = Math.max(least, nice(Math.max(0, ...known.flat().map(Math.abs))));
      const y = (value) => (top + bottom) / 2 - (value / limit) * ((bottom - top) / 2);
      text(ctx, `${name} ${unit}`, 0, em * 0.5, INK.dim);
      if (view.run) markTrial(ctx, view, view.run, x, top, bottom);
      for (const level of [limit, -limit]) {
        rule(ctx, left, right, y(level), INK.line);
        text(ctx, signed(level, limit < 1 ? 1 : 0), left - 5, y(level), INK.faint, "right");
      }
      rule(ctx, left, right, y(0), INK.line);
      AXES.forEach((_, i) => trace(ctx, rows.map((r) => r && r[i]), x, y, SHADES[i], WIDTHS[i]));
      if (!now) return;
      const labels = AXES.map((a, i) => ({ y: y(now[i]), words: `${a} ${signed(now[i], 2)}`, fill: SHADES[i] }));
      endLabels(ctx, labels, right + 8, top - em * 0.5, h, em);
    }, `${name} over the run: ${label}`);
  }
}

customElements.define("ms-motion", MotionPanel);
