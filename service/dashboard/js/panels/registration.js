// How the run is registered to the subject's space, whether that is plausible, and the image that shows it.

import { h, setText } from "../ui/dom.js";
import { show } from "../ui/images.js";
import { Panel } from "../ui/panel.js";

const HOW = {
  calibration: {
    subject: "● as at calibration", session: "● fits this session", realigned: "● realigned to calibration",
    registered: "● registered to calibration", refused: "✕ NOT REGISTERED: trials are flagged",
  },
  first_volume: {
    subject: "● on the first volume", session: "● fits this session", realigned: "● realigned to the first volume",
    registered: "● registered to the first volume", refused: "✕ NOT REGISTERED: trials are flagged",
  },
};
const SHOWN = 0.98; // ingest raises an alert if a smaller share of the voxels is in the volume

class RegistrationPanel extends Panel {
  title_ = "Registration";

  build(body) {
    this.text = h("span");
    this.open = h("button", { type: "button", text: "image", onclick: () => this.#showImage() });
    this.img = h("img", { alt: "", hidden: true });
    this.none = h("p", { class: "none" });
    const close = h("button", { text: "close", autofocus: true });
    this.dialog = h("dialog", { "aria-label": "the run's first volume on its reference" },
      this.img, this.none, h("form", { method: "dialog" }, close));
    // Escape closes the image and does nothing else
    this.dialog.addEventListener("keydown", (event) => this.dialog.open && event.stopPropagation());
    body.append(h("div", { class: "row" }, this.text, this.open), this.dialog);
  }

  inputs(view) {
    return [view.run?.registration ?? null, this.#absence(view.run)];
  }

  draw(view) {
    const registration = view.run?.registration ?? null;
    if (!registration) return this.#drawNone(this.#absence(view.run));
    this.image = registration.image ?? null;
    const reference = registration.reference ?? "calibration";
    this.setHeading("Registration", HOW[reference][registration.how]);
    this.dataset.level = registration.how === "refused" ? "bad" : registration.coverage < SHOWN ? "poor" : "ok";
    const share = Math.round(100 * registration.coverage);
    const margin = typeof registration.margin === "number" ? ` · margin ${registration.margin.toFixed(2)}` : "";
    setText(this.text, `${registration.displacement_mm.toFixed(1)} mm away · ${share} % covered${margin}`);
    this.text.title = registration.text;
    this.open.hidden = !this.image;
    this.img.alt = `volume ${registration.index} of run ${registration.run} on the ${reference === "calibration" ? "calibration's" : "session's first"}: ${registration.text}`;
    if (this.dialog.open) this.#showImage();
  }

  /** Why the run has no registration. */
  #absence(run) {
    if (!run || run.volumes.length === 0) return "no volume yet";
    const processed = run.volumes.filter((v) => v?.censored !== undefined);
    if (processed.length === 0 || processed.some((v) => v.translationMm)) return "not registered yet";
    return "not registered: volumes are taken as they are";
  }

  #drawNone(words) {
    this.dialog.close();
    this.setHeading("Registration", "");
    this.dataset.level = "none";
    setText(this.text, words);
    this.text.title = words;
    this.open.hidden = true;
  }

  #showImage() {
    show(this.img, this.image, (missing) => setText(this.none, missing ? "image not available" : ""));
    if (!this.dialog.open) this.dialog.showModal();
  }
}

customElements.define("ms-registration", RegistrationPanel);
