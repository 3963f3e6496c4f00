// Everything that the page asks of its server goes through here, and every answer comes back through here.
(() => {
  const API = "/gradio_api/";
  const RUN = API + "run/predict", JOIN = API + "queue/join", NEWS = API + "queue/data";
  const fetched = window.fetch.bind(window);
  const addressOf = (what) => (what instanceof Request ? what.url : String(what));

  // Where the server does not answer, the page says so and takes no clicks, so that none is lost; what was asked waits.
  // When the same server is back, it is asked again; another one knows nothing of this page, which is then loaded anew.
  const ALIVE = "/assets/workbench-alive", LOOK_MS = 1500;
  const server = window.workbenchServer;
  let away = null;
  const alive = () =>
    fetched(ALIVE, { cache: "no-store" }).then((answer) => (answer.ok ? answer.text() : ""), () => "");
  const show = (isAway) => {
    const page = document.querySelector("gradio-app, .gradio-container");
    if (page) page.inert = isAway;
    let banner = document.getElementById("wb-away");
    if (!isAway) return banner?.remove();
    if (banner) return;
    banner = Object.assign(document.createElement("div"), { id: "wb-away", role: "alert" });
    banner.textContent = window.workbenchSay("away");
    document.body.append(banner);
  };
  const back = () =>
    (away ||= (async () => {
      show(true);
      for (;;) {
        const found = await alive();
        if (found && found !== server) {
          location.reload();
          return new Promise(() => {});
        }
        if (found) break;
        await new Promise((done) => setTimeout(done, LOOK_MS));
      }
      show(false);
      away = null;
    })());
  const ask = async (what, options) => {
    for (;;) {
      try {
        return await fetched(what, options);
      } catch (error) {
        const ended = error.name === "AbortError" || leaving || what instanceof Request;
        if (ended || (!away && (await alive()))) throw error;
        await back();
      }
    }
  };
  let leaving = false;
  addEventListener("pagehide", () => (leaving = true));
  addEventListener("pageshow", () => (leaving = false));

  // The echo of a click: what was clicked says at once, in the browser, that it is being worked on, until all that its
  // click has asked for is answered.
  const AT_ONCE_MS = 250, OF_THIS_CLICK_MS = 1500, LONGEST_MS = 30000;
  let clicked = null;
  const settle = (echo) => {
    if (echo.open || performance.now() - echo.at < AT_ONCE_MS) return;
    echo.thing.removeAttribute("data-asking");
  };
  addEventListener("click", (event) => {
    const thing = event.target.closest?.("button, label, [role=tab], [role=option], [data-pick]");
    if (!thing || !event.isTrusted) return;
    // A click on a label is followed by one on its box, which is the same one.
    if (clicked && clicked.thing === thing && performance.now() - clicked.at < 100) return;
    const echo = (clicked = { thing, open: 0, at: performance.now() });
    thing.setAttribute("data-asking", "");
    setTimeout(() => settle(echo), AT_ONCE_MS + 10);
    setTimeout(() => thing.removeAttribute("data-asking"), LONGEST_MS);
  }, true);
  const echoOf = (body, handler) => {
    if (!clicked || (handler && handler.timers.has(body.trigger_id))) return null;
    if (clicked.open === 0 && performance.now() - clicked.at > OF_THIS_CLICK_MS) return null;
    clicked.open += 1;
    clicked.thing.setAttribute("data-asking", "");
    return clicked;
  };
  const heard = (echo) => {
    if (!echo) return;
    echo.open -= 1;
    settle(echo);
  };

  // An older answer never overwrites a newer one. Two handlers that show the same control may be asked at once, and the
  // one that was asked first may be answered last. Each control remembers the number of the question whose answer it
  // shows; what an older answer says of it is left out. Generators speak as they go: theirs are taken as they come.
  const FORM = new Set(["textbox", "number", "dropdown", "radio", "checkbox", "checkboxgroup", "slider"]);
  let asked = 0;
  const shows = new Map(), handed = new Map(), LEFT_OUT = { __type__: "update" };
  let wiring = null;
  const handlerOf = (number) => {
    if (!wiring) {
      const config = window.gradio_config || {};
      const parts = new Map((config.components || []).map((one) => [one.id, one]));
      const states = new Set([...parts.values()].filter((one) => one.type === "state").map((one) => one.id));
      const timers = new Set([...parts.values()].filter((one) => one.type === "timer").map((one) => one.id));
      const tabs = new Map();
      const walk = (node, tab) => {
        const here = parts.get(node.id)?.type === "tabitem" && !tab ? parts.get(node.id).props.id : tab;
        tabs.set(node.id, here);
        (node.children || []).forEach((child) => walk(child, here));
      };
      if (config.layout) walk(config.layout, "");
      wiring = new Map();
      for (const one of config.dependencies || []) {
        const places = one.outputs.map((id) => parts.get(id)).filter((part) => part && part.type === "html");
        const ids = places.map((part) => part.props.elem_id).filter(Boolean);
        const shown = one.outputs.filter((id) => parts.has(id) && !states.has(id));
        const hidden = shown.length > 0 && shown.every((id) => !["", "plan"].includes(tabs.get(id)));
        const fills = one.outputs.filter((id) => FORM.has(parts.get(id)?.type));
        wiring.set(one.id, { ...one, states, timers, ids, hidden, fills });
      }
    }
    return wiring.get(number);
  };
  // An update without a value, such as a label in another language, says nothing of what the control holds.
  const isLeftOut = (value) => value && value.__type__ === "update" && !("value" in value);
  const settled = (number, handler, data) => {
    if (!Array.isArray(data)) return false;
    let changed = false;
    handler.outputs.forEach((control, place) => {
      if (place >= data.length || handler.states.has(control) || isLeftOut(data[place])) return;
      if ((shows.get(control) || 0) <= number) shows.set(control, number);
      else {
        data[place] = LEFT_OUT;
        changed = true;
      }
    });
    return changed;
  };

  // A question is asked of the form as it will be shown: where the answer to an older one is about to fill a control that
  // this one has read, it waits for that answer and takes the value from it. Else a page that opens would be answered
  // for the form as it was before the plan was put into it.
  const SHOWN_WITHIN_MS = 150;
  const filling = new Set();
  const fills = (number, handler) => {
    const one = { number, handler, done: () => {} };
    one.data = new Promise((done) => (one.done = done));
    if (handler && handler.fills.length) filling.add(one);
    return (data) => {
      one.done(data);
      setTimeout(() => filling.delete(one), SHOWN_WITHIN_MS);
    };
  };
  const ofTheForm = async (number, handler, body) => {
    const inputs = (handler && handler.inputs) || [];
    const isTyped = handler && handler.targets.some(([id, event]) => id === body.trigger_id && event === "input");
    // What a person has typed is newer than all that was asked before it.
    if (isTyped) shows.set(body.trigger_id, number);
    for (const one of [...filling]) {
      const places = one.handler.fills.filter((id) => inputs.includes(id) && !(isTyped && id === body.trigger_id));
      if (one.number >= number || !places.length || (one.handler.hidden && !handler.hidden)) continue;
      const data = await one.data;
      for (const control of Array.isArray(data) ? places : []) {
        const said = data[one.handler.outputs.indexOf(control)];
        const isUpdate = said && said.__type__ === "update";
        if (!isUpdate || "value" in said) body.data[inputs.indexOf(control)] = isUpdate ? said.value : said;
      }
    }
    return body;
  };

  // What an answer will renew is marked as busy from the moment when it is asked for: the old answer is of before, and
  // the style sheet greys it. A tick of a timer is nobody's question and marks nothing.
  const busy = new Map();
  const mark = (body, handler, by) => {
    if (!handler || handler.timers.has(body.trigger_id)) return;
    for (const id of handler.ids) {
      busy.set(id, Math.max(0, (busy.get(id) || 0) + by));
      const place = document.getElementById(id);
      if (place && busy.get(id)) place.setAttribute("aria-busy", "true");
      else if (place) place.removeAttribute("aria-busy");
    }
  };

  // The framework asks a handler that keeps the last of many changes only when its question before is answered; two
  // changes at one moment slip through. Here the second waits for its turn.
  const turns = new Map();
  const inTurn = (number, handler, question) => {
    if (!handler || handler.trigger_mode !== "always_last") return question();
    const mine = (turns.get(number) || Promise.resolve()).then(question);
    turns.set(number, mine.catch(() => null));
    return mine;
  };
  // While the page opens, what fills its first view is asked first, and what fills the other tabs waits for it.
  let opened = () => {};
  const isOpen = new Promise((done) => (opened = done));

  // What fills the first view is known before the framework's scripts have come, where the browser has kept nothing of
  // an earlier visit. It is asked at once, and the answer is there when the framework asks for it, word for word.
  const ahead = new Map();
  const askAhead = () => {
    const { components = [], dependencies = [], root = "" } = window.gradio_config || {};
    const kept = components.filter((one) => one.type === "browserstate").map((one) => one.props.storage_key);
    if (kept.some((key) => localStorage.getItem(key) !== null)) return;
    const values = new Map(components.map((one) => [one.id, one.props.value ?? null]));
    const session_hash = (window.workbenchSession = Math.random().toString(36).substring(2));
    const headers = { "content-type": "application/json", "x-gradio-user": "app" };
    for (const { id, targets, inputs, backend_fn, queue } of dependencies) {
      const load = targets.find(([, event]) => event === "load");
      if (!load || !backend_fn || queue || handlerOf(id).hidden) continue;
      const asks = { data: inputs.map((input) => values.get(input)), event_data: null, fn_index: id };
      const body = JSON.stringify({ ...asks, trigger_id: load[0], session_hash });
      ahead.set(id, { body, answer: fetched(root + RUN, { method: "POST", body, headers }).catch(() => null) });
    }
  };
  const answerAhead = (number, body) => {
    const known = ahead.get(number);
    ahead.delete(number);
    return known && known.body === body ? known.answer : null;
  };
  const answered = async (body, question) => {
    const number = ++asked, handler = handlerOf(body.fn_index);
    if (handler && handler.hidden) await isOpen;
    mark(body, handler, 1);
    const echo = echoOf(body, handler), filled = fills(number, handler);
    let answer, text, said;
    try {
      answer = await inTurn(body.fn_index, handler, async () => question(await ofTheForm(number, handler, body)));
      if (!handler || !answer.ok) return answer;
      text = await answer.text();
      said = JSON.parse(text);
    } finally {
      filled(said && said.data);
      // Once the framework has shown what it was told.
      setTimeout(() => mark(body, handler, -1), 50);
      heard(echo);
    }
    const headers = { "content-type": "application/json" };
    const changed = settled(number, handler, said.data);
    return new Response(changed ? JSON.stringify(said) : text, { status: answer.status, headers });
  };

  // What a long handler does comes by short polls and not in a stream: a browser has six connections for a host, and
  // pages that wait would take them from those that are clicked. To the framework it looks like one stream that stays
  // open; it is asked for only after something was handed in, until the server says that nothing more is to come.
  const SOON_MS = 60, LATE_MS = 800;
  let joined = false, wake = () => {};
  const news = (text) =>
    text.split("\n\n").map((line) => {
      if (!line.startsWith("data: ") || !line.includes('"process_completed"')) return line;
      const said = JSON.parse(line.slice(6));
      const question = said.msg === "process_completed" && handed.get(said.event_id);
      if (!question) return line;
      handed.delete(said.event_id);
      heard(question.echo);
      if (question.handler.types.generator) return line;
      const changed = settled(question.number, question.handler, said.output && said.output.data);
      return changed ? "data: " + JSON.stringify(said) : line;
    }).join("\n\n");
  const polled = (url, signal) => {
    let over = false, wait = SOON_MS;
    const end = () => {
      over = true;
      wake();
    };
    signal?.addEventListener("abort", end);
    const next = async (stream) => {
      while (!over) {
        let answer, body;
        joined = false;
        try {
          answer = await ask(url, { signal, cache: "no-store" });
          body = await answer.text();
        } catch (error) {
          if (!over) stream.error(error);
          return;
        }
        if (over) return;
        wait = body.length ? SOON_MS : Math.min(LATE_MS, 2 * wait);
        const more = joined || answer.headers.get("x-workbench-more") === "1";
        if (body.length) stream.enqueue(new TextEncoder().encode(news(body)));
        if (more) await new Promise((done) => setTimeout(done, joined ? 0 : wait));
        else await new Promise((done) => (wake = done));
        if (body.length) return;
      }
      stream.close();
    };
    const body = new ReadableStream({ pull: next, cancel: end }, { highWaterMark: 0 });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };
  const handedIn = async (body, question) => {
    const number = ++asked, handler = handlerOf(body.fn_index);
    if (handler && handler.hidden) await isOpen;
    const echo = echoOf(body, handler), answer = await question(await ofTheForm(number, handler, body));
    if (handler && answer.ok) {
      const said = await answer.clone().json();
      handed.set(said.event_id, { number, handler, echo });
    } else heard(echo);
    joined = true;
    wake();
    return answer;
  };

  window.fetch = async (what, options) => {
    const url = addressOf(what);
    if (!url.includes(API)) return ask(what, options);
    if (url.includes(NEWS)) return polled(url, what instanceof Request ? what.signal : options?.signal);
    const isRun = url.includes(RUN), body = typeof options?.body === "string" ? options.body : "";
    if (!body || !(isRun || url.includes(JOIN))) return ask(what, options);
    return (isRun ? answered : handedIn)(JSON.parse(body), async (asked) => {
      const body = JSON.stringify(asked);
      return (isRun && (await answerAhead(asked.fn_index, body))) || ask(what, { ...options, body });
    });
  };

  // A click on markup that a handler has written acts on what was pressed. Between press and release an answer may come
  // that puts something else under the pointer, or takes the pressed thing away, and the click then tells of another.
  let pressed = null, taken = false;
  const pickOf = (node) => (node.closest ? node.closest("[data-pick]") : null);
  // A remedy belongs to the answer that it stands in: while a newer one is on its way, it is no longer to be had.
  const isOld = (thing) => thing && thing.closest("#wb-remedies[aria-busy]");
  addEventListener("pointerdown", (event) => {
    const { target } = event, thing = event.button || isOld(target) ? null : pickOf(target);
    const shape = thing && thing.getBoundingClientRect();
    pressed = thing && { target, thing, shape, pick: thing.dataset.pick, place: thing.closest("[data-wb-picks]") };
  }, true);
  addEventListener("pointerup", (event) => {
    if (!pressed || !pressed.place || pressed.target.isConnected) return;
    const { shape, place, pick } = pressed, { clientX: x, clientY: y } = event;
    pressed = null;
    if (x < shape.left || x > shape.right || y < shape.top || y > shape.bottom) return;
    taken = true; // a click that some browsers tell of nevertheless
    setTimeout(() => (taken = false), 0);
    place.dispatchEvent(new CustomEvent("wb-pick", { detail: pick }));
  }, true);
  addEventListener("pointercancel", () => (pressed = null), true);
  // What a block of markup asks when it is clicked. A key that clicks a button has pressed nothing.
  window.workbenchPick = (event) => {
    const thing = taken || (isOld(event.target) && !pressed) ? null : pickOf(event.target);
    const known = thing && event.detail && pressed && pressed.thing === thing ? pressed : null;
    pressed = null;
    return known ? known.pick : thing ? thing.dataset.pick : null;
  };

  // The page is shown when what stands in its first view is there, in its language and its place. Until then the style
  // sheet shows a sketch of it: nothing is read in one language and then in another, and nothing jumps.
  const LONGEST_OPENING_MS = 20000, OTHERS_WAIT_MS = 300, root = document.documentElement;
  const FILLED = ["#wb-strip .wb-machine", "#wb-plan-sentence .wb-sentence:not(:empty)"];
  const FIRST_VIEW = ["#wb-strip-row", "#wb-tour-bar", "#tab-plan"].map((one) => `${one} [aria-busy]`).join();
  const opening = setInterval(() => {
    const late = performance.now() > LONGEST_OPENING_MS;
    if (!late && (!FILLED.every((one) => document.querySelector(one)) || document.querySelector(FIRST_VIEW))) return;
    clearInterval(opening);
    // The first view is drawn and can be used before the browser turns to what the other tabs ask.
    addEventListener("pointerdown", opened, { capture: true, once: true });
    addEventListener("keydown", opened, { capture: true, once: true });
    setTimeout(opened, OTHERS_WAIT_MS);
    requestAnimationFrame(() => root.classList.remove("wb-opening"));
  }, 40);
  root.classList.add("wb-opening");
  askAhead();
})();
