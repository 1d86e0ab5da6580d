/** @file Shows a model's Markdown. What a model says is text: HTML in it is shown as written, nothing is loaded. */
import { Lexer, Marked } from "/static/vendor/marked.esm.js";
import { copy, h, tool } from "/static/shared/dom.js";

const STEP = 15000; // characters that are read at a time
const LONGEST = 60000; // characters of one block that are still parsed; past that it is shown as plain text
const FENCED = /^ {0,3}(?:```|~~~)/; // a block of code is parsed however long it is: nothing in it is looked for
const RULES = {
  ALLOWED_TAGS: ["a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ALLOWED_ATTR: ["align", "data-lang", "href", "start", "title"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ADD_URI_SAFE_ATTR: ["align", "start"], // no addresses: the rule above is not for them
  RETURN_DOM_FRAGMENT: true,
};

/** @param {string} text */
const escape = (text) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

// Formulas in TeX: to Markdown their signs mean other things. They are shown as they were said.
const DISPLAYED = /^ {0,3}(?:\$\$|\\\[)[ \t]*\n[\s\S]*?(?:(?:\$\$|\\\])[ \t]*(?:\n|$)|$)/; // a block of lines; while it grows, up to the end
const WITHIN = /^(?:\$\$[^$]+\$\$|\$(?![\s$])[^$`\n]*(?<!\s)\$(?!\d)|\\\([^]{1,3000}?\\\)|\\\[[^]{1,3000}?\\\])/; // "$5 or $10" is none, nor "$5 by `$x`"

/**
 * @param {"block" | "inline"} level
 * @param {RegExp} rule
 * @param {(source: string) => number} start where one may begin; -1 or Infinity: nowhere
 */
function formula(level, rule, start) {
  const name = `${level}-formula`;
  const shown = (/** @type {string} */ raw) => escape(raw.trim()).replaceAll("\n", "<br>");
  return {
    name,
    level,
    start,
    tokenizer(/** @type {string} */ source) {
      const raw = rule.exec(source)?.[0];
      return raw && { type: name, raw };
    },
    renderer: (/** @type {any} */ { raw }) => (level === "block" ? `<p>${shown(raw)}</p>` : shown(raw)),
  };
}

const marked = new Marked({ gfm: true, breaks: true });
marked.use({
  extensions: [
    formula("block", DISPLAYED, (source) => source.search(/\n {0,3}(?:\$\$|\\\[)[ \t]*\n/)),
    formula("inline", WITHIN, (source) => Math.min(...["$", "\\(", "\\["].map((sign) => source.indexOf(sign)).filter((at) => at >= 0))),
  ],
  renderer: {
    html: (/** @type {any} */ { text, block }) => (block ? `<p>${escape(text.trim())}</p>` : escape(text)),
    image: (/** @type {any} */ { href, text }) => `<a href="${escape(href)}">${escape(`Image: ${text || href}`)}</a>`,
    code: (/** @type {any} */ { text, lang }) => `<pre data-lang="${escape(/^\S*/.exec(lang ?? "")?.[0] ?? "")}"><code>${escape(text)}\n</code></pre>`,
    checkbox: (/** @type {any} */ { checked }) => (checked ? "☑ " : "☐ "),
  },
});

/** An answer on screen, perhaps a growing one. Blocks that are complete are rendered once; only the last one is rendered again. */
export class Prose {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.clear();
  }

  clear() {
    this.text = "";
    this.whole = false;
    this.links = {}; // references by their names, of what is settled
    this.found = this.links; // the same with those of the block that still grows, whose addresses may be half there
    this.again = false; // whether all is read for the second time, with every reference known
    this.restart();
  }

  restart() {
    this.root.replaceChildren();
    this.reached = 0; // characters that were read
    this.settled = 0; // characters that will not change any more
    this.late = false; // whether what is settled may lack a reference, or have half of its address
    /** @type {ChildNode[]} */
    this.tail = []; // nodes of the block that still grows
  }

  /**
   * Takes a text, of which what was taken before is usually the beginning; `more` shows it.
   * @param {string} text
   * @param {boolean} whole
   */
  take(text, whole) {
    if (!text.startsWith(this.text)) this.clear();
    this.text = text;
    this.whole = whole;
  }

  /** Shows the next piece. Returns whether any is left. */
  more() {
    if (this.reached < this.text.length) this.read();
    else if (this.whole && this.late) this.readAgain();
    return this.reached < this.text.length || (this.whole && this.late);
  }

  readAgain() {
    this.links = this.found;
    this.again = true;
    this.restart();
  }

  read() {
    const rest = this.text.slice(this.settled);
    const piece = rest.slice(0, Math.max(STEP, 2 * (this.reached - this.settled)));
    const tokens = piece.length > LONGEST && !FENCED.test(piece) ? null : lexed(piece, this.links);
    this.reached = this.settled + piece.length;
    if (!tokens) return this.giveUp(rest, piece);
    this.found = tokens.links;
    const named = Object.keys(this.found).length > Object.keys(this.links).length;
    let last = tokens.length - 1;
    while (last > 0 && tokens[last].type === "space") last--; // a list may still go on behind an empty line
    const done = tokens.slice(0, Math.max(0, last));
    if (done.length) {
      const raw = done.map((/** @type {any} */ token) => token.raw).join("");
      this.settle(rendered(done), raw.length);
      if (named) this.links = lexed(raw, this.links)?.links ?? this.links;
    }
    this.late ||= named && this.settled > 0 && !this.again;
    const growing = tokens.slice(Math.max(0, last));
    if (growing[0]?.type === "code" && this.growCode(growing[0].text)) return;
    this.replaceTail(rendered(growing));
  }

  /**
   * Shows as plain text what cannot be parsed: up to the empty line behind it, where there is one.
   * @param {string} rest
   * @param {string} piece
   */
  giveUp(rest, piece) {
    const end = rest.indexOf("\n\n", Math.min(piece.length, LONGEST));
    if (end > 0) this.settle(plain(rest.slice(0, end)), end);
    else this.replaceTail(plain(rest));
    this.reached = end > 0 ? this.settled : this.text.length;
  }

  /**
   * @param {DocumentFragment} fragment
   * @param {number} length characters that it shows for good
   */
  settle(fragment, length) {
    this.replaceTail(fragment);
    this.tail = [];
    this.settled += length;
  }

  /** @param {DocumentFragment} fragment */
  replaceTail(fragment) {
    for (const node of this.tail) node.remove();
    this.tail = [...fragment.childNodes];
    this.root.append(fragment);
  }

  /**
   * A code block only gets longer: its place on screen, and what is selected in it, stay.
   * @param {string} text
   */
  growCode(text) {
    const code = this.tail.length === 1 && /** @type {Element} */ (this.tail[0]).querySelector?.("pre > code");
    if (!code || !text.startsWith(code.textContent?.trimEnd() ?? "\0")) return false;
    code.textContent = `${text}\n`;
    return true;
  }
}

/**
 * @param {string} text
 * @param {object} links references that are known already
 * @returns {any} marked's tokens; null where it cannot cope
 */
function lexed(text, links) {
  try {
    const lexer = new Lexer(marked.defaults);
    Object.assign(lexer.tokens.links, links);
    return lexer.lex(text);
  } catch {
    return null; // nested deeper than the stack, for one
  }
}

/**
 * @param {any[]} tokens
 * @returns {DocumentFragment}
 */
function rendered(tokens) {
  let html;
  try {
    html = marked.parser(tokens);
  } catch {
    return plain(tokens.map((token) => token.raw).join(""));
  }
  const fragment = /** @type {any} */ (globalThis).DOMPurify.sanitize(html, RULES);
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
    if (!link.hasAttribute("href")) link.replaceWith(...link.childNodes); // javascript: and the like: only the words
  }
  for (const block of fragment.querySelectorAll("ul, ol, blockquote, table")) block.dir = "auto"; // Arabic and Hebrew lists have their marks at the right
  for (const item of fragment.querySelectorAll("li")) item.classList.toggle("task", /^\s*[☑☐] /.test(item.textContent ?? "")); // the box is its mark
  for (const pre of fragment.querySelectorAll("pre")) pre.replaceWith(codeBlock(pre));
  return fragment;
}

/**
 * A block of code with its language and a button that copies it.
 * @param {HTMLElement} pre
 */
function codeBlock(pre) {
  const button = tool("copy", "Copy code", () => copy(button, button.closest(".code")?.querySelector("pre")?.textContent ?? ""), { class: "tool small", "data-testid": "copy-code" });
  const head = h("div", { class: "code-head" }, h("span", {}, pre.dataset.lang || "text"), button);
  return h("div", { class: "code" }, head, h("pre", { tabindex: 0 }, ...pre.childNodes));
}

/**
 * @param {string} text
 * @returns {DocumentFragment}
 */
function plain(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(h("p", { class: "plain" }, text));
  return fragment;
}
