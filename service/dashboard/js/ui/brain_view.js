// Three planes through a volume, with overlays and a crosshair: NiiVue, loaded when the first one is opened.
//
// All images are in the space of the session's reference, in millimetres. Knows nothing of sessions.

import { Niivue, NVImage } from "../../vendor/niivue/index.js";
import { header, moved } from "./nifti.js";

const ROW = 3;
const NO_RENDER = 0;
const MULTIPLANAR = 3;
// A beta's two directions: those of the static map, told apart in grey too, because one is darker
const MAPS = {
  "ms-up": { R: [0, 150, 235, 255], G: [0, 85, 150, 230], B: [0, 10, 40, 180], A: [0, 255, 255, 255], I: [0, 1, 128, 255] },
  "ms-down": { R: [0, 25, 70, 185], G: [0, 75, 150, 225], B: [0, 150, 235, 255], A: [0, 255, 255, 255], I: [0, 1, 128, 255] },
};

/** A colour map for an outline: nothing, then one colour. */
const lineMap = ([r, g, b]) => ({ R: [0, r], G: [0, g], B: [0, b], A: [0, 255], I: [0, 255] });
const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

export class BrainView {
  #nv = null;
  #images = new Map(); // by name, in the order they lie upon each other
  #level = null; // grey level that is white: that of the first volume, so that nothing flickers

  /** @param {HTMLCanvasElement} canvas  @param {(mm: number[]) => void} pointed where the crosshair is now */
  constructor(canvas, pointed) {
    this.canvas = canvas;
    this.pointed = pointed;
  }

  /** Raises an error where the browser has no WebGL 2. */
  async open() {
    this.#nv = new Niivue({
      logLevel: "silent", loadingText: "", dragAndDropEnabled: false, show3Dcrosshair: false, backColor: [0.082, 0.102, 0.129, 1],
      crosshairColor: [0.84, 0.87, 0.91, 0.8], crosshairWidth: 1.5, crosshairWidthUnit: "mm", crosshairGap: 2, multiplanarLayout: ROW,
      multiplanarShowRender: NO_RENDER, multiplanarEqualSize: true, tileMargin: 4, isOrientationTextVisible: true,
      isColorbar: false, sliceType: MULTIPLANAR, isNearestInterpolation: true, fontMinPx: 11, fontColor: [0.57, 0.62, 0.68, 1],
    });
    for (const [name, map] of Object.entries(MAPS)) this.#nv.addColormap(name, map);
    this.#nv.onLocationChange = ({ mm }) => this.pointed(Array.from(mm).slice(0, 3));
    await this.#nv.attachToCanvas(this.canvas, false);
  }

  close() {
    this.#nv?.cleanup?.();
    this.#nv?.gl?.getExtension("WEBGL_lose_context")?.loseContext();
    this.#nv = null;
    this.#images.clear();
  }

  /** The volume below all others; `toRun` maps the reference's millimetres to the volume's (4 × 4, row by row), or null. */
  async showVolume(buffer, toRun = null) {
    const placed = toRun ? moved(buffer, toRun) : buffer;
    const { slope } = header(placed);
    this.#level ??= 255 * slope;
    await this.#put("volume", placed, { colormap: "gray", cal_min: 0, cal_max: this.#level }, 0);
  }

  /** A beta in percent, both directions, above a threshold; null takes it away. */
  async showBeta(buffer, threshold, most) {
    if (!buffer) return this.#drop("beta");
    const range = { cal_min: threshold, cal_max: most, cal_minNeg: -most, cal_maxNeg: -threshold };
    await this.#put("beta", buffer, { colormap: "ms-up", colormapNegative: "ms-down", opacity: 0.85, ...range }, 1);
  }

  setThreshold(threshold, most) {
    const image = this.#images.get("beta");
    if (!image) return;
    Object.assign(image, { cal_min: threshold, cal_max: most, cal_minNeg: -most, cal_maxNeg: -threshold });
    this.#nv.updateGLVolume();
  }

  /** The outline of a mask in one colour (#rrggbb). */
  async showOutline(name, buffer, colour, opacity = 0.6) {
    const map = `ms-line-${name}`;
    this.#nv.addColormap(map, lineMap(rgb(colour)));
    await this.#put(`outline-${name}`, buffer, { colormap: map, cal_min: 0.4, cal_max: 1, opacity });
  }

  get hasVolume() {
    return this.#images.has("volume");
  }

  /** Where the crosshair is, in millimetres; null without a volume. */
  get mm() {
    return this.hasVolume ? Array.from(this.#nv.frac2mm(this.#nv.scene.crosshairPos)).slice(0, 3) : null;
  }

  /** Moves the crosshair to a point in millimetres. */
  goTo(mm) {
    this.#nv.scene.crosshairPos = this.#nv.mm2frac(mm);
    this.#nv.drawScene();
    this.pointed(mm);
  }

  /** Moves the crosshair by voxels of the volume below. */
  step(x, y, z) {
    this.#nv.moveCrosshairInVox(x, y, z);
  }

  async #put(name, buffer, look, place = this.#nv.volumes.length) {
    const known = this.#images.get(name);
    const image = await NVImage.loadFromUrl({ url: `${name}.nii`, name: `${name}.nii`, buffer, ...look });
    Object.assign(image, look);
    image.colorbarVisible = false;
    if (!this.#nv) return; // closed meanwhile
    this.#images.set(name, image);
    const volumes = this.#nv.volumes.filter((it) => it !== known);
    volumes.splice(Math.min(known ? this.#nv.volumes.indexOf(known) : place, volumes.length), 0, image);
    const at = this.#nv.scene.crosshairPos.slice();
    const first = this.#nv.volumes.length === 0;
    this.#nv.volumes = volumes;
    this.#nv.setVolume(image, volumes.indexOf(image));
    if (!first) this.#nv.scene.crosshairPos = at;
    this.#nv.drawScene();
  }

  #drop(name) {
    const image = this.#images.get(name);
    if (!image) return;
    this.#images.delete(name);
    this.#nv.removeVolume(image);
  }
}
