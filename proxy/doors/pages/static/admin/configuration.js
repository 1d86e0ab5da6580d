/** @file The configuration: whether the file on disk is in force, what is wrong with it, and taking it over now. */
import { h, icon, say } from "/static/shared/dom.js";
import { clock, span } from "/static/shared/format.js";
import { Unreachable, change } from "/static/admin/api.js";

/**
 * @param {() => Promise<void>} refresh asks for the overview at once
 * @returns {import("/static/admin/api.js").View}
 */
export function configuration(refresh) {
  const facts = h("dl", { class: "pairs wide" });
  const state = h("div", { class: "notice", "data-testid": "config-state" });
  const said = h("p", { class: "muted", role: "status", "data-testid": "reload-result" });
  const button = h("button", { type: "button", class: "button main", onclick: reload, "data-testid": "reload" }, icon("retry"), "Reload now");

  async function reload() {
    button.disabled = true;
    try {
      await change("POST", "/admin/reload");
      said.textContent = `Reloaded at ${clock(Date.now())}.`;
    } catch (error) {
      const unknown = error instanceof Unreachable;
      said.textContent = unknown ? `${error.message} It is unknown whether the reload happened.` : "Not reloaded; the last valid configuration stays in force."; // why: in the overview, above
    }
    button.disabled = false;
    await refresh();
  }

  return {
    draw: (root) => root.append(h("section", { class: "card" }, state, facts, h("div", { class: "row" }, said, button))),
    update({ config, version, started, now, configured_default, default_upstream, upstreams, routes }) {
      state.className = config.valid ? "notice" : "notice bad";
      if (config.valid) say(state, `${config.file} is in force as it is on disk. Changes are loaded automatically.`);
      else state.replaceChildren(h("p", {}, `${config.file} has changed but was not loaded: the last valid configuration stays in force.`), h("pre", {}, config.problem ?? ""));
      const written = routes.filter((route) => route.written).length;
      const known = [["File", config.file], ["Version", version], ["Running for", span(now - started)], ["Upstreams", `${upstreams.filter((each) => each.live).length} of ${upstreams.length} switched on`], ["Routes", `${written} written, ${routes.length - written} built in`], ["Default upstream", configured_default === default_upstream ? default_upstream ?? "none" : `${default_upstream} (config.yaml: ${configured_default ?? "none"})`]];
      facts.replaceChildren(...known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    },
  };
}
