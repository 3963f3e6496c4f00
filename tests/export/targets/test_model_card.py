"""The model card's evaluations: figures with intervals beside the base's, and how many of the rows were trained."""

from __future__ import annotations

from app.evaluation.held_out.records import Evaluated
from app.evaluation.held_out.results import ColumnResult, Forgetting, MetricValue
from app.export.targets.model_card import Card
from app.export.targets.run_record import RunRecord


def _column(name: str, value: float) -> ColumnResult:
    figures = {"exact_match": MetricValue(value, value - 0.1, value + 0.1, 20)}
    return ColumnResult(name, name, "h", 20, None, None, figures, Forgetting(1.5, 1.0, 8, known=113))


def test_an_evaluation_says_what_was_measured_and_how_much_of_it_was_trained() -> None:
    mine, base = _column("mine", 0.8), _column("base", 0.2)
    held = Evaluated("result/adapter", "held.jsonl", 20, mine, base)
    trained = Evaluated("result/adapter", "all.jsonl", 20, mine, base, trained=17)
    run = RunRecord({}, "", None, None, [], [], {}, (held, trained))
    text = Card("mine", "starter", True, run, None).text()
    assert "On 20 rows of `held.jsonl`:" in text
    assert "On 20 rows of `all.jsonl`, of which 17 are training rows or nearly so:" in text
    assert "| exact_match | 0.8 (0.7 to 0.9) | 0.2 |" in text and "| 8 of 113 |" in text


def test_a_card_says_only_what_the_files_are() -> None:
    settings: dict[str, object] = {"adapter.method": "full", "training.max_steps": 5}
    full = RunRecord(settings, "", None, None, [], [], {}, base="Qwen/Qwen3-0.6B")
    trained = Card("mine", full.base, False, full, None).text()
    assert "fine-tuned as a whole from `Qwen/Qwen3-0.6B`" in trained and 'base_model: "Qwen/Qwen3-0.6B"' in trained
    merged = Card("mine", "Qwen/Qwen3-0.6B", False, None, {"verdict": "pass"}).text()
    assert "a LoRA adapter added to `Qwen/Qwen3-0.6B`" in merged and "- lora\n" in merged
    foreign = Card("mine", "", False, None, None).text()
    assert "A model, packed with LoRA Workbench." in foreign
    for text in (trained, foreign):
        assert "adapter" not in text.replace("adapter.method", "").lower() and "- lora\n" not in text
