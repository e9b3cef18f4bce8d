// The form that changes a session's limits of quality, and how much usable data it shall give, while it runs. Empty fields
// stay as they are.

import { ApiError, setLimits } from "../net/api.js";
import { h } from "./dom.js";

const TARGET = ["usable_min", "usable data wanted, minutes", "not stated"];
// The gateway's names; the first limit censors volumes, the others raise alerts.
const FIGURES = [
  ["fd_mm", "motion that censors a volume, mm", "0.5"],
  ["displacement_mm", "head away from the reference, mm", "3"],
  ["censored_share", "volumes censored, share of the window", "0.2"],
  ["dvars_ratio", "DVARS over the run's median", "1.5"],
  ["tsnr_ratio", "tSNR over the calibration's, at least", "0.7"],
  ["tsnr_start_ratio", "tSNR over the run's start, at least", "0.7"],
  ["drift_percent", "drift of the mean signal, %", "3"],
  ["signal_percent", "signal against the calibration's, %", "20"],
  ["residual", "residual against the reference, share", "0.2"],
  ["outlier_share", "outlier slices, share", "0.01"],
  ["spikes", "spikes in the window", "0"],
  ["unplaced", "volumes without a pose in the window", "0"],
];

export class LimitsForm {
  constructor() {
    this.problem = h("p", { class: "problem", role: "alert" });
    this.inputs = Object.fromEntries([TARGET, ...FIGURES].map(([name, , usual]) =>
      [name, h("input", { name, id: `limit-${name}`, autocomplete: "off", inputmode: "decimal", placeholder: usual })]));
    const rows = [TARGET, ...FIGURES].flatMap(([name, label]) => [h("label", { for: `limit-${name}`, text: label }), this.inputs[name]]);
    const form = h("form", { method: "dialog", onsubmit: (event) => this.#send(event) },
      h("p", { class: "caption", text: "Applies from the next volume. A number, or for a limit “off” for never; empty fields stay as they are." }),
      h("div", { class: "limits" }, ...rows), this.problem,
      h("div", { class: "row" }, h("button", { type: "button", text: "cancel", onclick: () => this.element.close() }),
        h("button", { text: "set" })));
    this.element = h("dialog", { "aria-label": "limits of quality, and usable data wanted" }, form);
    this.element.addEventListener("keydown", (event) => this.element.open && event.stopPropagation());
  }

  /** @param {Object<string, number|string>} known this session's limits, by name */
  open(session, known) {
    this.session = session;
    this.problem.textContent = "";
    for (const [name, , usual] of [TARGET, ...FIGURES]) {
      this.inputs[name].value = "";
      this.inputs[name].placeholder = known[name] ?? usual;
    }
    this.element.showModal();
  }

  async #send(event) {
    event.preventDefault();
    const given = [TARGET, ...FIGURES].map(([name]) => [name, this.inputs[name].value.trim()]).filter(([, text]) => text);
    const { fd_mm = null, usable_min = null, ...limits } = Object.fromEntries(
      given.map(([name, text]) => [name, text === "off" ? text : Number(text.replace(",", "."))]));
    try {
      // NaN is null in JSON, which would leave a limit as it is
      const wrong = given.find(([name, text]) => text !== "off" && !Number.isFinite(Number(text.replace(",", "."))));
      if (wrong) throw new ApiError(422, `“${wrong[1]}” is neither a number nor “off”`);
      if (given.length) await setLimits(this.session, { fd_mm, usable_min, limits });
      this.element.close();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.problem.textContent = error.message;
    }
  }
}
