/** @file Models: what each upstream has, with limits and prices. */
import { h } from "/static/shared/dom.js";
import { count, dollars } from "/static/shared/format.js";
import { models, said } from "/static/admin/api.js";

const SHOWN = 500; // rows; a search narrows it down
const FACTS = ["Context", "Max. output", "Input $/M", "Output $/M"];

/** @typedef {Awaited<ReturnType<typeof models>>[number]} Model */

/** @returns {import("/static/admin/api.js").View} */
export function catalogue() {
  let chosen = "";
  /** @type {Model[]} */
  let found = [];
  let problem = "";
  let before = "";
  const tabs = h("div", { class: "tabs", role: "group", "aria-label": "Upstream" });
  const search = h("input", { class: "input", type: "search", placeholder: "Search models", "aria-label": "Search models", oninput: fill, "data-testid": "catalogue-search" });
  const place = h("div", { class: "card flush" });

  /** @param {string} upstream */
  async function show(upstream) {
    chosen = upstream;
    for (const tab of tabs.children) tab.setAttribute("aria-pressed", String(tab.textContent === upstream));
    try {
      problem = "";
      found = await models(upstream);
    } catch (error) {
      found = [];
      problem = said(error);
      before = ""; // the next overview asks again
    }
    if (upstream === chosen) fill();
  }

  function fill() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = found.filter((model) => words.every((/** @type {string} */ word) => model.id.toLowerCase().includes(word)));
    if (!rows.length) return place.replaceChildren(h("p", { class: "empty" }, problem || (found.length ? "No model has this in its name." : `${chosen} lists no models.`)));
    const head = h("tr", {}, ...["Model", ...FACTS].map((title, index) => h("th", { class: index ? "right" : null, scope: "col" }, title)));
    const body = rows.slice(0, SHOWN).map((model) => h("tr", { "data-model": model.id }, h("td", { class: "wrap" }, model.id), ...facts(model).map((text, index) => h("td", { class: "num right", "data-name": FACTS[index] }, text))));
    const more = rows.length > SHOWN ? h("p", { class: "empty" }, `and ${rows.length - SHOWN} more`) : "";
    place.replaceChildren(h("table", { class: "catalogue stacked", "data-testid": "catalogue" }, h("thead", {}, head), h("tbody", {}, ...body)), more);
  }

  return {
    draw: (root) => root.append(h("div", { class: "row" }, tabs, search), place),
    update({ upstreams }) {
      const live = upstreams.filter((upstream) => upstream.live);
      const names = live.map((upstream) => upstream.name);
      const now = live.map(({ name, models, catalog }) => [name, models, catalog]).join();
      if (now === before) return;
      before = now;
      tabs.replaceChildren(...names.map((name) => h("button", { type: "button", class: "tab", "aria-pressed": "false", onclick: () => show(name) }, name)));
      if (names.length) show(names.includes(chosen) ? chosen : names[0]);
      else place.replaceChildren(h("p", { class: "empty" }, "No upstream is switched on."));
    },
  };
}

/** @param {Model} model */
function facts({ context_length: context, max_output_tokens: output, prices }) {
  const limits = [context, output].map((tokens) => (tokens ? count(tokens) : "–"));
  return [...limits, ...[prices?.input, prices?.output].map((price) => (price === undefined ? "–" : dollars(price)))];
}
