// The form that changes a session's limits of quality while it runs. What is left empty stays as it is.

import { ApiError, setLimits } from "./api.js";
import { h } from "./dom.js";

// The gateway's names; the first is what takes a volume out of the betas, the others are when somebody is told.
const FIGURES = [
  ["fd_mm", "motion that takes a volume out, mm", "0.5"],
  ["displacement_mm", "head away from the reference, mm", "3"],
  ["censored_share", "volumes lost, share of the window", "0.2"],
  ["dvars_ratio", "DVARS over the usual", "1.5"],
  ["tsnr_ratio", "tSNR over calibration's, at least", "0.7"],
  ["tsnr_start_ratio", "tSNR over the start's, at least", "0.7"],
  ["drift_percent", "drift of the mean signal, %", "3"],
  ["signal_percent", "signal against calibration's, %", "20"],
  ["residual", "unexplained by the reference, share", "0.2"],
  ["outlier_share", "slices that do not fit, share", "0.01"],
  ["spikes", "spikes in the window", "0"],
  ["unplaced", "volumes without a pose in the window", "0"],
];

export class LimitsForm {
  constructor() {
    this.problem = h("p", { class: "problem", role: "alert" });
    this.inputs = Object.fromEntries(FIGURES.map(([name, , usual]) =>
      [name, h("input", { name, id: `limit-${name}`, autocomplete: "off", inputmode: "decimal", placeholder: usual })]));
    const rows = FIGURES.flatMap(([name, label]) => [h("label", { for: `limit-${name}`, text: label }), this.inputs[name]]);
    const form = h("form", { method: "dialog", onsubmit: (event) => this.#send(event) },
      h("p", { class: "caption", text: "From the next volume on. A number, or “off” for never; empty stays as it is." }),
      h("div", { class: "limits" }, ...rows), this.problem,
      h("div", { class: "row" }, h("button", { type: "button", text: "cancel", onclick: () => this.element.close() }),
        h("button", { text: "set" })));
    this.element = h("dialog", { "aria-label": "limits of quality" }, form);
    this.element.addEventListener("keydown", (event) => event.stopPropagation());
  }

  /** @param {Object<string, number|string>} known what this session was told, by name */
  open(session, known) {
    this.session = session;
    this.problem.textContent = "";
    for (const [name, , usual] of FIGURES) {
      this.inputs[name].value = "";
      this.inputs[name].placeholder = known[name] ?? usual;
    }
    this.element.showModal();
  }

  async #send(event) {
    event.preventDefault();
    const given = FIGURES.map(([name]) => [name, this.inputs[name].value.trim()]).filter(([, text]) => text);
    const { fd_mm: fdMm = null, ...limits } = Object.fromEntries(
      given.map(([name, text]) => [name, text === "off" ? text : Number(text.replace(",", "."))]));
    try {
      // not a number is null in JSON, which would leave a limit as it is
      const wrong = given.find(([name, text]) => text !== "off" && !Number.isFinite(Number(text.replace(",", "."))));
      if (wrong) throw new ApiError(422, `“${wrong[1]}” is neither a number nor “off”`);
      if (given.length) await setLimits(this.session, fdMm, limits);
      this.element.close();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.problem.textContent = error.message;
    }
  }
}
