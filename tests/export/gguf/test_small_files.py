"""Small files, made by llama.cpp's quantiser and held against the 16-bit model by llama.cpp itself."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize
from safetensors.torch import load_file, save_file

from app.errors import ExportError, UsageError
from app.evaluation.suites import Item, read_suite
from app.export.gguf.model import write_model
from app.export.gguf.quality import probes, proof
from app.export.gguf.quality.probes import Text
from app.export.gguf.quality.proof import Reference
from app.export.gguf.quantization import formats, importance, llama_cpp
from app.export.merge import check
from app.export.merge.base_model import BaseModel
from app.export.requests import Bound, ExportRequest
from app.export.targets.turn_format import read_turns
from app.models.names import STARTER, resolve
from tests.export.exporting import export
from tests.export.gguf import gguf_models

pytest.importorskip("xllamacpp", reason="llama.cpp is not here (pip install -r requirements-dev.txt)")
ROWS = Path("assets/datasets/pirate.json")
# What ggml loses on a normal matrix, relative (measured once more by the figures of the wheel's own notes).
ERRORS = {Type.Q2_K: 0.30, Type.Q3_K: 0.151, Type.Q4_K: 0.071, Type.IQ4_XS: 0.077, Type.Q5_K: 0.036, Type.Q6_K: 0.018}
STARTER_FOLDER = Path(resolve(STARTER))


@pytest.fixture(scope="module")
def reference() -> Reference:
    found = proof.reference_of(STARTER_FOLDER, 4_000_000, 2 << 30)
    assert found is not None
    return found


def written(folder: Path, path: Path, dtype: str, weights: importance.Importance | None = None) -> Path:
    model = BaseModel("starter", folder)
    file = write_model(model, read_turns(folder), path, dtype, 64 << 20, name="starter", importance=weights)
    assert file.written.as_expected
    return path


@pytest.mark.parametrize("kind", list(ERRORS), ids=lambda kind: kind.name)
def test_what_a_format_loses_is_what_it_is_known_for(kind: Type) -> None:
    values = np.random.default_rng(1).standard_normal((96, 1024), dtype=np.float32)
    data = llama_cpp.quantise(values, kind)
    assert len(data) == formats.encoded_bytes(values.shape, kind)
    found, source = formats.decode(data, kind, values.shape), torch.from_numpy(values)
    assert float((found - source).norm() / source.norm()) == pytest.approx(ERRORS[kind], rel=0.05)
    largest, beyond = formats.deviation(found, source, kind)
    assert largest == float((found - source).abs().max()) and beyond == 0
    assert formats.deviation(found, source.flip(0), kind)[1] > 1000  # the wrong rows are seen


@pytest.mark.parametrize("kind", [*ERRORS, Type.Q4_0, Type.Q5_0, Type.Q5_1, Type.IQ4_NL], ids=lambda kind: kind.name)
def test_llama_cpp_and_the_gguf_package_read_the_same_values(kind: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).standard_normal((7, 1024), dtype=np.float32)
    data = llama_cpp.quantise(values, kind)
    other = dequantize(np.frombuffer(data, np.uint8).reshape(7, -1), kind)
    monkeypatch.setattr(llama_cpp, "_PIECE", 1000)  # no whole number of blocks
    assert np.abs(formats.decode(data, kind, values.shape).numpy() - other).max() < 1e-6


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_K], ids=lambda kind: kind.name)
def test_every_value_beyond_its_format_is_counted(kind: Type) -> None:
    source = torch.randn(96, 256, generator=torch.Generator().manual_seed(1))  # more than is compared at once
    found = source.clone()
    found[0, :3] += 5.0
    found[95, 7] = math.nan
    largest, beyond = formats.deviation(found, source, kind)
    assert beyond == 4 and math.isnan(largest)
    assert formats.deviation(source, source, kind) == (0.0, 0)


def test_pieces_of_many_threads_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).standard_normal((40, 512), dtype=np.float32)
    whole = llama_cpp.quantise(values, Type.Q4_K)
    monkeypatch.setattr(llama_cpp, "_PIECE", 512 * 3)
    assert llama_cpp.quantise(values, Type.Q4_K) == whole
    assert llama_cpp.quantise(values.reshape(4, 10, 512), Type.Q4_K) == whole


def test_a_weighed_column_is_kept_better() -> None:
    values = np.random.default_rng(3).standard_normal((64, 512), dtype=np.float32)
    weights = np.ones(512, dtype=np.float32)
    weights[::8] = 1000.0  # of each block that shares a factor, a few
    plain, weighed = (
        formats.decode(llama_cpp.quantise(values, Type.Q3_K, each), Type.Q3_K, values.shape) for each in (None, weights)
    )
    source = torch.from_numpy(values)
    assert float((weighed - source)[:, ::8].norm()) < 0.8 * float((plain - source)[:, ::8].norm())


def test_the_smaller_the_file_the_further_from_the_model(tmp_path: Path, reference: Reference) -> None:
    found = {
        dtype: proof.prove(written(STARTER_FOLDER, tmp_path / f"{dtype}.gguf", dtype), reference)
        for dtype in ("f16", "q8_0", "q4_k_m", "q2_k")
    }
    kls = [one.mean_kl for one in found.values()]
    assert kls == sorted(kls) and kls[0] < 1e-4 < kls[-1]
    assert found["q8_0"].agreement >= 0.98
    assert all(one.tokens > 40 and one.tokens_per_s > 0 for one in found.values())


def test_another_model_is_not_taken_for_this_one(tmp_path: Path, reference: Reference) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in STARTER_FOLDER.iterdir():
        if file.suffix != ".safetensors" and file.is_file():
            (other / file.name).write_bytes(file.read_bytes())
    tensors = load_file(STARTER_FOLDER / "model.safetensors")
    changed = {name: one.flip(0) if "down_proj" in name else one for name, one in tensors.items()}
    save_file(changed, other / "model.safetensors", metadata={"format": "pt"})
    found = proof.prove(written(other, tmp_path / "other.gguf", "q8_0"), reference)
    assert found.agreement < proof.LEAST_AGREEMENT and found.mean_kl > 0.1


def test_a_file_that_is_none_is_refused_with_its_name(tmp_path: Path, reference: Reference) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(ExportError, match=r"llama.cpp cannot run broken\.gguf"):
        proof.prove(tmp_path / "broken.gguf", reference)


def test_divergence_is_that_of_the_tokens_said_and_of_all_others_together() -> None:
    expected = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    said = [(0, math.log(0.4)), (1, math.log(0.4))]
    by_hand = 0.5 * math.log(0.5 / 0.4) + 0.3 * math.log(0.3 / 0.4)  # the rest is 0.2 on both sides
    assert proof.divergence(expected, said) == pytest.approx(by_hand, abs=1e-6)
    assert proof.divergence(expected, [(token, float(expected[token])) for token in range(4)]) == pytest.approx(
        0, abs=1e-6
    )
    answer = proof.compare(Reference([Text([1, 2], [1])], [expected[None]], 0), [[[(1, -0.1), (0, -3.0)]]], 1.0)
    assert answer.agreement == 0 and answer.mean_kl > 0.5


def test_the_smallest_within_the_bound_is_found_and_kept_alone(tmp_path: Path) -> None:
    answer = export(tmp_path / "out", "gguf", model=STARTER_FOLDER, smallest="kl=0.02", imatrix=ROWS)
    tried = answer["tried"]
    assert [one["passed"] for one in tried] == [False] * (len(tried) - 1) + [True]
    assert len(tried) > 1 and tried[0]["dtype"] == "q2_k" and tried[-1]["dtype"] == answer["dtype"]
    assert [one["bytes"] for one in tried] == sorted(one["bytes"] for one in tried)
    assert [path.name for path in (tmp_path / "out").glob("*.gguf")] == [Path(answer["path"]).name]
    assert answer["bytes"] == Path(answer["path"]).stat().st_size
    receipt = json.loads(Path(answer["receipt"]).read_text(encoding="utf-8"))
    assert receipt["export"]["tried"] == tried and receipt["export"]["imatrix"]["tokens"] > 1000
    assert receipt["export"]["llama.cpp"]["agreement"] == answer["agreement"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of questions far from what the starter learned, where its own words in 16 bits are the good answers."""
    asked = tuple(Item(prompt, "any") for prompt in check.PROMPTS)
    found = proof.reference_of(STARTER_FOLDER, 4_000_000, 2 << 30, (), asked)
    assert found is not None
    path = tmp_path_factory.mktemp("suite") / "own.txt"
    lines = [f"{prompt} => {' '.join(text.split())}" for prompt, text in found.answers.items()]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_each_size_is_judged_on_rows_and_a_suite_and_the_next_is_chosen(tmp_path: Path, suite: Path) -> None:
    answer = export(tmp_path / "out", "gguf", model=STARTER_FOLDER, smallest="suite=0.9", suite=suite, rows=ROWS)
    tried = answer["tried"]
    assert tried[0]["dtype"] == "q2_k" and not tried[0]["passed"] and tried[0]["suite"] < 0.9
    assert tried[-1]["dtype"] == answer["dtype"] and tried[-1]["suite"] == answer["suite"]["passed"] >= 0.9
    assert answer["suite"]["prompts"] == len(check.PROMPTS) and answer["suite"]["passed_16bit"] == 1.0
    assert answer["rows"]["tokens"] > 100 and 0 < answer["rows"]["mean_kl"] != answer["mean_kl"]
    cache = 4 * 2 * 2 * 64 * 4096  # layers, keys and values, bytes, width of one key, tokens
    assert answer["memory"] == {"4k": answer["bytes"] + cache, "32k": answer["bytes"] + 8 * cache}
    told = Path(answer["receipt"]).with_suffix(".md").read_text(encoding="utf-8")
    assert "held-out rows" in told and "Suite of 8 prompts" in told and "GB at 32k tokens" in told


def test_a_size_that_forgets_the_suite_says_so(tmp_path: Path, suite: Path) -> None:
    answer = export(tmp_path / "out", "gguf", model=STARTER_FOLDER, dtype="q2_k", suite=suite)
    assert answer["verdict"] == "warn" and any("suite's 8 prompts" in reason for reason in answer["reasons"])
    assert answer["suite"]["passed"] < 0.9 * answer["suite"]["passed_16bit"]


LOAD = """
import os, sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.warmup, p.n_gpu_layers, p.verbosity = sys.argv[1], 4096, 1, False, 0, 5
p.swa_full = False
server = xllamacpp.Server(p)
sys.stderr.flush()
os._exit(0)  # a server that is taken down before it has begun waits for itself now and then
"""


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_the_cache_is_as_large_as_llama_cpp_s_own(tmp_path: Path, family: str) -> None:
    folder = gguf_models.save(tmp_path / "model", family, sliding_window=1024, max_position_embeddings=8192)
    file = written(folder, tmp_path / "f.gguf", "q8_0")
    done = subprocess.run([sys.executable, "-c", LOAD, file], capture_output=True, text=True, timeout=60, check=True)
    log = done.stdout + done.stderr
    sizes = re.findall(r"llama_kv_cache: size = +([0-9.]+) MiB \( *[0-9]+ cells", log)
    caches = sizes[len(sizes) // 2 :]  # all of it is laid out twice: first without memory
    expected = proof.cache_bytes(BaseModel("tiny", folder).config, 4096) / (1 << 20)
    # Where layers have a window, llama.cpp keeps the rows of one batch beside it.
    batch = 0 if family == "qwen3" else 5 * 2 * 2 * 64 * 512 / (1 << 20)
    assert expected - 0.01 <= sum(map(float, caches)) <= expected + batch + 0.01


def test_rows_that_a_run_kept_back_weigh_nothing(tmp_path: Path) -> None:
    rows = [json.loads(one) for one in (json.dumps(row) for row in json.loads(ROWS.read_text(encoding="utf-8"))[:40])]
    (tmp_path / "all.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "back.json").write_text(json.dumps(rows[:10]), encoding="utf-8")
    held_out = probes.rows_of_file(STARTER_FOLDER, tmp_path / "back.json", 512)
    model = BaseModel("starter", STARTER_FOLDER)
    every = importance.collect(model, tmp_path / "all.json", model.parameters, 2 << 30)
    fewer = importance.collect(model, tmp_path / "all.json", model.parameters, 2 << 30, held_out.ids)
    assert every.rows == 40 and fewer.rows == 30 and fewer.tokens < every.tokens


@pytest.mark.parametrize(
    ("content", "items"),
    [
        ("Hi?\nTwo and two? => 4\n", [("Hi?", ""), ("Two and two?", "4")]),
        ('{"name": "a", "items": [{"prompt": "Hi?", "expect": "yes"}]}', [("Hi?", "yes")]),
        ('{"prompts": [{"prompt": "Hi?", "keys": ["a", "b"]}]}', [("Hi?", "a"), ("Hi?", "b")]),
    ],
)
def test_suites_are_read_as_they_are_written(tmp_path: Path, content: str, items: list[tuple[str, str]]) -> None:
    (tmp_path / "suite").write_text(content, encoding="utf-8")
    found = read_suite(tmp_path / "suite")
    assert [(item.prompt, item.expect) for item in found] == items
    answers = {"Hi?": "A and B, yes", "Two and two?": "5"}
    assert probes.share_passed(found, answers) == (0.0 if "Two" in content else 1.0)
    assert probes.share_passed(found, dict.fromkeys(answers, "a")) == 0.0


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", '{"prompts": [{"question": "Hi?"}]}', "7"])
def test_a_file_that_is_no_suite_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "suite").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match="is no suite"):
        read_suite(tmp_path / "suite")


def test_a_bound_that_nothing_meets_is_refused_with_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", {name: formats.FORMATS[name] for name in ("q8_0", "q4_k_m", "q2_k")})
    monkeypatch.setattr("app.export.targets.gguf_file.FORMATS", formats.FORMATS)
    # Q4_K_M was tried first and has the same agreement; Q8_0 is nearer.
    with pytest.raises(ExportError, match=r"No format is within kl=0\. The best, q8_0"):
        export(tmp_path / "out", "gguf", model=STARTER_FOLDER, smallest="kl=0", dtype="f16")
    assert not (tmp_path / "out").exists()


def test_lm_studio_finds_publisher_model_and_file(tmp_path: Path) -> None:
    answer = export(tmp_path / "mine", "lmstudio", model=STARTER_FOLDER, dtype="q4_k_m")
    assert Path(answer["path"]) == tmp_path / "mine" / "lora-workbench" / "mine" / "mine-q4_k_m.gguf"
    assert Path(answer["path"]).is_file() and "~/.lmstudio/models" in answer["run"]


@pytest.mark.parametrize(
    "text", ["", "agreement", "agreement=", "agreement=1.2", "kl=-1", "kl=nan", "speed=3", "=0.9", "kl=1,"]
)
def test_a_bound_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no bound"):
        Bound.of(text)


def test_a_bound_holds_where_all_its_limits_do() -> None:
    both = Bound.of("agreement=0.9, kl=0.1")
    assert both.holds(0.9, 0.1) and not both.holds(0.9, 0.2) and not both.holds(0.8, 0.1)
    assert Bound.of("suite=0.5").holds(0.0, 9.0, 0.5) and not Bound.of("suite=0").holds(1.0, 0.0)
    with pytest.raises(UsageError, match="takes a suite"):
        ExportRequest("gguf", "out", model="model", smallest="suite=0.9")


def test_what_is_for_gguf_files_alone_is_refused_elsewhere() -> None:
    for option in ({"smallest": "kl=1"}, {"imatrix": "rows.json"}, {"rows": "rows.json"}, {"suite": "suite.txt"}):
        with pytest.raises(UsageError, match="is for GGUF files"):
            ExportRequest("vllm", "out", adapter="adapter", **option)


@pytest.mark.parametrize("to", ["gguf", "lmstudio", "ollama"])
def test_the_line_to_run_a_zip_names_where_it_is_unpacked(tmp_path: Path, to: str) -> None:
    answer = export(tmp_path / "mine.zip", to, model=STARTER_FOLDER, dtype="q8_0")
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        archive.extractall(tmp_path)
    named = [Path(word) for word in re.split(r"[ ']+", answer["run"]) if word.startswith(str(tmp_path))]
    assert named and all(path.exists() and ".zip" not in str(path) for path in named)
