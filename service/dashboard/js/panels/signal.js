// Signal quality: temporal signal-to-noise so far in the run, and DVARS of each volume.

import { h } from "../ui/dom.js";
import { LimitsForm } from "../ui/limits_form.js";
import { Panel } from "../ui/panel.js";
import { INK, Plot, nice, rule, text, trace } from "../ui/plot.js";
import { markTrial, runNote, volumeAxis } from "../ui/volume_axis.js";

class SignalPanel extends Panel {
  title_ = "Signal";

  build(body) {
    this.form = new LimitsForm();
    const open = () => this.form.open(this.view.name, this.view.limits);
    this.set = h("button", { type: "button", class: "small", text: "limits", onclick: open });
    this.querySelector("header").append(this.set);
    this.append(this.form.element);
    this.tsnr = new Plot(body.appendChild(document.createElement("div")));
    this.dvars = new Plot(body.appendChild(document.createElement("div")));
  }

  inputs(view) {
    return [view.run?.volumes, view.run?.nVolumes, view.run, view.shown, view.limits, view.session.closedT];
  }

  draw(view) {
    this.view = view;
    this.set.hidden = view.session.closedT !== null;
    this.setHeading("Signal", view.run && view.run.volumes.length ? runNote(view, view.run).replace(" · ", "") : "");
    const rows = view.run?.volumes ?? [];
    this.#trace(this.tsnr, view, "tSNR", "", rows.map((v) => v?.tsnr ?? null), 0);
    this.#trace(this.dvars, view, "DVARS", " %", rows.map((v) => v?.dvarsPercent ?? null), 1);
  }

  #trace(plot, view, name, unit, values, decimals) {
    const known = values.filter((v) => v !== null);
    const now = known.at(-1);
    const reading = now === undefined ? "–" : `${now.toFixed(decimals)}${unit}`;
    plot.draw((ctx, w, h, em) => {
      const [top, bottom] = [em * 0.5, h - em * 0.5];
      const { left, right, x } = volumeAxis(view.run, w, em);
      const limit = nice(Math.max(0.1, ...known));
      const y = (value) => bottom - (value / limit) * (bottom - top);
      if (view.run) markTrial(ctx, view, view.run, x, top, bottom);
      rule(ctx, left, right, bottom, INK.line);
      rule(ctx, left, right, top, INK.line);
      if (known.length) {
        text(ctx, `${limit}`, left - 5, top, INK.faint, "right");
        text(ctx, "0", left - 5, bottom, INK.faint, "right");
      }
      trace(ctx, values, x, y, INK.blue);
      text(ctx, name, right + 8, h / 2 - em * 0.6, INK.dim);
      ctx.font = ctx.font.replace(/^[\d.]+px/, `${em}px`);
      text(ctx, reading, right + 8, h / 2 + em * 0.6, INK.ink);
    }, `${name} ${reading}`);
  }
}

customElements.define("ms-signal", SignalPanel);
