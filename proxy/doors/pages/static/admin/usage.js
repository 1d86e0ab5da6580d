/** @file What calls took this month, by model. */
import { h } from "/static/shared/dom.js";
import { count, dollars } from "/static/shared/format.js";
import { get } from "/static/admin/api.js";

/** @typedef {{calls: number, failed: number, input: number, output: number, cached: number, reasoning: number, cost: number, unpriced: number}} Used */

const TITLES = ["Model", "Calls", "Failed", "Input", "Output", "Cost"];

/** What it cost, as far as that is known: never $0 for what is not. @param {Used} used */
export const spent = ({ cost, unpriced }) => [cost || !unpriced ? dollars(cost) : "–", unpriced ? h("small", { class: "muted" }, `${count(unpriced)} unpriced`) : null];

/** @returns {{node: HTMLElement, fill: () => Promise<void>}} */
export function usage() {
  const rows = h("tbody", {});
  const head = h("tr", {}, ...TITLES.map((title, index) => h("th", { scope: "col", class: index ? "right" : null }, title)));
  const node = h("div", { class: "stack", hidden: true, "data-testid": "usage" }, h("h2", {}, "This month by model"), h("div", { class: "card flush" }, h("table", { class: "usage stacked" }, h("thead", {}, head), rows)));
  let before = "";
  return {
    node,
    async fill() {
      /** @type {(Used & {upstream: string | null, model: string | null})[] | null} */
      const all = await get("/admin/usage?by=upstream,model").then((found) => found.data, () => null); // the keys say that it is not known
      if (JSON.stringify(all) === before) return;
      before = JSON.stringify(all);
      node.hidden = !all?.length;
      rows.replaceChildren(...(all ?? []).sort((one, other) => other.cost - one.cost || other.input + other.output - one.input - one.output || other.calls - one.calls).map(row));
    },
  };
}

/** @param {Used & {upstream: string | null, model: string | null}} used */
function row(used) {
  const numbers = [...[used.calls, used.failed, used.input, used.output].map((value) => count(value)), spent(used)];
  const name = used.model === null ? h("span", { class: "muted" }, "Rejected before an upstream was asked") : used.model === "other" ? h("span", {}, h("span", { class: "muted" }, `${used.upstream}, `), "other models") : h("span", {}, h("span", { class: "muted" }, `${used.upstream}/`), used.model);
  return h("tr", { "data-model": used.model ?? "" }, h("td", { class: "wrap" }, name), ...numbers.map((value, index) => h("td", { class: "num right", "data-name": TITLES[index + 1] }, ...[value].flat())));
}
