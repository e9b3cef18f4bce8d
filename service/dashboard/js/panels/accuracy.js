// Rolling top-1 accuracy with Wilson's 95 % interval, chance and n. Hidden in a blinded view.

import { WINDOW, resultOf, rollingAccuracy } from "../model/figures.js";
import { chance as chanceText } from "../model/format.js";
import { Panel } from "../ui/panel.js";
import { INK, Plot, rule, text, trace } from "../ui/plot.js";

const FEW = 20;

class AccuracyPanel extends Panel {
  title_ = "Top-1";

  build(body) {
    this.plot = new Plot(body.appendChild(document.createElement("div")));
  }

  inputs(view) {
    return Object.values(view.session.runs).map((run) => run.trials);
  }

  draw(view) {
    const series = rollingAccuracy(view.session);
    const last = series.at(-1);
    const result = last ? resultOf(last.trial) : null;
    const title = result ? `Top-1 of ${result.pool_size}` : "Top-1";
    const few = last && last.n < FEW ? ` < ${FEW}` : "";
    const [p, low, high] = last ? [last.p, last.low, last.high].map((x) => x.toFixed(2)) : [];
    const reading = last ? `${p} [${low}, ${high}] · chance ${chanceText(result.chance)} · n ${last.n}${few}` : "no result yet";
    this.setHeading(title, reading);
    this.classList.toggle("few", Boolean(few));
    this.plot.draw((ctx, w, h, em) => this.#paint(ctx, w, h, em, series, result), `rolling top-1 accuracy ${reading}`);
  }

  #paint(ctx, w, h, em, series, result) {
    const [left, right, top, bottom] = [em * 2.2, w - 2, em * 0.6, h - em * 1.3];
    const slots = Math.max(FEW, series.length) - 1;
    const x = (i) => left + (i / slots) * (right - left);
    const y = (p) => bottom - p * (bottom - top);
    for (const level of [0, 0.5, 1]) {
      rule(ctx, left, right, y(level), INK.line);
      text(ctx, String(level), left - 5, y(level), INK.faint, "right");
    }
    text(ctx, `last ${WINDOW} trials, newest result of each · 95 % Wilson`, left, h - em * 0.4, INK.faint);
    if (!series.length) return;
    ctx.fillStyle = "rgba(90, 169, 230, 0.22)";
    ctx.beginPath();
    series.forEach((s, i) => ctx.lineTo(x(i), y(s.high)));
    series.toReversed().forEach((s, i) => ctx.lineTo(x(series.length - 1 - i), y(s.low)));
    ctx.fill();
    trace(ctx, series.map((s) => s.p), x, y, INK.blue, 2);
    if (series.length === 1) {
      ctx.fillStyle = INK.blue;
      ctx.fillRect(x(0) - 2, y(series[0].p) - 2, 4, 4);
    }
    rule(ctx, left, right, y(result.chance), INK.ink, [5, 4]);
    text(ctx, "chance", right, y(result.chance) - em * 0.55, INK.ink, "right");
  }
}

customElements.define("ms-accuracy", AccuracyPanel);
