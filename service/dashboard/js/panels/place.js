// Where the run's head is in the subject's space, whether that is plausible, and the image that shows it.

import { h, setText } from "../ui/dom.js";
import { show } from "../ui/images.js";
import { Panel } from "../ui/panel.js";

const HOW = {
  subject: "● as at calibration",
  session: "● fits this session",
  realigned: "● realigned to calibration",
  registered: "● registered to calibration",
  refused: "✕ NOT PLACED: trials are flagged",
};
const SHOWN = 0.98; // ingest raises an alert where a smaller share of the voxels is in the volume

class PlacePanel extends Panel {
  title_ = "Place";

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
    return [view.run?.place ?? null];
  }

  draw(view) {
    const place = view.run?.place ?? null;
    this.hidden = !place;
    if (!place) return this.dialog.close();
    this.image = place.image ?? null;
    this.setHeading("Place", `${HOW[place.how]}`);
    this.dataset.level = place.how === "refused" ? "bad" : place.coverage < SHOWN ? "poor" : "ok";
    const share = Math.round(100 * place.coverage);
    const margin = typeof place.margin === "number" ? ` · margin ${place.margin.toFixed(2)}` : "";
    setText(this.text, `${place.displacement_mm.toFixed(1)} mm away · ${share} % shown${margin}`);
    this.text.title = place.text;
    this.open.hidden = !this.image;
    this.img.alt = `volume ${place.index} of run ${place.run} on the calibration's: ${place.text}`;
    if (this.dialog.open) this.#showImage();
  }

  #showImage() {
    this.none.textContent = "";
    show(this.img, this.image, () => (this.none.textContent = "image not available"));
    if (!this.dialog.open) this.dialog.showModal();
  }
}

customElements.define("ms-place", PlacePanel);
