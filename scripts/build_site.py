"""Builds the manual when a wheel is built, so that every installation shows it at /docs. An editable install has `make docs`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Site(BuildHookInterface[Any]):
    """Found by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", "zensical.toml"]
        subprocess.run(command, cwd=self.root, check=True, stdout=subprocess.DEVNULL)
