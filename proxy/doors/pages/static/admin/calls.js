/** @file Recent calls: who answered, after which attempts, how long it took. Never a prompt. */
import { h, icon } from "/static/shared/dom.js";
import { clock, count, dollars, duration } from "/static/shared/format.js";
import { get, newest } from "/static/admin/api.js";

/** @typedef {{id: string, time: string, door: string, key: string | null, route: string | null, upstream: string | null, model: string | null, status: number | null, code: string, attempts: string[], tokens: {input: number | null, output: number | null, cached: number | null}, cost: number | null, ms: number, first_token_ms?: number | null, overhead_ms?: number | null, cache?: string, changes?: string[]}} Call */

const SHOWN = 200;

/** @returns {import("/static/admin/api.js").View} */
export function calls() {
  /** @type {Set<string>} */
  const open = new Set(); // calls whose details are shown
  let before = "";
  /** @type {Call[]} */
  let all = [];
  const search = h("input", { class: "input", type: "search", placeholder: "Model, upstream, code or request id", "aria-label": "Search calls", oninput: fill, "data-testid": "calls-search" });
  const failed = h("input", { type: "checkbox", onchange: fill, "data-testid": "calls-failed" });
  const place = h("div", { class: "card flush" });
  const look = newest(() => get("/admin/calls"));

  function fill() {
    const word = search.value.trim().toLowerCase();
    const rows = all.filter((call) => (!failed.checked || !good(call)) && (!word || [call.id, call.model, call.upstream, call.route, call.code, call.door].join(" ").toLowerCase().includes(word)));
    if (!rows.length) return place.replaceChildren(h("div", { class: "empty" }, icon("list"), h("strong", {}, all.length ? "No such call" : "No call yet"), all.length ? "" : "Recent calls appear here when they end."));
    const columns = ["Time", "Door", "Model", "Result", "Tokens", "Cost", "First token", "Took"];
    const head = h("tr", {}, ...columns.map((title, index) => h("th", { scope: "col", class: index > 3 ? "right" : null }, title)));
    const held = document.activeElement?.closest("tr.call")?.getAttribute("data-call");
    place.replaceChildren(h("table", { class: "calls stacked", "data-testid": "calls" }, h("thead", {}, head), h("tbody", {}, ...rows.slice(0, SHOWN).flatMap((call) => row(call, columns.length)))));
    if (held) place.querySelector(`tr.call[data-call="${CSS.escape(held)}"] button`)?.focus({ preventScroll: true });
  }

  /**
   * @param {Call} call
   * @param {number} columns
   */
  function row(call, columns) {
    const details = h("tr", { class: "details", hidden: !open.has(call.id) }, h("td", { colspan: columns }, more(call)));
    const toggle = () => {
      details.hidden = !details.hidden;
      button.setAttribute("aria-expanded", String(!details.hidden));
      if (details.hidden) open.delete(call.id);
      else open.add(call.id);
    };
    const button = h("button", { type: "button", class: "link num", "aria-expanded": String(open.has(call.id)), title: "Details", onclick: (/** @type {Event} */ event) => (event.stopPropagation(), toggle()) }, when(call.time));
    const main = h("tr", { class: "call", "data-call": call.id, onclick: toggle },
      h("td", {}, button), h("td", {}, call.door), h("td", { class: "wrap" }, [call.upstream, call.model].filter(Boolean).join("/") || "–"),
      h("td", {}, h("span", { class: good(call) ? "tag" : "tag bad" }, call.code === "ok" ? String(call.status ?? "ok") : call.code), call.attempts.length > 1 && h("span", { class: "tag warn" }, `${call.attempts.length} attempts`), call.cache && !/^(off|miss)/.test(call.cache) && h("span", { class: "tag accent" }, call.cache)),
      ...[tokens(call), cost(call), call.first_token_ms ? duration(call.first_token_ms) : "–", duration(call.ms)].map((text) => h("td", { class: "num right" }, text)));
    return [main, details];
  }

  return {
    draw: (root) => root.append(h("div", { class: "row" }, search, h("label", { class: "check" }, failed, "Failed only")), place),
    async update() {
      all = (await look())?.data ?? all;
      const now = `${all[0]?.id} ${all[0]?.time}`;
      if (now !== before) fill();
      before = now;
    },
  };
}

/** The time of day, behind the day where that is not today. @param {string} time */
function when(time) {
  const date = new Date(time);
  return date.toDateString() === new Date().toDateString() ? clock(time) : `${date.toLocaleDateString([], { day: "numeric", month: "short" })}, ${clock(time)}`;
}

/** @param {Call} call */
const tokens = ({ tokens: { input, output } }) => (input === null && output === null ? "–" : `${count(input ?? 0)} → ${count(output ?? 0)}`);

/** Whether nothing failed; a client that left has not. @param {Call} call */
const good = ({ code }) => code === "ok" || code === "client_cancelled";

/** @param {Call} call */
const cost = (call) => (call.cost === null ? "–" : dollars(call.cost));

/** @param {Call} call */
function more(call) {
  const known = [
    ["Request", call.id],
    ["Ended", new Date(call.time).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" })],
    ["Door", call.door],
    ["Key", call.key],
    ["Route", call.route],
    ["Attempts", call.attempts.join(" → ")],
    ["Status", `${call.status ?? "none"}, ${call.code}`],
    ["Took", call.first_token_ms ? `${duration(call.ms)}, first token after ${duration(call.first_token_ms)}` : duration(call.ms)],
    ["Rewritten", call.changes?.join(", ")],
    ["Cache", call.cache],
    ["Inside Sluice", call.overhead_ms === null || call.overhead_ms === undefined ? null : duration(call.overhead_ms)],
    ["Tokens", tokens(call) + (call.tokens.cached ? `, ${count(call.tokens.cached)} of them cached` : "")],
    ["Cost", cost(call)],
  ];
  return h("dl", { class: "pairs" }, ...known.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "wrap" }, value))));
}
