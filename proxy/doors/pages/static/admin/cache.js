/** @file The cache: what it holds, how often it answers, and emptying it. */
import { h, icon, toast } from "/static/shared/dom.js";
import { bytes, count } from "/static/shared/format.js";
import { change, said } from "/static/admin/api.js";

const FACTS = ["Answers", "Hits", "Misses"];

/**
 * @param {() => Promise<void>} refresh asks for the overview at once
 * @returns {import("/static/admin/api.js").View}
 */
export function cache(refresh) {
  let before = "";
  const place = h("div", { class: "stack" });

  /** @param {string} [route] only this route's answers */
  async function clear(route) {
    try {
      await change("DELETE", `/admin/cache${route === undefined ? "" : `?route=${encodeURIComponent(route)}`}`);
      toast(route === undefined ? "The cache is empty." : `The cached answers of ${route} were deleted.`);
    } catch (error) {
      toast(said(error));
    }
    await refresh();
  }

  /** @param {import("/static/admin/api.js").Cache} cache */
  function filled({ entries, bytes: size, max_bytes: room, hits, misses, shared, by_route: routes }) {
    const numbers = [["Cached answers", count(entries)], ["Size", [`${bytes(size)} `, h("small", {}, `of ${bytes(room)}`)]], ["Answered from it", rate(hits, misses)], ["Shared in flight", count(shared)]];
    const head = h("tr", {}, ...["Route", ...FACTS, ""].map((title, index) => h("th", { scope: "col", class: index ? "right" : null }, title)));
    const rows = routes.map((each) => h("tr", { "data-route": each.route }, h("td", { class: "wrap" }, h("code", {}, each.route)), ...[each.entries, each.hits, each.misses].map((value, index) => h("td", { class: "num right", "data-name": FACTS[index] }, count(value))), h("td", { class: "right" }, h("button", { type: "button", class: "button", onclick: () => clear(each.route), "aria-label": `Empty the cache of ${each.route}` }, "Empty"))));
    return [
      h("dl", { class: "stats card" }, ...numbers.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "num" }, ...[value].flat())))),
      rows.length ? h("div", { class: "card flush" }, h("table", { class: "kept stacked" }, h("thead", {}, head), h("tbody", {}, ...rows))) : nothing("Nothing is kept yet"),
      h("div", { class: "actions", hidden: !entries }, h("button", { type: "button", class: "button bad", onclick: () => clear(), "data-testid": "clear-cache" }, "Empty the whole cache")),
    ];
  }

  return {
    draw: (root) => root.append(place),
    update({ cache: now }) {
      if (JSON.stringify(now) === before) return;
      before = JSON.stringify(now);
      place.replaceChildren(...(now ? filled(now) : [nothing("No route caches answers")]));
    },
  };
}

/** @param {string} why */
function nothing(why) {
  return h("div", { class: "empty card" }, icon("stack"), h("strong", {}, why), "A route keeps answers with ", h("code", {}, "cache: {exact: 1h}"), " in config.yaml.");
}

/**
 * @param {number} hits
 * @param {number} misses
 */
function rate(hits, misses) {
  return hits + misses ? `${((100 * hits) / (hits + misses)).toFixed(1)} %` : "–";
}
