"""A profile of the starter: its parts add up to the step, and each is found where the run has it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from app.jobs import directory
from app.jobs.child import run_locked
from app.planner.step_profile import PARTS, StepProfile
from app.runs.results import flame
from app.runs.submission import profiling
from app.training.profile.products import Products, linear_shape, rate_of
from app.training.profile.stopwatch import Stopwatch
from app.workspace import open_workspace
from tests.models import tiny_models
from tests.training.in_process import small

pytestmark = tiny_models.PEFT_WARNING
CPU = torch.device("cpu")


def profiled(tmp_path: Path, trace: bool = False, **changes: object) -> tuple[StepProfile, directory.JobDirectory]:
    from app.training.profile import job

    made = directory.create(open_workspace(tmp_path), "profile", small(**changes).as_dict(), steps=2, trace=trace)
    run_locked(made, lambda: job.work)
    assert made.status().state == "finished", made.status().reason
    return profiling.read(made), made


def seconds(profile: StepProfile) -> dict[str, float]:
    return {part.name: part.seconds for part in profile.parts}


def test_the_parts_of_a_step_of_the_starter(tmp_path: Path) -> None:
    profile, job = profiled(tmp_path, trace=True, memory__dequantized_layers=0, memory__checkpointing="full")
    found = seconds(profile)
    assert tuple(found) == PARTS
    assert sum(found.values()) == pytest.approx(profile.seconds, rel=1e-6)
    assert sum(part.share for part in profile.parts) == pytest.approx(1, rel=1e-6)
    absent = [name for name, spent in found.items() if spent <= 0]
    assert absent == []
    assert profile.least_seconds <= profile.seconds <= profile.most_seconds and profile.tokens > 0
    assert profile.share_of_limit is not None and 0 < profile.share_of_limit < 1
    # q and o, k and v, gate and up, down, the tied head: by their shapes.
    shapes = {(product.inputs, product.outputs): product.calls for product in profile.products}
    assert shapes[256, 640] == 2 * shapes[640, 256] and shapes[256, 2048] == shapes[640, 256] / 4
    events = json.loads((job.result / "trace.json").read_text())["traceEvents"]
    assert {"backward", "mlp"} <= {event.get("name") for event in events}
    assert not any(job.checkpoints.glob("*")) and not (job.path / "work").exists()
    assert any("limit" in line for line in profiling.lines(profile))


def test_what_a_run_has_not_takes_no_time(tmp_path: Path) -> None:
    profile, _ = profiled(
        tmp_path, quantization__load_in_4bit=False, adapter__method="lora", memory__checkpointing="none"
    )
    found = seconds(profile)
    assert found["dequantisation"] == found["recomputation"] == 0 < found["forward: mlp"]


def test_the_picture_shows_every_wide_scope(tmp_path: Path) -> None:
    profile, _ = profiled(tmp_path)
    drawn = ElementTree.fromstring(flame.svg(profile))
    boxes = drawn.findall(".//{*}g")
    wide = [path for path, scope in profile.scopes.walk() if scope.seconds > profile.seconds / 1000]
    assert len(boxes) >= len(wide) > 20
    assert float(boxes[0].find("{*}rect").get("width")) == 1200  # type: ignore[union-attr,arg-type]


def test_a_stopwatch_counts_each_second_once() -> None:
    watch = Stopwatch(CPU)
    with watch.scope("before it runs"):
        watch.running = True
    with watch.scope("all"):
        for _ in range(2):
            with watch.scope("part"):
                time.sleep(0.02)
        with pytest.raises(RuntimeError), watch.scope("failing"):
            raise RuntimeError
        time.sleep(0.02)
    found = watch.read(2)
    assert found.name == "all" and [part.name for part in found.parts] == ["part", "failing"]
    assert 0.02 <= found.parts[0].seconds < 0.03 and 0.01 <= found.own < 0.02


def test_what_was_put_a_stopwatch_around_is_put_back() -> None:
    layer, watch = nn.Linear(2, 2), Stopwatch(CPU)
    before = dict(vars(layer))
    watch.around(layer, "forward", "x")
    assert layer.forward.__name__ == "forward" and "forward" in vars(layer)
    watch.restore()
    assert vars(layer) == before


def test_products_are_counted_by_shape_and_measured() -> None:
    products, layer = Products(), nn.Linear(64, 32)
    products.count(layer, 10)
    products.count(layer, 30)
    products.count(nn.LayerNorm(4), 5)
    (found,), alone = products.measured(2, torch.float32, CPU)
    assert (found.rows, found.inputs, found.outputs, found.calls) == (20, 64, 32, 1)
    assert alone == pytest.approx(4 * 40 * 64 * 32 / 2 / (found.gflops * 1e9))
    assert products.calls_of(layer) == 2 and linear_shape(None) is None


def test_the_limit_is_that_of_the_shape() -> None:
    assert rate_of(512, 512, 512, torch.float32, CPU) > 2 * rate_of(1, 64, 64, torch.float32, CPU)
