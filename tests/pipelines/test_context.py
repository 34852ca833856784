"""What a run is tied to: only data of the server it is logged to."""

from __future__ import annotations

import pytest

from noria.client import context


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "_reads", [])
    monkeypatch.delenv("NORIA_STEP_DIR", raising=False)
    monkeypatch.delenv("NORIA_READS", raising=False)


def test_only_what_came_from_that_server_counts() -> None:
    context.note_read("dataset_version:1", "http://127.0.0.1:5000")
    context.note_read("dataset_version:1", "http://127.0.0.1:5000")
    context.note_read("dataset_version:2", "http://elsewhere:5000")
    assert context.reads("http://localhost:5000/") == ["dataset_version:1"]
    assert context.context_tags("http://127.0.0.1:5000")["noria.dataset_version"] == "1"
    assert "noria.dataset_version" not in context.context_tags("http://127.0.0.1:9")
    assert context.reads() == ["dataset_version:1", "dataset_version:2"]
