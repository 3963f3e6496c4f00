"""AMD's and Intel's cards out of folders laid out as Linux lays them out in /sys, /dev and /usr."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

import launch
from app.hardware import Gpu
from app.hardware.linux import linux_gpus

GIB = 1 << 30
PCI_IDS = """\
# List of PCI devices
10de  NVIDIA Corporation
	744c  Not the one that is asked for
1002  Advanced Micro Devices, Inc. [AMD/ATI]
	164e  Raphael
	744c  Navi 31 [Radeon RX 7900 XT/7900 XTX]
		1002 0e3b  A board of one maker
8086  Intel Corporation
	56a0  DG2 [Arc A770]
	e20b  Battlemage G21 [Arc B580]
"""


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def plug(root: Path, number: int, vendor: str, device: str, slot: str, driver: str, **files: object) -> Path:
    """Make /sys/class/drm/cardN with its connector beside it; the names of `files` have `__` for a slash."""
    card = root / f"sys/class/drm/card{number}"
    write(card / "device/vendor", f"0x{vendor}")
    write(card / "device/device", f"0x{device}")
    write(card / "device/uevent", f"DRIVER={driver}\nPCI_ID={vendor}:{device}\nPCI_SLOT_NAME={slot}")
    for name, value in files.items():
        write(card / name.replace("__", "/"), value)
    write(root / f"sys/class/drm/card{number}-DP-1/status", "connected")
    return card


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine without a card, whose kernel would let one compute."""
    write(tmp_path / "dev/kfd", "")
    write(tmp_path / "dev/dri/renderD128", "")
    write(tmp_path / "usr/share/hwdata/pci.ids", PCI_IDS.rstrip())
    return tmp_path


def amd(root: Path, number: int = 0, total: int = 24 * GIB, **files: object) -> Path:
    sizes = {"device__mem_info_vram_total": total, "device__mem_info_vram_used": 3 * GIB}
    return plug(root, number, "1002", "744c", "0000:03:00.0", "amdgpu", **{**sizes, **files})


def test_a_card_of_amd_is_read_with_its_sensors(root: Path) -> None:
    amd(
        root,
        device__gpu_busy_percent=37,
        device__hwmon__hwmon4__temp1_input=61_500,
        device__hwmon__hwmon4__power1_average=185_000_000,
    )
    (gpu,) = linux_gpus(root)
    assert gpu == Gpu(0, "AMD Radeon RX 7900 XT/7900 XTX", 24 * GIB, 21 * GIB, 61, 37, 185.0, "rocm")
    assert gpu.used_bytes == 3 * GIB


def test_a_card_without_sensors_and_without_a_list_of_names_is_still_a_card(root: Path) -> None:
    (root / "usr/share/hwdata/pci.ids").unlink()
    card = amd(root)
    (card / "device/mem_info_vram_used").unlink()
    (gpu,) = linux_gpus(root)
    assert gpu == Gpu(0, "AMD GPU 0x744c", 24 * GIB, None, kind="rocm") and gpu.used_bytes is None


def test_a_name_of_the_boards_own_goes_first(root: Path) -> None:
    amd(root, device__product_name="AMD Instinct MI210")
    assert [gpu.name for gpu in linux_gpus(root)] == ["AMD Instinct MI210"]


@pytest.mark.parametrize("total", [GIB // 2, 4 * GIB])
def test_graphics_within_a_processor_are_no_card_of_amd(root: Path, total: int) -> None:
    amd(root, total=total)
    assert linux_gpus(root) == ()


def test_a_card_that_the_kernel_lets_nobody_compute_on_is_none(root: Path) -> None:
    amd(root)
    intel(root, 1)
    assert len(linux_gpus(root)) == 2
    (root / "dev/kfd").unlink()
    assert [gpu.kind for gpu in linux_gpus(root)] == ["xpu"]
    (root / "dev/dri/renderD128").unlink()
    (root / "dev/dri").rmdir()
    assert linux_gpus(root) == ()


def intel(root: Path, number: int = 0, device: str = "e20b", slot: str = "0000:03:00.0", **files: object) -> Path:
    return plug(root, number, "8086", device, slot, "xe", **files)


def test_a_card_of_intel_by_xe_has_the_size_of_its_tiles(root: Path) -> None:
    intel(root, device__tile0__physical_vram_size_bytes="0x00000002fa000000")
    (gpu,) = linux_gpus(root)
    assert gpu == Gpu(0, "Intel Arc B580", 0x2FA000000, None, kind="xpu")


def test_a_card_of_intel_by_i915_has_the_size_that_the_driver_tells(root: Path) -> None:
    intel(root, device="56a0", lmem_total_bytes=16 * GIB, lmem_avail_bytes=15 * GIB)
    assert linux_gpus(root) == (Gpu(0, "Intel Arc A770", 16 * GIB, 15 * GIB, kind="xpu"),)


def test_what_the_driver_of_intel_does_not_tell_is_not_known(root: Path) -> None:
    intel(root)
    assert linux_gpus(root) == (Gpu(0, "Intel Arc B580", None, None, kind="xpu"),)


def test_graphics_within_a_processor_are_no_card_of_intel(root: Path) -> None:
    intel(root, slot="0000:00:02.0", lmem_total_bytes=16 * GIB)
    assert linux_gpus(root) == ()


def test_cards_come_by_maker_and_number_and_are_counted_by_kind(root: Path) -> None:
    intel(root, 1)
    amd(root, 10, 16 * GIB)
    amd(root, 2)
    plug(root, 0, "10de", "2786", "0000:01:00.0", "nvidia")
    found = [(gpu.kind, gpu.index, (gpu.total_bytes or 0) // GIB) for gpu in linux_gpus(root)]
    assert found == [("rocm", 0, 24), ("rocm", 1, 16), ("xpu", 0, 0)]


def test_no_folder_of_cards_is_no_card(tmp_path: Path) -> None:
    assert linux_gpus(tmp_path) == ()


@pytest.mark.parametrize(
    ("make", "maker"),
    [
        (lambda root: None, ""),
        (amd, launch.AMD),
        (intel, launch.INTEL),
        (lambda root: (intel(root), amd(root, 1)), launch.AMD),
        (lambda root: amd(root, total=4 * GIB), ""),
        (lambda root: (amd(root) / "device/mem_info_vram_total").unlink(), ""),
        (lambda root: (amd(root), (root / "dev/kfd").unlink()), ""),
        (lambda root: intel(root, slot="0000:00:02.0"), ""),
        (lambda root: (intel(root) / "device/uevent").unlink(), ""),
        (lambda root: (intel(root), shutil.rmtree(root / "dev/dri")), ""),
        (lambda root: plug(root, 0, "10de", "2786", "0000:01:00.0", "nvidia"), ""),
    ],
)
def test_the_launcher_finds_what_the_page_finds(root: Path, make: Callable[[Path], object], maker: str) -> None:
    make(root)
    assert launch.other_card(root) == maker
    kinds = {"rocm": launch.AMD, "xpu": launch.INTEL}
    assert [kinds[gpu.kind] for gpu in linux_gpus(root)][:1] == ([maker] if maker else [])


@pytest.mark.parametrize("build", [build for _, build in launch.OTHER_BUILDS.values()])
def test_bitsandbytes_has_a_library_for_each_build(build: str) -> None:
    """The name that the package looks for: rocm72 for ROCm 7.2, xpu and the year of its toolchain."""
    spec = find_spec("bitsandbytes")
    assert spec is not None and spec.origin is not None
    names = [path.stem for path in Path(spec.origin).parent.glob("libbitsandbytes_*.so")]
    if not any("cuda" in name for name in names):
        pytest.skip("this wheel is not the one of Linux on x86")
    assert any(name.startswith(f"libbitsandbytes_{build.replace('.', '')}") for name in names)
