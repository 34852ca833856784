"""The GPUs of this machine through NVML, where `nvidia-ml-py` is installed (extra `gpu`) and a driver answers."""

from __future__ import annotations

import itertools
import os
from functools import lru_cache
from typing import Any

from msgspec import Struct


class Gpu(Struct, frozen=True):
    """One device."""

    index: int
    name: str
    memory_bytes: int
    handle: Any = None


@lru_cache(maxsize=1)
def gpus() -> tuple[Gpu, ...]:
    """Every device; none without NVML, a driver or a device."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
        return tuple(_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:
        return ()


def visible() -> list[str]:
    """What CUDA calls the devices that this process may use: numbers, or ids where CUDA_VISIBLE_DEVICES says ids."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is None:
        return [str(gpu.index) for gpu in gpus()]
    names = [name.strip() for name in said.split(",")]
    return list(itertools.takewhile(lambda name: name and name != "-1", names))  # so CUDA reads it


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name = nvml.nvmlDeviceGetName(handle)
    return Gpu(
        index,
        name.decode() if isinstance(name, bytes) else str(name),
        int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        handle,
    )


def readings(gpu: Gpu) -> dict[str, float]:
    """What a device does now, under MLflow's names; what it does not tell is left out."""
    import pynvml

    found: dict[str, float] = {}

    def ask(name: str, read: Any) -> None:
        try:
            found[f"gpu_{gpu.index}_{name}"] = float(read())
        except pynvml.NVMLError:
            return  # some devices have no sensor for it, or share it with others

    ask("utilization_percentage", lambda: pynvml.nvmlDeviceGetUtilizationRates(gpu.handle).gpu)
    ask("memory_usage_megabytes", lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu.handle).used / 1e6)
    ask("power_usage_watts", lambda: pynvml.nvmlDeviceGetPowerUsage(gpu.handle) / 1000)
    ask("temperature_celsius", lambda: pynvml.nvmlDeviceGetTemperature(gpu.handle, pynvml.NVML_TEMPERATURE_GPU))
    if f"gpu_{gpu.index}_memory_usage_megabytes" in found and gpu.memory_bytes:
        used = found[f"gpu_{gpu.index}_memory_usage_megabytes"] * 1e6
        found[f"gpu_{gpu.index}_memory_usage_percentage"] = 100 * used / gpu.memory_bytes
    return found
