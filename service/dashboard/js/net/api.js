// The gateway's REST calls that the page needs, and the key it makes them with. The key lives in sessionStorage only.

const KEY = "mindsight.key";
const REPORT_MS = 60_000;
const DOWNLOAD_MS = 3_600_000; // an archive has gigabytes

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

export async function request(path, options = {}, timeoutMs = 10_000) {
  const response = await fetch(path, {
    ...options,
    headers: { Authorization: `Bearer ${storedKey() ?? ""}`, ...options.headers },
    signal: AbortSignal.timeout(timeoutMs),
  });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new ApiError(response.status, problem.detail ?? problem.title ?? `the server responded with ${response.status}`);
}

/** A request with a JSON body (none for undefined); the response's JSON, or null where it has no body. */
export async function call(method, path, body) {
  const json = body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await request(path, { method, ...json });
  return response.status === 204 ? null : response.json();
}

const at = (...parts) => `/v1/${parts.map(encodeURIComponent).join("/")}`;
const get = (...parts) => call("GET", at(...parts));

/** An id of our own, so that a request may be repeated without doing it twice. */
export const newId = (prefix) => `${prefix}-${Array.from(crypto.getRandomValues(new Uint8Array(4)), (b) => b.toString(16).padStart(2, "0")).join("")}`;

/** Whether people can sign in at the site's identity provider. */
export const hasSignIn = async () => (await (await request("/v1/health")).json()).sign_in;

/** What this tab's key may do: {id, role, scopes, session}. */
export const ownKey = () => get("keys", "own");

export const statusOf = (session) => get("sessions", session, "status");
export const checkSession = (body) => call("POST", "/v1/sessions/check", body);
export const openSession = (body) => call("POST", "/v1/sessions", body);
export const closeSession = (session) => call("POST", at("sessions", session, "close"));
export const consoleKey = (session) => call("POST", at("sessions", session, "keys"), {});
export const simulate = (body) => call("POST", "/v1/simulations", body);
export const startRun = (session, body) => call("POST", at("sessions", session, "runs"), body);
export const endRun = (session, run) => call("POST", at("sessions", session, "runs", run, "end"));
export const listRuns = (session) => get("sessions", session, "runs");
export const chooseFeedback = (session, plan) => call("PUT", at("sessions", session, "feedback"), plan);
export const instruct = (session, body) => call("POST", at("sessions", session, "instructions"), body);

export const listSubjects = () => get("subjects");
export const getSubject = (subject) => get("subjects", subject);
export const enrol = (body) => call("POST", "/v1/subjects", body);
export const stateConsent = (subject, body) => call("PUT", at("subjects", subject, "consent"), body);
export const eraseSession = (session) => call("DELETE", at("sessions", session));
export const eraseSubject = (subject) => call("DELETE", at("subjects", subject));
export const listVersions = (subject) => get("subjects", subject, "bundles");
export const activateVersion = (subject, number) => call("POST", at("subjects", subject, "bundles", number, "activate"));
export const rollBack = (subject) => call("POST", at("subjects", subject, "bundles", "rollback"));
export const listCalibrations = (subject) => get("subjects", subject, "calibrations");
export const startCalibration = (subject, body) => call("POST", at("subjects", subject, "calibrations"), body);

export const listPools = () => get("pools");
export const buildPool = (body) => call("POST", "/v1/pools", body);
export const uploadImage = async (file) => (await (await request("/v1/images", { method: "POST", body: file })).json()).digest;

export const listJobs = () => get("jobs");
export const getJob = (job) => get("jobs", job);
export const jobMessages = async (job, after) => (await call("GET", `${at("jobs", job, "messages")}?after=${after}`)).messages;
export const cancelJob = (job) => call("DELETE", at("jobs", job));
export const resumeJob = (job) => call("POST", at("jobs", job, "resume"));

export const listKeys = () => get("keys");
export const mintKey = (role) => call("POST", "/v1/keys", { role });
export const revokeKey = (id) => call("DELETE", at("keys", id));
export const serviceState = () => get("service");
export const auditLog = (last) => call("GET", `/v1/service/audit?last=${last}`);

/** Saves what an address gives as a file of this name: the key travels in a header, so that no link can do it. */
export async function download(path, name) {
  const url = URL.createObjectURL(await (await request(path, {}, DOWNLOAD_MS)).blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** The text of a page of the service, such as a report. */
export const fetchText = async (path) => (await request(path, {}, REPORT_MS)).text();

export const NEWEST = 200; // sessions that a page of all subjects lists

/**
 * @typedef {{session: string, subject: string, bundle: ?string, state: "open"|"closed"|"archived", opened_t: number,
 *   options: {blinded: boolean, fd_mm: ?number, limits: Object<string, ?(number|string)>}}} SessionRecord
 * @param {?string} subject null: the NEWEST sessions of all subjects
 * @returns {Promise<SessionRecord[]>}
 */
export const listSessions = async (subject = null) =>
  (await request(`/v1/sessions?${new URLSearchParams(subject ? { subject } : { newest: NEWEST })}`)).json();

/** @returns {Promise<SessionRecord>} */
export const getSession = async (session) => (await request(`/v1/sessions/${encodeURIComponent(session)}`)).json();

/** Changes limits of quality from the next volume on; `limits` by name, numbers or "off". */
export const setLimits = async (session, changes) =>
  (await request(`/v1/sessions/${encodeURIComponent(session)}/limits`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(changes),
  })).json();

/** A ticket for one WebSocket: single use, short-lived. */
export const takeTicket = async () => (await (await request("/v1/ws-tickets", { method: "POST" })).json()).ticket;

/** The bytes of one image. */
export const fetchImage = async (digest) => (await request(`/v1/images/${digest}`)).blob();
