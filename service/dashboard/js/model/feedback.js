// What is fed back to the participant, as the gateway has it. Pure.

import { duration } from "./format.js";

/** What holds until somebody chooses: the gateway's own. */
export const FEEDBACK = { show: "nothing", stage: "fast", deadline_s: 12, hold_s: 2, fallback: { show: "nothing" }, patch: "bottom-right" };

/** Whether two plans say the same. */
export const samePlan = (one, other) => Boolean(one && other) && words(one) === words(other);

const words = ({ show, stage, deadline_s: deadline, hold_s: hold, fallback, patch }) =>
  JSON.stringify([show, stage, deadline, hold, fallback.show, fallback.text ?? null, patch]);

const SHOWN = { reconstruction: "the reconstruction", candidate: "the first candidate’s name", confidence: "a bar of the probability" };

/** The log's words for a plan. */
export function described({ show, stage, deadline_s: deadline }) {
  if (show === "nothing") return "feedback to the participant: nothing";
  return `feedback to the participant: ${SHOWN[show]}, ${stage}, within ${duration(deadline * 1000)} of the onset`;
}
