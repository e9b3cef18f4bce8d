// The participant's screen: asks for a session and a key where the address has none, goes full-screen, and shows what
// the experimenter chose to feed back. F or a click: full screen again.

import { keepKey, storedKey } from "../net/api.js";
import { h } from "../ui/dom.js";
import { Link } from "./link.js";
import { Screen } from "./screen.js";

const container = document.getElementById("screen");
const parts = new URLSearchParams(location.hash.slice(1));

/** Takes the key out of the address, so that it is neither bookmarked nor on a photograph of the screen. */
function takeKey() {
  if (parts.get("key") === null) return;
  keepKey(parts.get("key"));
  parts.delete("key");
  history.replaceState(null, "", `${location.pathname}${parts.toString() && `#${parts}`}`);
}

function begin(problem = "") {
  const session = h("input", { id: "session", required: true, autocomplete: "off", spellcheck: "false", value: parts.get("session") ?? "" });
  const key = h("input", { id: "key", type: "password", required: !storedKey(), autocomplete: "off", placeholder: storedKey() ? "kept in this tab" : "ms_…" });
  const form = h("form", { class: "begin" },
    h("h1", { text: "The participant's screen" }),
    problem ? h("p", { class: "problem", role: "alert", text: problem }) : "",
    h("p", { text: "Move this window to the screen in the scanner room, then start. It shows a cross until something is fed back." }),
    h("label", { for: "session", text: "Session" }), session,
    h("label", { for: "key", text: "Participant key" }), key,
    h("button", { type: "submit", text: "Start in full screen" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (key.value) keepKey(key.value.trim());
    start(session.value.trim());
  });
  container.replaceChildren(form);
  (session.value ? form.querySelector("button") : session).focus();
}

const fullScreen = () => document.documentElement.requestFullscreen?.().catch(() => {}); // refused without a gesture

function start(session) {
  const screen = new Screen();
  container.replaceChildren(screen.element);
  fullScreen();
  addEventListener("click", fullScreen);
  addEventListener("keydown", (event) => event.key.toLowerCase() === "f" && fullScreen());
  new Link(session, {
    show: (show, picture) => screen.show(show, picture),
    plan: (plan) => screen.lay(plan),
    refused: begin,
  }).start();
}

takeKey();
begin();
