/** @file The login form: says what is wrong with a token in place, where the plain form would show JSON. */
import { byId } from "/static/shared/dom.js";

byId("login").addEventListener("submit", async (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const problem = byId("problem");
  try {
    const response = await fetch("/admin/login", { method: "POST", body: new URLSearchParams({ token: byId("token").value }), redirect: "manual" });
    if (response.type === "opaqueredirect") return location.assign(`/admin${location.hash}`);
    const { error } = await response.json().catch(() => ({ error: null }));
    problem.textContent = error?.message ?? `The gateway answered with status ${response.status}.`;
  } catch {
    problem.textContent = "The gateway cannot be reached.";
  }
  problem.hidden = false;
  byId("token").select();
});
