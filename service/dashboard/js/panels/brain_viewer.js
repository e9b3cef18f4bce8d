// The brain itself: the newest volume or the reference, outlines of masks, the shown trial's beta, and the voxel under the
// crosshair. Loaded when the panel is opened; fetches only while somebody looks, the newest volume only and at most one
// every two seconds.

import { STAGES } from "../model/figures.js";
import { referenceToVolume } from "../model/pose.js";
import { fetchBeta, fetchOutline, fetchReference, fetchVolume, fetchVoxel } from "../net/views.js";
import { BrainView } from "../ui/brain_view.js";
import { Chart } from "../ui/chart.js";
import { h, setText } from "../ui/dom.js";
import { header, voxelAt } from "../ui/nifti.js";
import { INK } from "../ui/palette.js";
import { ROI_LINES } from "./rois.js";

const LOOK_MS = 250;
const VOLUME_MS = 2000;
const VOXEL_MS = 2000;
const BAND = 1.96; // standard errors, 95 %
const MOST = 2; // % of the colour scale's end, unless the beta is larger
const LINES = [
  { name: "data", stroke: INK.ink, width: 1 },
  { name: "fit", stroke: INK.blue, width: 1.8 },
  { name: "95 %", stroke: "transparent", width: 0 },
  { name: "below", stroke: "transparent", width: 0, hidden: true },
];
const NONE = { data: [], fit: [], error: null, excluded: [], in_mask: false };

/** The trial's newest beta, or null. */
export const betaOf = (trial) => STAGES.map((stage) => trial?.stages[stage]?.beta).findLast(Boolean) ?? null;

export class BrainViewer {
  #view = null;
  #shown = {}; // what is drawn, by what it is: names and digests
  #busy = new Set();
  #next = 0; // when the next volume may be fetched
  #grid = null; // where the mask's voxels are
  #voxel = null;
  #voxelAt = 0;
  #place = "";
  #isPlaced = false; // the crosshair was put somewhere, by us or by a person
  #most = MOST;

  /** @param {HTMLElement} host @param {object} axis the charts' */
  constructor(host, axis) {
    this.canvas = h("canvas", { tabindex: "0", "aria-label": "three planes through the brain; arrow keys move the crosshair" });
    this.base = h("select", { "aria-label": "image", onchange: () => this.#rebase() },
      h("option", { value: "volume", text: "current volume" }), h("option", { value: "reference", text: "reference" }));
    this.threshold = h("input", { type: "range", min: "0", step: "0.05", value: "0.5", "aria-label": "threshold of the beta, %",
      oninput: () => this.#rethreshold() });
    this.reading = h("span", { class: "reading" });
    this.where = h("p", { class: "where" });
    this.trace = h("div", { class: "voxel" });
    const looks = h("div", { class: "looks" }, this.base, h("label", {}, "beta", this.threshold), this.reading);
    this.planes = h("div", { class: "planes" }, this.canvas);
    this.el = h("div", { class: "viewer" }, this.planes, looks, this.where, this.trace);
    host.append(this.el);
    this.chart = new Chart(this.trace, { lines: LINES, caption: "", axis, bands: [{ series: [3, 4], fill: "rgb(90 169 230 / 25%)" }] });
    this.brain = new BrainView(this.canvas, (mm) => this.#pointed(mm));
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.canvas.addEventListener("pointerdown", () => (this.#isPlaced = true));
  }

  /** Raises an error where the browser cannot draw volumes. */
  async open() {
    await this.brain.open();
    this.clock = setInterval(() => this.#look(), LOOK_MS);
    this.#look();
  }

  close() {
    clearInterval(this.clock);
    this.brain.close();
    this.el.remove();
  }

  update(view) {
    const other = this.#view && this.#view.run?.run !== view.run?.run;
    this.#view = view;
    if (other) this.#voxelAt = 0;
  }

  get #isWatched() {
    return document.visibilityState === "visible" && this.el.isConnected && this.#view !== null && !this.#view.stale;
  }

  #look() {
    if (!this.#isWatched) return;
    this.#base();
    if (!this.brain.hasVolume) return;
    this.#outlines();
    this.#beta();
    this.#course();
  }

  /** One thing at a time of each kind; what failed is tried again at the next look that wants it. */
  async #once(kind, work) {
    if (this.#busy.has(kind)) return;
    this.#busy.add(kind);
    try {
      await work();
    } catch (error) {
      if (error.name !== "TimeoutError") this.#next = Math.max(this.#next, performance.now() + VOLUME_MS);
    } finally {
      this.#busy.delete(kind);
    }
  }

  #base() {
    const { run, session, name } = this.#view;
    const wantsReference = this.base.value === "reference" && session.space;
    const index = run ? run.volumes.findLastIndex((v) => v && !v.missing) : -1;
    const wanted = wantsReference ? session.space.reference : index < 0 ? null : `${run.run} ${index}`;
    if (wanted === null || wanted === this.#shown.base || performance.now() < this.#next) return;
    this.#once("base", async () => {
      this.#next = performance.now() + VOLUME_MS;
      const buffer = await (wantsReference ? fetchReference(wanted) : fetchVolume(name, run.run, index));
      const moved = wantsReference ? null : referenceToVolume(this.#view.session.runs[run.run], index);
      await this.brain.showVolume(buffer, moved);
      this.#shown.base = wanted;
      this.el.dataset.base = wanted;
    });
  }

  #rebase() {
    this.#next = 0;
    this.#look();
  }

  #outlines() {
    const { space, rois } = this.#view.session;
    if (space) this.#outline("mask", space.mask, INK.dim, 0.5);
    Object.values(rois).forEach((roi, k) => this.#outline(roi.name, roi.mask, ROI_LINES[k % ROI_LINES.length].stroke, 1));
  }

  #outline(name, digest, colour, opacity) {
    if (this.#shown[`outline ${name}`] === digest) return;
    this.#once("outline", async () => {
      const buffer = await fetchOutline(digest);
      if (name === "mask") this.#grid = header(buffer);
      await this.brain.showOutline(name, buffer, colour, opacity);
      if (name !== "mask") this.#begin(buffer, Uint8Array);
      this.#shown[`outline ${name}`] = digest;
    });
  }

  #beta() {
    const { trial, name, session } = this.#view;
    const beta = session.space ? betaOf(trial) : null;
    this.el.classList.toggle("no-beta", !beta);
    const wanted = beta?.beta ?? "";
    if (wanted === (this.#shown.beta ?? "")) return;
    this.#once("beta", async () => {
      const buffer = beta && (await fetchBeta(name, beta.run, beta.trial, beta.stage));
      if (buffer) this.#scale(buffer);
      await this.brain.showBeta(buffer, this.#cut, this.#most);
      if (buffer) this.#begin(buffer, Int16Array);
      this.#shown.beta = wanted;
      this.el.dataset.beta = wanted;
    });
  }

  /** The crosshair starts where something is: in the first region, or else amid the voxels of the beta. */
  #begin(buffer, Type) {
    if (this.#isPlaced) return;
    this.#isPlaced = true;
    this.brain.goTo(middle(buffer, Type));
  }

  get #cut() {
    return Number(this.threshold.value);
  }

  /** The scale's end holds 95 % of the voxels of the largest beta so far, so that trials can be compared. */
  #scale(buffer) {
    const values = new Int16Array(buffer.slice(352)).filter((x) => x !== 0).map(Math.abs).sort();
    const high = (values[Math.floor(values.length * 0.95)] ?? 0) / 100;
    this.#most = Math.max(this.#most, Math.ceil(2 * high) / 2);
    this.threshold.max = String(this.#most);
    this.#say();
  }

  #rethreshold() {
    this.brain.setThreshold(this.#cut, this.#most);
    this.#say();
  }

  #say() {
    setText(this.reading, `±${this.#cut.toFixed(2)} to ±${this.#most.toFixed(1)} %`);
  }

  #key(event) {
    const step = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1] };
    if (!step[event.key]) return;
    event.preventDefault();
    event.stopPropagation(); // the page's arrow keys look back at trials
    this.#isPlaced = true;
    this.brain.step(...step[event.key]);
  }

  #pointed(mm) {
    const voxel = this.#grid && voxelAt(this.#grid, mm);
    if (String(voxel) === String(this.#voxel)) return;
    this.#voxel = voxel;
    this.#voxelAt = 0;
    this.#place = voxel ? `voxel ${voxel.join(" ")} · ${mm.map((x) => Math.round(x) + 0).join(" ")} mm` : "outside of the volume";
    setText(this.where, this.#place);
  }

  #course() {
    const { run, session, name, trial } = this.#view;
    if (!this.#grid || !run) return;
    if (!this.#voxel) this.#pointed(this.brain.mm);
    const n = run.volumes.length;
    const of = trial && trial.run === run.run ? trial.trial : null;
    const wanted = `${run.run} ${this.#voxel} ${of} ${n}`;
    const isNew = !this.#shown.course?.startsWith(`${run.run} ${this.#voxel} `);
    if (!this.#voxel || wanted === this.#shown.course || (!isNew && performance.now() < this.#voxelAt)) return;
    if (session.closedT !== null || run.run !== session.run) {
      this.#shown.course = wanted;
      return this.#draw(NONE, `run ${run.run} is over: its data are in the archive`);
    }
    const voxel = this.#voxel;
    this.#once("course", async () => {
      this.#voxelAt = performance.now() + VOXEL_MS;
      const course = await fetchVoxel(name, run.run, voxel, of).catch((error) => this.#without(error, wanted));
      if (!course || voxel !== this.#voxel) return;
      this.#shown.course = wanted;
      this.#draw(course, course.in_mask ? of === null ? "fit of all events" : `fit of trial ${of}` : "not in the mask");
      this.el.dataset.voxel = voxel.join(" ");
    });
  }

  /** A voxel of another run than the latest, or of a session that is closed, has none; one that is busy is asked again. */
  #without(error, wanted) {
    if (error.status !== 404) return null;
    this.#shown.course = wanted;
    this.#draw(NONE, "the session is closed: its data are in the archive");
    return null;
  }

  #draw({ data = [], fit = [], error = null, excluded = [] }, words) {
    const left = new Set(excluded);
    const kept = (values) => values.map((x, i) => (left.has(i) ? null : x));
    const band = (side) => kept(error ? fit.map((x, i) => x + side * BAND * error[i]) : fit.map(() => null));
    this.trace.classList.toggle("empty", data.length === 0);
    const all = data.filter((_, i) => !left.has(i)).sort((a, b) => a - b);
    const [low, high] = all.length ? [all[0], all.at(-1)] : [0, 1];
    const room = (high - low || 1) * 0.08;
    setText(this.where, `${this.#place} · ${words}`);
    const last = data.length - 1;
    const value = (x) => (typeof x === "number" ? x.toFixed(0) : "–");
    [value(data[last]), value(fit[last]), error ? `±${(BAND * error[last]).toFixed(1)}` : "–"].forEach((text, i) => this.chart.setValue(i, text));
    this.chart.draw({
      data: [data.map((_, i) => i), data, kept(fit), band(1), band(-1)],
      limits: [low - room, high + room],
      label: `voxel ${this.#voxel?.join(" ") ?? ""}: ${words}`,
    });
  }
}

/** The point, in millimetres, of the voxel that is nearest to the centre of all voxels that are not 0. */
function middle(buffer, Type) {
  const { shape: [nx, ny], affine } = header(buffer);
  const values = new Type(buffer.slice(352));
  const places = Array.from(values.keys()).filter((i) => values[i] !== 0)
    .map((i) => [i % nx, Math.floor(i / nx) % ny, Math.floor(i / (nx * ny))]);
  const centre = [0, 1, 2].map((axis) => places.reduce((sum, place) => sum + place[axis], 0) / places.length);
  const far = (place) => place.reduce((sum, i, axis) => sum + (i - centre[axis]) ** 2, 0);
  const voxel = places.reduce((best, place) => (far(place) < far(best) ? place : best), places[0] ?? [0, 0, 0]);
  return [0, 1, 2].map((row) => affine[row][3] + voxel.reduce((sum, i, c) => sum + affine[row][c] * i, 0));
}
