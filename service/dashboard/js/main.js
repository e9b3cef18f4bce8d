// Shows the page that the address names, once there is a key: by itself the newest open session, or the list of all.

import { ApiError, forgetKey, keepKey, listSessions, storedKey } from "./net/api.js";
import { KeyForm } from "./pages/key.js";
import { pageAt } from "./pages/routes.js";
import { SessionList } from "./pages/sessions.js";

const REASONS = {
  denied: "The server did not accept this key.",
  forbidden: "This key may not watch sessions: an experimenter's or a viewer's may.",
};
const container = document.getElementById("page");
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

function open(next) {
  current?.stop();
  current = next;
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

/** The newest session that is still open, or null. */
async function newestLive() {
  const live = (await listSessions()).filter((s) => s.state === "open");
  live.sort((a, b) => b.opened_t - a.opened_t);
  return live[0]?.session ?? null;
}

async function showPage() {
  takeKey();
  if (!storedKey()) return askForKey();
  const page = pageAt(fragment(), refused);
  if (page) return open(page);
  try {
    const live = await newestLive();
    if (live) return location.replace(`#session=${encodeURIComponent(live)}`);
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return refused();
    // anything else: the list reports it, and tries again
  }
  open(new SessionList(refused));
}

addEventListener("hashchange", showPage);
showPage();
