/** @file Overview: what goes through the gateway now. */
import { h, say } from "/static/shared/dom.js";
import { count, duration, plural } from "/static/shared/format.js";
import { Chart } from "/static/admin/charts.js";
import { standing } from "/static/admin/upstreams.js";

/** @typedef {import("/static/admin/api.js").Overview} Overview */

/** @returns {import("/static/admin/api.js").View} */
export function overview() {
  const charts = [
    new Chart("Calls per second", (tally, step) => (tally?.calls ?? 0) / step, count),
    new Chart("Failed calls", (tally) => tally?.errors ?? 0, count),
    new Chart("Latency, 95th percentile", (tally) => tally?.ms_p95 ?? null, duration),
    new Chart("Tokens per second", (tally, step) => (tally?.tokens ?? 0) / step, count),
  ];
  const names = ["Calls per minute", "Failed in ten minutes", "Median latency", "Tokens per minute", "In flight"];
  const numbers = names.map(() => h("dd", { class: "num" }, "–"));
  const stats = h("dl", { class: "stats card", "data-testid": "stats" }, ...names.map((name, index) => h("div", {}, h("dt", {}, name), numbers[index])));
  const quiet = h("p", { class: "notice", hidden: true, "data-testid": "no-traffic" }, "No call in the last ten minutes. Point a client at this gateway, or try the chat page.");
  const list = h("ul", { class: "standings card" });

  /** @param {Overview} now */
  function update(now) {
    last(now).forEach((text, index) => say(numbers[index], text));
    quiet.hidden = now.traffic.points.length > 0;
    for (const chart of charts) chart.update(now);
    list.replaceChildren(...now.upstreams.map((upstream) => h("li", { "data-upstream": upstream.name }, ...standing(upstream, now), h("span", { class: "muted num" }, upstream.live ? plural(upstream.models, "model") : ""))));
  }

  return {
    draw: (root) => root.append(stats, quiet, h("div", { class: "charts" }, ...charts.map((chart) => chart.node)), h("h2", {}, "Upstreams"), list),
    update,
  };
}

/**
 * The numbers of the last full minute; failures of ten, since they are few.
 * @param {Overview} overview
 */
function last({ traffic, now, upstreams }) {
  const all = traffic.points.flatMap((point) => Object.values(point.upstreams).map((tally) => ({ ...tally, t: point.t })));
  const minute = all.filter((tally) => tally.t >= now - 60 - traffic.step && tally.t < now - traffic.step);
  const sum = (/** @type {any[]} */ of, /** @type {string} */ what) => of.reduce((total, tally) => total + (tally[what] ?? 0), 0);
  const timed = minute.filter((tally) => tally.ms_p50 !== null);
  const calls = sum(all, "calls");
  const median = timed.reduce((total, tally) => total + (tally.ms_p50 ?? 0) * tally.calls, 0) / Math.max(1, sum(timed, "calls"));
  return [
    count(sum(minute, "calls")),
    calls ? `${((100 * sum(all, "errors")) / calls).toFixed(1)} %` : "–",
    timed.length ? duration(median) : "–",
    count(sum(minute, "tokens")),
    count(sum(upstreams, "in_flight")),
  ];
}
