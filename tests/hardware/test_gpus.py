"""Which GPU a run trains on: the first that the installed PyTorch is a build for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.hardware import Gpu, Readings, gpus
from app.hardware.apple import apple_gpus

GB = 1 << 30
NVIDIA = Gpu(0, "RTX 4070", 12 * GB, 11 * GB)
AMD = Gpu(0, "AMD Radeon RX 7900 XTX", 24 * GB, 21 * GB, kind="rocm")
SECOND = Gpu(1, "AMD Radeon RX 7600", 8 * GB, 7 * GB, kind="rocm")
INTEL = Gpu(0, "Intel Arc B580", None, None, kind="xpu")


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put another build of PyTorch into the place of the installed one."""
    return lambda name: monkeypatch.setattr(gpus, "torch_build", lambda: name)


def machine(*cards: Gpu) -> Readings:
    return Readings("cpu", 2, 0.0, GB, GB, GB, cards, "")


@pytest.mark.parametrize(
    ("installed", "trains_on", "alike"),
    [("cpu", None, 0), ("rocm7.2", AMD, 2), ("xpu", INTEL, 1), ("", None, 0), ("cu130", None, 0)],
)
def test_a_run_trains_on_what_pytorch_was_built_for(
    build: Callable[[str], None], installed: str, trains_on: Gpu | None, alike: int
) -> None:
    build(installed)
    here = machine(AMD, SECOND, INTEL)
    assert here.gpu == trains_on and len(here.alike) == alike


@pytest.mark.parametrize("installed", ["cpu", "", "cu130"])
def test_a_card_of_nvidia_goes_first_whatever_the_build(build: Callable[[str], None], installed: str) -> None:
    build(installed)
    here = machine(NVIDIA, AMD)
    assert here.gpu == NVIDIA and here.alike == (NVIDIA,)


def test_the_installed_build_is_the_one_of_torch_itself() -> None:
    torch = pytest.importorskip("torch")
    assert gpus.torch_build() == torch.__version__.partition("+")[2]


def test_apple_silicon_shares_the_memory_of_the_machine() -> None:
    assert apple_gpus(16 * GB, 9 * GB, "Darwin", "arm64") == (Gpu(0, "Apple silicon", 16 * GB, 9 * GB, kind="mps"),)
    assert apple_gpus(16 * GB, 9 * GB, "Darwin", "arm64")[0].computes
    for system, processor in (("Darwin", "x86_64"), ("Linux", "aarch64"), ("Linux", "arm64"), ("Windows", "ARM64")):
        assert apple_gpus(16 * GB, 9 * GB, system, processor) == ()
