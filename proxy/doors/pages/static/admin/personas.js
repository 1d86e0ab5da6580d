/** @file Personas: presets of one upstream, callable as `persona/NAME`; those of config.yaml are only shown. */
import { byId, h, icon, toast, tool } from "/static/shared/dom.js";
import { change, get, models, newest, said } from "/static/admin/api.js";

/** @typedef {{name: string, upstream: string, model: string, system: string | null, set: Record<string, unknown>, source: "config" | "store"}} Persona */

/** @returns {import("/static/admin/api.js").View} */
export function personas() {
  const dialog = byId("persona-dialog");
  const form = byId("persona-form");
  const list = h("div", { class: "cards", "data-testid": "personas" });
  const add = h("button", { type: "button", class: "button main", onclick: () => open(), "data-testid": "new-persona" }, icon("plus"), "New persona");
  /** @type {string[]} */
  let upstreams = [];
  let filled = false; // since this view was last opened
  const look = newest(() => get("/admin/personas"));

  async function fill() {
    filled = false;
    const found = await look();
    filled = true;
    if (found) show(found.data);
  }

  /** @param {Persona[]} all */
  function show(all) {
    if (list.contains(document.activeElement)) add.focus(); // its card is about to go
    if (all.length) return list.replaceChildren(...all.map(card));
    list.replaceChildren(h("div", { class: "empty card" }, icon("person"), h("strong", {}, "No persona yet"), "A persona is a model with a system prompt and parameters under one name."));
  }

  /** @param {Persona} persona */
  function card(persona) {
    const own = persona.source === "store";
    const tools = own ? [tool("edit", `Change ${persona.name}`, () => open(persona), { "data-testid": "change-persona" }), tool("trash", `Delete ${persona.name}`, () => drop(persona), { "data-testid": "delete-persona" })] : [h("span", { class: "tag" }, "config.yaml")];
    const set = Object.entries(persona.set ?? {}).map(([path, value]) => h("span", { class: "tag mono" }, `${path}: ${JSON.stringify(value)}`));
    return h("section", { class: "card", "data-persona": persona.name }, h("div", { class: "row" }, h("h2", {}, persona.name), h("span", {}, ...tools)), h("p", { class: "muted wrap" }, `${persona.upstream}/${persona.model}`), !upstreams.includes(persona.upstream) && h("p", { class: "bad" }, `It cannot be called: config.yaml no longer has the upstream ${persona.upstream}.`), persona.system && h("p", { class: "system" }, persona.system), set.length ? h("p", { class: "tags" }, ...set) : null);
  }

  /** @param {Persona} [persona] */
  function open(persona) {
    form.reset();
    byId("persona-problem").hidden = true;
    byId("persona-title").textContent = persona ? `Change ${persona.name}` : "New persona";
    byId("persona-upstream").replaceChildren(...upstreams.map((name) => h("option", { value: name }, name)));
    byId("persona-name").value = persona?.name ?? "";
    byId("persona-name").readOnly = persona !== undefined;
    byId("persona-upstream").value = persona?.upstream ?? upstreams[0] ?? "";
    byId("persona-model").value = persona?.model ?? "";
    byId("persona-system").value = persona?.system ?? "";
    byId("persona-set").value = persona && Object.keys(persona.set).length ? JSON.stringify(persona.set, null, 2) : "";
    suggest();
    dialog.showModal();
  }

  /** Offers the models of the chosen upstream; a name can also be typed. */
  async function suggest() {
    const upstream = byId("persona-upstream").value;
    const found = await models(upstream).catch(() => []);
    byId("persona-models").replaceChildren(...found.filter((model) => model.id.startsWith(`${upstream}/`)).map((model) => h("option", { value: model.id.slice(upstream.length + 1) })));
  }

  /** @param {Event} event */
  async function keep(event) {
    event.preventDefault();
    try {
      const set = byId("persona-set").value.trim();
      const fields = { name: byId("persona-name").value.trim(), upstream: byId("persona-upstream").value, model: byId("persona-model").value.trim(), system: byId("persona-system").value.trim() || null, set: set ? JSON.parse(set) : {} };
      await change("POST", "/admin/personas", fields);
      dialog.close();
      toast(`persona/${fields.name} can be called.`);
      await fill();
    } catch (error) {
      byId("persona-problem").textContent = error instanceof SyntaxError ? `Parameters: ${error.message}` : said(error);
      byId("persona-problem").hidden = false;
    }
  }

  /** @param {Persona} persona */
  async function drop({ name, upstream, model, system, set }) {
    try {
      await change("DELETE", `/admin/personas/${encodeURIComponent(name)}`);
      await fill();
    } catch (error) {
      filled = false; // somebody else may have deleted it
      return toast(said(error));
    }
    toast(`${name} was deleted.`, { label: "Undo", act: () => change("POST", "/admin/personas", { name, upstream, model, system, set }).then(fill).catch((error) => toast(said(error))) });
  }

  form.addEventListener("submit", keep);
  byId("persona-cancel").addEventListener("click", () => dialog.close());
  byId("persona-upstream").addEventListener("change", suggest);
  return {
    draw(root) {
      root.append(h("div", { class: "row" }, h("p", { class: "muted" }, "Callable as a model on every endpoint: ", h("code", {}, "persona/NAME")), add), list);
      filled = false;
    },
    async update(overview) {
      const now = overview.upstreams.map((upstream) => upstream.name);
      if (!filled || now.join() !== upstreams.join()) {
        upstreams = now;
        await fill();
      }
    },
  };
}
