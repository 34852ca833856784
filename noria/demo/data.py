"""The flights of the demo: what is replayed, and the weekly files that the airport's warehouse exports."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from noria.demo.replay import Flight
from noria.kernel.errors import Unavailable

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
FEBRUARY_MS = 1_359_694_800_000  # 2013-02-01 00:00 in New York
END_MS = FEBRUARY_MS + 32 * WEEK_MS  # 2013-09-13
REQUESTS = 49_600
REQUESTS_FAST = 8_800


def example_folder() -> Path:
    """examples/flights: beside the package in a clone, inside it when installed."""
    for folder in (Path(__file__).parents[2] / "examples" / "flights", Path(__file__).parents[1] / "examples" / "flights"):
        if (folder / "pipeline.py").exists():
            return folder
    raise Unavailable("The flights example is missing from this installation.", hint="Install noria[demo] again.")


class Flights:
    """The year as a table, cut into what is known, what is replayed and what is exported."""

    def __init__(self, table: Any, features: list[str]) -> None:
        self.table = table
        self.features = features

    @classmethod
    def load(cls) -> Flights:
        """Read the year. Raises Unavailable when the demo's packages are missing."""
        spec = importlib.util.spec_from_file_location("noria_flights_features", example_folder() / "features.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
            return cls(module.load_flights(), list(module.FEATURES))
        except ModuleNotFoundError as missing:
            raise Unavailable(f"The demo needs {missing.name}.", hint="pip install 'noria[demo]'") from missing

    def week(self, number: int, *, requests: int) -> list[Flight]:
        """The flights replayed in week `number` (0 begins on February 1st), evenly drawn so that the whole replay has `requests`."""
        table = self.table
        asked = table[(table.at_ms >= FEBRUARY_MS) & (table.at_ms < END_MS)]
        every = max(1, len(asked) // requests)
        asked = asked.iloc[every // 2 :: every]
        start = FEBRUARY_MS + number * WEEK_MS
        chosen = asked[(asked.at_ms >= start) & (asked.at_ms < start + WEEK_MS)]
        rows = chosen[self.features].to_numpy()
        return [
            Flight(key, int(at), int(truth_at), tuple(map(float, row)), int(late))
            for key, at, truth_at, row, late in zip(
                chosen.key, chosen.at_ms, chosen.truth_at_ms, rows, chosen.late, strict=True
            )
        ]  # fmt: skip

    def export(self, folder: Path, name: str, from_ms: int, to_ms: int, known_by_ms: int) -> Path:
        """Write one file of the warehouse: flights scheduled in [from, to) whose delay is known by `known_by_ms`."""
        table = self.table
        rows = table[(table.at_ms >= from_ms) & (table.at_ms < to_ms) & (table.truth_at_ms <= known_by_ms)]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.parquet"
        rows.to_parquet(path, index=False)
        return path

    def export_in_hours(self, source: Path, target: Path) -> None:
        """The warehouse's mishap: every file again, with `backlog` in hours. Nothing else changes, not even a column name."""
        import pandas

        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(source.glob("*.parquet")):
            table = pandas.read_parquet(path)
            table["backlog"] /= 60
            table.to_parquet(target / path.name, index=False)
