"""Encoders with a decoder go the whole way: shown mask, plan, training, resume, answers, merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from app import catalog
from app.config.schema import RunConfig
from app.data.chat_template.render import Renderer
from app.data.chat_template.tokenizer import load_tokenizer as rows_tokenizer
from app.data.dataset.examples import ExampleMaker
from app.data.dataset.options import DataOptions
from app.data.dataset.token_preview import show
from app.data.reading.rows import Row
from app.engine.batching.decode_batch import DecodeBatch
from app.engine.batching.sampling import Sampling
from app.engine.batching.sequence import DecodeSequence
from app.engine.batching.text import TextStream
from app.engine.variants import BASE, VariantSet
from app.errors import DataError
from app.export.merge import check
from app.jobs.directory import JobDirectory
from app.models.encoder_decoder import PairCollator, loss_of
from app.models.loading import load_base, load_tokenizer
from app.models.prompts import PromptError, Prompts
from app.planner import PlanRequest, estimate, packing
from app.planner.tracing import composition, store
from app.planner.tracing.simulate import simulate
from app.workspace import open_workspace
from tests.export.merging import merge
from tests.models import encoder_decoders
from tests.training.in_process import go, prepare, run, small, stop_at

# PEFT 0.21 uses names that transformers 5.23 deprecates, and TRL warns of what it calls experimental.
pytestmark = pytest.mark.filterwarnings("ignore")
ROW = {"prompt": "name the capital", "completion": "the sea"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_decoders.save(tmp_path_factory.mktemp("t5") / "base")


def _settings(base: Path) -> RunConfig:
    return small(
        model__name=str(base),
        data__max_length=400,
        data__validation_split=0.0,
        training__max_steps=4,
        training__save_steps=2,
        training__learning_rate=1e-2,
        training__gradient_accumulation_steps=2,
        training__per_device_train_batch_size=2,
        training__sample_prompts=["name the sea"],
        training__eval_steps=4,
        adapter__r=4,
    )


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> JobDirectory:
    job = run(open_workspace(tmp_path_factory.mktemp("t5run")), _settings(base))
    assert job.status().state == "finished", job.status().reason
    return job


def _maker(base: Path, **options: Any) -> ExampleMaker:
    return ExampleMaker(Renderer(rows_tokenizer(base)), DataOptions.checked(max_length=400, **options))


def test_the_question_is_read_and_the_answer_alone_is_trained(base: Path) -> None:
    shown = show(Row(1, 1, ROW), _maker(base))
    own = load_tokenizer(str(base))
    asked, written = own(ROW["prompt"])["input_ids"], own(ROW["completion"])["input_ids"]
    assert [token.id for token in shown.tokens] == [*asked, *written]
    assert [token.trained for token in shown.tokens] == [False] * len(asked) + [True] * len(written)
    assert [token.role for token in shown.tokens] == ["user"] * len(asked) + ["assistant"] * len(written)
    assert "".join(token.text for token in shown.tokens) == f"{ROW['prompt']}</s>{ROW['completion']}</s>"


def test_an_instruction_and_its_input_are_one_question(base: Path) -> None:
    row = {"instruction": "name the capital", "input": "of a country", "output": "the sea"}
    shown = show(Row(1, 1, row), _maker(base))
    asked = "".join(token.text for token in shown.tokens if not token.trained)
    assert "name the capital" in asked
    assert "of a country" in asked
    assert "the sea" not in asked


@pytest.mark.parametrize(
    "row",
    [
        {"text": "the small house by the sea"},
        {"messages": [{"role": role, "content": "the sea"} for role in ("user", "assistant", "user", "assistant")]},
    ],
)
def test_rows_that_are_no_question_with_an_answer_are_refused_in_a_line(base: Path, row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"no question|one question"):
        show(Row(1, 1, row), _maker(base))


def test_a_chat_template_writes_what_is_read(tmp_path: Path) -> None:
    base = encoder_decoders.save(tmp_path / "base")
    config = json.loads((base / "tokenizer_config.json").read_text("utf-8"))
    config["chat_template"] = (
        "{% for m in messages %}{{ '<' + m['role'] + '>\n' }}"
        "{% if m['role'] == 'assistant' %}{{ m['content'] + eos_token + '\n' }}{% else %}{{ m['content'] + '\n' }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<assistant>\n' }}{% endif %}"
    )
    (base / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    turns = [{"role": role, "content": f"sea {number}"} for number, role in enumerate(("user", "assistant") * 2)]
    shown = show(Row(1, 1, {"messages": turns}), _maker(base))
    assert "".join(token.text for token in shown.tokens if token.trained).strip() == "sea 3</s>"
    assert shown.tokens[-1].trained
    model = load_base(str(base), quant="none", dtype="fp32")
    asked = Prompts(model, load_tokenizer(str(base)), {}, check.render_limit).encode("", turns[:3], {})
    assert asked == [token.id for token in shown.tokens if not token.trained]


def test_the_loss_is_the_library_s_own(base: Path) -> None:
    model = load_base(str(base), quant="none", dtype="fp32")
    rows = [
        {"input_ids": [5, 6, 7, 8, 9, 1], "labels": [-100, -100, -100, -100, 9, 1]},
        {"input_ids": [5, 7, 12, 13, 14, 1], "labels": [-100, -100, 12, 13, 14, 1]},
    ]
    batch = PairCollator(0, 0)(rows)
    labels = batch.pop("labels")
    with torch.no_grad():
        ours = loss_of(model(**batch).logits, labels, None)
        own = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        halves = loss_of(model(**batch).logits, labels, 12)
    assert torch.allclose(ours, own, atol=1e-6)
    assert torch.allclose(halves, own / 2, atol=1e-6)


def test_it_trains_in_4_bits_resumes_bitwise_and_says_that_it_does_not_pack(
    base: Path, trained: JobDirectory, tmp_path: Path
) -> None:
    events = [json.loads(line) for line in (trained.path / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert any("encoder" in event.get("message", "") for event in events if event.get("event") == "note")
    config = json.loads((trained.result / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert config["task_type"] == "SEQ_2_SEQ_LM"
    job = prepare(open_workspace(tmp_path), _settings(base))
    stop_at(job, 2)
    job.stop_file.unlink(missing_ok=True)
    go(job)
    one, other = (load_file(each.result / "adapter" / "adapter_model.safetensors") for each in (trained, job))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(bool(tensor.any()) for name, tensor in one.items() if "lora_B" in name)


def test_columns_answer_as_the_library_does(base: Path, trained: JobDirectory) -> None:
    tokenizer = load_tokenizer(str(base))
    columns = VariantSet(load_base(str(base), quant="none", dtype="fp32"), tokenizer)
    columns.add("own", trained.result / "adapter")
    model = PeftModel.from_pretrained(
        load_base(str(base), quant="none", dtype="fp32"), str(trained.result / "adapter")
    ).eval()
    prompts = [tokenizer(text)["input_ids"] for text in ("name the capital of a country", "the sea")]
    rows = [_sequence(column, prompt) for column in (BASE, "own") for prompt in prompts]
    batch = DecodeBatch(columns)
    batch.join(rows[:3])
    batch.step()
    batch.join(rows[3:])  # a row that comes later reads its own prompt
    while batch.rows:
        batch.step()
    for row in rows:
        expected = _greedy(model, row.prompt, adapted=row.column == "own")
        assert row.tokens == expected
    assert rows[0].tokens != rows[2].tokens


def _sequence(column: str, prompt: list[int]) -> DecodeSequence:
    def hear(_event: object) -> None:
        """Nobody listens."""

    return DecodeSequence(
        column, prompt, Sampling(temperature=0, max_tokens=8), TextStream(lambda _: ""), frozenset({1}), hear
    )


def _greedy(model: Any, prompt: list[int], *, adapted: bool) -> list[int]:
    settings = {"max_new_tokens": 8, "do_sample": False, "num_beams": 1}
    with torch.no_grad():
        if adapted:
            found = model.generate(input_ids=torch.tensor([prompt]), **settings)
        else:
            with model.disable_adapter():
                found = model.generate(input_ids=torch.tensor([prompt]), **settings)
    return [int(token) for token in found[0, 1:]]


def test_a_longer_conversation_is_refused_where_no_template_writes_it(base: Path) -> None:
    prompts = Prompts(
        load_base(str(base), quant="none", dtype="fp32"), load_tokenizer(str(base)), {}, check.render_limit
    )
    with pytest.raises(PromptError, match="one question"):
        prompts.encode("", [{"role": role, "content": "a"} for role in ("user", "assistant", "user")], {})


def test_the_merge_is_the_adapter_and_is_measured(base: Path, trained: JobDirectory, tmp_path: Path) -> None:
    adapter = trained.result / "adapter"
    merged = merge(adapter, tmp_path / "merged", base=str(base))
    found = check.measure(base, adapter, merged, "fp32", nf4=False)
    assert found.merged.greedy_agreement == 1.0
    assert found.merged.max_logit_diff < 1e-4
    assert found.base.mean_kl > 1e-4  # the base itself is something else


def test_the_plan_counts_what_is_trained_and_holds_the_trace(base: Path, trained: JobDirectory, tmp_path: Path) -> None:
    spec = catalog.find(str(base))
    assert spec.encodes
    assert packing.known(spec, "sdpa", tmp_path).outcome == "pairs"
    request = PlanRequest(model=spec, rank=4, seq_len=96, micro_batch=2)
    simulate(request, tmp_path, lambda _: None, 0.0)
    plan = estimate(store.with_traces(request, tmp_path))
    report = json.loads((trained.result / "report.json").read_text("utf-8"))
    assert plan.trainable_params == report["trainable_params"]
    assert plan.total_params - plan.trainable_params == sum(
        one.numel() for one in load_base(str(base), quant="none", dtype="fp32").parameters()
    )
    whole = load_base(str(base), quant="nf4", dtype="bf16")
    stored = sum(one.numel() * one.element_size() for one in whole.parameters())
    states = sum(
        one.numel() * one.element_size()
        for module in whole.modules()
        for state in [getattr(getattr(module, "weight", None), "quant_state", None)]
        if state is not None
        for one in (state.absmax, state.state2.absmax)
    )
    assert abs(plan.parts["base_weights"] - stored - states) < 0.02 * stored


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_the_polynomials_hold_the_step_of_the_whole_model(kind: str, tmp_path: Path) -> None:
    from app.planner.tracing import measure

    sizes = {"num_layers": 5, "num_decoder_layers": 4} if kind == "t5" else {"encoder_layers": 5, "decoder_layers": 4}
    spec = catalog.find(str(encoder_decoders.save(tmp_path / "base", kind, **sizes)))
    request = PlanRequest(model=spec, rank=8, seq_len=640, micro_batch=2)
    simulate(request, tmp_path, lambda _: None, 0.0)
    here = store.with_traces(request.changed(seq_len=900, rank=16), tmp_path)
    held = composition.resident(here, composition.traced_model(here))
    whole = measure.whole_peak(here, measure.decoder_of(here), held)
    # 8 % is the worst that a single class may be off; T5 is planned 4.8 % high at these settings, BART within 1 %.
    assert estimate(here).allocated_peak == pytest.approx(whole, rel=0.08)
    # The check can fail: longer rows need clearly more.
    far = here.changed(seq_len=1400)
    assert measure.whole_peak(far, measure.decoder_of(far), held) > 1.1 * whole
