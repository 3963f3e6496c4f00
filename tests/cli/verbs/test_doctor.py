"""`doctor` names each GPU, what is known of its memory, and a PyTorch that does not compute on it."""

from __future__ import annotations

import pytest

from app.cli.verbs import doctor
from app.hardware import Gpu, Readings, gpus

GB = 1 << 30
NVIDIA = Gpu(0, "RTX 4070", 12 * GB, 9 * GB)
AMD = Gpu(0, "AMD Radeon RX 7600", 8 * GB, 7 * GB, kind="rocm")
INTEL = Gpu(0, "Intel Arc B580", None, None, kind="xpu")
APPLE = Gpu(0, "Apple silicon", 16 * GB, 9 * GB, kind="mps")


def told(monkeypatch: pytest.MonkeyPatch, build: str, *cards: Gpu) -> dict[str, tuple[str, str]]:
    for module in (gpus, doctor):
        monkeypatch.setattr(module, "torch_build", lambda: build)
    machine = Readings("cpu", 2, 0.0, GB, GB, GB, cards, "580.65")
    return {finding.name: (finding.state, finding.found) for finding in doctor._accelerator(machine)}


def test_no_gpu_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    state, found = told(monkeypatch, "cpu")["GPU"]
    assert state == "note" and "training runs on the processor" in found


def test_a_card_of_nvidia_is_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch, "cpu", NVIDIA)
    assert found["RTX 4070"] == ("ok", "driver 580.65, 9.0 of 12.0 GB free")
    assert found["CUDA"] == ("missing", "PyTorch is the CPU build")
    assert "CUDA" not in told(monkeypatch, "", NVIDIA)


@pytest.mark.parametrize(("build", "card", "kind"), [("rocm7.2", AMD, "ROCm"), ("xpu", INTEL, "XPU")])
def test_a_build_that_does_not_fit_the_card_is_missing(
    monkeypatch: pytest.MonkeyPatch, build: str, card: Gpu, kind: str
) -> None:
    found = told(monkeypatch, "cpu", card)
    assert found[kind] == ("missing", f"PyTorch is the cpu build, so {card.name} is not used")
    found = told(monkeypatch, build, card)
    assert kind not in found and found["bitsandbytes library"][1].endswith(f"{card.kind} among them")


def test_only_what_was_measured_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch, "rocm7.2", AMD, INTEL, APPLE)
    for card in (AMD, INTEL, APPLE):
        assert "training there not measured" in found[card.name][1]
    assert "7.0 of 8.0 GB free" in found[AMD.name][1] and "memory not known" in found[INTEL.name][1]
