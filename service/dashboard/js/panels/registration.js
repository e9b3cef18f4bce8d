// How the run is registered to the subject's space, whether that is plausible, and the image that shows it.

import { h, setText } from "../ui/dom.js";
import { show } from "../ui/images.js";
import { Panel } from "../ui/panel.js";

const HOW = {
  subject: "● as at calibration",
  session: "● fits this session",
  realigned: "● realigned to calibration",
  registered: "● registered to calibration",
  refused: "✕ NOT REGISTERED: trials are flagged",
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
    this.dialog = h("dialog", { "aria-label": "the run's first volume on the calibration's" },
      this.img, this.none, h("form", { method: "dialog" }, close));
    // Escape closes the image and does nothing else
    this.dialog.addEventListener("keydown", (event) => event.stopPropagation());
    body.append(h("div", { class: "row" }, this.text, this.open), this.dialog);
  }

  inputs(view) {
    return [view.run?.registration ?? null];
  }

  draw(view) {
    const registration = view.run?.registration ?? null;
    this.hidden = !registration;
    if (!registration) return this.dialog.close();
    this.image = registration.image ?? null;
    this.setHeading("Registration", `${HOW[registration.how]}`);
    this.dataset.level = registration.how === "refused" ? "bad" : registration.coverage < SHOWN ? "poor" : "ok";
    const share = Math.round(100 * registration.coverage);
    const margin = typeof registration.margin === "number" ? ` · margin ${registration.margin.toFixed(2)}` : "";
    setText(this.text, `${registration.displacement_mm.toFixed(1)} mm away · ${share} % shown${margin}`);
    this.text.title = registration.text;
    this.open.hidden = !this.image;
    this.img.alt = `volume ${registration.index} of run ${registration.run} on the calibration's: ${registration.text}`;
    if (this.dialog.open) this.#showImage();
  }

  #showImage() {
    this.none.textContent = "";
    show(this.img, this.image, () => (this.none.textContent = "image not available"));
    if (!this.dialog.open) this.dialog.showModal();
  }
}

customElements.define("ms-registration", RegistrationPanel);
