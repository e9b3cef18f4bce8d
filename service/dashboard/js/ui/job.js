// A job as one line that stays up to date by itself: what it does, how far it is, what can be done about it.

import { duration } from "../model/format.js";
import { cancelJob, getJob, resumeJob } from "../net/api.js";
import { h, setText } from "./dom.js";
import { action } from "./forms.js";

const EVERY_MS = 1500;
const SIGNS = { queued: "◌", running: "●", cancelling: "◌", done: "✓", failed: "✕", cancelled: "■" };
export const FINISHED = ["done", "failed", "cancelled"];

/** "betas 120 of 300, 41 s left". */
export function progressText(progress) {
  if (!progress) return "";
  const of = progress.n === null || progress.n === undefined ? "" : ` of ${progress.n}`;
  const left = progress.left_s === null || progress.left_s === undefined ? "" : `, ${duration(progress.left_s * 1000)} left`;
  return `${progress.step} ${progress.done}${of}${left}`;
}

/** @param {(job: object) => void} changed called whenever its state has changed */
export function jobLine(job, notice, changed = () => {}) {
  const state = h("strong");
  const text = h("span", { role: "status" });
  const bar = h("progress", { max: "1", "aria-label": `progress of ${job.job}` });
  const cancel = action("Cancel", notice, async () => update(await cancelJob(job.job)));
  const resume = action("Resume", notice, async () => update(await resumeJob(job.job)));
  const element = h("div", { class: "job" }, h("span", { class: "row" }, h("span", {}, state, " ", h("code", { text: job.job })), h("span", { class: "row" }, cancel, resume)), bar, text);
  let last = null;

  function update(now) {
    const isNews = last?.state !== now.state;
    last = { ...last, ...now };
    setText(state, `${SIGNS[last.state]} ${last.state}`);
    element.dataset.level = last.state;
    setText(text, FINISHED.includes(last.state) ? last.ended ?? "" : progressText(last.progress));
    if (last.progress?.n) bar.value = Math.min(1, last.progress.done / last.progress.n);
    else bar.removeAttribute("value");
    bar.hidden = FINISHED.includes(last.state);
    cancel.hidden = bar.hidden || last.state === "cancelling";
    resume.hidden = !["failed", "cancelled"].includes(last.state);
    if (isNews) changed(last);
  }

  async function follow() {
    if (element.isConnected) {
      try {
        update(await getJob(job.job));
      } catch (error) {
        setText(text, error.message);
      }
    }
    if (element.isConnected || !element.wasShown) setTimeout(follow, EVERY_MS);
    element.wasShown ||= element.isConnected;
  }
  update(job);
  setTimeout(follow, 0);
  return element;
}
