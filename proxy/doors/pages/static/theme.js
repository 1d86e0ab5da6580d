// Runs before the first paint, so that a chosen theme does not flash. A classic script: modules would come too late.
try {
  const chosen = localStorage.getItem("sluice.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // the browser keeps nothing for this site
}
