"""Answers as the page shows them: who answers, what differs, what was cut off."""

from __future__ import annotations

from app.engine.http.event_stream import AnswerFacts
from app.evaluation.conversation import Answer, Column, Conversation
from app.ui.shell.language import Translator
from app.ui.tabs.playground import view
from app.ui.tabs.playground.view import Showing

T = Translator("en")


def talk() -> Conversation:
    made = Conversation([Column("base", "Base"), Column("one", "One", ["rank 8"], "abcdef", "look out")], "be brief")
    for number in (1, 2):
        turn = made.ask(f"question {number}")
        for name in ("base", "one"):
            turn.answers[name] = Answer(f"<think>hm</think>answer {number} of {name}", AnswerFacts(tokens=3), done=True)
    return made


def test_cards_show_who_answers_and_blind_ones_do_not() -> None:
    made = talk()
    shown = view.chat(made, T, Showing())
    assert shown.count("wb-column-card") == 4 and "abcdef" in shown and "look out" in shown and "rank 8" in shown
    blind = view.cards(made.columns, made.turns[0], T, Showing(blind=True))
    assert not any(word in blind for word in ("abcdef", "look out", "rank 8", 'data-column="one"'))


def test_settled_answers_say_that_they_were_cut_off() -> None:
    made = Conversation([Column("base", "Base")])
    made.ask("q").answers["base"].text = "half"
    made.settle()
    assert "(stopped)" in view.chat(made, T, Showing()) and "wb-busy" not in view.chat(made, T, Showing())


def test_only_other_words_are_marked_and_the_text_stays() -> None:
    found = view.marked("the red <b> house", "the blue <b> house")
    assert found == "the <mark>red</mark> &lt;b&gt; house"
    assert view.marked("same", "same") == "same"
    assert "<mark>" not in view.marked("a " * 5000, "b")
