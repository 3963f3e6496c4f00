"""Each metric of an answer against a library or against figures worked out by hand."""

from __future__ import annotations

import json

import pytest

from app.data.formats.conversation import ToolCall
from app.errors import UsageError
from app.evaluation.metrics import structured
from app.evaluation.metrics.answers import SCORERS, Reference
from app.evaluation.metrics.catalogue import METRICS, chosen
from app.evaluation.metrics.numbers import last_number

PARIS = Reference(answers=("The capital is Paris.",))


@pytest.mark.parametrize(
    ("metric", "answer", "reference", "score"),
    [
        ("exact_match", " The  capital is\nParis. ", PARIS, 1.0),
        ("exact_match", "the capital is Paris.", PARIS, 0.0),
        ("exact_match", "cafe\u0301", Reference(answers=("caf\u00e9",)), 1.0),
        ("exact_match", "b", Reference(answers=("a", "b")), 1.0),
        ("exact_match", "anything", Reference(), None),
        ("contains", "I say THE CAPITAL is paris. Arr", PARIS, 1.0),
        ("contains", "Paris", PARIS, 0.0),
        ("contains", "red, blue", Reference(contains=("Blue", "red")), 1.0),
        ("contains", "red", Reference(contains=("blue", "red")), 0.0),
        ("regex", "it is 42.", Reference(pattern=r"\b42\b"), 1.0),
        ("regex", "it is 420", Reference(pattern=r"\b42\b"), 0.0),
        ("regex", "it is 420", Reference(pattern=r"^it is \d+$"), 1.0),
        ("regex", "x", Reference(), None),
        ("numeric", "first 3, then 1,234.5", Reference(answers=("so 1234.5",)), 1.0),
        ("numeric", "about 3.15", Reference(answers=("3.14",), tolerance=0.02), 1.0),
        ("numeric", "about 3.17", Reference(answers=("3.14",), tolerance=0.02), 0.0),
        ("numeric", "\u22125 degrees", Reference(answers=("-5",)), 1.0),
        ("numeric", "no number", Reference(answers=("-5",)), 0.0),
        ("numeric", "5", Reference(answers=("none",)), None),
        # SQuAD's rule: without the article, lower case; 2 tokens in common of 3 and 2.
        ("numeric", "2,5 kg", Reference(answers=("1,5 kg",)), 0.0),
        ("numeric", "3/2", Reference(answers=("1/2",)), 0.0),
        ("f1", "The cat sat!", Reference(answers=("a cat",)), 2 * 1 / (2 + 1)),
        ("f1", "cat dog", Reference(answers=("dog bird cat",)), 2 * 2 / (2 + 3)),
        ("f1", "北京市", Reference(answers=("北京",)), 2 * 2 / (3 + 2)),
        ("f1", "", Reference(answers=("x",)), 0.0),
    ],
)
def test_scores_are_those_worked_out_by_hand(
    metric: str, answer: str, reference: Reference, score: float | None
) -> None:
    found = SCORERS[metric](answer, reference)
    assert found == (pytest.approx(score) if score is not None else None)


def test_chrf_is_sacrebleus_own() -> None:
    from sacrebleu import sentence_chrf

    for said, expected in (("the cat sat", "the cat sat down"), ("北京", "北京市"), ("x", "y"), ("same", "same")):
        mine = SCORERS["chrf"](said, Reference(answers=(expected,)))
        assert mine == pytest.approx(sentence_chrf(said, [expected]).score)
    assert METRICS["chrf"].highest == 100.0


def test_a_pattern_that_never_ends_scores_nothing() -> None:
    assert SCORERS["regex"]("a" * 40 + "!", Reference(pattern=r"^(a|a)*$(?<!x)b")) == 0.0


SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        ('{"n": 3}', True),
        ('```json\n{"n": 3}\n```', True),
        ('{"n": "3"}', False),
        ('{"n": 3, "m": 1}', False),
        ("{n: 3}", False),
        ("here: {}", False),
        ("[" * 5000, False),
    ],
)
def test_json_is_held_to_its_schema(answer: str, valid: bool) -> None:
    assert SCORERS["json_schema"](answer, Reference(schema=SCHEMA)) == float(valid)


DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def test_a_schema_that_points_elsewhere_is_not_followed() -> None:
    from referencing.exceptions import Unresolvable

    with pytest.raises(Unresolvable):
        structured.is_valid("{}", {"$ref": "http://127.0.0.1:9/schema.json"})


@pytest.mark.parametrize(
    ("schema", "usable"),
    [
        ({"type": "nothing"}, False),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, False),
        ({"properties": {"a": {"items": {"$ref": "#/$defs/b"}}}}, False),
        ({"properties": {"a": {"items": {"$ref": "#/$defs/b"}}}, "$defs": {"b": True}}, True),
        ({"$id": "http://here/s", "$ref": "#b", "$defs": {"b": {"$anchor": "b", "type": "string"}}}, True),
        ({"$schema": DRAFT_7, "$ref": "#/definitions/b", "definitions": {"b": {}}}, True),
        ({"$defs": {"b": {"$id": "http://here/b"}}, "$ref": "http://here/b"}, True),
        ({"const": {"$ref": "x"}}, True),
        (True, True),
    ],
)  # fmt: skip
def test_a_schema_that_could_fail_over_an_answer_is_refused_before(schema: object, usable: bool) -> None:
    if usable:
        structured.check_schema(schema)
        structured.is_valid('{"a": ["x"]}', schema)
        return
    with pytest.raises(UsageError, match="cannot be used"):
        structured.check_schema(schema)


WEATHER = ToolCall("weather", {"city": "Rome", "days": 2})


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        ('<tool_call>\n{"name": "weather", "arguments": {"days": 2, "city": "Rome"}}\n</tool_call>', True),
        ('{"name": "weather", "parameters": {"city": "Rome", "days": 2}}', True),
        ('[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome", "days": 2}}]', True),
        (json.dumps({"function": {"name": "weather", "arguments": '{"city": "Rome", "days": 2}'}}), True),
        ("<function=weather><parameter=city>Rome</parameter><parameter=days>2</parameter></function>", True),
        ('I call {"name": "weather", "arguments": {"city": "Rome"}}', False),
        ('{"name": "weather", "arguments": {"city": "Rome", "days": 2}} {"name": "b", "arguments": {}}', False),
        ('{"name": "weather", "arguments": {"days": 2.0, "city": "Rome"}}', True),
        ('{"name": "weather", "arguments": {"days": true, "city": "Rome"}}', False),
        ("It rains.", False),
    ],
)  # fmt: skip
def test_calls_are_the_same_however_they_are_written(answer: str, same: bool) -> None:
    assert SCORERS["tool_call"](answer, Reference(calls=(WEATHER,))) == float(same)


def test_metrics_are_named_with_their_aliases() -> None:
    assert chosen("exact-match, perplexity,F1") == ("loss", "exact_match", "f1") and chosen("") == ()
    with pytest.raises(UsageError, match="no metric 'bleurt'"):
        chosen("loss,bleurt")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e3", 1000), ("2.5e-3 m", 0.0025), ("7%", 7), ("x.5", 0.5), ("3.", 3), ("no. 1", 1), ("+7", 7), ("(-4)", -4),
        ("1,234.5", 1234.5), ("1.234,5", 1234.5), ("-1,234.5", -1234.5), ("1'234.50 CHF", 1234.5),
        ("1 234 567 km", 1234567), ("1\u202f234 km", 1234), ("12,34,567", 1234567), ("1.234.567", 1234567),
        ("50,000", 50000), ("1,5 kg", 1.5), ("0,250 l", 0.25), ("1234,567", 1234.567), ("1.234", 1.234),
        ("5 kg CO2", 5), ("12 m2", 12), ("CO2", 2), ("EUR5", 5), ("GPT-4", 4),
        ("10-15", 15), ("2020-12-31", 31), ("7 - 5 = 2", 2), ("x=-3", -3), ("between 3 and -4.5", -4.5),
        ("3/4", 0.75), ("12/31/2024", 2024), ("1/0", 0), ("1,2,3", 3), ("in 2020 100 people", 100),
        ("\uff13\uff14", 34), ("a - b", None), ("9" * 400, None), ("9" * 5000 + "/7", None),
    ],
)  # fmt: skip
def test_the_last_number_is_found_as_people_write_it(text: str, number: float | None) -> None:
    assert last_number(text) == number
