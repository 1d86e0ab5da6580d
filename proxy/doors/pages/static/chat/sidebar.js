/** @file The list of conversations: open, rename, delete. */
import { arrange, byId, h, toast, tool } from "/static/shared/dom.js";
import { showSide } from "/static/shared/frame.js";
import { lasts } from "/static/shared/storage.js";
import { list, load, remove, save } from "/static/chat/store.js";

/**
 * @param {{open: (id: string) => void, gone: (id: string) => void, current: () => string}} how
 */
export function sidebar({ open, gone, current }) {
  const place = byId("conversations");
  /** @type {Map<string, HTMLElement>} */
  let rows = new Map(); // by conversation
  let renaming = false;

  /** Draws what has changed of the list; the keyboard's focus stays where it was. */
  function draw() {
    if (renaming) return; // which draws when it ends
    const focused = document.activeElement;
    const held = place.contains(focused) && focused?.closest("li");
    const at = held && [...held.querySelectorAll("button")].indexOf(/** @type {any} */ (focused));
    const all = list();
    rows = new Map(all.map((listed) => [listed.id, drawn(listed) ?? row(listed)]));
    for (const [id, node] of rows) mark(node, id === current());
    const empty = !lasts ? "This browser does not allow storage: conversations are lost when the page is closed." : "Conversations appear here. They stay in this browser.";
    arrange(place, [...rows.values(), ...(lasts && all.length ? [] : [h("li", { class: "empty" }, empty)])]);
    if (held) focus(held.dataset.conversation ?? "", at);
  }

  /** A row that is still right. @param {import("/static/chat/store.js").Listed} listed */
  function drawn({ id, title }) {
    const node = rows.get(id);
    return /** @type {HTMLElement | null | undefined} */ (node?.querySelector(".conversation"))?.title === title ? node : undefined;
  }

  /**
   * @param {HTMLElement} row
   * @param {boolean} here whether it is the conversation in hand
   */
  function mark(row, here) {
    const button = row.querySelector(".conversation");
    if (here) button?.setAttribute("aria-current", "true");
    else button?.removeAttribute("aria-current");
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
    const button = h("button", { type: "button", class: "conversation", title, onclick: () => (showSide(false), open(id)) }, title);
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
