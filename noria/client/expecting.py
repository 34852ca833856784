"""Expectations on the client's side: read from a file or a dict, and asked of files before they are committed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from noria.datasets import expectations
from noria.datasets.expectations import Expectations
from noria.datasets.model import VersionFile, table_format
from noria.kernel.errors import Invalid, NotFound
from noria.repository.scan import Source, place_of, scan

FAILURES_SHOWN = 10


def read_expectations(wanted: Any) -> Expectations:
    """From the path of a YAML file, a dict, or Expectations. Raises Invalid, NotFound."""
    if isinstance(wanted, Expectations):
        return expectations.check(wanted)
    if isinstance(wanted, Mapping):
        return expectations.parse(msgspec.json.encode(wanted).decode())
    if not isinstance(wanted, str | Path):
        raise Invalid(f"A {type(wanted).__name__} says nothing of data.", hint="Give a YAML file or a dict.")
    try:
        return expectations.parse(Path(wanted).read_text())
    except OSError as cause:
        raise NotFound(f"There is no file {wanted}.", where="expect") from cause


def require_source(source: Source, wanted: Any, label: str) -> None:
    """Raises Invalid when the files of `source` are not as `wanted` says; a pandera schema is asked of every table."""
    files = [VersionFile(path=row[0], size_bytes=row[1], digest="") for row in scan(source)]
    if hasattr(wanted, "validate") and not isinstance(wanted, Expectations):
        _require_schema(source, files, wanted, label)
        return

    def save(file: VersionFile, target: Path) -> None:
        place = place_of(source, file.path)
        try:
            os.link(place, target)
        except OSError:  # another file system
            shutil.copyfile(place, target)

    expectations.require(expectations.examine(read_expectations(wanted), files, save), label)


def _require_schema(source: Source, files: list[VersionFile], schema: Any, label: str) -> None:
    import pandas as pd

    for file in files:
        kind, place = table_format(file.path), Path(place_of(source, file.path))
        if kind is None:
            continue
        separator = "\t" if file.path.lower().endswith(".tsv") else ","
        frame = pd.read_parquet(place) if kind == "parquet" else pd.read_csv(place, sep=separator)
        try:
            schema.validate(frame, lazy=True)
        except Exception as error:
            failures = getattr(error, "failure_cases", None)
            if failures is None:  # not the schema's word on the data
                raise
            told = [f"- {file.path}: {_told(row)}" for row in failures.head(FAILURES_SHOWN).to_dict("records")]
            raise Invalid(
                f"{label} is not as expected:\n" + "\n".join(told), where="expect", hint="Correct the data or the schema."
            ) from error


def _told(row: dict[str, Any]) -> str:
    return f"{row.get('column') or 'the table'}: {row.get('check')}; found {row.get('failure_case')}"
