"""Work of the serving node that has no end goes on after a defect: a node that serves and tells nobody would be lost."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from noria.config import load_config
from noria.serving import node
from noria.serving.keeper import Keeper
from noria.serving.lanes import Lane
from noria.serving.model import Desired, DesiredAuth, DesiredRevision, RevisionConfig


def test_a_defect_is_said_and_the_work_begins_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun = 0
    again = asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise TypeError("a defect")
        again.set()
        await asyncio.sleep(60)

    async def watch() -> None:
        task = asyncio.create_task(node.go_on(work))
        await asyncio.wait_for(again.wait(), 10)
        task.cancel()

    with caplog.at_level(logging.ERROR):
        asyncio.run(watch())
    assert begun == 2 and "a defect" in caplog.text and "begins again" in caplog.text


class Noted(Keeper):
    """It starts nothing."""

    def start(self) -> None:
        pass


class NotedNode(node.Node):
    def keeper(self, revision: DesiredRevision) -> Keeper:
        return Noted(self, Lane(revision, self.clock))


def test_a_door_takes_only_its_own_from_what_another_on_its_machine_wrote(tmp_path: Path) -> None:
    (tmp_path / "serving").mkdir()
    revisions: list[Any] = [
        DesiredRevision(id=name, endpoint=name, model="m", model_version=1, digest="d", config=RevisionConfig(), files=[])  # type: ignore[arg-type]
        for name in ("a", "b")
    ]
    auth = DesiredAuth(version="", is_open=False)
    node.write_desired(tmp_path, Desired(generation=1, endpoints=[], revisions=revisions, auth=auth))
    assert [p.name for p in (tmp_path / "serving").glob("desired*")] == ["desired.json"]
    config = load_config({"NORIA_INTERNAL_TOKEN": "x"}, home=str(tmp_path), serve_only="b", grpc_port=0, port=1)

    async def life() -> list[str]:
        made = NotedNode(config)
        await made.start()
        found = list(made._keepers)
        await made.stop()
        return found

    assert asyncio.run(life()) == ["b"]
