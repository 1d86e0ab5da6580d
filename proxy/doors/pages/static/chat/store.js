/** @file Conversations, kept in this browser and nowhere else: one entry each in localStorage, and a list of them. */
import { local, session } from "/static/shared/storage.js";

/**
 * @typedef {{message: string, code: string, requestId?: string, retryAfter?: number}} Failure retryAfter: seconds
 * @typedef {{upstream?: string, model?: string, attempts: string[], changes?: string, cache?: string, requestId?: string, proxyMs?: number}} Receipt
 * @typedef {{input?: number, output?: number, reasoning?: number, cached?: number, cost?: number}} Usage
 * @typedef {{temperature?: number, max_tokens?: number, top_p?: number}} Parameters
 */
/**
 * One model's answer. Times are milliseconds from the sending.
 * @typedef {object} Answer
 * @property {string} model as it was asked for; "" is the gateway's default
 * @property {string} text
 * @property {string} reasoning
 * @property {string} tools tool calls, as text
 * @property {"waiting" | "streaming" | "done" | "stopped" | "failed"} state
 * @property {Receipt} receipt
 * @property {Failure} [failure]
 * @property {Usage} [usage]
 * @property {string} [finish]
 * @property {number} [firstToken]
 * @property {number} [took]
 */
/**
 * @typedef {{id: string, prompt: string, answers: Answer[]}} Turn
 * @typedef {{id: string, title: string, updated: number}} Listed
 * @typedef {Listed & {models: string[], system: string, parameters: Parameters, turns: Turn[], revision?: number}} Conversation revision: how often it was kept
 */

const LIST = "sluice.chat.list";
const OPEN = "sluice.chat.open"; // the conversation in hand, by tab
const DRAFT = "sluice.chat.draft"; // what was typed and not sent, by tab
const LAST = "sluice.chat.last"; // models, system prompt and parameters that the next conversation starts with

/** @returns {Listed[]} newest first */
export function list() {
  return read(LIST, []).sort((/** @type {Listed} */ a, /** @type {Listed} */ b) => b.updated - a.updated);
}

/** @returns {Conversation} one that is kept as soon as it has a turn */
export function fresh() {
  const last = read(LAST, {});
  return { id: newId(), title: "New conversation", updated: Date.now(), models: last.models ?? [""], system: last.system ?? "", parameters: last.parameters ?? {}, turns: [] };
}

/** @returns {Conversation} the one that was in hand before this tab was loaded anew, else a fresh one */
export function resumed() {
  const id = session.getItem(OPEN);
  return (id && load(id)) || fresh();
}

/** @param {Conversation} conversation the one in hand now, in this tab */
export function inHand(conversation) {
  session.setItem(OPEN, conversation.id);
}

/** @returns {string} what was typed when this page was last left */
export const draft = () => session.getItem(DRAFT) ?? "";

/** @param {string} text */
export function keepDraft(text) {
  try {
    session.setItem(DRAFT, text);
  } catch {
    // there is no room for so much
  }
}

/**
 * As it was last kept; another tab may be answering in it.
 * @param {string} id
 * @returns {Conversation | null}
 */
export const stored = (id) => read(entry(id), null);

/**
 * As it is when it is opened: what was on its way has ended. A tab that is being answered keeps better news soon.
 * @param {string} id
 * @returns {Conversation | null}
 */
export function load(id) {
  const found = stored(id);
  const opened = found && left(found);
  if (JSON.stringify(opened) !== JSON.stringify(found)) write(entry(id), opened);
  return opened;
}

/**
 * A copy as it is once its page is left.
 * @param {Conversation} conversation
 */
export function left(conversation) {
  const copy = structuredClone(conversation);
  for (const answer of copy.turns.flatMap((turn) => turn.answers)) {
    if (answer.state === "waiting" || answer.state === "streaming") {
      answer.state = "failed";
      answer.failure = { message: "The page was left while this answer was on its way.", code: "client_cancelled" };
    }
  }
  return copy;
}

/** Whether nothing of it is on its way. @param {Turn} turn */
export const ended = (turn) => turn.answers.every((answer) => answer.state !== "waiting" && answer.state !== "streaming");

/** The name of its entry. @param {string} id */
export const entry = (id) => `sluice.chat.${id}`;

/**
 * Raises QuotaExceededError where the browser has no room left.
 * @param {Conversation} conversation
 */
export function save(conversation) {
  const { id, title, updated, models, system, parameters } = conversation;
  write(LAST, { models, system, parameters });
  if (!conversation.turns.length) return;
  conversation.revision = (conversation.revision ?? 0) + 1;
  write(entry(id), conversation);
  write(LIST, [{ id, title, updated }, ...list().filter((other) => other.id !== id)]);
}

/** @param {string} id */
export function remove(id) {
  local.removeItem(entry(id));
  write(LIST, list().filter((other) => other.id !== id));
}

/**
 * A conversation as Markdown, for keeping elsewhere.
 * @param {Conversation} conversation
 */
export function exported(conversation) {
  const parts = [`# ${conversation.title}`];
  if (conversation.system) parts.push(`> ${conversation.system.replaceAll("\n", "\n> ")}`);
  for (const turn of conversation.turns) {
    parts.push(`## You\n\n${turn.prompt}`);
    for (const answer of turn.answers) {
      const calls = answer.tools && `\`\`\`\n${answer.tools}\n\`\`\``;
      const end = answer.failure && `*Incomplete: ${answer.failure.message}*`;
      parts.push(...[`## ${answerer(answer)}`, answer.text, calls, end].filter((part) => part !== undefined && part !== ""));
    }
  }
  return parts.join("\n\n") + "\n";
}

/**
 * Who answered: upstream and model where that is known, else what was asked for.
 * @param {Answer} answer
 */
export function answerer(answer) {
  const { upstream, model } = answer.receipt;
  return upstream ? `${upstream}/${model ?? ""}` : answer.model || "Default model";
}

export function newId() {
  return Date.now().toString(36) + Math.random().toString(36).slice(2, 8);
}

/**
 * @param {string} key
 * @param {any} otherwise
 */
function read(key, otherwise) {
  try {
    return JSON.parse(local.getItem(key) ?? "null") ?? otherwise;
  } catch {
    return otherwise; // not ours to repair
  }
}

/**
 * @param {string} key
 * @param {any} value
 */
function write(key, value) {
  local.setItem(key, JSON.stringify(value));
}
