"""Late answers, and things that change under the pointer: what was asked last is shown, what was pressed counts.

The server's answers are held back in the browser, below the page's own scripts, so that each order can be had at will.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import Watch
from tests.ui.running_page import RunningPage

# Holds back the answers to questions that `hold` says yes to, until `release` is called with their number.
_HELD = """(() => {
  const ask = window.fetch.bind(window), waiting = [];
  window.held = { hold: () => false, asked: [], waiting, release: (number) => waiting[number]() };
  window.fetch = async (what, options) => {
    const url = String(what.url || what), question = url.includes('/run/predict') && JSON.parse(options.body);
    const holds = question && window.held.hold(question);
    if (question) window.held.asked.push(question.fn_index);
    const answer = await ask(what, options);
    if (holds) await new Promise((go) => waiting.push(go));
    return answer;
  };
})()"""
_SHOWS_PLAN = """() => { window.showsPlan = (question) => {
  const sentence = gradio_config.components.find((one) => one.props.elem_id === 'wb-plan-sentence').id;
  return gradio_config.dependencies.find((one) => one.id === question.fn_index).outputs.includes(sentence);
}; }"""


@pytest.fixture
def page(served: RunningPage, browser: Browser) -> Iterator[Page]:
    """The Plan tab of a fresh profile, with a model that is too large for most cards."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US")
    context.add_init_script(_HELD)
    page = context.new_page()
    page.set_default_timeout(60_000)
    watch = Watch(served.address, served.log)
    watch.follow(page)
    page.goto(served.url)
    page.wait_for_selector("#wb-plan-sentence .wb-sentence:not(:empty)")
    page.evaluate(_SHOWS_PLAN)
    yield page
    watch.check()
    context.close()


def _sentence(page: Page) -> str:
    return page.inner_text("#wb-plan-sentence")


def _preset_of_24_gb(page: Page) -> None:
    page.click("#wb-presets label:has-text('24 GB') >> nth=0")
    page.wait_for_function("document.querySelector('#wb-plan-sentence').innerText.includes('23.2 GB')")


def test_an_older_answer_never_overwrites_a_newer_one(page: Page) -> None:
    page.evaluate("() => { held.hold = window.showsPlan; }")
    page.click("#wb-card label:has-text('8 GB')")
    page.wait_for_function("held.waiting.length === 1")
    page.evaluate("() => { held.hold = () => false; }")
    _preset_of_24_gb(page)
    newer = _sentence(page)
    page.evaluate("held.release(0)")
    page.wait_for_timeout(700)
    assert _sentence(page) == newer
    # What nobody has answered since is shown however late it comes.
    page.evaluate("() => { held.hold = window.showsPlan; }")
    page.click("#wb-card label:has-text('8 GB')")
    page.wait_for_function("held.waiting.length === 2")
    page.evaluate("held.release(1)")
    page.wait_for_function("document.querySelector('#wb-plan-sentence').innerText.includes('7.2 GB')")


def test_of_two_changes_at_one_moment_the_second_is_asked_when_the_first_is_answered(page: Page) -> None:
    number = page.evaluate(
        "gradio_config.dependencies.find((one) => one.trigger_mode === 'always_last' && one.outputs"
        ".length > 5 && !one.queue && one.targets.some(([_, event]) => event === 'input')).id"
    )
    page.evaluate(
        """(fn_index) => {
      const one = gradio_config.dependencies.find((one) => one.id === fn_index);
      const data = one.inputs.map((id) => gradio_config.components.find((each) => each.id === id).props.value ?? null);
      const body = JSON.stringify({ fn_index, data, session_hash: 'twice' });
      held.hold = (question) => question.session_hash === 'twice';
      held.asked.length = 0;
      const headers = { 'content-type': 'application/json' };
      const question = () => fetch('/gradio_api/run/predict', { method: 'POST', body, headers });
      window.two = Promise.all([question(), question()]).then((answers) => answers.map((each) => each.status));
    }""",
        number,
    )
    page.wait_for_function("held.waiting.length === 1")
    page.wait_for_timeout(300)
    assert page.evaluate("(number) => held.asked.filter((one) => one === number).length", number) == 1
    page.evaluate("held.release(0)")
    page.wait_for_function("held.waiting.length === 2")
    page.evaluate("held.release(1)")
    assert page.evaluate("window.two") == [200, 200]


_REPLACED: dict[str, str] = {
    "it is another now": "(one) => { one.dataset.pick = '{\"adapter.r\": 1}'; }",
    "it is replaced": "(one) => one.replaceWith(one.cloneNode(true))",
    "it is gone": "(one) => { one.parentNode.replaceChildren(); }",
    "its text is replaced": "(one) => { one.innerHTML = '<b>' + one.innerText + '</b>'; }",
}


@pytest.mark.parametrize("change", _REPLACED.values(), ids=_REPLACED)
def test_a_click_acts_on_what_was_pressed(page: Page, change: str) -> None:
    _too_large(page)
    remedy = page.locator("#wb-remedies [data-pick]").first
    wanted = json.loads(remedy.get_attribute("data-pick") or "{}")
    asked: list[object] = []
    page.on("request", lambda one: asked.append(_picked(one.post_data)) if "/run/predict" in one.url else None)
    remedy.hover()
    page.mouse.down()
    remedy.evaluate(change)
    page.mouse.up()
    page.wait_for_selector("#wb-plan-sentence:has-text('Fits.')")
    assert [json.loads(str(one)) for one in asked if one] == [wanted]


def test_a_remedy_of_an_older_answer_is_not_to_be_had(page: Page) -> None:
    """It was made for the form of before: on another card it mended nothing, and the plan went on not fitting."""
    _too_large(page)
    stale = page.locator("#wb-remedies [data-pick]").first
    page.evaluate("() => { held.hold = window.showsPlan; }")
    page.click("#wb-card label:has-text('6 GB')")
    page.wait_for_function("held.waiting.length === 1")
    stale.dispatch_event("click")
    stale.click(force=True)
    page.wait_for_timeout(300)
    assert page.evaluate("held.waiting.length") == 1
    page.evaluate("() => { held.hold = () => false; held.release(0); }")
    page.wait_for_selector("#wb-plan-sentence:has-text('5.2 GB')")
    page.click("#wb-remedies [data-pick] >> nth=0")
    page.wait_for_selector("#wb-plan-sentence:has-text('Fits.')")


def test_a_click_has_an_echo_until_it_is_answered(page: Page) -> None:
    page.evaluate("() => { held.hold = window.showsPlan; }")
    label = page.locator("#wb-card label").nth(1)
    label.click()
    page.wait_for_function("held.waiting.length === 1")
    page.wait_for_timeout(600)
    assert label.get_attribute("data-asking") == ""
    page.evaluate("() => held.release(0)")
    page.wait_for_selector("#wb-plan-sentence:has-text('5.2 GB')")
    page.wait_for_function("!document.querySelector('[data-asking]')")


def test_two_choices_in_one_moment_are_both_asked(page: Page) -> None:
    """The framework drops an event whose handler is still at work; a choice in a list is none to drop."""
    _too_large(page)
    page.evaluate("() => { held.hold = window.showsPlan; }")
    remedies = page.locator("#wb-remedies [data-pick]").first
    # Twice in one step, so that the first has not made the second an old one.
    remedies.evaluate("(one) => { one.click(); one.click(); }")
    # The second is asked of the form as the first will have filled it.
    page.wait_for_function("held.waiting.length === 1")
    page.evaluate("held.release(0)")
    page.wait_for_function("held.waiting.length === 2")
    page.evaluate("held.release(1)")
    page.wait_for_selector("#wb-plan-sentence:has-text('Fits.')")


def test_a_question_is_asked_of_the_form_as_an_older_answer_is_about_to_fill_it(page: Page) -> None:
    page.evaluate("() => { held.hold = window.showsPlan; }")
    page.click("#wb-presets label:has-text('24 GB') >> nth=0")
    page.wait_for_function("held.waiting.length === 1")
    page.evaluate("() => { held.hold = () => false; }")
    page.click("#wb-method label:has-text('LoRA') >> nth=2")
    page.wait_for_timeout(500)
    page.evaluate("held.release(0)")
    # The preset's model and card with the method that was chosen since; not the starter, which the form showed before.
    page.wait_for_function("document.querySelector('#wb-plan-sentence').innerText.includes('23.2 GB')")
    page.wait_for_selector("#wb-plan-sentence:has-text('Does not fit')")
    assert page.locator("#wb-method input:checked").get_attribute("value") == "lora"


def _too_large(page: Page) -> None:
    page.fill("#wb-model input", "Qwen/Qwen3-14B")
    page.press("#wb-model input", "Enter")
    page.wait_for_selector("#wb-model-note:has-text('14')")
    page.click("#wb-card label:has-text('8 GB')")
    page.wait_for_selector("#wb-plan-sentence:has-text('7.2 GB')")
    page.wait_for_selector("#wb-remedies:not([aria-busy]) [data-pick]")


def _picked(body: str | None) -> object:
    data = json.loads(body or "{}").get("event_data")
    return data.get("value") if isinstance(data, dict) else None
