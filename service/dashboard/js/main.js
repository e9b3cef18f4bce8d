// Which page is shown: the key form, the list of sessions, or one session live. The address says it, without the key.

import { ApiError, forgetKey, keepKey, listSessions, storedKey } from "./api.js";
import { KeyForm } from "./keyform.js";
import { LivePage } from "./live.js";
import { SessionList } from "./sessions.js";

const page = document.getElementById("page");
let current = null;

/** The parts of the fragment: #key=...&session=... or #sessions. */
function address() {
  const parts = new URLSearchParams(location.hash.slice(1));
  return { key: parts.get("key"), session: parts.get("session"), list: parts.has("sessions") };
}

/** Takes the key out of the address, so that it is neither bookmarked, shared nor on a screenshot. */
function takeKey() {
  const { key, session } = address();
  if (key === null) return;
  keepKey(key);
  const rest = session ? `#session=${encodeURIComponent(session)}` : "";
  history.replaceState(null, "", location.pathname + location.search + rest);
}

function open(next) {
  current?.stop();
  current = next;
  page.replaceChildren(next.element);
  next.start();
}

function askForKey(reason = "") {
  forgetKey();
  open(new KeyForm(reason, (key) => {
    keepKey(key);
    route();
  }));
}

const REASONS = {
  denied: "The server did not accept this key.",
  forbidden: "This key may not watch sessions: an experimenter's or a viewer's may.",
};
const refused = (why = "denied") => askForKey(REASONS[why]);

/** The newest session that is still open, or null. */
async function newestLive() {
  const open_ = (await listSessions()).filter((s) => s.state === "open");
  open_.sort((a, b) => b.opened_t - a.opened_t);
  return open_[0]?.session ?? null;
}

async function route() {
  takeKey();
  if (!storedKey()) return askForKey();
  const { session, list } = address();
  if (session) return open(new LivePage(session, refused));
  if (!list) {
    try {
      const live = await newestLive();
      if (live) return location.replace(`#session=${encodeURIComponent(live)}`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return refused();
      // anything else: the list says it, and tries again
    }
  }
  open(new SessionList(refused));
}

addEventListener("hashchange", route);
route();
