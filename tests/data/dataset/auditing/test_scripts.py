"""A base whose vocabulary knows a script only as bytes is told; one that has learned it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from app.data.chat_template.render import Renderer
from app.data.chat_template.tokenizer import load_tokenizer
from app.data.dataset.auditing.audit import Check
from app.data.dataset.auditing.scripts import ScriptAudit
from app.data.dataset.options import DataOptions
from app.data.reading.rows import Row
from app.models.names import STARTER, resolve
from app.ui.shell.language import Translator

CHINESE = "海盗在海上航行，他们寻找宝藏。今天天气很好，我们去公园散步吧。学习语言需要时间和耐心，每天都要练习。"
RUSSIAN = "Пираты плывут по морю и ищут сокровища. Сегодня хорошая погода, пойдём гулять."
GERMAN = "Die Piraten fahren übers Meer und suchen Schätze; schöne Grüße an alle."


def _trained(text: str) -> Tokenizer:
    """Return byte-level BPE as models have it, taught nothing but one text."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator([text] * 20, trainer)
    return made


@pytest.mark.parametrize(
    ("taught", "asked", "told"),
    [
        (GERMAN, CHINESE, True),
        (GERMAN, RUSSIAN, True),
        (CHINESE, RUSSIAN, True),
        (CHINESE, CHINESE, False),
        (RUSSIAN, RUSSIAN, False),
        (CHINESE, GERMAN, False),
        (GERMAN, GERMAN * 9 + "海盗在海上航行，他们寻找宝藏。", False),
    ],
)
def test_a_script_is_known_by_what_the_vocabulary_makes_of_it(taught: str, asked: str, told: bool) -> None:
    audit = ScriptAudit()
    audit.add(asked)
    assert (audit.judge(_trained(taught)) is not None) is told


def test_a_vocabulary_of_words_that_says_unknown_does_not_know() -> None:
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "pirate": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    audit = ScriptAudit()
    audit.add(CHINESE)
    found = audit.judge(made)
    assert found is not None and found.kind == "unknown_script"


def test_the_starter_is_told_to_know_no_chinese_and_the_page_says_so_in_both_languages() -> None:
    renderer = Renderer(load_tokenizer(Path(resolve(STARTER))))
    rows = [Row(1, 1, {"question": CHINESE, "answer": CHINESE[::-1]})]
    report = Check(DataOptions(), renderer).run(rows)
    [problem] = [one for one in report.problems if one.kind == "unknown_script"]
    assert 60 < int(problem.message.partition(" ")[0]) < 100, problem.message
    zh = Translator("zh")
    assert zh.heard(problem.message) != problem.message and zh.heard(problem.fix) != problem.fix
    assert zh.known("problem.unknown_script", "") and Translator("en").known("problem.unknown_script", "")
    assert not Check(DataOptions(), None).run(rows).problem_counts["unknown_script"]
