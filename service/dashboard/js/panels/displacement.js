// Framewise displacement, which volumes are censored, and how much data is left.

import { usable } from "../model/figures.js";
import { Panel } from "../ui/panel.js";
import { INK, Plot, hatch, rule, text } from "../ui/plot.js";
import { markTrial, nameVolumes, runNote, volumeAxis } from "../ui/volume_axis.js";

// Bars taller than this many thresholds are cut, and labelled with their height.
const HIGHEST = 2;

class DisplacementPanel extends Panel {
  title_ = "Framewise displacement";

  build(body) {
    this.plot = new Plot(body.appendChild(document.createElement("div")));
  }

  inputs(view) {
    return [view.run?.volumes, view.run?.nVolumes, view.run, view.shown, view.fdLimitMm];
  }

  draw(view) {
    const run = view.run;
    const { ok, due, minutes } = run ? usable(run) : { ok: 0, due: 0, minutes: 0 };
    const percent = due ? `${Math.round((100 * ok) / due)} % usable · ${minutes.toFixed(1)} min` : "";
    this.setHeading("Framewise displacement", due ? runNote(view, run) + percent : "");
    const rows = run ? run.volumes : [];
    const censored = rows.filter((v) => v?.censored).length;
    this.plot.draw((ctx, w, h, em) => this.#paint(ctx, w, h, em, view, rows),
      `framewise displacement: ${ok} of ${due} volumes usable, ${censored} censored`);
  }

  #paint(ctx, w, h, em, view, rows) {
    const limit = HIGHEST * view.fdLimitMm;
    const [top, bottom] = [em * 1.1, h - em * 1.5];
    const { left, right, x } = volumeAxis(view.run, w, em);
    const y = (mm) => bottom - (Math.min(mm, limit) / limit) * (bottom - top);
    if (view.run) markTrial(ctx, view, view.run, x, top, bottom);
    text(ctx, limit.toFixed(1), left - 5, top, INK.faint, "right");
    text(ctx, "0", left - 5, bottom, INK.faint, "right");
    rule(ctx, left, right, bottom, INK.line);
    const width = Math.max(1, x(1) - x(0) - 0.6);
    rows.forEach((v, i) => {
      if (v?.missing) hatch(ctx, x(i), top, Math.max(width, 3), bottom - top, INK.dim, 4);
      if (typeof v?.fdMm !== "number") return;
      ctx.fillStyle = v.censored ? INK.red : INK.blue;
      ctx.fillRect(x(i), y(v.fdMm), width, Math.max(1, bottom - y(v.fdMm)));
      if (v.censored) this.#cross(ctx, x(i) + width / 2, bottom + em * 0.5, em * 0.24);
    });
    this.#cutBars(ctx, rows, limit, x, width, top, em);
    rule(ctx, left, right, y(view.fdLimitMm), INK.dim, [4, 4]);
    text(ctx, `${view.fdLimitMm.toFixed(1)} mm`, right + 8, y(view.fdLimitMm), INK.dim);
    const censored = rows.filter((v) => v?.censored).length;
    if (censored) text(ctx, `✕ ${censored} censored`, right + 8, bottom + em * 0.55, INK.red);
    if (view.run) nameVolumes(ctx, view.run, left, right, h - em * 0.35);
  }

  /** Only the tallest of neighbouring cut bars is labelled with its height, so that the numbers do not cover each other. */
  #cutBars(ctx, rows, limit, x, width, top, em) {
    let free = -Infinity;
    rows.forEach((v, i) => {
      if (!(v?.fdMm > limit)) return;
      ctx.fillStyle = INK.panel;
      ctx.fillRect(x(i) - 1, top + 4, width + 2, 2);
      if (x(i) < free) return;
      text(ctx, v.fdMm.toFixed(1), x(i) + width / 2, top - em * 0.5, INK.red, "center");
      free = x(i) + em * 2;
    });
  }

  /** A cross under the axis: censored, also without colour. */
  #cross(ctx, x, y, r) {
    ctx.strokeStyle = INK.red;
    ctx.lineWidth = 1.3;
    ctx.beginPath();
    ctx.moveTo(x - r, y - r);
    ctx.lineTo(x + r, y + r);
    ctx.moveTo(x + r, y - r);
    ctx.lineTo(x - r, y + r);
    ctx.stroke();
  }
}

customElements.define("ms-displacement", DisplacementPanel);
