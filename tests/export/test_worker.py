"""The merge as a job: receipt, memory, stop, kill at any moment."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from app.errors import DiskError, ExportError, ModelError
from app.export.merge import job as merge_job
from app.export.merge.base_model import find_base
from app.export.merge.plan import make_plan
from app.export.merge.streaming import write_shards
from app.export.requests import MergeAnswer, MergeRequest, start_merge, wait_for_answer
from app.export.staging import opened, staging_folder
from app.jobs import requests as jobs
from app.jobs.child import JobChild
from app.jobs.directory import JobDirectory, create
from app.models.adapters import AdapterFolder
from app.models.identity import write_note
from app.models.tensors import read_checkpoint
from app.workspace import file_sha256, open_workspace
from tests.export.merging import merge
from tests.models import tiny_models


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    base = tiny_models.save_model(folder / "base", "qwen3", dtype=torch.bfloat16)
    return base, tiny_models.save_adapter(folder / "adapter", base, scale=0.03)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in folder.glob("*.safetensors")}


def test_a_merge_job_leaves_a_model_with_a_receipt(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    workspace, out = open_workspace(tmp_path), tmp_path / "merged"
    request = MergeRequest(str(pair[1]), str(out))
    answer = asdict(wait_for_answer(start_merge(workspace, request), MergeAnswer))
    assert list(answer)[:8] == [
        "model",
        "receipt",
        "verdict",
        "greedy_agreement",
        "mean_kl",
        "max_logit_diff",
        "peak_rss_bytes",
        "seconds",
    ]
    receipt = json.loads((out / "receipt.json").read_text())
    assert answer["model"] == str(out) and answer["receipt"] == str(out / "receipt.json")
    assert receipt["verdict"] == answer["verdict"] == ("pass" if not receipt["reasons"] else "warn")
    assert receipt["merged_against_adapter"]["greedy_agreement"] == answer["greedy_agreement"] > 0.8
    assert 0 <= answer["mean_kl"] < 0.05 and 0 < answer["max_logit_diff"] < 1
    assert receipt["nf4_against_16_bit"]["with_adapter"]["mean_kl"] > answer["mean_kl"]
    assert receipt["base"]["files"]["model.safetensors"] == file_sha256(pair[0] / "model.safetensors")
    assert receipt["adapter"]["files"]["adapter_model.safetensors"] == file_sha256(
        pair[1] / "adapter_model.safetensors"
    )
    assert receipt["shards"] == hashes(out)
    text = (out / "receipt.md").read_text()
    assert receipt["verdict"] in text and str(tmp_path) not in text and str(pair[0]) not in json.dumps(receipt)
    assert not staging_folder(out, resumable=True).exists()
    with pytest.raises(ExportError, match="exists"):
        start_merge(workspace, request)


def test_what_is_doubtful_stands_in_the_receipt(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """Another base than in training, a setting of another program, and nothing that the check could read with."""
    base, adapter = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in pair)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "use_magic": True}))
    write_note(adapter, "0" * 64)
    for path in base.glob("tokenizer*"):
        path.unlink()
    out = tmp_path / "out"
    wish = {"adapter": str(adapter), "out": str(out), "base": str(base)}
    with tiny_models.quiet_peft():
        _, answer = merge_job.run(JobChild(create(open_workspace(tmp_path), "merge", wish)))
    reasons = json.loads((out / "receipt.json").read_text())["reasons"]
    assert answer["verdict"] == "warn" and [reason.split()[0] for reason in reasons] == ["the", "the", "not"]
    assert "use_magic" in reasons[0] and "another base" in reasons[1] and str(tmp_path) not in str(reasons)


def test_an_export_without_room_leaves_nothing_and_one_that_has_begun_stays(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="more on this disk"), opened(tmp_path / "out", "digest", 1 << 60):
        pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), opened(tmp_path / "out", "digest") as staging:
        staging.add_text("weights", "begun")
        raise KeyboardInterrupt
    with opened(tmp_path / "out", "digest") as staging:
        assert (staging.folder / "weights").read_text() == "begun"
    with opened(tmp_path / "out", "another") as staging:
        assert not staging.has_begun


def test_a_merge_that_can_never_succeed_leaves_nothing(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    settings = {"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]}
    adapter = tiny_models.save_adapter(tmp_path / "adapter", pair[0], **settings)
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors["base_model.model.lm_head.weight"][-1, -1] = float("nan")
    save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match="not numbers"):
        merge(adapter, tmp_path / "out")
    assert not staging_folder(tmp_path / "out", resumable=True).exists()
    for place in (adapter / "adapter_config.json" / "out", Path("/proc/nothing/out")):
        with pytest.raises(ExportError, match="cannot be made"):
            merge(pair[1], place)


def big_pair(folder: Path, layers: int) -> tuple[Path, Path]:
    """Return a bf16 model of 50 MB a layer, without initialising it, and an adapter."""
    config = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": layers, "head_dim": 256}
    base = tiny_models.save_model(folder / "base", "llama", dtype=torch.bfloat16, **config)
    return base, tiny_models.save_adapter(folder / "adapter", base)


def test_memory_stays_within_the_bound_and_what_does_not_fit_is_not_measured(tmp_path: Path) -> None:
    base, adapter = big_pair(tmp_path, 4)
    size = sum(tensor.bytes for tensor in read_checkpoint(base).values())
    bound = 64 << 20
    assert size > 1.5 * bound
    out = tmp_path / "merged"
    request = MergeRequest(str(adapter), str(out), max_ram_bytes=bound)
    answer = wait_for_answer(start_merge(open_workspace(tmp_path), request), MergeAnswer)
    receipt = json.loads((out / "receipt.json").read_text())
    assert receipt["peak_rss_bytes"] - receipt["baseline_rss_bytes"] <= bound
    assert answer.verdict == "warn" and answer.mean_kl is None
    assert receipt["merged_against_adapter"] == "not measured" and "do not fit" in receipt["reasons"][0]


def test_an_interrupted_merge_goes_on_and_gives_the_same_bytes(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    whole = merge(pair[1], tmp_path / "whole")
    count = 0

    def pause() -> None:
        nonlocal count
        count += 1
        if count == 150:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(pair[1], tmp_path / "out", pause=pause)
    draft = staging_folder(tmp_path / "out", resumable=True)
    kept = {path.name: path.stat().st_mtime_ns for path in draft.glob("*.safetensors")}
    assert kept and not (tmp_path / "out").exists()
    out = merge(pair[1], tmp_path / "out")
    assert hashes(out) == hashes(whole)
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept


def test_a_damaged_or_foreign_draft_is_not_used(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    whole, out = merge(pair[1], tmp_path / "whole"), tmp_path / "out"
    adapter = AdapterFolder(pair[1])
    plan = make_plan(find_base(adapter), adapter, None, 300_000)
    with opened(out, plan.digest, plan.bytes) as draft:
        write_shards(adapter, plan, draft, 1 << 20)
        first = next(iter(plan.shards))
        data = bytearray((draft.folder / first).read_bytes())
        data[-1] ^= 1
        (draft.folder / first).write_bytes(data)
    assert hashes(merge(pair[1], out)) == hashes(whole)
    other = tmp_path / "other"
    with opened(other, plan.digest, plan.bytes) as draft:
        write_shards(adapter, plan, draft, 1 << 20)
    wide = merge(pair[1], other, dtype=torch.float32)
    assert {tensor.dtype for tensor in read_checkpoint(wide).values()} == {torch.float32}


def test_two_merges_to_one_place_do_not_meet(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    adapter = AdapterFolder(pair[1])
    plan = make_plan(find_base(adapter), adapter, None, 300_000)
    with (
        opened(tmp_path / "out", plan.digest, plan.bytes),
        pytest.raises(ExportError, match="Another export"),
        opened(tmp_path / "out", plan.digest, plan.bytes),
    ):
        pass
    assert not (tmp_path / ".out.lock").exists()


def gone(job: JobDirectory) -> None:
    """Wait until the process of an ended job has left."""
    pid, end = job.recorded_status().pid, time.monotonic() + 60
    while pid and psutil.pid_exists(pid) and time.monotonic() < end:
        time.sleep(0.05)


@pytest.mark.slow
def test_a_stopped_merge_leaves_nothing_at_its_place_and_can_be_resumed(tmp_path: Path) -> None:
    _, adapter = big_pair(tmp_path, 8)
    workspace, out = open_workspace(tmp_path), tmp_path / "merged"
    job = start_merge(workspace, MergeRequest(str(adapter), str(out), max_ram_bytes=64 << 20))
    jobs.wait(job, until=lambda status: status.phase == "merging", timeout_s=120, poll_s=0.01)
    jobs.stop(workspace, job)
    assert jobs.wait(job, timeout_s=60).state == "stopped" and not out.exists()
    gone(job)
    jobs.resume(workspace, job)
    assert jobs.wait(job, timeout_s=120).state == "finished"
    assert hashes(out) == hashes(merge(adapter, tmp_path / "again", shard_bytes=4 << 30, max_ram_bytes=64 << 20))


@pytest.mark.slow
def test_a_killed_job_leaves_no_export_and_goes_on(tmp_path: Path) -> None:
    _, adapter = big_pair(tmp_path, 4)
    workspace, out = open_workspace(tmp_path), tmp_path / "merged"
    job = start_merge(workspace, MergeRequest(str(adapter), str(out), max_ram_bytes=64 << 20))
    jobs.wait(job, until=lambda status: status.phase == "merging", timeout_s=120, poll_s=0.005)
    pid = job.recorded_status().pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert jobs.wait(job, timeout_s=60).state == "interrupted" and not out.exists()
    jobs.resume(workspace, job)
    assert jobs.wait(job, timeout_s=120).state == "finished"
    assert (out / "receipt.json").is_file() and not staging_folder(out, resumable=True).exists()


def _merge_here(adapter: Path, out: Path) -> None:
    """Merge in a process of its own, which may be killed."""
    torch.set_num_threads(1)
    merge(adapter, out, shard_bytes=20 << 20, max_ram_bytes=4 << 20)


@pytest.mark.slow
def test_killed_at_ten_random_moments_the_export_is_absent_or_complete(tmp_path: Path) -> None:
    """The processes are forked from a server that has the libraries, so that the kills fall into the merge itself."""
    base, adapter = big_pair(tmp_path, 2)
    old = merge(adapter, tmp_path / "old", max_ram_bytes=4 << 20, shard_bytes=20 << 20)
    inputs = [path for folder in (base, adapter, old) for path in folder.iterdir()]
    before = {path: file_sha256(path) for path in inputs}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.export.test_worker"])
    run_to_its_end(context, adapter, tmp_path / "first")
    began = time.monotonic()  # the server has the libraries now
    run_to_its_end(context, adapter, tmp_path / "second")
    whole_s, generator, killed = time.monotonic() - began, random.Random(7), 0
    for attempt in range(10):
        out = tmp_path / f"merged-{attempt}"
        process = context.Process(target=_merge_here, args=(adapter, out))
        process.start()
        time.sleep(generator.random() * whole_s)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        assert not out.exists() or hashes(out) == hashes(old)
        if not out.exists():
            run_to_its_end(context, adapter, out)
        assert hashes(out) == hashes(old) and not staging_folder(out, resumable=True).exists()
        shutil.rmtree(out)
    assert killed >= 5
    assert before == {path: file_sha256(path) for path in inputs}


def run_to_its_end(context: multiprocessing.context.ForkServerContext, adapter: Path, out: Path) -> None:
    process = context.Process(target=_merge_here, args=(adapter, out))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_damaged_base_is_refused(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    base = tiny_models.save_model(tmp_path / "base", "qwen3", dtype=torch.bfloat16)
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="damaged"):
        merge(pair[1], tmp_path / "merged", base=str(base))
    save_file({"model.norm.weight": torch.ones(3)}, weights)
    with pytest.raises(ExportError, match=r"no weights for|no such parameter"):
        merge(pair[1], tmp_path / "merged", base=str(base))
    assert not (tmp_path / "merged").exists() and not staging_folder(tmp_path / "merged", resumable=True).exists()
