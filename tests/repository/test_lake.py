"""Delta, Iceberg and Lance tables linked at a version, with their own libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from noria.repository.lake import format_of
from scripts.mlflow_clients import python_of

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.protocol
@pytest.mark.slow
def test_tables_are_linked_at_a_version_and_fail_loudly_when_it_is_gone(tmp_path: Path) -> None:
    site = next((python_of("tables").parent.parent / "lib").glob("python*/site-packages"))
    asked = [sys.executable, "-W", "ignore", "-m", "tests.repository.lake_tables", str(tmp_path), str(site)]
    environment = {**os.environ, "NORIA_HOME": str(tmp_path / "home"), "NORIA_URL": ""}
    done = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip().endswith("ok"), done.stdout[-1000:] + done.stderr[-3000:]


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (["_delta_log/0.json", "a.parquet"], "delta"), (["data/a.lance", "_versions/1.manifest"], "lance"),
        (["data/a.parquet", "metadata/v1.metadata.json"], "iceberg"), (["a.parquet", "metadata/notes.json"], None), ([], None),
    ],
)  # fmt: skip
def test_a_table_is_known_by_its_files(keys: list[str], kind: str | None) -> None:
    assert format_of(keys) == kind
