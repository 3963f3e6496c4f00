// The page's own script: the light and dark switch, which is the browser's business alone.
(() => {
  const KEY = "workbench-theme";
  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage can be switched off; the page then follows the system
    }
  };
  const system = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const apply = (name) => document.body.classList.toggle("dark", name === "dark");
  const settle = () => apply(stored() || system());
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("#wb-theme")) return;
    const next = document.body.classList.contains("dark") ? "light" : "dark";
    try {
      // A choice that agrees with the system is none: the page follows the system again, also when that turns at dusk.
      if (next === system()) localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, next);
    } catch {
      /* the choice then lasts until the page is closed */
    }
    apply(next);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", settle);
  if (document.body) settle();
  else document.addEventListener("DOMContentLoaded", settle);
  // The framework sets its own choice once while it starts; ours is put back when it differs.
  const watch = new MutationObserver(() => {
    const wanted = (stored() || system()) === "dark";
    if (document.body.classList.contains("dark") !== wanted) settle();
  });
  const begin = () => watch.observe(document.body, { attributes: true, attributeFilter: ["class"] });
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
  // The tour's bar stands in the page from its first paint on. Where the last visit ended without it, it is hidden until
  // the server has said again whether it is shown (style sheet: wb-tour-gone), so that the tabs do not jump.
  const TOUR = "workbench-tour";
  try {
    document.documentElement.classList.toggle("wb-tour-gone", localStorage.getItem(TOUR) === "gone");
    addEventListener("pagehide", () => localStorage.setItem(TOUR, document.querySelector("#wb-tour-bar") ? "" : "gone"));
  } catch {
    /* without storage the bar may be seen for a moment */
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button || !navigator.clipboard) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.classList.add("wb-copied");
    setTimeout(() => button.classList.remove("wb-copied"), 1500);
  });
  // Save a text that the page already shows: the browser makes the file, nothing is asked of the server.
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-save]");
    if (!button) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([button.dataset.text], { type: "text/plain;charset=utf-8" }));
    link.download = button.dataset.save;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
  // A menu is open alone, and closes when something else is clicked or Escape is pressed, which leaves the focus at it.
  const closeMenus = (kept) => {
    for (const menu of document.querySelectorAll(".wb-menu[open]")) if (menu !== kept) menu.open = false;
  };
  document.addEventListener("click", (event) => closeMenus(event.target.closest?.(".wb-menu")));
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && event.target.closest?.(".wb-menu[open]");
    if (!menu) return;
    closeMenus();
    menu.querySelector("summary").focus();
  });
  // The framework hears of a text box by keys that write a character: what is deleted, pasted or composed by an input
  // method would not count until the next such key. Every other way in is said to it as a key without a name.
  document.addEventListener("input", (event) => {
    if (event.isComposing || !event.target.matches?.("[data-testid=textbox]")) return;
    event.target.dispatchEvent(new KeyboardEvent("keypress", { bubbles: true }));
  });
  document.addEventListener("compositionend", (event) => {
    if (!event.target.matches?.("[data-testid=textbox]")) return;
    event.target.dispatchEvent(new KeyboardEvent("keypress", { bubbles: true }));
  });
})();
