/** @file Client keys: what each may and what it used this month, made, changed and revoked; those of config.yaml are only shown. */
import { byId, copy, h, icon, toast, tool } from "/static/shared/dom.js";
import { count, dollars } from "/static/shared/format.js";
import { change, get, newest, said } from "/static/admin/api.js";
import { spent, usage } from "/static/admin/usage.js";

/**
 * @typedef {import("/static/admin/usage.js").Used} Used
 * @typedef {{name: string, hint: string, created: string | null, expires: string | null, live: boolean, reason: string | null, requests_per_minute: number | null, tokens_per_minute: number | null, monthly_budget: number | null, used: Used | null, source: "config" | "store"}} Key
 */

const LIMITS = ["requests_per_minute", "tokens_per_minute", "monthly_budget"];
const FIELDS = ["expires", ...LIMITS];
const TITLES = ["Key", "Calls", "Tokens", "Cost", "Limits", "Actions"];
const EACH = 3; // updates of the page to one look at what was used: it is written down every two seconds

/** @returns {import("/static/admin/api.js").View} */
export function keys() {
  const [dialog, form, given, revoking] = ["key-dialog", "key-form", "key-given", "key-revoking"].map(byId);
  const add = h("button", { type: "button", class: "button main", onclick: () => open(), "data-testid": "new-key" }, icon("plus"), "New key");
  const idle = h("p", { class: "notice warn", hidden: true, "data-testid": "keys-open" }, "Calls need no key: config.yaml has ", h("code", {}, "access.keys: open"), ". Keys are not checked, and limits are not enforced.");
  const rows = h("tbody", {});
  const head = h("tr", {}, ...TITLES.map((title, index) => h("th", { scope: "col", class: index > 0 && index < 4 ? "right" : null }, title === "Actions" ? h("span", { class: "hushed" }, title) : title)));
  const list = h("div", { class: "card flush" }, h("table", { class: "keys stacked" }, h("thead", {}, head), rows));
  const none = h("div", { class: "empty card", hidden: true }, icon("key"), h("strong", {}, "No key yet"), "A key admits one client, with limits of its own, and records its usage.");
  const unknown = h("p", { class: "notice warn", hidden: true }, "What keys used is not known: the store cannot be read.");
  const models = usage();
  const look = newest(() => get("/admin/keys"));
  /** @type {Key | undefined} */
  let chosen; // that is changed or revoked
  let looks = 0;
  let before = "";

  async function fill() {
    const found = await look();
    if (found) show(found.data);
    await models.fill();
  }

  /** @param {Key[]} all */
  function show(all) {
    if (JSON.stringify(all) === before) return;
    before = JSON.stringify(all);
    const held = rows.contains(document.activeElement) ? document.activeElement : null;
    const [of, what] = [held?.closest("tr")?.dataset.key, held?.getAttribute("data-testid")];
    rows.replaceChildren(...all.map(row));
    list.hidden = !all.length;
    none.hidden = all.length > 0;
    unknown.hidden = all.every((key) => key.used);
    if (held) (rows.querySelector(`[data-key="${of}"] [data-testid="${what}"]`) ?? add).focus(); // its row is another now, or gone
  }

  /** @param {Key} key */
  function row(key) {
    const { name, used, source } = key;
    const tools = source === "store" ? [tool("edit", `Change ${name}`, () => open(key), { "data-testid": "change-key" }), tool("trash", `Revoke ${name}`, () => ask(key), { "data-testid": "revoke-key" })] : [h("span", { class: "tag" }, "config.yaml")];
    const about = [h("b", {}, name), " ", h("span", { class: "muted mono hint" }, key.hint), key.reason && h("span", { class: "tag bad" }, key.reason)];
    const cells = [count(used?.calls ?? 0), count((used?.input ?? 0) + (used?.output ?? 0)), cost(key)].map((value, index) => h("td", { class: "num right", "data-name": TITLES[index + 1] }, used ? value : "–"));
    return h("tr", { "data-key": name }, h("td", { class: "wrap" }, ...about), ...cells, h("td", { class: "limits", "data-name": "Limits" }, ...limits(key)), h("td", { class: "right" }, ...tools));
  }

  /** @param {Key} [key] */
  function open(key) {
    chosen = key;
    form.reset();
    byId("key-problem").hidden = true;
    byId("key-title").textContent = key ? `Change ${key.name}` : "New key";
    byId("key-name").value = key?.name ?? "";
    byId("key-name").readOnly = key !== undefined;
    for (const field of FIELDS) byId(`key-${field}`).value = shown(field, key);
    dialog.showModal();
  }

  /** @param {Event} event */
  async function keep(event) {
    event.preventDefault();
    const fields = Object.fromEntries(FIELDS.filter((field) => byId(`key-${field}`).value !== shown(field, chosen)).map((field) => [field, read(field)]));
    try {
      const answer = await (chosen ? change("PATCH", `/admin/keys/${encodeURIComponent(chosen.name)}`, fields) : change("POST", "/admin/keys", { name: byId("key-name").value.trim(), ...fields }));
      dialog.close();
      if (chosen) toast(`${chosen.name} was changed.`);
      else hand(answer);
      await fill();
    } catch (error) {
      byId("key-problem").textContent = said(error);
      byId("key-problem").hidden = false;
    }
  }

  /** The only time that a key is seen. @param {{name: string, key: string}} made */
  function hand({ name, key }) {
    byId("given-title").textContent = `The key of ${name}`;
    byId("given-key").value = key;
    given.showModal();
    byId("given-key").select();
    byId("given-key").scrollLeft = 0; // its beginning is seen
  }

  /** @param {Key} key */
  function ask(key) {
    chosen = key;
    byId("revoking-title").textContent = `Revoke ${key.name}?`;
    byId("revoking-problem").hidden = true;
    revoking.showModal();
  }

  /** @param {Event} event */
  async function revoke(event) {
    event.preventDefault();
    try {
      await change("DELETE", `/admin/keys/${encodeURIComponent(chosen?.name ?? "")}`);
      revoking.close(); // the button that opened it has the focus again
      toast(`${chosen?.name} was revoked.`);
      await fill();
    } catch (error) {
      byId("revoking-problem").textContent = said(error);
      byId("revoking-problem").hidden = false;
    }
  }

  form.addEventListener("submit", keep);
  byId("revoking-form").addEventListener("submit", revoke);
  for (const [button, what] of [["key-cancel", dialog], ["given-done", given], ["revoking-cancel", revoking]]) byId(button).addEventListener("click", () => what.close());
  byId("given-copy").addEventListener("click", (/** @type {any} */ event) => copy(event.currentTarget, byId("given-key").value));
  given.addEventListener("close", () => (byId("given-key").value = "")); // it is in no page that is left open
  return {
    draw(root) {
      root.append(h("div", { class: "row" }, h("p", { class: "muted" }, "Limits of each client, and its usage this month (UTC)."), add), idle, unknown, list, none, models.node);
      looks = 0;
      before = "";
    },
    async update(overview) {
      idle.hidden = overview.keys !== "open";
      if (looks++ % EACH === 0) await fill();
    },
  };
}

/** @param {string} field @param {Key} [key] */
function shown(field, key) {
  const value = key?.[/** @type {"expires"} */ (field)];
  return value === null || value === undefined ? "" : String(value).slice(0, field === "expires" ? 10 : undefined);
}

/** @param {string} field */
function read(field) {
  const value = byId(`key-${field}`).value.trim();
  return value === "" ? null : field === "expires" ? value : Number(value);
}

/** @param {Key} key */
function cost({ used }) {
  return used && spent(used);
}

/** @param {Key} key */
function limits(key) {
  const said = [key.requests_per_minute && `${count(key.requests_per_minute)} calls/min`, key.tokens_per_minute && `${count(key.tokens_per_minute)} tokens/min`, key.monthly_budget && `${dollars(key.monthly_budget)}/month`, key.expires && `until ${key.expires.slice(0, 16).replace("T00:00", "").replace("T", " ")}`].filter(Boolean);
  return said.length ? said.map((text) => h("span", { class: "tag" }, text)) : [h("span", { class: "muted" }, "none")];
}
