/** @file Talks to the gateway's admin API; without a login it leads to the login page. */

/**
 * @typedef {{name: string, provider: string, live: boolean, healthy: boolean, reason: string | null, catalog: string, models: number, in_flight: number, breakers: {model: string, cause: string, retry_in: number}[]}} Upstream
 * @typedef {{upstream: string, model: string, weight: number | null}} Target
 * @typedef {{name: string, match: string, exact: boolean, written: boolean, targets: Target[], stream_safety: string, cache: {exact: number | null, similar: number | null} | null}} Route
 * @typedef {{calls: number, errors: number, tokens: number, ms_p50: number | null, ms_p95: number | null}} Tally
 * @typedef {{t: number, upstreams: Record<string, Tally>}} Point
 * @typedef {{entries: number, bytes: number, max_bytes: number, hits: number, misses: number, shared: number, by_route: {route: string, entries: number, hits: number, misses: number}[]}} Cache
 * @typedef {{events: Record<string, number>, last: {time: string, type: string, call: string | null, status: number | string}[]}} Vapi
 */
/**
 * @typedef {object} Overview
 * @property {string} version
 * @property {number} started Unix seconds, as `now` is
 * @property {number} now
 * @property {{file: string, valid: boolean, problem: string | null}} config
 * @property {string | null} default_upstream
 * @property {string | null} configured_default
 * @property {Upstream[]} upstreams
 * @property {Route[]} routes
 * @property {{step: number, points: Point[]}} traffic
 * @property {Cache | null} cache
 * @property {Vapi | null} vapi null: the door is closed
 * @property {"open" | "required"} keys whether calls need a client key
 * @property {boolean} login whether an admin token is asked for
 */
/** @typedef {{draw: (root: HTMLElement) => void, update: (overview: Overview) => void}} View */

const PATIENCE = { look: 10000, change: 30000 }; // milliseconds: a gateway that hangs must not pass for one that is well

/** The gateway cannot be reached: whether it did what was asked is not known. */
export class Unreachable extends Error {}

/** @param {unknown} error */
export const said = (error) => (error instanceof Error ? error.message : String(error));

/** @param {string} path */
export const get = (path) => call("GET", path);

/**
 * Asks again and again; null where an answer comes behind that of a later question: it is out of date.
 * @template T
 * @param {() => Promise<T>} ask
 */
export function newest(ask) {
  let [asked, shown] = [0, 0];
  return async () => {
    const mine = ++asked;
    const answer = await ask();
    if (mine < shown) return null;
    shown = mine;
    return answer;
  };
}

/**
 * Changes something; throws an Error in the gateway's words.
 * @param {"POST" | "PUT" | "PATCH" | "DELETE"} method
 * @param {string} path
 * @param {unknown} [body]
 */
export const change = (method, path, body) => call(method, path, body ?? (method === "DELETE" ? undefined : {}));

/**
 * The models of one upstream, and its personas.
 * @param {string} upstream
 * @returns {Promise<{id: string, context_length: number | null, max_output_tokens: number | null, prices?: Record<string, number> | null}[]>}
 */
export async function models(upstream) {
  return (await get(`/admin/models?upstream=${encodeURIComponent(upstream)}`)).data;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
async function call(method, path, body) {
  const sent = body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const signal = AbortSignal.timeout(method === "GET" ? PATIENCE.look : PATIENCE.change);
  const response = await fetch(path, { method, signal, ...sent }).catch(unreachable);
  if (response.status === 401) {
    if (document.querySelector("dialog[open]")) throw new Error("The session has ended. Log in again in another tab: your input on this page is kept.");
    location.assign(`/admin/login${location.hash}`); // which leads back to this view
    return new Promise(() => {}); // the page is on its way out
  }
  if (!response.ok) throw await problem(response);
  return response.status === 204 ? null : response.json().catch(unreachable); // cut off, or something else answered
}

/** @returns {never} */
function unreachable() {
  throw new Unreachable("The gateway cannot be reached.");
}

/** @param {Response} response */
async function problem(response) {
  const { error } = await response.json().catch(() => ({ error: null }));
  return new Error(error?.message ?? `The gateway answered with status ${response.status}.`);
}
