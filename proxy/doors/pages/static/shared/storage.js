/** @file Where the pages keep things: in the browser, or where that is blocked in memory, until the page is left. */

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Kept */

/**
 * @param {"localStorage" | "sessionStorage"} name
 * @returns {Storage | null} null: blocked, for this site or for all
 */
function given(name) {
  try {
    return globalThis[name];
  } catch {
    return null;
  }
}

/** @returns {Kept} */
function memory() {
  const kept = new Map();
  return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value), removeItem: (key) => void kept.delete(key) };
}

export const lasts = given("localStorage") !== null;
export const local = given("localStorage") ?? memory();
export const session = given("sessionStorage") ?? memory();
