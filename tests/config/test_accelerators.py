"""What bitsandbytes has for each kind of GPU: the table against the installed package, and who asks it."""

from __future__ import annotations

import re
from importlib.metadata import distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest

from app import catalog
from app.config import presets
from app.config.accelerators import BITSANDBYTES, INSTEAD, Kind, has_optimizer
from app.config.rules import refused_here
from app.config.schema import RunConfig
from app.config.sections import Optimizer
from app.planner.machine import Machine, request_here
from app.planner.warnings import warnings_for
from app.runs import draft
from app.ui.shell.language import Translator
from app.workspace import Workspace

GB = 1 << 30
KINDS: tuple[Kind, ...] = get_args(Kind)
# What bitsandbytes calls each kind: on an AMD card torch says `cuda`.
_DISPATCHED: dict[Kind, str] = {"cuda": "cuda", "rocm": "cuda", "xpu": "xpu", "mps": "mps"}
_LIBRARIES: dict[Kind, str] = {"cuda": "cuda", "rocm": "rocm", "xpu": "xpu", "mps": "cpu"}


def package() -> Path:
    spec = find_spec("bitsandbytes")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def registered() -> set[tuple[str, str]]:
    """Return operation and device of every kernel that the package registers."""
    pattern = re.compile(r'register_kernel\(\s*"bitsandbytes::([\w.]+)",\s*"(\w+)"\s*\)')
    sources = sorted(package().glob("backends/*/ops.py"))
    return {found for source in sources for found in pattern.findall(source.read_text(encoding="utf-8"))}


def test_the_table_is_of_the_pinned_release() -> None:
    assert version("bitsandbytes") == "0.50.2"


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_eight_bit_optimizers_where_their_step_is_registered(kind: Kind) -> None:
    found = registered()
    assert len(found) > 40 and ("quantize_4bit", "mps") in found
    step = "optimizer_update_8bit_blockwise"
    assert (step, "default") not in found
    assert BITSANDBYTES[kind].eight_bit_optimizers is ((step, _DISPATCHED[kind]) in found)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_registered_for_a_device_is_computed_by_pytorch(kind: Kind) -> None:
    found = registered()
    for name in ("int8_linear_matmul", "int8_vectorwise_quant", "dequantize_4bit", "quantize_4bit"):
        assert (name, "default") in found
    own = {name for name, device in found if device == _DISPATCHED[kind]}
    assert (BITSANDBYTES[kind].eight_bit == "kernels") is ({"int8_linear_matmul", "int8_vectorwise_quant"} <= own)
    # For Metal the operations are registered, and are PyTorch's own unless the package `kernels` brings others.
    assert {"dequantize_4bit", "quantize_4bit"} <= own
    text = (package() / f"backends/{_DISPATCHED[kind]}/ops.py").read_text(encoding="utf-8")
    assert (BITSANDBYTES[kind].four_bit == "torch") is ("from kernels import get_kernel" in text)
    assert "kernels" not in (Path(presets.__file__).parents[2] / "requirements.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_optimizers_are_paged_where_the_library_can(kind: Kind) -> None:
    libraries = sorted(package().glob(f"libbitsandbytes_{_LIBRARIES[kind]}*"))
    if not libraries:
        pytest.skip(f"this wheel has no library for {kind}")
    assert {b"cget_managed_ptr" in library.read_bytes() for library in libraries} == {
        BITSANDBYTES[kind].paged_optimizers
    }


def test_the_readme_of_the_package_says_so_too() -> None:
    text = distribution("bitsandbytes").metadata.get_payload()
    rows = re.split(r"</tr>", str(text))
    metal = next(row for row in rows if "<code>mps</code>" in row)
    assert metal.count("🚧") == 1 and metal.rindex("🚧") > metal.rindex("✅")  # its last column: 8-bit optimisers
    assert all(row.count("✅") == 3 for row in rows if "<code>xpu</code>" in row or "AMD GPU" in row)


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_an_optimizer_that_is_not_there_is_refused_with_one_that_is(kind: Kind | None) -> None:
    refused = set()
    for optimizer in get_args(Optimizer):
        config = RunConfig().changed({"training.optim": optimizer})
        found = list(refused_here(config, kind=kind))
        assert bool(found) is not has_optimizer(kind, optimizer)
        refused |= {optimizer} if found else set()
        for problem in found:
            assert problem.field == "training.optim" and INSTEAD in problem.remedy
            assert optimizer in problem.message and "(mps)" in problem.message
            said = Translator("zh").heard(problem.message)
            assert optimizer in said and "没有" in said
    paged_or_8bit = {"adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "lion_8bit"}
    assert refused == (paged_or_8bit if kind == "mps" else set())
    assert has_optimizer(kind, INSTEAD)


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_every_preset_can_be_run_on_every_kind(kind: Kind | None) -> None:
    for preset in presets.all_presets():
        assert not list(refused_here(preset.on(kind).config, kind=kind)), (preset.name, kind)
        if kind != "mps":
            assert preset.on(kind) == preset
    paged = presets.load("12gb")
    changed = paged.on("mps").config
    assert changed == paged.config.changed({"training.optim": INSTEAD}) != paged.config


def test_the_first_draft_on_a_mac_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from app import hardware

    mac = hardware.Gpu(0, "Apple silicon", 16 * GB, 9 * GB, kind="mps")
    machine = hardware.Readings("cpu", 8, 0.0, 16 * GB, 9 * GB, 1 << 40, (mac,), "")
    monkeypatch.setattr(hardware, "readings", lambda folder=None: machine)
    draft.first.cache_clear()
    try:
        config = draft.first().config
    finally:
        draft.first.cache_clear()
    assert config.training.optim == INSTEAD and config.quantization.load_in_4bit


NOTES = {
    "rocm": ["planner.note.kind", "planner.note.paged"],
    "xpu": ["planner.note.kind", "planner.note.paged"],
    "mps": ["planner.note.kind", "planner.note.no_kernel", "planner.note.no_optimizer"],
    "cuda": ["planner.note.paged"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_says_what_is_not_measured_and_what_is_not_there(workspace: Workspace, kind: Kind) -> None:
    config = RunConfig().changed({"model.name": "Qwen/Qwen3-4B", "training.optim": "paged_adamw_8bit"})
    model = catalog.find("Qwen/Qwen3-4B", None)
    machine = Machine("cuda", "stand-in", None, kind)
    request = request_here(config, workspace, model, machine=machine)
    said = [one for one in warnings_for(request) if one.key in {key for keys in NOTES.values() for key in keys}]
    assert sorted(one.key for one in said) == sorted(NOTES[kind])
    assert all("not measured" in one for one in said if one.key == "planner.note.kind")


def test_flash_attention_is_for_cards_of_nvidia_and_amd() -> None:
    config = RunConfig().changed({"model.attn_implementation": "flash_attention_2", "training.optim": INSTEAD})
    for kind in ("xpu", "mps"):
        (problem,) = refused_here(config, kind=kind)
        assert "NVIDIA and AMD only" in problem.message
