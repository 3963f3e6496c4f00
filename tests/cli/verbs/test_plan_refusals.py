"""Whatever is asked of `plan`: one plain line that names the field, never a traceback, never an absurd number."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from app import catalog, hardware
from app.cli.main import main

GOOD: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 1024,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
WRONG = (-1, 1.5, "x", True, 10**30, float("nan"), float("inf"), [], {})
NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
FILES: dict[str, tuple[bytes | str, str]] = {
    "empty": ("", "JSON"),
    "binary": (b"\x00\xff\xfe\x80" * 99, "JSON"),
    "deep": ("[" * 200_000, "JSON"),
    "deep object": ('{"a":' * 50_000 + "1" + "}" * 50_000, "JSON"),
    "digits": ('{"model_type":"llama","hidden_size":' + "9" * 1_000_000 + "}", "JSON"),
    "a list": ("[1, 2]", "JSON object"),
    "not a number": ("NaN", "JSON object"),
    "no type": ("{}", "model_type"),
    "unknown type": (json.dumps({**GOOD, "model_type": "mamba9"}), "mamba9"),
    "type in a list": (json.dumps({**GOOD, "model_type": ["llama"]}), "model_type"),
    "heads that do not divide": (json.dumps({**GOOD, "num_attention_heads": 7}), "num_attention_heads"),
    "more key heads than heads": (json.dumps({**GOOD, "num_key_value_heads": 16}), "num_key_value_heads"),
    "nothing nested": (json.dumps({"model_type": "gemma3", "text_config": {}}), "hidden_size"),
    "nested in itself": (json.dumps({"model_type": "llava", "text_config": {"model_type": "llava"}}), "hidden_size"),
    "too much together": (
        json.dumps({**GOOD, "hidden_size": 1 << 20, "intermediate_size": 1 << 20, "num_hidden_layers": 1024}),
        "hidden_size",
    ),
}
OPTIONS: dict[str, tuple[list[str], str]] = {
    "rank 0": (["--rank", "0"], "rank"),
    "a rank of 20 digits": (["--rank", "9" * 20], "rank"),
    "a billion tokens": (["--seq-len", "1000000000"], "seq_len"),
    "rows beyond the positions": (["--seq-len", "2049"], "2,048"),
    "no tokens": (["--seq-len", "0"], "seq_len"),
    "too many together": (["--micro-batch", "65536", "--seq-len", "16777216"], "seq_len"),
    "no rows": (["--micro-batch", "0"], "micro_batch"),
    "a negative card": (["--vram", "-1"], "vram"),
    "no card": (["--vram", "0"], "vram"),
    "an infinite card": (["--vram", "inf"], "vram"),
    "a card that is none": (["--vram", "nan"], "vram"),
    "no target": (["--targets", ","], "targets"),
    "an unknown target": (["--targets", "nosuch"], "nosuch"),
    "an unknown optimiser": (["--optimizer", "x"], "optimizer"),
    "every zeroth layer": (["--checkpointing", "every-0"], "checkpointing"),
    "a quantised full run": (["--method", "full", "--quant", "nf4"], "quant"),
    "no columns": (["--method", "inference", "--columns", "0"], "columns"),
    "a traced inference": (["--method", "inference", "--trace"], "inference"),
    "a measurement of nothing": (["--measure"], "data"),
    "a measurement of a profile": (["--measure", "--profile", "peft-classic", "--data", "x"], "profile"),
}
# family: its field, odd values of it, and what the line must name.
ODD: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("pythia-160m", "rotary_pct", ("x", math.inf, math.nan, 10**30, -1, True, [])),
    ("glm-4-9b", "partial_rotary_factor", ("x", math.inf, -0.5, {})),
    ("opt-125m", "ffn_dim", (0, -1, "x", True, 10**30)),
    ("mistral-7b-v0.1", "layer_types", ("sliding_attention", 7)),
    ("gemma-3-1b", "sliding_window", (-2, "x", True, 1.5, 10**30)),
    ("gemma-3-1b", "layer_types", (["sliding_attention"], {})),
    ("deepseek-v2-lite", "kv_lora_rank", (0, -1, "x", None)),
    ("deepseek-v2-lite", "num_experts_per_tok", (0, 65, "x", True)),
    ("deepseek-v2-lite", "first_k_dense_replace", (-1, "x", True)),
    ("gpt-oss-20b", "num_local_experts", (0, -4, "x", 10**6)),
    ("mixtral-8x7b", "num_experts_per_tok", (9,)),
    ("gpt2", "n_inner", (-1, "x", True, 10**30)),
    ("qwen3-8b", "tie_word_embeddings", ("yes", 1, [])),
)
NAMES = (
    "no/such-model",
    "http://host/model",
    "file:///etc/passwd",
    "//server/share",
    "a" * 5000,
    "two\nlines",
    "\0",
    " ",
)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "workspace"))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(GOOD))
    return path


def refused(capsys: pytest.CaptureFixture[str], words: list[str], field: str) -> None:
    code = main(["plan", "--json", *words])
    said = capsys.readouterr()
    assert code in (1, 2) and said.out == ""
    assert said.err.count("\n") == 1 and "Traceback" not in said.err
    assert field in said.err


def test_the_good_one_is_planned(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--json", "--model", str(model), "--vram", "8"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] is True


@pytest.mark.parametrize("field", NEEDED)
def test_a_wrong_number_names_its_field(field: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for value in (*WRONG, 0, None):
        model.write_text(json.dumps({**GOOD, field: value}))
        refused(capsys, ["--model", str(model)], field)
    model.write_text(json.dumps({key: value for key, value in GOOD.items() if key != field}))
    refused(capsys, ["--model", str(model)], field)


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_configuration(case: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, said = FILES[case]
    model.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(capsys, ["--model", str(model)], said)


@pytest.mark.parametrize("case", OPTIONS)
def test_a_setting_that_cannot_be(case: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, said = OPTIONS[case]
    refused(capsys, ["--model", str(model), *words], said)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_names_no_model(name: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["--model", name], "")


def test_a_folder_without_a_configuration(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = model.parent / "empty"
    empty.mkdir()
    refused(capsys, ["--model", str(empty)], "config.json")


@pytest.mark.parametrize(
    "words",
    [
        ["--seq-len", "16777216", "--method", "inference", "--attn", "eager", "--vram", "8"],
        ["--rank", "65536", "--vram", "0.001"],
        ["--method", "inference", "--columns", "4096", "--vram", "16384"],
    ],
)
def test_numbers_stay_finite_and_positive(words: list[str], model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--json", "--model", str(model), *words]) == 0
    answer = json.loads(capsys.readouterr().out)
    largest = [size for size in answer["largest"].values() if size is not None]
    for number in (*answer["parts"].values(), *largest, answer["device_peak"], answer["free_bytes"]):
        assert number >= 0 and math.isfinite(number)


def test_a_processor_s_preset_counts_no_card(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    if hardware.readings().gpu is not None:
        pytest.skip("this machine has a card")
    assert main(["plan", "--json", "--preset", "cpu-starter"]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert parts["cuda_context"] == 0 < parts["allocator_reserve"]
    assert main(["plan", "--model", "starter"]) == 0
    assert "--vram" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "field", "values"), ODD)
def test_an_odd_number_of_a_family_names_its_field(
    name: str, field: str, values: tuple[Any, ...], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = dict(catalog.find(name).config)
    model.write_text(json.dumps(good))
    assert main(["plan", "--json", "--model", str(model)]) == 0
    capsys.readouterr()
    for value in values:
        model.write_text(json.dumps({**good, field: value}))
        refused(capsys, ["--model", str(model)], field)


def test_a_file_of_100_mb_is_refused_unread(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with model.open("wb") as file:
        file.truncate(100_000_000)
    refused(capsys, ["--model", str(model)], "too large")
