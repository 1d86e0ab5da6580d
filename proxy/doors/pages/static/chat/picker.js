/** @file Chooses a model: a list with search, grouped by upstream, of what is live. */
import { byId, h, icon } from "/static/shared/dom.js";
import { count } from "/static/shared/format.js";

/** @typedef {import("/static/chat/asking.js").Model} Model */
/** @typedef {{title: string, models: Model[]}} Group */

/**
 * One picker, shown below its button.
 * @param {HTMLElement} place
 * @param {{label: string, load: (upstream?: string) => Promise<Model[]>, chosen: (model: string) => void}} how
 */
export function picker(place, { label, load, chosen }) {
  const id = `${place.id}-list`;
  /** @type {Model[]} */
  let models = [];
  let upstream = ""; // "" shows all
  let loading = false; // for the first time
  let current = "";

  const name = h("span", { class: "picker-name" });
  const button = h("button", { type: "button", class: "picker-button", "aria-haspopup": "dialog", "aria-expanded": "false", "aria-label": label, "data-testid": "model-picker", onclick: () => (panel.hidden ? open() : close()) }, name, icon("chevron"));
  const search = h("input", { class: "input", type: "search", placeholder: "Search models", autocomplete: "off", spellcheck: "false", role: "combobox", "aria-label": "Search models", "aria-controls": id, "aria-expanded": "true", "aria-autocomplete": "list", "data-testid": "model-search", oninput: draw, onkeydown: keys });
  const tabs = h("div", { class: "picker-tabs", role: "group", "aria-label": "Upstream" });
  const options = h("div", { id, class: "picker-list", role: "listbox", "aria-label": label });
  const panel = h("div", { class: "picker-panel", role: "dialog", "aria-label": label, hidden: true, "data-testid": "model-panel" }, h("div", { class: "picker-head" }, search, tabs), options);
  place.append(button, panel);
  document.addEventListener("pointerdown", (event) => !panel.hidden && !place.contains(/** @type {Node} */ (event.target)) && close());
  panel.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape") return;
    close();
    button.focus();
    event.preventDefault();
    event.stopPropagation(); // it would stop an answer
  });
  place.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !place.contains(/** @type {Node} */ (event.relatedTarget))) close();
  });

  /** @param {string} model */
  function set(model) {
    current = model;
    name.textContent = model || "Default model";
    button.title = model || "The first model of the gateway's default upstream";
    button.setAttribute("aria-label", `${label}: ${name.textContent}`);
  }

  async function open() {
    panel.hidden = false;
    button.setAttribute("aria-expanded", "true");
    search.value = "";
    search.focus();
    loading = !models.length;
    draw();
    await show(upstream);
    panel.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "center" });
  }

  function close() {
    panel.hidden = true;
    button.setAttribute("aria-expanded", "false");
  }

  /** @param {string} wanted the upstream whose models and personas are shown */
  async function show(wanted) {
    upstream = wanted;
    const all = await load();
    models = wanted ? (await load(wanted)).map((model) => ({ ...model, upstream: wanted })) : all;
    const first = all.filter((model) => model.id.startsWith(`${model.upstream}/`)); // so that upstreams stand in their own order
    loading = false;
    drawTabs([...new Set([...first, ...all].map((model) => model.upstream).filter((each) => each !== null))]);
    draw();
  }

  /** @param {string[]} upstreams */
  function drawTabs(upstreams) {
    tabs.replaceChildren(...["", ...upstreams].map((each) => h("button", { type: "button", class: "tab", "aria-pressed": String(each === upstream), "data-upstream": each || null, onclick: () => (search.focus(), show(each)) }, each || "All")));
  }

  function draw() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = models.filter((model) => (words.length || model.chat !== false) && words.every((/** @type {string} */ word) => model.id.toLowerCase().includes(word))); // what is for other work turns up when it is looked for
    const rows = grouped(found).map(group);
    if (!upstream && words.every((/** @type {string} */ word) => "default model".includes(word))) rows.unshift(option("", "Default model", "of the default upstream"));
    if (loading) rows.push(h("p", { class: "empty" }, "Asking the gateway…"));
    else if (!rows.length || !models.length) rows.push(h("p", { class: "empty" }, words.length ? "No model has this in its name." : models.length ? "No model here is for chats." : "No model is available."));
    options.replaceChildren(...rows);
    mark(options.querySelector(words.length ? "[role=option]" : "[aria-selected=true]") ?? options.querySelector("[role=option]"));
  }

  /** @param {Group} group */
  function group({ title, models: those }) {
    const heading = h("div", { class: "picker-group", id: `${id}-${title}`, role: "presentation" }, title, h("span", { class: "num" }, count(those.length)));
    return h("div", { role: "group", "aria-label": title }, heading, ...those.map((model) => option(model.id, shortName(model), model.context_length ? `${count(model.context_length)} tokens` : "")));
  }

  /**
   * @param {string} value
   * @param {string} text
   * @param {string} note
   */
  function option(value, text, note) {
    const node = h("div", { class: "picker-option", role: "option", id: `${id}-option-${value || "default"}`, "aria-selected": String(value === current), "data-model": value, title: value || null, onclick: () => pick(value), onpointermove: () => mark(node) }, h("span", {}, text), note && h("small", { class: "num" }, note));
    return node;
  }

  /** @param {string} value */
  function pick(value) {
    set(value);
    close();
    chosen(value);
    byId("prompt").focus();
  }

  /** @param {Element | null} node the option that Enter takes */
  function mark(node) {
    options.querySelector(".marked")?.classList.remove("marked");
    node?.classList.add("marked");
    search.setAttribute("aria-activedescendant", node?.id ?? "");
  }

  /** @param {KeyboardEvent} event */
  function keys(event) {
    const all = [...options.querySelectorAll("[role=option]")];
    const at = all.findIndex((node) => node.classList.contains("marked"));
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      mark(all[(at + (event.key === "ArrowDown" ? 1 : -1) + all.length) % all.length] ?? null);
      options.querySelector(".marked")?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter") all[at] && pick(all[at].dataset.model ?? "");
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  return { set, open };
}

/**
 * Upstreams as the gateway lists them; a persona of a known upstream behind its models, the other names first.
 * @param {Model[]} models
 * @returns {Group[]}
 */
function grouped(models) {
  /** @type {Map<string, Model[]>} */
  const groups = new Map([["Personas", []], ["Aliases", []]]);
  for (const model of models) {
    const persona = model.id.startsWith("persona/");
    const title = persona ? "Personas" : model.upstream && model.id.startsWith(`${model.upstream}/`) ? model.upstream : "Aliases";
    const those = groups.get(title) ?? [];
    those.push(model);
    groups.set(title, those);
  }
  return [...groups].filter(([, those]) => those.length).map(([title, those]) => ({ title, models: those }));
}

/** @param {Model} model */
function shortName({ id, upstream }) {
  if (id.startsWith("persona/")) return id.slice(8);
  return upstream && id.startsWith(`${upstream}/`) ? id.slice(upstream.length + 1) : id;
}
