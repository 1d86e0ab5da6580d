/** @file Vapi: what the voice platform has told this gateway. */
import { h, icon } from "/static/shared/dom.js";
import { clock, count } from "/static/shared/format.js";

/** @returns {import("/static/admin/api.js").View} */
export function vapi() {
  let before = "";
  const place = h("div", { class: "stack" });

  /** @param {import("/static/admin/api.js").Vapi} vapi */
  function filled({ events, last }) {
    const head = h("tr", {}, ...["Time", "Event", "Call", "Answer"].map((title) => h("th", { scope: "col" }, title)));
    const rows = last.map((event) => h("tr", {}, h("td", { class: "num" }, clock(event.time)), h("td", {}, event.type), h("td", { class: "mono wrap" }, event.call ?? "–"), h("td", { class: "num" }, event.status)));
    return [
      h("dl", { class: "stats card" }, ...Object.entries(events).map(([type, number]) => h("div", {}, h("dt", {}, type), h("dd", { class: "num" }, count(number))))),
      h("div", { class: "card flush" }, h("table", { class: "events stacked", "data-testid": "vapi-events" }, h("thead", {}, head), h("tbody", {}, ...rows))),
    ];
  }

  return {
    draw: (root) => root.append(place),
    update({ vapi: now }) {
      if (JSON.stringify(now) === before) return;
      before = JSON.stringify(now);
      if (!now) place.replaceChildren(nothing("Vapi is not enabled", "Set ", h("code", {}, "vapi.secret"), " in config.yaml to enable it; until then, /vapi/… answers 404."));
      else if (Object.keys(now.events).length) place.replaceChildren(...filled(now));
      else place.replaceChildren(nothing("No calls from Vapi yet", "Its server messages go to /vapi/webhook, its model calls to /vapi/chat/completions."));
    },
  };
}

/**
 * @param {string} why
 * @param {...(string | Node)} more
 */
function nothing(why, ...more) {
  return h("div", { class: "empty card" }, icon("phone"), h("strong", {}, why), ...more);
}
