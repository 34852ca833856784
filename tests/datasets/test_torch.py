"""A stream in PyTorch's own DataLoader, with worker processes that are forked and spawned."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.mlflow_clients import python_of

pytestmark = [pytest.mark.protocol, pytest.mark.slow]
ROOT = Path(__file__).parent.parent.parent


def test_a_data_loader_with_workers(tmp_path: Path) -> None:
    site = next((python_of("autolog").parent.parent / "lib").glob("python*/site-packages"))  # which has PyTorch
    asked = [sys.executable, "-W", "ignore", "-m", "tests.datasets.torch_loader", str(tmp_path), str(site)]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "ok", done.stderr[-3000:]


def test_without_pytorch_it_says_what_is_missing(tmp_path: Path) -> None:
    from noria.client.repositories import LocalDataset
    from noria.kernel.errors import Invalid
    from noria.repository.repository import open_repository

    version = LocalDataset("flights", open_repository(str(tmp_path / "store"))).commit({"a.csv": b"x\n1\n"})
    with pytest.raises(Invalid, match="PyTorch"):
        version.torch()
