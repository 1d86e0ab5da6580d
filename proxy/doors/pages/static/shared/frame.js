/** @file What both pages share: the theme switch, and the side column on narrow screens. */
import { byId } from "/static/shared/dom.js";
import { local } from "/static/shared/storage.js";

/** Wires the buttons of the frame. */
export function frame() {
  byId("theme").addEventListener("click", () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const now = document.documentElement.dataset.theme ?? system;
    const next = now === "dark" ? "light" : "dark";
    if (next === system) {
      delete document.documentElement.dataset.theme;
      local.removeItem("sluice.theme");
    } else {
      document.documentElement.dataset.theme = next;
      local.setItem("sluice.theme", next);
    }
    document.dispatchEvent(new Event("themechange"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
  byId("open-side").addEventListener("click", () => {
    showSide(true);
    byId("side").querySelector("a, button")?.focus();
  });
  byId("veil").addEventListener("click", () => showSide(false));
  addEventListener("keydown", (event) => event.key === "Escape" && showSide(false));
  matchMedia("(max-width: 760px)").addEventListener("change", () => showSide(false)); // a phone that is turned
}

/** Opens or closes the side column on narrow screens; while it is open it has the keyboard alone. @param {boolean} open */
export function showSide(open) {
  const held = !open && document.body.classList.contains("side-open") && byId("side").contains(document.activeElement);
  document.body.classList.toggle("side-open", open);
  byId("open-side").setAttribute("aria-expanded", String(open));
  byId("main").inert = open; // it is behind the veil
  if (held) byId("open-side").focus();
}
