// Which address shows which page. The first part of the fragment that names a page decides: #session=ses-1, #sessions.

import { LivePage } from "./live.js";
import { SessionList } from "./sessions.js";

/** `page(value, refused)` makes the page; `refused(why)` is what it calls when the key does not suffice. */
export const ROUTES = {
  session: { needsValue: true, page: (session, refused) => new LivePage(session, refused) },
  sessions: { needsValue: false, page: (_, refused) => new SessionList(refused) },
};

/** The page that these parts of the fragment name, or null. */
export function pageAt(parts, refused) {
  for (const [name, value] of parts) {
    const route = Object.hasOwn(ROUTES, name) ? ROUTES[name] : null;
    if (route && (value || !route.needsValue)) return route.page(value, refused);
  }
  return null;
}
