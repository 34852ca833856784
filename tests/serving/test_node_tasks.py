"""Work of the serving node that has no end goes on after a defect: a node that serves and tells nobody would be lost."""

from __future__ import annotations

import asyncio
import logging

import pytest

from noria.serving import node


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
        task = asyncio.create_task(node._go_on(work))
        await asyncio.wait_for(again.wait(), 10)
        task.cancel()

    with caplog.at_level(logging.ERROR):
        asyncio.run(watch())
    assert begun == 2 and "a defect" in caplog.text and "begins again" in caplog.text
