/** @file Asks for a client key where the gateway wants one; it stays in this tab. */
import { byId } from "/static/shared/dom.js";
import { Refused, keepKey } from "/static/chat/asking.js";

/**
 * Does it, and asks for the client key where the gateway wants one.
 * @template T
 * @param {() => Promise<T>} act
 * @returns {Promise<T>}
 */
export async function retrying(act) {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      const locked = error instanceof Refused && error.status === 401 && error.failure.code === "invalid_api_key";
      if (!locked || !(await askForKey(error.message))) throw error;
    }
  }
}

/** @type {Promise<boolean> | null} */
let asking = null; // two columns ask once

/** @param {string} why */
function askForKey(why) {
  byId("key-problem").textContent = why;
  const dialog = byId("key-dialog");
  byId("key-cancel").onclick = () => dialog.close("");
  asking ??= new Promise((answered) => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      asking = null;
      const key = byId("key").value.trim();
      if (dialog.returnValue === "keep" && key) keepKey(key);
      byId("key").value = "";
      answered(dialog.returnValue === "keep" && key !== "");
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
