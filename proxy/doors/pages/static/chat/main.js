/** @file The chat page: puts its parts together, and sends what is asked. */
import { byId, toast } from "/static/shared/dom.js";
import { plural } from "/static/shared/format.js";
import { frame, showSide } from "/static/shared/frame.js";
import { Refused, ask, models } from "/static/chat/asking.js";
import { retrying } from "/static/chat/key.js";
import { picker } from "/static/chat/picker.js";
import { sidebar } from "/static/chat/sidebar.js";
import { draft, ended, entry, exported, fresh, inHand, keepDraft, left, load, newId, resumed, save, stored } from "/static/chat/store.js";
import { thread } from "/static/chat/thread.js";

/** @typedef {import("/static/chat/store.js").Answer} Answer */
/** @typedef {import("/static/chat/store.js").Turn} Turn */

const prompt = byId("prompt");
const SILENCE = 40000; // milliseconds; the gateway gives a sign of life every 15 s, unless config.yaml says otherwise
const PARAMETERS = /** @type {const} */ (["temperature", "max_tokens", "top_p"]);

let conversation = resumed();
/** @type {AbortController | null} */
let running = null;
/** @type {Turn | null} */
let answered = null; // the turn whose answer is on its way to this tab
let full = false; // the browser had no room: what is kept is older than what is here

const view = thread(byId("log"), {
  busy: () => running !== null,
  edit: (turn, text) => resend(turn, text),
  regenerate: (turn, answer) => regenerate(turn, turn.answers.indexOf(answer)),
  keep,
});
const side = sidebar({ open, current: () => conversation.id, gone });
const pickers = ["first-model", "second-model"].map((place, column) =>
  picker(byId(place), { label: column ? "Second model" : "Model", load: live, chosen: (model) => ((conversation.models[column] = model), keepIt()) }),
);

/** Shows the conversation in hand. @param {boolean} [again] it is there already: who reads further up stays there */
function show(again = false) {
  inHand(conversation);
  const { models: chosen, turns, system, parameters } = conversation;
  chosen.forEach((model, column) => pickers[column].set(model));
  byId("second-model").hidden = chosen.length < 2;
  byId("compare").setAttribute("aria-pressed", String(chosen.length > 1));
  byId("system").value = system;
  for (const name of PARAMETERS) byId(name).value = parameters[name] ?? "";
  byId("tuned").hidden = !system && !Object.keys(parameters).length;
  entitle();
  byId("welcome").hidden = turns.length > 0;
  byId("export").disabled = !turns.length;
  view.show(turns, again);
  side.draw();
}

/** What the tab and the page's heading say. */
function entitle() {
  byId("title").textContent = conversation.title;
  document.title = conversation.turns.length ? `${conversation.title} · Sluice` : "Sluice";
}

/**
 * Takes over what was kept of this conversation, by another tab perhaps; what is on its way to this one stays. Where both
 * kept something at once, neither knowing of the other, no turn is lost.
 * @param {import("/static/chat/store.js").Conversation | null} found
 */
function follow(found) {
  if (!found || full) return;
  const apart = (found.revision ?? 0) <= (conversation.revision ?? 0);
  const known = new Map(found.turns.map((turn) => [turn.id, turn]));
  for (const turn of conversation.turns) {
    const theirs = known.get(turn.id);
    const same = JSON.stringify(theirs) === JSON.stringify(turn);
    if (same || turn === answered || (apart && !(theirs && ended(theirs)))) known.set(turn.id, turn);
  }
  const turns = [...known.values()].sort((one, other) => (one.id < other.id ? -1 : 1)); // as they were asked
  const revision = Math.max(found.revision ?? 0, conversation.revision ?? 0);
  const now = { ...found, turns, revision };
  if (JSON.stringify(now) === JSON.stringify({ ...conversation, revision })) conversation.revision = revision;
  else {
    Object.assign(conversation, now);
    show(true);
  }
  if (apart && JSON.stringify(turns) !== JSON.stringify(found.turns)) keepIt();
}

/** @param {StorageEvent} event which only other tabs cause */
function elsewhere({ key, newValue }) {
  if (key !== entry(conversation.id)) return;
  if (newValue === null) gone(conversation.id);
  else if (answered || !document.hidden) follow(JSON.parse(newValue)); // else when it is looked at
}

function start() {
  stop();
  conversation = fresh();
  show();
  showSide(false);
  prompt.focus();
}

/** @param {string} id a conversation that was deleted: an answer still on its way must not bring it back */
function gone(id) {
  if (id !== conversation.id) return;
  conversation.turns = [];
  start();
}

/** @param {string} id */
function open(id) {
  if (id !== conversation.id) stop();
  const found = load(id);
  if (!found) return;
  if (id === conversation.id && running) {
    conversation.title = found.title; // it was renamed while an answer comes
    return entitle();
  }
  conversation = found;
  show();
}

function send() {
  const text = prompt.value.trim();
  if (!text || running) return;
  prompt.value = "";
  follow(stored(conversation.id)); // should the other tab's message not be here yet
  if (!conversation.turns.length) conversation.title = [...text.split("\n", 1)[0]].slice(0, 60).join(""); // by characters: no half of an emoji
  push(text);
}

/**
 * Another turn at the end, answered by every chosen model at once.
 * @param {string} text
 */
function push(text) {
  const turn = { id: newId(), prompt: text, answers: conversation.models.map(blank) };
  conversation.turns.push(turn);
  conversation.updated = Date.now();
  byId("welcome").hidden = true;
  byId("export").disabled = false;
  entitle();
  view.add(turn);
  return run(turn, turn.answers);
}

/**
 * @param {Turn} turn
 * @param {string} text
 */
function resend(turn, text) {
  stop(); // the editor may have been open since before the answer that comes now
  cutAt(turn);
  view.show(conversation.turns);
  toPrompt();
  return push(text);
}

/**
 * Asks one column again; later turns, which answered to the old answer, go.
 * @param {Turn} turn
 * @param {number} column
 */
function regenerate(turn, column) {
  cutAt(turn);
  const answer = blank(conversation.models[column] ?? turn.answers[column].model);
  const again = { ...turn, answers: turn.answers.with(column, answer) };
  conversation.turns.push(again);
  view.show(conversation.turns);
  toPrompt();
  return run(again, [answer]);
}

/**
 * Ends the conversation before a turn. Turns behind that one can be brought back.
 * @param {Turn} turn
 */
function cutAt(turn) {
  const [cut, before] = [conversation, [...conversation.turns]];
  cut.turns.length = before.indexOf(turn);
  const later = before.length - cut.turns.length - 1;
  if (later) toast(`${plural(later, "later turn")} removed.`, { label: "Undo", act: () => bringBack(cut, before) });
}

/**
 * @param {import("/static/chat/store.js").Conversation} cut
 * @param {Turn[]} turns
 */
function bringBack(cut, turns) {
  if (cut === conversation) stop();
  cut.turns = turns;
  keepIt(cut);
  if (cut === conversation) show();
}

/**
 * Ends a comparison: the conversation goes on with this answer and its model alone.
 * @param {Turn} turn
 * @param {Answer} answer
 */
function keep(turn, answer) {
  const column = turn.answers.indexOf(answer);
  conversation.turns = conversation.turns.map((each) => ({ ...each, answers: [each.answers[column] ?? each.answers[0]] }));
  conversation.models = [conversation.models[column] ?? answer.model];
  keepIt();
  show();
  toPrompt();
}

/**
 * @param {string} model
 * @returns {Answer}
 */
function blank(model) {
  return { model, text: "", reasoning: "", tools: "", state: "waiting", receipt: { attempts: [] } };
}

/**
 * @param {Turn} turn
 * @param {Answer[]} answers
 */
async function run(turn, answers) {
  const control = (running = new AbortController());
  const asked = conversation;
  answered = turn;
  setBusy(true);
  keepIt();
  side.draw();
  const saving = setInterval(() => keepIt(asked), 3000); // so that a page that is left keeps what there is
  await Promise.all(answers.map((answer) => fill(turn, answer, asked, control.signal)));
  clearInterval(saving);
  keepIt(asked);
  if (running === control) {
    running = answered = null;
    setBusy(false);
  }
  side.draw();
  if (!byId("trouble").hidden && answers.some((answer) => answer.state === "done")) live(); // it may be over
}

/**
 * @param {Turn} turn
 * @param {Answer} answer
 * @param {import("/static/chat/store.js").Conversation} asked
 * @param {AbortSignal} signal
 */
async function fill(turn, answer, asked, signal) {
  let last = Infinity; // nothing is awaited
  const silence = setInterval(() => view.quiet(answer, Date.now() - last > SILENCE), 1000);
  const heard = () => (last = Date.now());
  const changed = () => {
    answer.state = "streaming";
    view.update(answer);
  };
  try {
    const messages = history(asked, turn, turn.answers.indexOf(answer));
    await retrying(() => (heard(), ask(answer, messages, { parameters: asked.parameters, signal, heard, changed }).finally(() => (last = Infinity))));
    answer.state = "done";
  } catch (error) {
    // A page that is left loses its connections first, which is nobody's failure: it is gone before this is over.
    if (error instanceof Refused && error.failure.code === "network") await new Promise((over) => setTimeout(over, 250));
    answer.state = signal.aborted ? "stopped" : "failed";
    if (!signal.aborted) answer.failure = error instanceof Refused ? error.failure : { message: String(error), code: "page" };
  }
  clearInterval(silence);
  view.update(answer);
}

/**
 * The messages that lead to a turn's answer in one column. What failed without a word is left out.
 * @param {import("/static/chat/store.js").Conversation} asked
 * @param {Turn} turn
 * @param {number} column
 */
function history(asked, turn, column) {
  /** @type {import("/static/chat/asking.js").Message[]} */
  const messages = asked.system ? [{ role: "system", content: asked.system }] : [];
  for (const each of asked.turns.slice(0, asked.turns.indexOf(turn))) {
    const answer = each.answers[column] ?? each.answers[0];
    const said = answer.text || answer.tools; // as text: nobody has results for the calls, and without them no API takes them
    if (said) messages.push({ role: "user", content: each.prompt }, { role: "assistant", content: said });
  }
  return [...messages, { role: "user", content: turn.prompt }];
}

/** @param {string} [upstream] */
async function live(upstream) {
  try {
    const all = await retrying(() => models(upstream));
    byId("trouble").hidden = true;
    return all;
  } catch (error) {
    byId("trouble").textContent = `The list of models could not be loaded: ${error instanceof Error ? error.message : error}`;
    byId("trouble").hidden = false;
    return [];
  }
}

function keepIt(kept = conversation) {
  try {
    save(kept);
    full = false;
  } catch {
    full = true;
    toast("This browser has no room left. Delete or export some conversations.");
  }
}

function stop() {
  running?.abort();
  running = answered = null;
  setBusy(false);
}

/** @param {boolean} busy */
function setBusy(busy) {
  const held = byId("composer").contains(document.activeElement); // perhaps by the button that goes
  byId("send").hidden = busy;
  byId("stop").hidden = !busy;
  byId("main").classList.toggle("busy", busy);
  if (held) toPrompt();
}

/** Gives the keyboard to the prompt when what had it is gone; on a touch screen that would open one. */
function toPrompt() {
  if (matchMedia("(pointer: fine)").matches) prompt.focus();
}

function compare() {
  conversation.models = conversation.models.length > 1 ? conversation.models.slice(0, 1) : [conversation.models[0], conversation.models[0]];
  keepIt();
  show();
  if (conversation.models.length > 1) pickers[1].open();
}

/** @param {boolean} open */
function tune(open) {
  byId("tuning").hidden = !open;
  byId("tune").setAttribute("aria-expanded", String(open));
  if (open) byId("system").focus();
}

function tuned() {
  conversation.system = byId("system").value.trim();
  conversation.parameters = {};
  for (const name of PARAMETERS) {
    const value = byId(name).valueAsNumber;
    if (!Number.isNaN(value) && byId(name).validity.valid) conversation.parameters[name] = value;
  }
  byId("tuned").hidden = !conversation.system && !Object.keys(conversation.parameters).length;
  keepIt();
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([exported(conversation)], { type: "text/markdown" }));
  link.download = `${conversation.title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 50) || "conversation"}.md`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** @param {KeyboardEvent} event */
function keys(event) {
  const typing = event.target instanceof Element && event.target.matches("input, textarea, select");
  if (event.key === "Escape" && running) stop();
  else if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    prompt.focus();
  }
}

/** @param {KeyboardEvent} event */
function promptKeys(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  } else if (event.key === "ArrowUp" && prompt.value === "" && conversation.turns.length) {
    event.preventDefault();
    view.edit(conversation.turns[conversation.turns.length - 1]);
  } else if ((event.key === "PageUp" || event.key === "PageDown") && prompt.scrollHeight <= prompt.clientHeight) {
    event.preventDefault();
    view.turnPage(event.key === "PageUp" ? -1 : 1);
  }
}

frame();
byId("composer").addEventListener("submit", (/** @type {Event} */ event) => (event.preventDefault(), send()));
prompt.addEventListener("keydown", promptKeys);
addEventListener("keydown", keys);
byId("stop").addEventListener("click", stop);
byId("new").addEventListener("click", start);
byId("compare").addEventListener("click", () => running || compare());
byId("tune").addEventListener("click", () => tune(byId("tuning").hidden));
byId("tuning").addEventListener("input", tuned);
byId("export").addEventListener("click", download);
addEventListener("storage", elsewhere);
document.addEventListener("visibilitychange", () => document.hidden || follow(stored(conversation.id)));
addEventListener("pagehide", () => {
  keepDraft(prompt.value);
  if (running) keepIt(left(conversation));
});
prompt.value = draft();
show();
prompt.focus();
live();
