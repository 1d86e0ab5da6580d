/** @file The list of conversations: open, rename, delete. */
import { byId, h, toast, tool } from "/static/shared/dom.js";
import { showSide } from "/static/shared/frame.js";
import { lasts } from "/static/shared/storage.js";
import { list, load, remove, save } from "/static/chat/store.js";

/**
 * @param {{open: (id: string) => void, gone: (id: string) => void, current: () => string}} how
 */
export function sidebar({ open, gone, current }) {
  const place = byId("conversations");

  let renaming = false;

  /** Draws the list anew; the keyboard's focus stays where it was. */
  function draw() {
    if (renaming) return; // which draws when it ends
    const focused = document.activeElement;
    const held = place.contains(focused) && focused?.closest("li");
    const at = held && [...held.querySelectorAll("button")].indexOf(/** @type {any} */ (focused));
    const all = list();
    place.replaceChildren(...all.map(row));
    if (!lasts) place.append(h("li", { class: "empty" }, "This browser lets nothing be kept: conversations end with the page."));
    else if (!all.length) place.append(h("li", { class: "empty" }, "Conversations appear here. They stay in this browser."));
    if (held) focus(held.dataset.conversation ?? "", at);
  }

  /**
   * @param {string} id
   * @param {number} [button] of its row
   */
  function focus(id, button = 0) {
    const row = place.querySelector(`[data-conversation="${CSS.escape(id)}"]`);
    (row?.querySelectorAll("button")[button] ?? byId("new")).focus({ preventScroll: true });
  }

  /** @param {import("/static/chat/store.js").Listed} listed */
  function row({ id, title }) {
    const here = id === current();
    const button = h("button", { type: "button", class: "conversation", "aria-current": here ? "true" : null, title, onclick: () => (showSide(false), open(id)) }, title);
    const tools = h("span", { class: "tools" }, tool("edit", `Rename ${title}`, () => rename(node, id, title), { class: "tool small", "data-testid": "rename" }), tool("trash", `Delete ${title}`, () => drop(id), { class: "tool small", "data-testid": "delete" }));
    const node = h("li", { "data-conversation": id, "data-testid": "conversation" }, button, tools);
    return node;
  }

  /**
   * @param {HTMLElement} node
   * @param {string} id
   * @param {string} title
   */
  function rename(node, id, title) {
    const input = h("input", { class: "input", value: title, "aria-label": "Name of the conversation", maxlength: 120 });
    let over = false;
    const end = (/** @type {boolean} */ keep) => {
      if (over) return;
      over = true;
      renaming = false;
      const conversation = load(id);
      if (keep && input.value.trim() && conversation) save({ ...conversation, title: input.value.trim() });
      if (keep && id === current()) open(id);
      draw();
    };
    input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      event.stopPropagation();
      if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
      end(event.key === "Enter");
      focus(id);
    });
    input.addEventListener("blur", () => end(true));
    renaming = true;
    node.replaceChildren(input);
    input.select();
  }

  /** @param {string} id */
  function drop(id) {
    const kept = load(id);
    remove(id);
    gone(id);
    draw();
    if (kept) toast("Conversation deleted.", { label: "Undo", act: () => (save(kept), draw()) });
  }

  addEventListener("storage", (event) => event.key?.startsWith("sluice.chat.list") && draw());
  return { draw };
}
