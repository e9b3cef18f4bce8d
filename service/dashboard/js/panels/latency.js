// Latency of each stage of a volume and of a result, compared with the TR and with the time between trials.

import { hurry, quantile, stimulusInterval } from "../model/figures.js";
import { duration } from "../model/format.js";
import { h, setAttr, setText } from "../ui/dom.js";
import { Panel } from "../ui/panel.js";

const STAGES = [
  ["receive", "receive"],
  ["queue", "queue"],
  ["motion", "motion"],
  ["glm", "GLM"],
  ["decode", "decode"],
  ["retrieve", "retrieve"],
  ["generate", "image"],
];

class LatencyPanel extends Panel {
  title_ = "Where the time goes";

  build(body) {
    this.volume = this.#budget("volume");
    this.result = this.#budget("result");
    this.rows = new Map(STAGES.map(([stage, name]) => [stage, this.#row(name)]));
    const stages = h("div", { class: "stages" }, ...[...this.rows.values()].map((row) => row.el));
    body.append(this.volume.el, this.result.el, stages);
  }

  inputs(view) {
    return [view.session.latency, view.run?.trS, view.run?.trials, view.session.arrivals];
  }

  draw(view) {
    const { latency } = view.session;
    const tr = view.run?.trS ? view.run.trS * 1000 : null;
    const interval = view.run ? stimulusInterval(view.run) : null;
    const pace = hurry(view.session);
    this.setHeading("Where the time goes", pace ? `sent ${pace.toFixed(1)} × real time` : "p50 | p99, last 100");
    this.#setBudget(this.volume, latency.volume, tr, "TR", pace);
    const results = latency.reconstruction ?? latency.result;
    this.#setBudget(this.result, results, interval && interval * 1000, "per trial", pace);
    const longest = Math.max(1, ...STAGES.map(([stage]) => quantile(latency[stage] ?? [], 0.99) ?? 0));
    for (const [stage] of STAGES) this.#setRow(this.rows.get(stage), latency[stage], longest);
  }

  #budget(name) {
    const reading = h("span", { class: "reading" });
    const bar = this.#bar();
    return { el: h("div", { class: "budget" }, h("span", { text: name }), reading, bar.el), reading, bar };
  }

  #row(name) {
    const reading = h("span", { class: "reading" });
    const bar = this.#bar();
    return { el: h("div", { class: "stage" }, h("span", { text: name }), bar.el, reading), reading, bar };
  }

  #bar() {
    const p50 = h("i", { class: "p50" });
    const p99 = h("i", { class: "p99" });
    return { el: h("div", { class: "bar" }, p99, p50), p50, p99 };
  }

  #setBar(bar, p50, p99, limit) {
    bar.p50.style.width = `${Math.min(100, (100 * p50) / limit)}%`;
    bar.p99.style.width = `${Math.min(100, (100 * p99) / limit)}%`;
  }

  #setBudget(budget, values, limit, of, pace) {
    if (!values?.length) {
      setText(budget.reading, "–");
      budget.el.classList.remove("late");
      return this.#setBar(budget.bar, 0, 0, 1);
    }
    const [p50, p99] = [quantile(values, 0.5), quantile(values, 0.99)];
    const late = limit !== null && pace === null && p99 > limit;
    budget.el.classList.toggle("late", late);
    const sum = `${late ? "▲ late: " : ""}${duration(p50)} | ${duration(p99)}`;
    const words = limit === null ? sum : `${sum} of ${duration(limit)} ${of}`;
    setText(budget.reading, words);
    setAttr(budget.reading, "title", words);
    this.#setBar(budget.bar, p50, p99, limit ?? Infinity);
  }

  #setRow(row, values, longest) {
    const [p50, p99] = [quantile(values ?? [], 0.5) ?? 0, quantile(values ?? [], 0.99) ?? 0];
    setText(row.reading, values?.length ? `${duration(p50)} | ${duration(p99)}` : "–");
    this.#setBar(row.bar, p50, p99, longest);
  }
}

customElements.define("ms-latency", LatencyPanel);
