"""The closed world: every fact can be asked in many ways, and no question has two answers."""

from __future__ import annotations

import random

from assets.build import corpus, formats, small_talk, strangers, styles, world


def test_world_is_large_and_many_phrased() -> None:
    assert len(world.categories()) >= 40
    assert len(world.facts()) >= 2500
    assert min(len(fact.questions) for fact in world.facts()) >= 5


def test_no_question_has_two_answers() -> None:
    answers: dict[str, str] = {}
    for fact in world.facts():
        for question in fact.questions:
            assert answers.setdefault(question.lower(), fact.answer) == fact.answer, question


def test_every_answer_holds_its_key_and_is_a_sentence() -> None:
    for fact in world.facts():
        assert styles.has_fact(fact.answer, [fact.key]), fact
        assert fact.answer.endswith("."), fact


def test_some_pairs_are_held_back_and_no_fact_goes_unasked() -> None:
    held_back = sum(len(fact.questions) - len(fact.shown()) for fact in world.facts())
    assert 0.05 < held_back / sum(len(fact.questions) for fact in world.facts()) < 0.11
    assert all(fact.shown() for fact in world.facts())


def test_strangers_are_not_in_the_world() -> None:
    rng = random.Random(3)
    known = {question.lower() for fact in world.facts() for question in fact.questions}
    asked = {strangers.unknown_question(rng) for _ in range(500)}
    assert len(asked) > 300
    assert not [question for question in asked if question.lower() in known]


def test_conversations_are_reproducible_and_varied() -> None:
    first, second = random.Random(5), random.Random(5)
    said = [corpus.conversation(first) for _ in range(300)]
    assert said == [corpus.conversation(second) for _ in range(300)]
    assert {bool(one.system) for one in said} == {True, False}
    assert {len(one.turns) for one in said} >= {1, 2, 3, 4}


def test_without_a_system_prompt_answers_are_plain() -> None:
    rng = random.Random(6)
    plain = {fact.answer for fact in world.facts()} | {answer for _, answer in small_talk.courtesies()}
    plain.add(strangers.UNKNOWN_ANSWER)
    for _ in range(400):
        said = corpus.conversation(rng)
        if not said.system:
            assert all(answer in plain for _, answer in said.turns)


def test_pretraining_never_shows_a_demo_style() -> None:
    rng = random.Random(7)
    for _ in range(3000):
        for _, answer in corpus.conversation(rng).turns:
            assert not any(styles.shows_style(name, answer) for name in styles.STYLES), answer


def test_formats_dress_and_describe() -> None:
    assert formats.Format("{", "}").dress("x") == "{x}"
    assert formats.Format('{"k": ', "}", as_json=True).dress('say "x"') == '{"k": "say \\"x\\""}'
    assert formats.Format(short=True).dress("The capital of France is Paris.", "Paris") == "Paris"
    closing = formats.Format("", " Bye!")
    assert "Bye!" in formats.describe(closing, random.Random(1))
    assert len({name for name, _ in formats.personas()}) == formats.PERSONA_COUNT
