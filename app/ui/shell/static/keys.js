// The keyboard: tabs by arrow keys, the composer, a list of shortcuts, and one field that finds everything.
(() => {
  const TABS = ["plan", "data", "train", "playground", "export"];
  const say = window.workbenchSay;
  const visible = (element) => element?.checkVisibility?.() ?? !!element?.offsetParent;
  const tab = (name) => document.getElementById(`tab-${name}-button`);

  // Only the chosen tab of a list is reached by Tab; the arrow keys go on from there.
  const rove = () => document.querySelectorAll("[role=tablist]:not([aria-hidden]) > [role=tab]").forEach((one) => {
    const wanted = one.getAttribute("aria-selected") === "true" ? "0" : "-1";
    if (one.getAttribute("tabindex") !== wanted) one.setAttribute("tabindex", wanted);
  });
  // What the framework says of its own controls it says in English alone.
  const OWN = [
    [/^Click to upload or drop files$/, "own_upload"], [/^Reset to default value$/, "own_reset"],
    [/^number input for (.*)$/, "own_number"], [/^range slider for (.*)$/, "own_range"],
    [/^Download$/, "own_download"], [/^Copy$/, "own_copy"], [/^Fold line$/, "own_fold"],
    [/^Unfold line$/, "own_unfold"], [/^Code input container$/, "own_code"], [/^Clear$/, "own_clear"],
    [/^Remove this file$/, "own_remove_file"], [/^Close$/, "own_close"], [/^Loading$/, "own_loading"],
    [/^Empty value$/, "own_empty"],
  ];
  const own = new WeakMap();
  const translate = (one) => {
    for (const place of ["aria-label", "title"]) {
      const said = one.getAttribute(place), before = own.get(one)?.[place];
      const english = before && before.shown === said ? before.english : said;
      const form = english && OWN.find(([pattern]) => pattern.test(english));
      if (!form) continue;
      const wanted = english.replace(form[0], say(form[1]));
      own.set(one, { ...own.get(one), [place]: { english, shown: wanted } });
      if (said !== wanted) one.setAttribute(place, wanted);
    }
    // It names its empty boxes, too, and gives them no role that can have a name.
    if (one.matches("div.empty[aria-label]:not([role])")) one.setAttribute("role", "img");
  };
  const NAMED = ".gradio-container :is([aria-label], [title])";
  const within = (place) => {
    if (place.matches?.(NAMED)) translate(place);
    place.querySelectorAll?.(NAMED).forEach(translate);
  };
  // As soon as a control stands in the page, before it is drawn, however late it comes; all of them at another language.
  new MutationObserver((changes) => changes.forEach(({ type, target, attributeName, addedNodes }) => {
    if (type === "childList") addedNodes.forEach(within);
    else within(attributeName === "lang" ? document : target);
  })).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-label", "title", "lang"] });
  // What was in the hand when a button led to another tab is gone with its tab: the hand is then on the tab itself.
  const keep = () => {
    const now = document.activeElement;
    if (now && now !== document.body && visible(now)) return;
    if (now === document.body && !lost) return;
    lost = false;
    document.querySelector("#wb-tabs > .tab-wrapper [aria-selected=true]")?.focus({ preventScroll: true });
  };
  let lost = false;
  document.addEventListener("focusout", (event) => (lost = !!event.target.closest?.("[role=tabpanel]")), true);
  document.addEventListener("focusin", () => (lost = false), true);
  document.addEventListener("pointerdown", () => (lost = false), true);
  new MutationObserver(() => (rove(), setTimeout(keep, 60)))
    .observe(document.documentElement, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
  document.addEventListener("DOMContentLoaded", () => setTimeout(rove, 1500));

  const among = (event) => {
    const list = [...event.target.parentElement.querySelectorAll(":scope > [role=tab]")], at = list.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: list.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = list[(to + list.length) % list.length];
    next.click();
    next.focus();
  };

  // Enter sends the question, Shift+Enter breaks the line; an input method's Enter chooses a word and sends nothing.
  const compose = (event) => {
    if (event.key !== "Enter" || event.isComposing || !event.target.closest?.("#wb-prompt")) return false;
    event.stopImmediatePropagation();
    if (event.shiftKey || event.type === "keypress") return true;
    event.preventDefault();
    document.getElementById("wb-ask")?.click();
    return true;
  };

  // Go to a tab, to a control wherever it is folded away, or press a control that an empty place names.
  const reach = (id) => {
    const place = document.getElementById(id);
    if (!place) return false;
    for (let fold = place.closest(".block:has(> .label-wrap)"); fold; fold = fold.parentElement.closest(".block:has(> .label-wrap)"))
      if (!fold.querySelector(":scope > .label-wrap.open")) fold.querySelector(":scope > .label-wrap").click();
    const field = place.matches("button") ? place : place.querySelector("input:not([type=hidden]), textarea, button, select");
    const focus = (tries) => {
      place.scrollIntoView({ block: "center" });
      field?.focus({ preventScroll: true });
      if (field && document.activeElement !== field && tries) setTimeout(focus, 100, tries - 1);
    };
    setTimeout(focus, 60, 20);
    return true;
  };
  // What is folded away is not in the page before its fold has been opened once: the folds around it are opened first.
  const go = (name, id, folds = [], tries = 30) => {
    if (name && tab(name)?.getAttribute("aria-selected") !== "true") tab(name)?.click();
    folds.forEach((fold) => document.querySelector(`#${fold} > .label-wrap:not(.open)`)?.click());
    if (id && !reach(id) && tries) setTimeout(() => go("", id, folds, tries - 1), 100);
  };
  document.addEventListener("click", (event) => {
    const way = event.target.closest?.("[data-go]")?.dataset.go;
    if (!way) return;
    event.preventDefault();
    if (way === "main") document.querySelector("#wb-tabs > .tab-wrapper [aria-selected=true]")?.focus();
    else if (way.startsWith("tab:")) go(way.slice(4));
    else document.querySelector(way)?.click();
  });

  // Everything that has a name: tabs, buttons and fields as the page was described, runs and models.
  const described = () => {
    const config = window.gradio_config, by = new Map(), found = [];
    for (const one of config?.components || []) by.set(one.id, one);
    const words = (one) => {
      const shown = document.getElementById(one.props.elem_id);
      const live = shown?.matches("button") ? shown.textContent : shown?.querySelector("[data-testid=block-info], .label-wrap span, label > span")?.textContent;
      const first = one.type === "button" ? one.props.value : one.props.label;
      return [live?.trim() || first, first, one.props.elem_id];
    };
    const walk = (node, at, folds = []) => {
      const one = by.get(node.id);
      if (one?.type === "accordion" && one.props.elem_id) folds = [...folds, one.props.elem_id];
      if (one?.type === "tabitem" && TABS.includes(one.props.id)) at = one.props.id;
      if (one?.props.elem_id && one.props.visible !== false && (one.type === "button" ? one.props.value : one.props.label)) {
        const [text, ...others] = words(one);
        const kind = one.type === "button" ? say("action") : say("setting");
        if (one.type !== "tabitem" && typeof text === "string") found.push({ text, others, kind, run: () => go(at, one.props.elem_id, folds) });
      }
      if (one?.props.elem_id === "wb-model")
        for (const [text, value] of one.props.choices || [])
          found.push({ text: document.documentElement.lang.startsWith("en") ? text : value, others: [text, value], kind: say("model"), run: () => model(value) });
      (node.children || []).forEach((child) => walk(child, at, folds));
    };
    if (config?.layout) walk(config.layout, "");
    return found;
  };
  const model = (value) => {
    go("plan", "wb-model");
    setTimeout(() => {
      const field = document.querySelector("#wb-model input");
      if (!field) return;
      Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(field, value);
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
    }, 250);
  };
  const things = () => [
    ...TABS.map((name) => ({ text: tab(name)?.textContent.trim() || name, others: [name], kind: say("view"), run: () => go(name) })),
    ...[...document.querySelectorAll("#wb-steps [data-run]")].map((one) => ({
      text: one.textContent, others: [one.dataset.run], kind: say("run"),
      run: () => (location.hash = `#/train/${one.dataset.run}`),
    })),
    ...described(),
  ];

  const make = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const dialog = (id, label, ...children) => {
    document.getElementById(id)?.remove();
    const box = make("dialog", { id, className: "wb-dialog" }, ...children);
    box.setAttribute("aria-label", label);
    box.addEventListener("click", (event) => event.target === box && box.close());
    box.addEventListener("close", () => box.remove());
    (document.querySelector(".gradio-container") || document.body).append(box);
    box.showModal();
    return box;
  };

  const find = () => {
    const label = say("find");
    const field = make("input", { type: "text", placeholder: label, autocomplete: "off", spellcheck: false });
    const list = make("ul", { id: "wb-found" });
    const given = { role: "combobox", "aria-label": label, "aria-expanded": "true", "aria-controls": "wb-found", "aria-autocomplete": "list" };
    Object.entries(given).forEach(([name, value]) => field.setAttribute(name, value));
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", label);
    const all = things(), box = dialog("wb-palette", label, field, list);
    let shown = [], at = 0;
    const mark = () => [...list.children].forEach((one, place) => {
      one.setAttribute("aria-selected", String(place === at));
      if (place === at) {
        field.setAttribute("aria-activedescendant", one.id);
        one.scrollIntoView({ block: "nearest" });
      }
    });
    const choose = (place) => {
      const chosen = shown[place];
      if (!chosen) return;
      box.close();
      chosen.run();
    };
    const fill = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      const score = (one) => {
        const text = [one.text, ...one.others, one.kind].join(" ").toLowerCase();
        if (!words.every((word) => text.includes(word))) return -1;
        return one.text.toLowerCase().startsWith(words[0] || "") ? 2 : 1;
      };
      shown = all.map((one) => [score(one), one]).filter(([worth]) => worth > 0)
        .sort((a, b) => b[0] - a[0]).slice(0, 40).map(([, one]) => one);
      at = 0;
      list.replaceChildren(...shown.map((one, place) => {
        const row = make("li", { id: `wb-found-${place}` }, make("span", { textContent: one.text }), make("span", { className: "wb-muted", textContent: one.kind }));
        row.setAttribute("role", "option");
        row.addEventListener("click", () => choose(place));
        return row;
      }));
      if (shown.length) return mark();
      field.removeAttribute("aria-activedescendant");
      const none = make("li", { className: "wb-muted", textContent: say("found_nothing") });
      none.setAttribute("role", "option");
      none.setAttribute("aria-disabled", "true");
      list.append(none);
    };
    field.addEventListener("input", fill);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") (event.preventDefault(), choose(at));
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step || !shown.length) return;
      event.preventDefault();
      at = (at + step + shown.length) % shown.length;
      mark();
    });
    fill();
    field.focus();
  };

  const help = () => {
    const rows = [
      ["Ctrl K", say("find")],
      ["1 … 5", say("open_tabs")],
      ["← →", say("next_tab")],
      ["Enter", say("send")],
      ["Esc", say("close")],
      ["?", say("this_list")],
    ];
    const title = say("keyboard");
    const close = make("button", { type: "button", className: "wb-small", textContent: say("close") });
    const listed = rows.map(([key, text]) => make("div", {}, make("dt", {}, make("kbd", { textContent: key })), make("dd", { textContent: text })));
    const box = dialog("wb-help", title, make("h2", { textContent: title }), make("dl", {}, ...listed), close);
    close.addEventListener("click", () => box.close());
    close.focus();
  };

  document.addEventListener("keypress", compose, true); // the framework would send at Shift+Enter
  document.addEventListener("keydown", (event) => {
    if (compose(event)) return;
    if (event.target.matches?.("[role=tab]")) among(event);
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") return event.preventDefault(), find();
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.matches?.("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]")) return;
    if (event.key === "?") return event.preventDefault(), help();
    if (/^[1-5]$/.test(event.key)) go(TABS[event.key - 1]);
  }, true);
  document.addEventListener("click", (event) => event.target.closest?.("#wb-find") && find());

  // The newest turn is brought into sight when it is asked, once; who scrolls back is left alone.
  let turns = 0;
  const newest = () => {
    const now = document.querySelectorAll("#wb-answers .wb-asked").length;
    if (now > turns) document.querySelector("#wb-answers .wb-chat > div:nth-last-child(2)")?.scrollIntoView({ block: "start" });
    turns = now;
  };
  const watch = () => {
    const place = document.getElementById("wb-answers");
    if (!place) return setTimeout(watch, 600);
    new MutationObserver(newest).observe(place, { childList: true, subtree: true });
  };
  watch();
})();
