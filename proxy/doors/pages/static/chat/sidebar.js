/** @file The list of conversations: open, rename, delete. */
import { byId, h, toast, tool } from "/static/shared/dom.js";
import { showSide } from "/static/shared/frame.js";
import { list, load, remove, save } from "/static/chat/store.js";

/**
 * @param {{open: (id: string) => void, gone: (id: string) => void, current: () => string}} how
 */
export function sidebar({ open, gone, current }) {
  const place = byId("conversations");

  function draw() {
    const all = list();
    place.replaceChildren(...all.map(row));
    if (!all.length) place.append(h("li", { class: "empty" }, "Conversations appear here. They stay in this browser."));
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
      const conversation = load(id);
      if (keep && input.value.trim() && conversation) save({ ...conversation, title: input.value.trim() });
      if (keep && id === current()) open(id);
      draw();
    };
    input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter" || event.key === "Escape") end(event.key === "Enter");
      event.stopPropagation();
    });
    input.addEventListener("blur", () => end(true));
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
