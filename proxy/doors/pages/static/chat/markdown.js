/** @file Shows a model's Markdown. What a model says is text: HTML in it is shown as written, nothing is loaded. */
import { Marked } from "/static/vendor/marked.esm.js";
import { copy, h, tool } from "/static/shared/dom.js";

const LONGEST = 60000; // characters of one block that are still parsed; past that it is shown as plain text
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

/** A growing answer on screen. Blocks that are complete are rendered once; only the last one is rendered again. */
export class Prose {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.text = "";
    this.settled = 0; // characters that will not change any more
    /** @type {ChildNode[]} */
    this.tail = []; // nodes of the block that still grows
  }

  /**
   * Shows the text, of which what was shown before is usually the beginning.
   * @param {string} text
   */
  show(text) {
    if (text === this.text) return;
    if (!text.startsWith(this.text)) this.clear();
    this.text = text;
    const rest = text.slice(this.settled);
    const tokens = rest.length > LONGEST ? null : lexed(rest);
    if (!tokens) return this.replaceTail(plain(rest));
    let last = tokens.length - 1;
    while (last > 0 && tokens[last].type === "space") last--; // a list may still go on behind an empty line
    const done = tokens.slice(0, Math.max(0, last));
    if (done.length) {
      this.replaceTail(rendered(done, tokens.links));
      this.tail = [];
      this.settled += done.reduce((/** @type {number} */ sum, /** @type {any} */ token) => sum + token.raw.length, 0);
    }
    const growing = tokens.slice(Math.max(0, last));
    if (growing[0]?.type === "code" && this.growCode(growing[0].text)) return;
    this.replaceTail(rendered(growing, tokens.links));
  }

  /** The text is whole: link references that came late are resolved. */
  finish() {
    if (!/^ {0,3}\[[^\]]+\]:/m.test(this.text)) return;
    const text = this.text;
    this.clear();
    const tokens = text.length > LONGEST ? null : lexed(text);
    this.text = text;
    this.replaceTail(tokens ? rendered(tokens, tokens.links) : plain(text));
  }

  clear() {
    this.root.replaceChildren();
    this.text = "";
    this.settled = 0;
    this.tail = [];
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
 * @returns {any} marked's tokens; null where it cannot cope
 */
function lexed(text) {
  try {
    return marked.lexer(text);
  } catch {
    return null; // nested deeper than the stack, for one
  }
}

/**
 * @param {any[]} tokens
 * @param {object} links
 * @returns {DocumentFragment}
 */
function rendered(tokens, links) {
  let html;
  try {
    html = marked.parser(Object.assign(tokens, { links }));
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
