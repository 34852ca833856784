"""What the machine does while a run runs, and what it costs: one sample at a time, under the names MLflow gave them."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

from noria.client.gpus import gpus, readings

INTERVAL_S = 10.0
INTERVAL_S_MIN = 0.1


class SystemMetrics:
    """Samples the machine and the process `pid` with its children (this process by default)."""

    def __init__(self, *, pid: int | None = None, price_per_hour: float = 0.0) -> None:
        self._pid, self._price_per_hour = pid or os.getpid(), price_per_hour
        self._process: psutil.Process | None = None
        with suppress(psutil.Error):
            self._process = psutil.Process(self._pid)
            self._process.cpu_percent()
        psutil.cpu_percent()  # the first call begins the interval that the next one measures
        self._disk, self._network = psutil.disk_io_counters(), psutil.net_io_counters()

    def sample(self, elapsed_s: float) -> dict[str, float]:
        """The readings now; `elapsed_s` since the run began is what the cost is computed from."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage("/")
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6, "system_memory_usage_percentage": memory.percent,
            "disk_usage_percentage": disk.percent, "disk_usage_megabytes": disk.used / 1e6,
            "disk_available_megabytes": disk.free / 1e6,
            **self._traffic(), **self._own(),
        }  # fmt: skip
        for gpu in gpus():
            found |= readings(gpu)
        if self._price_per_hour:
            found["cost"] = self._price_per_hour * elapsed_s / 3600
        return {f"system/{name}": value for name, value in found.items()}

    def _traffic(self) -> dict[str, float]:
        """Since the beginning of the run; nothing where the system keeps no count."""
        found, disk, network = dict[str, float](), psutil.disk_io_counters(), psutil.net_io_counters()
        if disk and self._disk:
            found["disk_read_megabytes"] = (disk.read_bytes - self._disk.read_bytes) / 1e6
            found["disk_write_megabytes"] = (disk.write_bytes - self._disk.write_bytes) / 1e6
        if network and self._network:
            found["network_receive_megabytes"] = (network.bytes_recv - self._network.bytes_recv) / 1e6
            found["network_transmit_megabytes"] = (network.bytes_sent - self._network.bytes_sent) / 1e6
        return found

    def _own(self) -> dict[str, float]:
        if self._process is None:
            return {}
        try:
            memory = self._process.memory_info().rss
            found = {"process_cpu_percentage": self._process.cpu_percent()}
        except psutil.Error:  # it ended
            return {}
        with suppress(psutil.Error):
            for child in self._process.children(recursive=True):
                with suppress(psutil.Error):
                    memory += child.memory_info().rss
        return {**found, "process_memory_megabytes": memory / 1e6}
