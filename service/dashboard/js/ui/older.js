// Where the sessions are that a page of all subjects does not list.

import { NEWEST } from "../net/api.js";
import { h } from "./dom.js";

export const older = () => h("p", { class: "caption", id: "older", hidden: true },
  `The newest ${NEWEST} sessions. Older ones are listed with their `, h("a", { href: "#subjects", text: "subjects" }), ".");
