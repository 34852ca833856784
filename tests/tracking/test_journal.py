"""The journal: what was appended is delivered, once, whatever crashes in between."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.client import journal
from noria.client.api import Api
from noria.client.journal import End, Entry, Journal, Numbers, Params, Reader, Start, Tags, Text, frames
from noria.client.sender import batches, deliver, describe
from noria.kernel.errors import AlreadyExists, Conflict, Invalid, NoriaError, NotFound, TooMuch, Unavailable
from noria.kernel.ids import new_id
from tests.conftest import Noria

_keys = st.text("abc/_", min_size=1, max_size=5)
_entries = st.lists(
    st.one_of(
        st.builds(
            Numbers, at_ms=st.integers(0, 2**62), step=st.integers(-(2**63), 2**63 - 1),
            values=st.dictionaries(_keys, st.floats(allow_nan=False), max_size=3),
        ),
        st.builds(Params, values=st.dictionaries(_keys, st.text(max_size=20), max_size=3)),
        st.builds(Tags, values=st.dictionaries(_keys, st.text(max_size=20), max_size=3)),
        st.builds(Text, offset=st.integers(0, 2**40), text=st.text(max_size=50)),
    ),
    max_size=20,
)  # fmt: skip


def written(entries: list[Entry], root: Path) -> Path:
    made = Journal(root, new_id())
    for entry in entries:
        made.append(entry)
    made.close()
    made.lock.release()
    return made.folder


def read(folder: Path, *, limit_bytes: int = journal.READ_BYTES) -> list[Entry]:
    reader, found = Reader(folder, is_live=False), list[Entry]()
    while entries := reader.entries(limit_bytes=limit_bytes):
        found += [entry for entry, _ in entries]
        reader.acknowledge(entries[-1][1])
    return found


@given(entries=_entries, cut=st.integers(0, 2_000), segment_bytes=st.sampled_from([1, 64, 1 << 20]))
@settings(max_examples=60, deadline=None)
def test_what_is_left_after_a_torn_tail_is_a_beginning(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], cut: int, segment_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "SEGMENT_BYTES", segment_bytes)
        folder = written(entries, tmp_path_factory.mktemp("j"))
    last = max(folder.glob("*.journal"))
    size = last.stat().st_size
    os.truncate(last, max(0, size - cut))
    found = read(folder, limit_bytes=128)
    assert found == entries[: len(found)]
    assert cut or found == entries


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_can_be_read(data: bytes) -> None:
    for _, end in frames(data):
        assert end <= len(data)


def test_segments_go_when_they_arrived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 200)
    folder = written([Numbers(1, i, {"x": float(i)}) for i in range(100)], tmp_path)
    assert len(list(folder.glob("*.journal"))) > 5
    assert len(read(folder)) == 100
    assert len(list(folder.glob("*.journal"))) == 1 and Reader(folder, is_live=False).waiting_bytes() == 0


def test_too_much_is_refused_and_what_was_there_stays(tmp_path: Path) -> None:
    made = Journal(tmp_path, "r1", limit_bytes=1000)
    with pytest.raises(TooMuch, match="limit is 0 MiB") as refused:
        for step in range(1000):
            made.append(Numbers(1, step, {"loss": 1.0}))
    assert "NORIA_JOURNAL_LIMIT_MB" in refused.value.hint
    kept = len(read(made.folder))
    assert 10 < kept < 100
    made.forget(500)  # some of it arrived
    made.append(Numbers(1, 0, {"loss": 1.0}))
    made.close()


def test_a_full_disk_tears_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = Journal(tmp_path, "r1"), os.write
    made.append(Numbers(1, 0, {"loss": 1.0}))

    def takes_half(fd: int, data: bytes) -> int:
        return real(fd, data[: len(data) // 2])

    def takes_nothing(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for write, why in ((takes_half, "is full"), (takes_nothing, "No space")):
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(Unavailable, match=why):
            made.append(Numbers(1, 1, {"loss": 2.0}))
        monkeypatch.undo()
    made.append(Numbers(1, 2, {"loss": 3.0}))
    assert [e.step for e in read(made.folder) if isinstance(e, Numbers)] == [0, 2]
    made.close()


def test_a_journal_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    made = Journal(tmp_path, "r1")
    with pytest.raises(Conflict, match="in use"):
        deliver(made.folder, None)
    assert describe(made.folder)["state"] == "running"
    made.close()
    made.lock.release()
    assert describe(made.folder)["state"] == "interrupted"


def test_batches_keep_the_limits_of_the_protocol() -> None:
    group: list[Entry] = [Numbers(1, i, {f"k{j}": 1.0 for j in range(300)}) for i in range(5)]
    group += [Params({f"p{i}": "1" for i in range(250)}), Tags({f"t{i}": "1" for i in range(250)}), Tags({"t0": "2"})]
    found = list(batches(group))
    assert sum(len(b.points) for b in found) == 1500 and sum(len(b.params) for b in found) == 250
    assert all(len(b) <= 1000 and len(b.params) <= 100 and len(b.tags) <= 100 for b in found)
    merged: dict[str, str] = {}
    for batch in found:
        merged |= batch.tags
    assert len(merged) == 250 and merged["t0"] == "2"


# --- delivery -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def api(noria: Noria) -> Api:
    return Api(noria.http, url=noria.config.control_url)


def start(run_id: str, **more: Any) -> Start:
    return Start(run_id=run_id, experiment="flights", name="first", tags={"team": "a"}, started_at_ms=5, **more)


def a_whole_run(root: Path, run_id: str) -> Path:
    made = Journal(root, run_id)
    made.append(start(run_id))
    made.append(Params({"lr": "0.1"}))
    text, at = ["one\n", "zwei ü\n", "drei\n"], 0
    (root / "model.bin").write_bytes(b"weights")
    for step in range(30):
        made.append(Numbers(10 + step, step, {"loss": 1.0 / (step + 1), "nan": float("nan")}))
        if step % 10 == 0:
            part = text[step // 10]
            made.append(Text(at, part))
            at += len(part.encode())
            made.append(Tags({"epoch": str(step)}))
        if step == 15:
            made.add_file(root / "model.bin", "model/model.bin")
    made.append(End("FINISHED", 99))
    made.close()
    made.lock.release()
    return made.folder


def check_whole(noria: Noria, run_id: str) -> None:
    tracking, op = noria.app.tracking, noria.op()
    run = tracking.run(op, run_id)
    assert (run.name, run.status, run.started_at_ms, run.ended_at_ms) == ("first", "FINISHED", 5, 99)
    assert run.params == {"lr": "0.1"} and run.tags["epoch"] == "20" and run.tags["team"] == "a"
    assert [p.step for p in tracking.history(op, run_id, "loss", limit=100).items] == list(range(30))
    assert len(tracking.history(op, run_id, "nan", limit=100).items) == 30
    assert tracking.log_page(op, run_id).text == "one\nzwei ü\ndrei\n"
    assert b"".join(tracking.open_artifact(op, run_id, "model/model.bin")) == b"weights"
    assert len(noria.facts("run.created")) == 1 and len(noria.facts("run.finished")) == 1


def test_a_journal_arrives_whole_and_goes(noria: Noria, api: Api, tmp_path: Path) -> None:
    run_id = new_id()
    folder = a_whole_run(tmp_path, run_id)
    sent = deliver(folder, api)
    assert (sent["run"], sent["refused"], sent["torn_bytes"]) == (run_id, 0, 0) and sent["sent_bytes"] > 500
    check_whole(noria, run_id)
    assert not folder.exists()


class Flaky:
    """An api whose n-th request reaches the server or not, and whose answer never comes."""

    def __init__(self, api: Api, at: int, *, arrives: bool) -> None:
        self._api, self._left, self._arrives = api, at, arrives

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._api, name)

        def call(*args: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                if self._arrives:
                    real(*args, **options)
                raise Unavailable("The connection broke.")
            return real(*args, **options)

        return call


@pytest.mark.parametrize("arrives", [True, False])
def test_a_lost_answer_at_any_request_changes_nothing(
    noria: Noria, api: Api, tmp_path: Path, arrives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.client.sender.Reader.entries", small_steps(Reader.entries))
    run_id, broken = new_id(), 0
    folder = a_whole_run(tmp_path, run_id)
    for at in range(100):  # break the first request of the first try, the second of the second, …
        try:
            deliver(folder, Flaky(api, at % 3, arrives=arrives))
            break
        except Unavailable:
            broken += 1
    assert broken >= 5 and not folder.exists()
    check_whole(noria, run_id)


def small_steps(real: Any) -> Any:
    return lambda self, **_: real(self, limit_bytes=200)


def test_a_killed_run_is_said_to_be_killed(noria: Noria, api: Api, tmp_path: Path) -> None:
    run_id = new_id()
    folder = written([start(run_id), Numbers(77, 0, {"loss": 1.0})], tmp_path)
    deliver(folder, api)
    run = noria.app.tracking.run(noria.op(), run_id)
    assert (run.status, run.ended_at_ms, run.metrics) == ("KILLED", 77, {"loss": 1.0})


def test_a_joined_run_is_ended_by_whoever_began_it(noria: Noria, api: Api, tmp_path: Path) -> None:
    run_id = new_id()
    joined = written([start(run_id, is_joined=True), Numbers(1, 0, {"loss": 1.0})], tmp_path)
    with pytest.raises(NotFound):
        deliver(joined, api)
    assert joined.exists(), "it waits for the run that it belongs to"
    deliver(written([start(run_id), Text(0, "parent\n"), End("FINISHED", 9)], tmp_path), api)
    deliver(joined, api)
    run = noria.app.tracking.run(noria.op(), run_id)
    assert (run.status, run.metrics) == ("FINISHED", {"loss": 1.0})


def test_a_run_with_a_chosen_id_is_gone_on_with(noria: Noria, api: Api, tmp_path: Path) -> None:
    first = [start("nightly-1", may_exist=True), Numbers(1, 0, {"loss": 2.0}), Text(0, "one\n"), End("FINISHED", 9)]
    again = [
        Start(run_id="nightly-1", experiment="flights", name="", tags={"try": "2"}, started_at_ms=6, may_exist=True),
        Numbers(2, 1, {"loss": 1.0}), Text(0, "two\n"), End("FAILED", 10),
    ]  # fmt: skip
    deliver(written(list(first), tmp_path), api)
    deliver(written(list(again), tmp_path), api)
    run = noria.app.tracking.run(noria.op(), "nightly-1")
    assert (run.name, run.status, run.tags["try"], run.metrics["loss"]) == ("first", "FAILED", "2", 1.0)
    assert noria.app.tracking.log_page(noria.op(), "nightly-1").text == "one\ntwo\n"


def test_an_id_that_is_taken_is_refused(noria: Noria, api: Api, tmp_path: Path) -> None:
    run_id = new_id()
    deliver(written([start(run_id), End("FINISHED", 9)], tmp_path), api)
    other = Start(run_id=run_id, experiment="other", name="x", tags={}, started_at_ms=6)
    folder = written([other], tmp_path)
    with pytest.raises(AlreadyExists):
        deliver(folder, api)
    assert folder.exists()
    for bad in ("m-1", "a/b", "../x", "x" * 300, "ä"):
        with pytest.raises(Invalid):
            api.post("/runs", {"id": bad})
    api.post("/runs", {"id": "r-1", "started_at_ms": 1})
    stranger = noria.as_("eve", "contributor")
    answer = stranger.post("/api/v1/runs", json={"id": "r-1", "started_at_ms": 1})
    assert answer.status_code == 409, "the same request of somebody else is another run"


def test_what_is_refused_is_kept_beside_and_the_rest_arrives(noria: Noria, api: Api, tmp_path: Path) -> None:
    run_id = new_id()
    entries = [start(run_id), Params({"lr": "1"}), *(Numbers(1, i, {"x": 1.0}) for i in range(20)),
               Params({"lr": "2", "depth": "3"}), Numbers(1, 20, {"x": 1.0}), End("FINISHED", 9)]  # fmt: skip
    folder = written(entries, tmp_path)
    sent = deliver(folder, api)
    assert sent["refused"] == 1
    run = noria.app.tracking.run(noria.op(), run_id)
    assert run.params == {"lr": "1", "depth": "3"} and run.status == "FINISHED"
    assert len(noria.app.tracking.history(noria.op(), run_id, "x", limit=100).items) == 21
    assert "lr" in (folder / "refused.jsonl").read_text() and describe(folder)["state"] == "ended"


def test_nothing_of_a_run_that_was_put_away_is_dropped(noria: Noria, api: Api, tmp_path: Path) -> None:
    run_id = new_id()
    folder = written([start(run_id), Numbers(1, 0, {"x": 1.0}), Text(0, "one\n"), End("FINISHED", 9)], tmp_path)
    api.post("/runs", {"id": run_id, "experiment": "flights", "started_at_ms": 5})
    noria.app.tracking.delete_run(noria.op(), run_id)
    with pytest.raises(NoriaError):
        deliver(folder, api)
    noria.app.tracking.restore_run(noria.op(), run_id)
    deliver(folder, api)
    assert noria.app.tracking.run(noria.op(), run_id).metrics == {"x": 1.0}
