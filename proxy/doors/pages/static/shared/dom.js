/** @file Makes elements. Text becomes text nodes: nothing here ever parses HTML. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * An element. A property named `onclick` is a listener, `class` and what has a dash are attributes, `true` an empty
 * attribute; null, undefined and false leave an attribute out.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Child | Child[])} children
 * @returns {any}
 */
export function h(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") /** @type {any} */ (node)[name] = value;
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false).map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

/**
 * An icon of icons.svg; it says nothing to a screen reader, its button does.
 * @param {string} name
 */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg"; // a name, not an address
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `/static/icons.svg#${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/**
 * A quiet button with an icon, named for those who do not see it.
 * @param {string} symbol
 * @param {string} label
 * @param {(event: MouseEvent) => void} onclick
 * @param {Record<string, any>} [more]
 * @returns {HTMLButtonElement}
 */
export function tool(symbol, label, onclick, more = {}) {
  return h("button", { type: "button", class: "tool", "aria-label": label, title: label, onclick, ...more }, icon(symbol));
}

/**
 * The element with this id; the pages' own HTML has it.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found;
}

/**
 * Makes these the children of a place, in this order. What is there already and stands right is not touched: it keeps
 * the keyboard, what is selected in it and how far it is scrolled.
 * @param {Element} place
 * @param {Element[]} wanted
 */
export function arrange(place, wanted) {
  const stale = new Set(place.children);
  for (const node of wanted) stale.delete(node);
  for (const node of stale) node.remove();
  let next = place.firstElementChild;
  for (const node of wanted) {
    if (node === next) next = next.nextElementSibling;
    else place.insertBefore(node, next);
  }
}

/**
 * Sets text only where it differs, so that screen readers and selections are left in peace.
 * @param {Element} node
 * @param {string} text
 */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * A short message at the foot of the page, perhaps with something to do about it.
 * @param {string} text
 * @param {{label: string, act: () => void}} [offer]
 */
export function toast(text, offer) {
  document.querySelector(".toast")?.remove();
  const node = h("div", { class: "toast", role: "status", "data-testid": "toast" }, h("span", {}, text));
  if (offer) node.append(h("button", { type: "button", onclick: () => (node.remove(), offer.act()) }, offer.label));
  document.body.append(node);
  setTimeout(() => node.remove(), offer ? 7000 : 3000);
}

/**
 * Copies, and shows that it did on the button.
 * @param {HTMLElement} button
 * @param {string} text
 */
export async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return toast("The browser does not allow copying on this page.");
  }
  const before = [...button.childNodes];
  button.replaceChildren(icon("check"));
  setTimeout(() => button.replaceChildren(...before), 1200);
}
