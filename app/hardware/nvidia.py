"""NVIDIA's cards, through NVML."""

from __future__ import annotations

from typing import Any

from app.hardware.gpus import Gpu


def nvidia_gpus() -> tuple[tuple[Gpu, ...], str]:
    """Return the NVIDIA cards and the driver's version; none without a driver."""
    try:
        import pynvml  # imported late: without a driver it is of no use

        pynvml.nvmlInit()
    except Exception:  # the module may be missing, or fail in the loader; every way means "no card here"
        return (), ""
    try:
        count = pynvml.nvmlDeviceGetCount()
        cards = tuple(card for card in (_card(pynvml, index) for index in range(count)) if card is not None)
        return cards, _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return (), ""


def _card(pynvml: Any, index: int) -> Gpu | None:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        name = _text(pynvml.nvmlDeviceGetName(handle))
    except pynvml.NVMLError:
        return None

    def reading(function: Any, *arguments: Any) -> Any:
        try:
            return function(handle, *arguments)
        except pynvml.NVMLError:  # laptops and virtual cards lack some sensors
            return None

    rates = reading(pynvml.nvmlDeviceGetUtilizationRates)
    power_mw = reading(pynvml.nvmlDeviceGetPowerUsage)
    return Gpu(
        index=index,
        name=name,
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        temperature_c=reading(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
        load_percent=None if rates is None else int(rates.gpu),
        power_w=None if power_mw is None else power_mw / 1000,
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
