// The frame around the tabs: their marks as steps of one way, and the address that says where one is.
(() => {
  const TABS = ["plan", "data", "train", "playground", "export"];
  const button = (name) => document.getElementById(`tab-${name}-button`);
  const shown = () => TABS.find((name) => button(name)?.getAttribute("aria-selected") === "true") || "";

  // Hang the marks that the server has written on the framework's own tabs. Attributes are left alone by the framework;
  // they are set again when it draws a tab anew.
  const set = (element, name, value) => element.getAttribute(name) === value || element.setAttribute(name, value);
  const mark = () => {
    document.querySelectorAll("#wb-steps [data-step]").forEach((step) => {
      const tab = button(step.dataset.step);
      if (!tab) return;
      const stale = step.dataset.step === "plan" && document.querySelector("#wb-plan-sentence [data-differs]");
      set(tab, "data-mark", stale && step.dataset.mark === "done" ? "stale" : step.dataset.mark);
      set(tab, "data-note", step.textContent);
      set(tab, "aria-description", `${step.dataset.said}. ${step.textContent}`);
    });
  };

  // The address: #/tab, and #/train/RUN for the run that is shown. `asked` is where the address wants to be until the
  // page is there, so that what the page shows on its way is not taken for a choice of the person.
  let asked = "";
  const run = () => (shown() === "train" && document.querySelector("#wb-run [data-run]")?.dataset.run) || "";
  const here = () => `#/${shown()}${run() ? "/" + run() : ""}`;
  const parts = (hash) => /^#\/(\w+)(?:\/([a-z0-9-]+))?$/.exec(hash) || [];
  const follow = () => {
    const [, name, id] = parts(location.hash);
    if (!TABS.includes(name) || !button(name)) return;
    asked = location.hash;
    if (shown() !== name) button(name).click();
    if (name === "train" && id && run() !== id) pick(id);
    setTimeout(() => (asked = ""), 4000);
  };
  // Every block of cards takes a click on an element with data-pick; this one is made and clicked at once.
  const pick = (id, tries = 40) => {
    const list = document.querySelector("#wb-runs .prose");
    if (!list) return tries && setTimeout(() => pick(id, tries - 1), 150);
    const link = Object.assign(document.createElement("a"), { hidden: true });
    link.dataset.pick = `show:${id}`;
    list.append(link);
    link.click();
    link.remove();
  };
  const note = () => {
    const now = here(), tab = shown();
    if (!tab) return;
    if (asked) {
      const [, name, id] = parts(asked);
      if (tab !== name || (id && run() !== id)) return;
      asked = "";
    }
    if (now === location.hash || (now === "#/plan" && !location.hash)) return;
    // A run that shows itself, and a tab that gets its run, is the same place; another tab or run is a step that Back takes back.
    const [, name, id] = parts(location.hash);
    const step = name !== tab && !(!location.hash && tab === "plan");
    history[step || (id && run()) ? "pushState" : "replaceState"](null, "", now);
    title();
  };

  // The title of the browser's tab says how far a job is; that it has ended it says until somebody has looked, and so
  // does a notice of the system, where the person allows it: it is asked for once, at the first click on Start.
  let going = "", ended = "";
  const title = () => {
    const tab = shown(), job = document.querySelector("#wb-strip [data-notice]");
    const far = job?.querySelector("[role=meter]")?.getAttribute("aria-valuenow");
    const before = ended ? `✓ ${ended} · ` : job ? `${far ? far + " % · " : ""}${job.dataset.notice} · ` : "";
    const now = `${before}${tab ? button(tab).textContent.trim() + " · " : ""}LoRA Workbench`;
    if (document.title !== now) document.title = now;
  };
  const end = (name) => {
    const how = document.querySelector("#wb-steps [data-step=train]")?.textContent || name;
    if (document.visibilityState === "visible" && document.hasFocus()) return;
    ended = name;
    title();
    if (!("Notification" in window) || Notification.permission !== "granted") return;
    const notice = new Notification(window.workbenchSay("ended").replace("{name}", () => name), { body: how, tag: name, icon: "/favicon.ico" });
    notice.onclick = () => (window.focus(), notice.close());
  };
  const strip = () => {
    const job = document.querySelector("#wb-strip [data-notice]")?.dataset.notice || "";
    if (going && going !== job) setTimeout(end, 1500, going);
    going = job;
    title();
  };
  const looked = () => {
    if (document.visibilityState !== "visible" || !ended) return;
    ended = "";
    title();
  };
  addEventListener("focus", looked);
  document.addEventListener("visibilitychange", looked);
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("#wb-start, #wb-queue") || !("Notification" in window)) return;
    if (Notification.permission === "default") Notification.requestPermission().catch(() => {});
  });
  addEventListener("popstate", follow);
  addEventListener("hashchange", follow);

  let waiting = false;
  const later = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      mark();
      note();
    });
  };
  const begin = () => {
    const tabs = document.querySelector("#wb-tabs > .tab-wrapper"), steps = document.getElementById("wb-steps");
    if (!tabs || !steps || !button("plan")) return setTimeout(begin, 50);
    const watch = new MutationObserver(later);
    // The framework changes what stands in a block in place: texts and attributes, not only elements.
    const all = { childList: true, subtree: true, attributes: true, characterData: true };
    watch.observe(tabs, { childList: true, subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
    watch.observe(steps, all);
    const bar = document.getElementById("wb-strip");
    if (bar) new MutationObserver(strip).observe(bar, all);
    strip();
    const sentence = document.getElementById("wb-plan-sentence");
    if (sentence) watch.observe(sentence, all);
    // The panel of the run is made when its tab is first opened.
    const runs = () => {
      const head = document.getElementById("wb-run");
      if (!head) return setTimeout(runs, 400);
      watch.observe(head, all);
      later();
    };
    runs();
    follow();
    later();
  };
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
