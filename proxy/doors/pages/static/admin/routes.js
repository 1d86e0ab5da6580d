/** @file Routes, and what they would do with a call. */
import { byId, h, icon } from "/static/shared/dom.js";
import { span } from "/static/shared/format.js";
import { change, said } from "/static/admin/api.js";

/** @typedef {import("/static/admin/api.js").Route} Route */
/** @typedef {{upstream: string, model: string, usable: boolean, reason: string | null, body: unknown, changes: string[], limits: {context: number | null, output: number | null} | null}} Weighed */
/** @typedef {{route: string, beaten: string[], targets: Weighed[], cache: unknown}} Explained */

/** @returns {import("/static/admin/api.js").View} */
export function routes() {
  let before = "";
  const result = h("div", { class: "explained", "aria-live": "polite", "data-testid": "explained" });
  const input = h("textarea", { class: "input mono", id: "explain-input", rows: 2, spellcheck: "false", placeholder: 'gpt-4o, or {"model": "gpt-4o", "messages": […]}', "data-testid": "explain-input", onkeydown: keys });
  const form = h("form", { class: "card explain", onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), run()) }, h("label", { class: "field", for: "explain-input" }, "Enter a model, or a whole request body as JSON, to see what would happen. Nothing is sent."), input, h("div", { class: "actions" }, h("button", { class: "button main", "data-testid": "explain" }, "Explain")), result);
  const table = h("div", { class: "card flush" });

  /** @param {KeyboardEvent} event */
  function keys(event) {
    if (event.key !== "Enter" || event.shiftKey || input.value.trim().startsWith("{")) return;
    event.preventDefault();
    run();
  }

  async function run() {
    const text = input.value.trim();
    if (!text) return input.focus();
    try {
      const body = text.startsWith("{") ? JSON.parse(text) : { model: text, messages: [{ role: "user", content: "Hello" }] };
      result.replaceChildren(...explained(await change("POST", "/admin/explain", body)));
    } catch (error) {
      const problem = error instanceof SyntaxError ? `This is not JSON: ${error.message}` : said(error);
      result.replaceChildren(h("p", { class: "notice bad" }, problem));
    }
  }

  return {
    draw: (root) => (root.append(form, h("h2", {}, "Routes"), table), byId("explain-input").focus({ preventScroll: true })),
    update(overview) {
      const now = JSON.stringify(overview.routes);
      if (now === before) return;
      before = now;
      const head = h("tr", {}, ...["Model name", "Goes to", "Streams", "Cache"].map((title) => h("th", { scope: "col" }, title)));
      table.replaceChildren(h("table", { class: "routes stacked", "data-testid": "routes" }, h("thead", {}, head), h("tbody", {}, ...overview.routes.map(row))));
    },
  };
}

/** @param {Route} route */
function row(route) {
  const weighted = route.targets.some((target) => target.weight !== null);
  const total = route.targets.reduce((sum, target) => sum + (target.weight ?? 1), 0);
  const targets = route.targets.map((target) => h("li", {}, `${target.upstream}/${target.model}`, weighted && h("span", { class: "tag num" }, `${Math.round((100 * (target.weight ?? 1)) / total)} %`)));
  const kept = route.cache ? [route.cache.exact && `exact, ${span(route.cache.exact)}`, route.cache.similar && `similar, ${span(route.cache.similar)}`].filter(Boolean).join(" · ") : "–";
  const name = h("td", { class: "wrap" }, h("code", {}, route.match || "anything"), route.exact || !route.match ? null : h("span", { class: "muted" }, "…"), " ", route.written ? null : h("span", { class: "tag" }, "built in"));
  return h("tr", { "data-route": route.name }, name, h("td", { class: "wrap" }, h("ol", { class: route.targets.length > 1 ? "chain" : "chain single" }, ...targets)), h("td", { "data-name": "Streams" }, route.stream_safety), h("td", { class: "num", "data-name": "Cache" }, kept));
}

/** @param {Explained} found */
function explained({ route, beaten, targets }) {
  const usable = targets.findIndex((target) => target.usable);
  return [
    h("p", {}, "Rule ", h("code", { "data-testid": "explained-route" }, route), beaten.length ? [" over ", ...beaten.map((name) => h("code", { class: "beaten" }, name))] : ""),
    h("ol", { class: "targets" }, ...targets.map((target, index) => weighed(target, index === usable))),
  ];
}

/**
 * @param {Weighed} target
 * @param {boolean} first
 */
function weighed(target, first) {
  const limits = [target.limits?.context && `context ${target.limits.context.toLocaleString("en")}`, target.limits?.output && `output ${target.limits.output.toLocaleString("en")}`].filter(Boolean).join(", ");
  const facts = [limits, target.changes.length ? `rewritten: ${target.changes.join(", ")}` : target.usable && "passed on unchanged"].filter(Boolean).join(" · ");
  return h(
    "li",
    { "data-usable": String(target.usable), class: target.usable ? null : "unusable" },
    h("p", { class: "standing" }, icon(target.usable ? "check" : "close"), h("b", { class: "wrap" }, `${target.upstream}/${target.model}`), first && h("span", { class: "tag accent" }, "asked first")),
    target.reason && h("p", { class: "bad" }, target.reason),
    facts && h("p", { class: "muted" }, facts),
    target.body !== null && h("details", {}, h("summary", {}, "Body as it would be sent"), h("pre", { tabindex: 0 }, JSON.stringify(target.body, null, 2))),
  );
}
