"""The pipelines' tests run with an internal token and a short lease."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.config import Config, load_config
from tests.pipelines.given import INTERNAL


@pytest.fixture
def config(tmp_path: Path, database_url: str) -> Config:
    return load_config({}, home=str(tmp_path / "home"), database=database_url, internal_token=INTERNAL, lease_s=3.0)
