// Shows the page that the address names, once there is a key: by itself the list of sessions.

import { forgetKey, keepKey, storedKey } from "./net/api.js";
import { KeyForm } from "./pages/key.js";
import { pageAt } from "./pages/routes.js";
import { navigation } from "./ui/nav.js";

const REASONS = {
  denied: "The server did not accept this key.",
  forbidden: "This key may not watch sessions: an experimenter's or a viewer's may.",
  "auth.sign_in": "The sign-in was not completed. Sign in again.",
  "auth.role": "Your account has no role here. Ask an administrator of this service for one.",
  "auth.issuer": "The sign-in service does not respond. Use a key meanwhile, or try again.",
};
const NOT_SIGNED_IN = "The sign-in was refused. Sign in again, or use a key.";
const container = document.getElementById("page");
const bar = document.getElementById("bar");
let current = null;

const fragment = () => new URLSearchParams(location.hash.slice(1));

/** Takes the key out of the address, so that it is neither bookmarked, shared nor on a screenshot. */
function takeKey() {
  const parts = fragment();
  const key = parts.get("key");
  if (key === null) return;
  keepKey(key);
  parts.delete("key");
  const rest = parts.toString() && `#${parts}`;
  history.replaceState(null, "", location.pathname + location.search + rest);
}

/** Why the sign-in was refused, if the address says so; it says it once. */
function takeRefusal() {
  const code = fragment().get("refused");
  if (code === null) return "";
  history.replaceState(null, "", location.pathname + location.search);
  return REASONS[code] ?? NOT_SIGNED_IN;
}

function open(next, nav = null) {
  current?.stop();
  current = next;
  bar.replaceChildren(...(nav ? [nav] : []));
  container.replaceChildren(next.element);
  next.start();
}

function askForKey(reason = "") {
  forgetKey();
  open(new KeyForm(reason, (key) => {
    keepKey(key);
    showPage();
  }));
}

const refused = (why = "denied") => askForKey(REASONS[why]);

function showPage() {
  takeKey();
  const refusal = takeRefusal();
  if (refusal || !storedKey()) return askForKey(refusal);
  const { page, name, isBare } = pageAt(fragment(), refused) ?? pageAt(new URLSearchParams("sessions"), refused);
  open(page, isBare ? null : navigation(name));
}

addEventListener("hashchange", showPage);
showPage();
