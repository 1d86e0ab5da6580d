/** @file Upstreams: which are live, which answer, why not, and which is the default. */
import { h, say, toast } from "/static/shared/dom.js";
import { plural, span } from "/static/shared/format.js";
import { change, get, said } from "/static/admin/api.js";

/** @typedef {import("/static/admin/api.js").Overview} Overview */
/** @typedef {import("/static/admin/api.js").Upstream} Upstream */

const CATALOGUES = /** @type {Record<string, string>} */ ({ fixed: "listed in config.yaml", fetched: "fetched from the upstream", unknown: "not known yet", off: "off" });

/**
 * An upstream's name with its state, as every view shows it.
 * @param {Upstream} upstream
 * @param {Overview} overview
 */
export function standing(upstream, overview) {
  const state = !upstream.live ? "off" : !upstream.healthy ? "bad" : "good";
  const word = { off: "switched off", bad: "does not answer", good: "answers" }[state];
  return [
    h("span", { class: `dot ${state}`, role: "img", "aria-label": word }),
    h("b", {}, upstream.name),
    upstream.name === overview.default_upstream && h("span", { class: "tag accent" }, "default"),
    h("span", { class: "muted reason" }, upstream.reason ?? (upstream.breakers.length ? `${plural(upstream.breakers.length, "model")} paused` : "")),
  ];
}

/**
 * @param {() => Promise<void>} refresh asks for the overview at once
 * @returns {import("/static/admin/api.js").View}
 */
export function upstreams(refresh) {
  const line = h("p", { tabindex: -1 });
  const back = h("button", { type: "button", class: "button", hidden: true, onclick: () => choose(null), "data-testid": "default-back" });
  const list = h("div", { class: "cards" });
  /** @type {Map<string, {node: HTMLElement, update: (upstream: Upstream, overview: Overview) => void}>} */
  const cards = new Map();

  /** @param {string | null} name */
  async function choose(name) {
    const pressed = /** @type {HTMLElement} */ (document.activeElement);
    try {
      await change("PUT", "/admin/provider-settings", { default_upstream: name });
      const { default_upstream: now } = await get("/admin/provider-settings");
      toast(`Default upstream: ${now ?? "none"}`);
    } catch (error) {
      toast(said(error));
    }
    await refresh();
    if (pressed.hidden && [pressed, document.body].includes(/** @type {HTMLElement} */ (document.activeElement))) line.focus(); // the keyboard was there
  }

  /** @param {Overview} overview */
  function update(overview) {
    line.replaceChildren("Models that no route matches go to ", h("b", { "data-testid": "default-upstream" }, overview.default_upstream ?? "no upstream"), ".");
    back.hidden = overview.configured_default === null || overview.default_upstream === overview.configured_default;
    say(back, `Reset to ${overview.configured_default}, as in config.yaml`);
    for (const upstream of overview.upstreams) {
      const card = cards.get(upstream.name) ?? made(upstream.name);
      card.update(upstream, overview);
      if (!card.node.isConnected) list.append(card.node);
    }
    const names = new Set(overview.upstreams.map((upstream) => upstream.name));
    for (const [name, card] of cards) if (!names.has(name)) (card.node.remove(), cards.delete(name));
  }

  /** @param {string} name */
  function made(name) {
    const head = h("h2", { class: "standing" });
    const facts = h("dl", { class: "pairs" });
    const breakers = h("div", {});
    const button = h("button", { type: "button", class: "button", onclick: () => choose(name), "aria-label": `Make default: ${name}`, "data-testid": "make-default" }, "Make default");
    const node = h("section", { class: "card", "data-upstream": name }, head, facts, breakers, button);
    const card = {
      node,
      /** @type {(upstream: Upstream, overview: Overview) => void} */
      update(upstream, overview) {
        head.replaceChildren(...standing({ ...upstream, reason: null, breakers: [] }, overview).filter(Boolean));
        facts.replaceChildren(...pairs(upstream));
        breakers.replaceChildren(...upstream.breakers.map(breaker));
        button.hidden = upstream.name === overview.default_upstream;
        button.disabled = !upstream.live;
      },
    };
    cards.set(name, card);
    return card;
  }

  return { draw: (root) => root.append(h("div", { class: "row" }, line, back), list), update };
}

/** @param {Upstream} upstream */
function pairs(upstream) {
  const known = [
    ["Why not", upstream.reason],
    ["Provider", upstream.provider],
    ["Models", upstream.live ? `${upstream.models}, ${CATALOGUES[upstream.catalog] ?? upstream.catalog}` : null],
    ["In flight", upstream.live ? upstream.in_flight : null],
  ];
  return known.filter(([, value]) => value !== null).map(([name, value]) => h("div", { class: name === "Why not" ? "why" : null }, h("dt", {}, name), h("dd", { class: "num" }, value)));
}

/** @param {Upstream["breakers"][number]} breaker */
function breaker({ model, cause, retry_in }) {
  const again = retry_in > 0 ? `The first call after ${span(retry_in)} tries it again.` : "The next call tries it again.";
  return h("p", { class: "notice warn" }, `${model || "All models"} paused. ${cause ?? ""} ${again}`);
}
