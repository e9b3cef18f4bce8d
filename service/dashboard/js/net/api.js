// The gateway's REST calls that the page needs, and the key it makes them with. The key lives in sessionStorage only.

const KEY = "mindsight.key";

export const storedKey = () => sessionStorage.getItem(KEY);
export const keepKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** An error response of the gateway; `message` is for a person. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  const response = await fetch(path, {
    ...options,
    headers: { Authorization: `Bearer ${storedKey() ?? ""}`, ...options.headers },
    signal: AbortSignal.timeout(10_000),
  });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new ApiError(response.status, problem.detail ?? problem.title ?? `the server responded with ${response.status}`);
}

/**
 * @typedef {{session: string, subject: string, bundle: ?string, state: "open"|"closed"|"archived", opened_t: number,
 *   options: {blinded: boolean, fd_mm: ?number, limits: Object<string, ?(number|string)>}}} SessionRecord
 * @returns {Promise<SessionRecord[]>}
 */
export const listSessions = async () => (await request("/v1/sessions")).json();

/** @returns {Promise<SessionRecord>} */
export const getSession = async (session) => (await request(`/v1/sessions/${encodeURIComponent(session)}`)).json();

/** Changes limits of quality from the next volume on; `limits` by name, numbers or "off". */
export const setLimits = async (session, fdMm, limits) =>
  (await request(`/v1/sessions/${encodeURIComponent(session)}/limits`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ fd_mm: fdMm, limits }),
  })).json();

/** A ticket for one WebSocket: single use, short-lived. */
export const takeTicket = async () => (await (await request("/v1/ws-tickets", { method: "POST" })).json()).ticket;

/** The bytes of one image. */
export const fetchImage = async (digest) => (await request(`/v1/images/${digest}`)).blob();
