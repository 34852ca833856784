"""The recorder believes a worker only what is its own: it runs a model's code, which holds the connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.ipc
import pytest
from msgspec.structs import replace

from noria.config import load_config
from noria.serving.frames import Block, Bound, pack, recorder_socket
from noria.serving.recorder import Recorder

ROWS = 2


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Path]:
    """Where a recorder writes that no control plane takes anything from."""
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "desired.json").write_text("{}")
    config = load_config({"NORIA_INTERNAL_TOKEN": "x"}, home=str(tmp_path), port=1, seal_s=0.5)
    recorder = Recorder(config)
    thread = threading.Thread(target=recorder.run)
    thread.start()
    yield tmp_path / "serving" / "records"
    recorder.ask_to_stop()
    thread.join(20)
    assert not thread.is_alive()


def block_of(seq: int = 1) -> Block:
    return Block(
        kind="inference", source="s", seq=seq, endpoint="mine", revision_id="r1", model="m", model_version=1, rows=ROWS,
        ids=[f"{seq}.{i}" for i in range(ROWS)], at_ms=[1] * ROWS, event_at_ms=[1] * ROWS, keys=[None] * ROWS,
        roles=["champion"] * ROWS, latency_ms=[1.0] * ROWS, status=[200] * ROWS, features=[("x", "number")],
        layout=[("features", ROWS, 1), ("prediction", ROWS, 1)],
    )  # fmt: skip


BODY = np.ones(2 * ROWS).tobytes()


def connected(records: Path, *, is_bound: bool = True) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(10)
    made.connect(str(recorder_socket(records.parents[1])))
    if is_bound:
        made.sendall(pack(Bound("mine", "r1")))
    return made


def until(condition: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def sealed(records: Path) -> list[str]:
    """The predictions in segments, in their order."""
    found = sorted(p.with_suffix(".arrow") for p in (records / "sealed").glob("*.json"))
    return [i for p in found for i in pyarrow.ipc.open_file(p.read_bytes()).read_all()["prediction_id"].to_pylist()]


def test_what_is_not_its_own_or_not_whole_ends_the_connection(records: Path) -> None:
    mine = block_of(1)
    wrong = [
        replace(mine, endpoint="other"), replace(mine, revision_id="r2"), replace(mine, kind="else"), replace(mine, rows=10**12),
        replace(mine, keys=[]), replace(mine, layout=[("features", 1000, 1000)]), Bound("mine", "r2"), ["no", "block"],
        Block(kind="truth", source="s", seq=1, endpoint="mine", rows=1, at_ms=[1]),
    ]  # fmt: skip
    for one in wrong:
        with connected(records) as worker:
            worker.sendall(pack(one, BODY))
            assert worker.recv(100) == b"", one
    with connected(records) as worker:  # the recorder goes on
        worker.sendall(pack(mine, BODY))
        assert worker.recv(100)
    until(lambda: sealed(records), "the records")
    assert sealed(records) == ["1.0", "1.1"]


def test_a_block_that_cannot_be_sealed_is_put_aside_and_its_neighbours_are_kept(records: Path) -> None:
    with connected(records) as worker:
        broken = replace(block_of(2), layout=[("features", ROWS, 1), ("prediction", 1, 1)])
        worker.sendall(b"".join(pack(b, BODY) for b in (block_of(1), broken, block_of(3))))
        until(lambda: list((records / "refused").glob("*.block")), "the block put aside")
        worker.sendall(pack(block_of(4), BODY))
        until(lambda: len(sealed(records)) == 3 * ROWS, "the records")
    assert sealed(records) == ["1.0", "1.1", "3.0", "3.1", "4.0", "4.1"]


def test_the_node_may_bring_truth(records: Path) -> None:
    with connected(records, is_bound=False) as node:
        truth = Block(kind="truth", source="g", seq=1, endpoint="any", rows=1, at_ms=[1])
        node.sendall(pack(truth, b'{"items": [{"prediction_id": "p", "value": 1}]}'))
        assert node.recv(100)
    until(lambda: len(sealed(records)) == 1, "the truth")
