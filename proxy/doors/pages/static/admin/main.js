/** @file The admin page: its views by the address's #name, and the overview that they all draw from. */
import { byId, say } from "/static/shared/dom.js";
import { clock } from "/static/shared/format.js";
import { frame, showSide } from "/static/shared/frame.js";
import { Unreachable, get, newest, said } from "/static/admin/api.js";
import { cache } from "/static/admin/cache.js";
import { calls } from "/static/admin/calls.js";
import { catalogue } from "/static/admin/catalogue.js";
import { configuration } from "/static/admin/configuration.js";
import { keys } from "/static/admin/keys.js";
import { overview } from "/static/admin/overview.js";
import { personas } from "/static/admin/personas.js";
import { routes } from "/static/admin/routes.js";
import { upstreams } from "/static/admin/upstreams.js";
import { vapi } from "/static/admin/vapi.js";

const EVERY = 2000; // milliseconds between two looks; none while the page is hidden

/** @type {Record<string, import("/static/admin/api.js").View>} */
const views = {
  overview: overview(),
  upstreams: upstreams(refresh),
  models: catalogue(),
  personas: personas(),
  keys: keys(),
  routes: routes(),
  calls: calls(),
  cache: cache(refresh),
  vapi: vapi(),
  configuration: configuration(refresh),
};

const look = newest(() => get("/admin/overview"));
let view = views.overview;
/** @type {import("/static/admin/api.js").Overview | null} */
let latest = null;

function show() {
  const name = location.hash.slice(1) in views ? location.hash.slice(1) : "overview";
  const root = byId("view");
  for (const link of document.querySelectorAll(".side nav a")) {
    if (link.getAttribute("href") === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = document.querySelector(`.side nav a[href="#${name}"]`)?.textContent?.trim() ?? name;
  byId("title").textContent = title;
  document.title = `${title} · Sluice`;
  root.replaceChildren();
  root.dataset.view = name;
  view = views[name];
  view.draw(root);
  if (latest) tell(latest);
  showSide(false);
}

async function refresh() {
  try {
    const now = /** @type {import("/static/admin/api.js").Overview | null} */ (await look());
    if (!now) return;
    latest = now;
    byId("trouble").hidden = true;
  } catch (error) {
    trouble(error);
    return;
  }
  tell(latest);
}

/** @param {import("/static/admin/api.js").Overview} now */
async function tell(now) {
  const warning = byId("config-warning");
  warning.hidden = now.config.valid || location.hash === "#configuration";
  byId("version").textContent = now.version;
  byId("logout").hidden = !now.login;
  try {
    await view.update(now);
  } catch (error) {
    trouble(error);
  }
}

/** @param {unknown} error */
function trouble(error) {
  const since = latest && ` The data shown is from ${clock(latest.now * 1000)}.`;
  say(byId("trouble"), error instanceof Unreachable ? `${error.message} Trying again.${since ?? ""}` : said(error));
  byId("trouble").hidden = false;
}

async function poll() {
  if (!document.hidden) await refresh();
  setTimeout(poll, EVERY);
}

frame();
addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
show();
poll();
