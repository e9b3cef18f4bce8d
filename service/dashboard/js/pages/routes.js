// Which address shows which page. The first part of the fragment that names a page decides: #session=ses-1, #sessions.

import { AdminPage } from "./admin.js";
import { CalibratePage } from "./calibrate.js";
import { LivePage } from "./live.js";
import { NewSession } from "./new_session.js";
import { ReplayList } from "./replay.js";
import { SessionList } from "./sessions.js";
import { SubjectPage } from "./subject.js";
import { Subjects } from "./subjects.js";

const SLOWEST = 1;
const FASTEST = 20;
const replaySpeed = (parts) => Math.min(FASTEST, Math.max(SLOWEST, Number(parts.get("speed")) || 10));

/**
 * `page(value, refused, parts)` makes the page; `refused(why)` is what it calls when the key does not suffice. `isBare`: it
 * takes the whole window, without the bar that leads to the other pages.
 */
export const ROUTES = {
  session: { needsValue: true, isBare: () => true, page: (session, refused) => new LivePage(session, refused) },
  sessions: { page: (_, refused) => new SessionList(refused) },
  new: { page: (subject, refused) => new NewSession(subject, refused) },
  subjects: { page: (_, refused) => new Subjects(_, refused) },
  subject: { needsValue: true, under: "subjects", page: (subject, refused) => new SubjectPage(subject, refused) },
  calibrate: { page: (subject, refused) => new CalibratePage(subject, refused) },
  replay: {
    isBare: (session) => Boolean(session),
    page: (session, refused, parts) => (session ? new LivePage(session, refused, replaySpeed(parts)) : new ReplayList(session, refused)),
  },
  admin: { page: (_, refused) => new AdminPage(_, refused) },
};

/** The page that these parts of the fragment name, as {page, name, isBare}, or null. */
export function pageAt(parts, refused) {
  for (const [name, value] of parts) {
    const route = Object.hasOwn(ROUTES, name) ? ROUTES[name] : null;
    if (!route || (!value && route.needsValue)) continue;
    return { page: route.page(value, refused, parts), name: route.under ?? name, isBare: route.isBare?.(value) ?? false };
  }
  return null;
}
