/** @file The conversation on screen: prompts, answers side by side, and what is known about each answer. */
import { arrange, copy, h, icon, tool } from "/static/shared/dom.js";
import { dollars, duration, plural, span } from "/static/shared/format.js";
import { Prose } from "/static/chat/markdown.js";
import { answerer } from "/static/chat/store.js";

/** @typedef {import("/static/chat/store.js").Answer} Answer */
/** @typedef {import("/static/chat/store.js").Turn} Turn */
/** @typedef {{edit: (turn: Turn, prompt: string) => void, regenerate: (turn: Turn, answer: Answer) => void, keep: (turn: Turn, answer: Answer) => void, busy: () => boolean}} Actions */

const SLICE = 30; // milliseconds of drawing between two looks at what somebody does

/**
 * @param {HTMLElement} log
 * @param {Actions} actions
 */
export function thread(log, actions) {
  const scroller = /** @type {HTMLElement} */ (log.parentElement);
  /** @type {WeakMap<Answer, AnswerView>} */
  const views = new WeakMap();
  /** @type {Map<Turn, HTMLElement>} */
  let nodes = new Map(); // what is on screen
  /** @type {AnswerView[]} */
  let waiting = []; // whose text is not all on screen, the next to be drawn at the end
  let settling = 0;
  let follows = true; // the end stays in sight until somebody scrolls up
  scroller.addEventListener("scroll", () => (follows = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60), { passive: true });
  log.addEventListener("contentvisibilityautostatechange", (/** @type {any} */ { target, skipped }) => skipped || first(target));
  addEventListener("beforeprint", () => settle(Infinity));

  /**
   * Shows these turns; what is on screen of them stays as it is.
   * @param {Turn[]} turns
   * @param {boolean} [stay] where somebody has scrolled to
   */
  function show(turns, stay = false) {
    const top = stay && !follows ? scroller.scrollTop : null;
    nodes = new Map(turns.map((turn) => [turn, nodes.get(turn) ?? turnNode(turn)]));
    log.setAttribute("aria-live", "off"); // it is not news
    arrange(log, [...nodes.values()]);
    waiting = turns.flatMap((turn) => turn.answers.flatMap((answer) => views.get(answer) ?? []));
    follows = top === null;
    settle(SLICE);
    if (top !== null) scroller.scrollTop = top;
  }

  /**
   * Draws what waits, the newest first; what takes longer goes on when the browser has seen to everything else.
   * @param {number} time milliseconds
   */
  function settle(time) {
    clearTimeout(settling);
    const ends = performance.now() + time;
    while (waiting.length && performance.now() < ends) if (!waiting.at(-1)?.more()) waiting.pop();
    if (follows) toEnd();
    settling = setTimeout(() => (waiting.length ? settle(SLICE) : log.setAttribute("aria-live", "polite")));
  }

  /** What comes into sight is drawn before what does not. @param {Element} turn */
  function first(turn) {
    const seen = waiting.filter((view) => turn.contains(view.node));
    if (seen.length) waiting = [...waiting.filter((view) => !seen.includes(view)), ...seen];
  }

  /** @param {Turn} turn */
  function add(turn) {
    const node = turnNode(turn);
    nodes.set(turn, node);
    log.append(node);
    toEnd();
  }

  /** @param {Turn} turn */
  function turnNode(turn) {
    const answers = turn.answers.map((answer) => {
      const view = new AnswerView(turn, answer, actions, () => follows && toEnd());
      views.set(answer, view);
      return view.node;
    });
    return h("section", { class: "turn", "data-turn": turn.id }, promptNode(turn), h("div", { class: answers.length > 1 ? "answers side-by-side" : "answers" }, ...answers));
  }

  /** @param {Turn} turn */
  function promptNode(turn) {
    const bubble = h("div", { class: "bubble", "data-testid": "prompt-text" }, turn.prompt);
    const tools = h("div", { class: "tools" }, tool("copy", "Copy prompt", (event) => copy(/** @type {any} */ (event.currentTarget), turn.prompt), { class: "tool small" }), tool("edit", "Edit prompt", () => edit(turn), { class: "tool small", "data-testid": "edit" }));
    return h("div", { class: "prompt" }, bubble, tools);
  }

  /** @param {Turn} turn */
  function edit(turn) {
    if (actions.busy()) return;
    const node = log.querySelector(`[data-turn="${turn.id}"] .prompt`);
    if (!node) return;
    const text = h("textarea", { class: "input", rows: 4, "aria-label": "Edited prompt", "data-testid": "edit-prompt", value: turn.prompt });
    const cancel = () => {
      const again = promptNode(turn);
      node.replaceWith(again);
      again.querySelector("[data-testid=edit]").focus();
    };
    const send = () => text.value.trim() && actions.edit(turn, text.value.trim());
    text.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send();
      else if (event.key === "Escape") cancel();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    const buttons = h("div", { class: "actions" }, h("button", { type: "button", class: "button", onclick: cancel }, "Cancel"), h("button", { type: "button", class: "button main", onclick: send }, "Send"));
    node.replaceChildren(h("div", { class: "editor" }, text, buttons));
    text.focus();
    text.setSelectionRange(text.value.length, text.value.length);
  }

  function toEnd() {
    follows = true;
    scroller.scrollTop = scroller.scrollHeight;
  }

  /** @param {-1 | 1} direction up or down, by nearly all that is in sight */
  const turnPage = (direction) => scroller.scrollBy(0, direction * 0.9 * scroller.clientHeight);

  return { show, add, edit, turnPage, update: (/** @type {Answer} */ answer) => views.get(answer)?.update(), quiet: (/** @type {Answer} */ answer, /** @type {boolean} */ quiet) => views.get(answer)?.waits(quiet) };
}

/** One answer. Redrawn at most once a frame, and less often where drawing takes long. */
class AnswerView {
  /**
   * @param {Turn} turn
   * @param {Answer} answer
   * @param {Actions} actions
   * @param {() => void} grown
   */
  constructor(turn, answer, actions, grown) {
    this.turn = turn;
    this.answer = answer;
    this.actions = actions;
    this.grown = grown;
    this.due = false;
    this.frame = 0;
    this.who = h("header", { class: "who" });
    this.thoughts = h("div", { class: "thoughts" });
    this.summary = h("summary", {}, "Reasoning");
    this.reasoning = h("details", { class: "reasoning", hidden: true, "data-testid": "reasoning" }, this.summary, this.thoughts);
    this.body = h("div", { class: "prose", "data-testid": "answer-text" });
    this.calls = h("pre", { class: "calls", hidden: true, "aria-label": "Tool calls" });
    this.end = h("div", { class: "end" });
    this.silence = h("span", { class: "muted", hidden: true, "data-testid": "silence" }, "Nothing has come from the gateway for a while.");
    this.prose = new Prose(this.body);
    this.node = h("article", { class: "answer", "data-testid": "answer" }, this.who, this.reasoning, this.body, this.calls, this.end);
    this.draw();
  }

  /** Asks for a redraw. */
  update() {
    if (this.ended()) return this.drawAll();
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      const began = performance.now();
      this.drawAll();
      const rest = Math.min(1000, (performance.now() - began) * 3);
      setTimeout(() => {
        this.due = false;
        if (this.answer.text !== this.prose.text) this.update();
      }, rest);
    });
  }

  ended() {
    return this.answer.state !== "waiting" && this.answer.state !== "streaming";
  }

  drawAll() {
    this.draw();
    this.drawText();
  }

  /** Draws what is new of the text; what takes longer goes on in the next frame. */
  drawText() {
    cancelAnimationFrame(this.frame);
    const ends = performance.now() + SLICE;
    let left = this.more();
    while (left && performance.now() < ends) left = this.more();
    if (left) this.frame = requestAnimationFrame(() => this.drawText());
    this.grown();
  }

  /** Draws the next piece of the text. Returns whether any is left. */
  more() {
    return this.prose.more();
  }

  /** Draws all but the text. */
  draw() {
    const { answer } = this;
    this.node.dataset.state = answer.state;
    this.node.setAttribute("aria-busy", String(!this.ended()));
    this.node.setAttribute("aria-label", `Answer of ${answerer(answer)}`);
    this.who.textContent = answerer(answer);
    this.prose.take(answer.text, this.ended());
    this.reasoning.hidden = !answer.reasoning;
    if (this.thoughts.textContent !== answer.reasoning) this.thoughts.textContent = answer.reasoning;
    this.summary.textContent = answer.reasoning && !answer.text && !this.ended() ? "Reasoning…" : "Reasoning";
    this.calls.hidden = !answer.tools;
    this.calls.textContent = answer.tools;
    if (this.ended()) this.end.replaceChildren(...this.ending());
    else if (!this.end.firstChild) this.end.append(h("span", { class: "waiting", role: "img", "aria-label": "Answering" }, h("i"), h("i"), h("i")), this.silence);
  }

  /** @param {boolean} quiet whether nothing has come for so long that the gateway may hang */
  waits(quiet) {
    if (this.silence.hidden === !quiet) return;
    this.silence.hidden = !quiet;
    this.grown();
  }

  /** What stands below an answer that has ended. */
  ending() {
    const { answer, actions, turn } = this;
    const again = answer.state === "failed" ? "Try again" : "Regenerate";
    const retry = tool("retry", again, () => actions.busy() || actions.regenerate(turn, answer), { class: "tool small", "data-testid": "regenerate" });
    if (answer.state === "failed") retry.append(again);
    const tools = [
      answer.text && tool("copy", "Copy answer", (event) => copy(/** @type {any} */ (event.currentTarget), answer.text), { class: "tool small", "data-testid": "copy-answer" }),
      retry,
      turn.answers.length > 1 && tool("check", "Continue with this one", () => actions.busy() || actions.keep(turn, answer), { class: "tool small", "data-testid": "keep" }),
    ].filter(Boolean);
    return [failureNode(answer), h("footer", { class: "facts", "data-testid": "facts" }, ...facts(answer), h("span", { class: "tools" }, ...tools))].filter((node) => node !== null);
  }
}

/**
 * @param {Answer} answer
 * @returns {HTMLElement | null}
 */
function failureNode({ state, failure, text, finish }) {
  if (state === "stopped") return h("p", { class: "muted", "data-testid": "stopped" }, "Stopped.");
  if (failure) {
    const what = text ? "This answer is incomplete. " : "";
    const again = failure.retryAfter && `try again in ${span(failure.retryAfter)}`;
    const more = [failure.code, failure.requestId, again].filter(Boolean).join(" · ");
    return h("div", { class: "notice bad", role: "alert", "data-testid": "failure" }, h("p", {}, what + failure.message), h("p", { class: "mono" }, more));
  }
  if (finish === "length") return h("p", { class: "muted", "data-testid": "cut-by-limit" }, "The answer reached its length limit.");
  if (finish === "content_filter") return h("p", { class: "notice warn" }, "The upstream's content filter ended the answer.");
  return null;
}

/**
 * Tokens, times, cost, who answered and what was rewritten; nothing where it is not known.
 * @param {Answer} answer
 * @returns {HTMLElement[]}
 */
function facts({ receipt, usage, firstToken, took, state }) {
  const { input, output, reasoning, cached, cost } = usage ?? {};
  const timed = took && firstToken !== undefined && took - firstToken > 50; // what came at once has no speed
  const speed = output && output > 1 && timed ? ((output - 1) / (took - firstToken)) * 1000 : null;
  const cacheWord = receipt.cache?.split(";")[0];
  /** @type {[string, string | null | undefined | false | 0, string?][]} */
  const known = [
    ["upstream", receipt.upstream, "Upstream that answered"],
    ["tokens", output !== undefined && plural(output, "token"), [input !== undefined && `${input} in`, cached && `${cached} of them cached`, `${output} out`, reasoning && `${reasoning} of them reasoning`].filter(Boolean).join(", ")],
    ["first-token", firstToken !== undefined && `first token ${duration(firstToken)}`, "Time to the first token"],
    ["speed", speed && `${speed < 10 ? speed.toFixed(1) : Math.round(speed)} tokens/s`, took ? `Whole answer: ${duration(took)}` : ""],
    ["cost", cost !== undefined && dollars(cost), "Cost as the upstream reports it, or by its prices"],
    ["proxy", receipt.proxyMs !== undefined && state === "done" && `proxy ${duration(receipt.proxyMs)}`, "Time inside Sluice"],
    ["cache", cacheWord && cacheWord !== "off" && cacheWord !== "miss" && `cache ${receipt.cache}`],
    ["attempts", receipt.attempts.length > 1 && receipt.attempts.join(" → "), "Attempts"],
    ["changes", receipt.changes && `rewritten: ${receipt.changes}`, "What Sluice changed in the request or the answer"],
  ];
  return known.filter(([, text]) => text).map(([name, text, title]) => h("span", { "data-fact": name, class: name === "attempts" ? "tag warn" : null, title: title || null }, name === "upstream" ? icon("server") : null, text));
}
