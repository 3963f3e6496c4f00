"""AMD's and Intel's cards as Linux lists them, read from sysfs alone.

A card counts where torch could reach it. amdgpu's memory comes from `mem_info_vram_*` (Linux, gpu/amdgpu/driver-misc).
Intel's drivers tell less: xe has the size of each tile, i915 outside of the mainline kernel size and rest of the local
memory, and neither tells what xe has free; what is not told is None.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from app.hardware.gpus import Gpu

_AMD, _INTEL = "0x1002", "0x8086"
# Processors with graphics set aside 0.5 to 4 GiB for them; the smallest card that a preset is made for has 6 GB.
_LEAST_BYTES = 5 << 30
# Intel's graphics within the processor have always this place on the PCI bus, its cards never.
_WITHIN_PROCESSOR = re.compile(r"^PCI_SLOT_NAME=[0-9a-f]+:00:02\.0$", re.MULTILINE)
# Names of devices by vendor, as pciutils and hwdata install them.
_NAME_FILES = ("usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids")


def linux_gpus(root: Path = Path("/")) -> tuple[Gpu, ...]:
    """Return the cards of AMD, then those of Intel, in the order of their numbers. `root` holds sys, dev and usr."""
    cards = [path for path in (root / "sys/class/drm").glob("card*") if path.name[4:].isdigit()]
    found: dict[str, list[Gpu]] = {_AMD: [], _INTEL: []}
    for card in sorted(cards, key=lambda path: int(path.name[4:])):
        vendor = _text(card / "device/vendor")
        if vendor in found:
            gpu = (_amd if vendor == _AMD else _intel)(root, card, len(found[vendor]))
            found[vendor] += [gpu] if gpu else []
    return (*found[_AMD], *found[_INTEL])


def _amd(root: Path, card: Path, index: int) -> Gpu | None:
    """Return a card that ROCm may reach: amdgpu's, of a size to train on, with the kernel's interface for computing."""
    device = card / "device"
    total, used = _number(device / "mem_info_vram_total"), _number(device / "mem_info_vram_used")
    if total is None or total < _LEAST_BYTES or not (root / "dev/kfd").exists():
        return None
    return Gpu(
        index=index,
        name=_text(device / "product_name") or _name(root, device, "AMD"),
        total_bytes=total,
        free_bytes=None if used is None else max(0, total - used),
        temperature_c=_scaled(device, "temp1_input", 1000),
        load_percent=_number(device / "gpu_busy_percent"),
        power_w=_scaled(device, "power1_average", 1_000_000),
        kind="rocm",
    )


def _intel(root: Path, card: Path, index: int) -> Gpu | None:
    """Return a card that SYCL may reach, not the graphics within a processor."""
    device = card / "device"
    facts = _text(device / "uevent")
    if "PCI_SLOT_NAME=" not in facts or _WITHIN_PROCESSOR.search(facts) or not (root / "dev/dri").exists():
        return None
    tiles = [_number(path) for path in device.glob("tile*/physical_vram_size_bytes")]
    told = [size for size in tiles if size]
    return Gpu(
        index=index,
        name=_name(root, device, "Intel"),
        total_bytes=sum(told) or _number(card / "lmem_total_bytes"),
        free_bytes=_number(card / "lmem_avail_bytes"),
        kind="xpu",
    )


def _name(root: Path, device: Path, vendor: str) -> str:
    """Return a card's name for a person: the one that it is sold under, else its number."""
    number = _text(device / "device")
    known = next(filter(None, (_listed(root / file, _text(device / "vendor"), number) for file in _NAME_FILES)), "")
    sold = re.search(r"\[(.+)\]", known)
    return f"{vendor} {sold[1] if sold else known or f'GPU {number}'}"


@lru_cache(maxsize=16)
def _listed(file: Path, vendor: str, device: str) -> str:
    """Return what a list of PCI devices calls a device: its line is indented below the one of its vendor."""
    within = False
    for line in _text(file).splitlines():
        if line[:1] not in ("", "#", "\t"):
            within = line.startswith(f"{vendor[2:]} ")
        elif within and line.startswith(f"\t{device[2:]} "):
            return line.partition("  ")[2].strip()
    return ""


def _scaled(device: Path, sensor: str, units: int) -> int | None:
    """Return the first reading of a sensor in whole units."""
    values = [_number(path) for path in sorted(device.glob(f"hwmon/hwmon*/{sensor}"))]
    return next((value // units for value in values if value is not None), None)


def _number(file: Path) -> int | None:
    try:
        return int(_text(file), 0)
    except ValueError:
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
