/** @file Talks to the gateway: the models that are live, and one answer as it streams in. */
import { session } from "/static/shared/storage.js";
import { events } from "/static/chat/events.js";

/** @typedef {import("/static/chat/store.js").Answer} Answer */
/** @typedef {import("/static/chat/store.js").Failure} Failure */
/** @typedef {{role: string, content: string}} Message */
/** @typedef {{input?: number, output?: number, cached?: number}} Prices USD per million tokens */
/** @typedef {{id: string, context_length: number | null, max_output_tokens: number | null, upstream: string | null, prices?: Prices | null, chat?: boolean}} Model chat: answers chats */

/** What went wrong, in the gateway's words. */
export class Refused extends Error {
  /**
   * @param {Failure} failure
   * @param {number} status
   */
  constructor(failure, status) {
    super(failure.message);
    this.failure = failure;
    this.status = status;
  }
}

const KEY = "sluice.key"; // the client key, for this tab only
const PATIENCE = 10000; // milliseconds that a list of models may take
const prices = new Map(); // by model as it was last listed

/** @param {string} key */
export const keepKey = (key) => session.setItem(KEY, key.replace(/[^\x20-\x7e]/g, "")); // no header takes others, no key has them

/** @returns {Record<string, string>} */
function credentials() {
  const key = session.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
}

/**
 * The models that are live, of one upstream or of all.
 * @param {string} [upstream]
 * @returns {Promise<Model[]>}
 */
export async function models(upstream) {
  const query = upstream ? `?upstream=${encodeURIComponent(upstream)}` : "";
  const response = await send(`/v1/models${query}`, { headers: credentials(), signal: AbortSignal.timeout(PATIENCE) });
  /** @type {Model[]} */
  const found = (await response.json()).data;
  for (const model of found) prices.set(model.id, model.prices);
  return found;
}

/**
 * Asks, and fills the answer as it comes. Ends when the answer is whole; else throws Refused, or AbortError when stopped.
 * @param {Answer} answer
 * @param {Message[]} messages
 * @param {{parameters: object, signal: AbortSignal, heard: () => void, changed: () => void}} how heard: anything came
 */
export async function ask(answer, messages, { parameters, signal, heard, changed }) {
  const began = performance.now();
  const took = () => (answer.took = performance.now() - began);
  try {
    const headers = { "content-type": "application/json", ...credentials() };
    const body = JSON.stringify(bodyOf(answer.model, messages, parameters));
    const response = await send("/chat", { method: "POST", headers, body, signal }, (said) => noteHeaders(answer, said));
    if (response.headers.get("content-type")?.startsWith("text/event-stream") && response.body) await follow(answer, response.body, took, { heard, changed });
    else take(answer, await response.json());
    notePrice(answer);
  } finally {
    took();
  }
}

/**
 * A chat-completions body; without a model the short form, which the gateway's default upstream answers.
 * @param {string} model
 * @param {Message[]} messages
 * @param {object} parameters
 */
function bodyOf(model, messages, parameters) {
  const more = { ...parameters, stream: true, stream_options: { include_usage: true } };
  if (model) return { model, messages, ...more };
  return { message: messages.at(-1)?.content, conversation: messages.slice(0, -1), ...more };
}

/**
 * @param {string} path
 * @param {RequestInit} options
 * @param {(headers: Headers) => void} [heard] told the headers of every answer, refusals included
 */
async function send(path, options, heard) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refused({ message: "The gateway cannot be reached.", code: "network" }, 0);
  }
  heard?.(response.headers);
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const failure = failureOf(said?.error ?? `The gateway answered with status ${response.status}.`, response.headers.get("x-request-id"));
  throw new Refused({ ...failure, retryAfter: Number(response.headers.get("retry-after")) || undefined }, response.status);
}

/**
 * @param {any} error
 * @param {string | null} [requestId]
 * @returns {Failure}
 */
function failureOf(error, requestId) {
  const message = typeof error === "string" ? error : error?.message;
  return { message: message || "The answer failed.", code: String(error?.code ?? error?.type ?? "unknown"), requestId: requestId ?? undefined };
}

/**
 * @param {Answer} answer
 * @param {ReadableStream<Uint8Array>} body
 * @param {() => number} took
 * @param {{heard: () => void, changed: () => void}} how
 */
async function follow(answer, body, took, { heard, changed }) {
  let ended = false;
  try {
    for await (const { data, comment } of events(body)) {
      heard();
      if (comment?.startsWith("sluice ")) noteComment(answer, comment);
      if (data === undefined) continue;
      if (data === "[DONE]") {
        ended = true;
        continue;
      }
      const event = parsed(data);
      if (event.error) throw new Refused(failureOf(event.error, answer.receipt.requestId), 200);
      take(answer, event);
      if (answer.firstToken === undefined && (answer.text || answer.reasoning || answer.tools)) answer.firstToken = took();
      changed();
    }
  } catch (error) {
    if (error instanceof TypeError) throw new Refused({ message: "The connection broke.", code: "network", requestId: answer.receipt.requestId }, 200);
    throw error;
  }
  if (!ended && !answer.finish) throw new Refused({ message: "The stream ended early.", code: "upstream_truncated", requestId: answer.receipt.requestId }, 200);
}

/** @param {string} data */
function parsed(data) {
  try {
    return JSON.parse(data) ?? {};
  } catch {
    return { error: { message: "An event of the stream is not JSON.", code: "upstream_malformed" } };
  }
}

/**
 * Adds what a chunk, or a whole completion, says.
 * @param {Answer} answer
 * @param {any} event
 */
function take(answer, event) {
  const choice = event.choices?.[0];
  const said = choice?.delta ?? choice?.message ?? {};
  answer.text += textOf(said.content) || textOf(said.refusal);
  answer.reasoning += textOf(said.reasoning_content) || textOf(said.reasoning);
  for (const call of said.tool_calls ?? []) {
    if (call.function?.name) answer.tools += `${answer.tools && "\n"}${call.function.name} `;
    answer.tools += textOf(call.function?.arguments);
  }
  answer.finish = choice?.finish_reason ?? answer.finish;
  if (event.usage) answer.usage = usageOf(event.usage);
  if (!answer.receipt.model && typeof event.model === "string") answer.receipt.model = event.model;
}

/** @param {any} content */
function textOf(content) {
  if (Array.isArray(content)) return content.map((part) => part?.text ?? "").join("");
  return typeof content === "string" ? content : "";
}

/**
 * @param {any} usage
 * @returns {import("/static/chat/store.js").Usage}
 */
function usageOf(usage) {
  return {
    input: usage.prompt_tokens,
    output: usage.completion_tokens,
    reasoning: usage.completion_tokens_details?.reasoning_tokens,
    cached: usage.prompt_tokens_details?.cached_tokens,
    cost: typeof usage.cost === "number" ? usage.cost : undefined,
  };
}

/**
 * What the answer cost by the listed prices, where the upstream did not say and it was not from the cache.
 * @param {Answer} answer
 */
function notePrice({ usage, receipt: { upstream, model, cache } }) {
  const known = prices.get(`${upstream}/${model}`);
  if (!usage || usage.cost !== undefined || /^(hit|similar|shared)/.test(cache ?? "")) return;
  if (known?.input === undefined || known.output === undefined) return;
  const { input = 0, output = 0, cached = 0 } = usage;
  usage.cost = ((input - cached) * known.input + cached * (known.cached ?? known.input) + output * known.output) / 1e6;
}

/**
 * @param {Answer} answer
 * @param {Headers} headers
 */
function noteHeaders(answer, headers) {
  const get = (/** @type {string} */ name) => headers.get(name) || undefined;
  const proxyMs = Number(/proxy;dur=([\d.]+)/.exec(get("server-timing") ?? "")?.[1]);
  answer.receipt = {
    upstream: get("x-sluice-upstream"),
    model: get("x-sluice-model"),
    attempts: (get("x-sluice-attempts") ?? "").split(",").filter(Boolean),
    changes: get("x-sluice-changes"),
    cache: get("x-sluice-cache"),
    requestId: get("x-request-id"),
    proxyMs: Number.isNaN(proxyMs) ? undefined : proxyMs,
  };
}

/**
 * `sluice upstream=… model=… attempts=…`: who answered, where the head had to leave before that was known.
 * @param {Answer} answer
 * @param {string} comment
 */
function noteComment(answer, comment) {
  const found = /upstream=(.*?) model=(.*?) attempts=(.*)$/.exec(comment);
  if (!found) return;
  answer.receipt.upstream = found[1] || undefined;
  answer.receipt.model = found[2] || undefined;
  answer.receipt.attempts = found[3].split(",").filter(Boolean);
}
