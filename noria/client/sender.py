"""Ships a journal to a server, in batches, from where it was acknowledged last. Every request may be repeated.

Used by the thread of a run that is going on, and by `noria run sync` for journals that were left behind. An entry that the
server refuses for good (a param that would change) is written to `refused.jsonl` beside the journal, and the rest goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from noria.client import journal
from noria.client.journal import End, Entry, File, Mark, Numbers, Params, Reader, Start, Tags, Text
from noria.kernel.errors import AlreadyExists, Conflict, Invalid, NoriaError, TooLarge
from noria.tracking.model import ENDED, ENTITIES_PER_BATCH, PARAMS_PER_BATCH, POINTS_PER_BATCH, TAGS_PER_BATCH

LOG_BATCH = "/api/2.0/mlflow/runs/log-batch"
REFUSED = "refused.jsonl"
ABOUT = "about.json"


class Batch:
    """What one log-batch request holds."""

    def __init__(self) -> None:
        self.points: list[dict[str, Any]] = []
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.points) + len(self.params) + len(self.tags)

    def add_point(self, *, key: str, value: float, at_ms: int, step: int) -> bool:
        if len(self.points) == POINTS_PER_BATCH or len(self) == ENTITIES_PER_BATCH:
            return False
        self.points.append({"key": key, "value": wire(value), "timestamp": at_ms, "step": step})
        return True

    def add_param(self, *, key: str, value: str) -> bool:
        """A param that is there with another value goes in a batch of its own, so that the server refuses that one."""
        if self.params.get(key, value) != value:
            return False
        if key not in self.params and (len(self.params) == PARAMS_PER_BATCH or len(self) == ENTITIES_PER_BATCH):
            return False
        self.params[key] = value
        return True

    def add_tag(self, *, key: str, value: str) -> bool:
        if key not in self.tags and (len(self.tags) == TAGS_PER_BATCH or len(self) == ENTITIES_PER_BATCH):
            return False
        self.tags[key] = value
        return True

    def body(self, run_id: str) -> bytes:
        return msgspec.json.encode(
            {"run_id": run_id, "metrics": self.points, "params": _pairs(self.params), "tags": _pairs(self.tags)}
        )


class Sender:
    """Sends one journal. Not for several threads at once."""

    def __init__(self, folder: Path, api: Any, *, is_live: bool) -> None:
        self.reader = Reader(folder, is_live=is_live)
        self._folder, self._api = folder, api
        self.run: dict[str, Any] | None = None  # as the server answered when the run was begun or joined
        self.freed_bytes = 0  # since the caller last looked

    def ship(self) -> bool:
        """Send the next entries; False when there are none. Raises Unavailable and the like: nothing was acknowledged then.

        Raises NotFound when the run is gone, Invalid when it is deleted, AlreadyExists when another run has its id.
        """
        found = self.reader.entries()
        for group, at in _grouped(found):
            now = self.reader.mark
            moved = msgspec.structs.replace(now, segment=at.segment, offset=at.offset)
            self.freed_bytes += self.reader.acknowledge(self._send(group, moved))
            for entry in group:
                if isinstance(entry, File):  # after the mark: a crash before it must find the copy again
                    self.freed_bytes += self.reader.drop_file(entry.name)
        return bool(found)

    def _send(self, group: list[Entry], mark: Mark) -> Mark:
        first = group[0]
        if isinstance(first, Start):
            return self._begin(first, mark)
        run_id = mark.run_id
        if isinstance(first, Text):
            self._print(run_id, [e for e in group if isinstance(e, Text)], mark.log_start or 0)
        elif isinstance(first, File):
            self._store(run_id, first)
        elif isinstance(first, End):
            self._api.patch(f"/runs/{run_id}", {"status": first.status, "ended_at_ms": first.at_ms})
            return msgspec.structs.replace(mark, is_ended=True)
        else:
            self._log(run_id, group)
        return mark

    def _begin(self, start: Start, mark: Mark) -> Mark:
        """Create the run, or join it; either may be repeated."""
        log_start = 0
        if start.is_joined:
            self.run = self._api.get(f"/runs/{start.run_id}")
            log_start = self.run["log_bytes"]
        else:
            try:
                self.run = self._api.post(
                    "/runs",
                    {
                        "id": start.run_id, "experiment": start.experiment, "name": start.name, "tags": start.tags,
                        "started_at_ms": start.started_at_ms,
                    },
                )  # fmt: skip
            except AlreadyExists:
                if not start.may_exist:
                    raise
                self.run = self._api.patch(f"/runs/{start.run_id}", {"status": "RUNNING", "tags": start.tags})
                log_start = self.run["log_bytes"]
        # What the run printed before, in another process, stays where it is. Where ours begins is kept before any of it is
        # sent, so that a crash in between cannot move it.
        if mark.log_start is None:
            mark = msgspec.structs.replace(mark, log_start=log_start)
            self.reader.acknowledge(msgspec.structs.replace(self.reader.mark, log_start=log_start))
        return msgspec.structs.replace(mark, run_id=start.run_id)

    def _log(self, run_id: str, group: Sequence[Entry]) -> None:
        """Numbers, params and tags; a batch that is refused is halved until only what is wrong stays out."""
        try:
            for batch in batches(group):
                self._api.request(
                    "POST", LOG_BATCH, content=batch.body(run_id), headers={"content-type": "application/json"}
                )
        except Invalid as refusal:
            self._require_active(run_id, refusal)
            if len(group) == 1:
                group = _split(group[0])
            if len(group) == 1:
                self._refuse(group[0], refusal.message)
                return
            middle = len(group) // 2
            self._log(run_id, group[:middle])
            self._log(run_id, group[middle:])

    def _print(self, run_id: str, texts: Sequence[Text], log_start: int) -> None:
        body = {"text": "".join(t.text for t in texts), "offset": log_start + texts[0].offset}
        try:
            self._api.post(f"/runs/{run_id}/logs", body)
        except (TooLarge, Conflict, Invalid) as refusal:
            self._require_active(run_id, refusal)
            for text in texts:
                self._refuse(text, refusal.message)

    def _require_active(self, run_id: str, refusal: NoriaError) -> None:
        """Raises the refusal when it is because the run was put away: nothing of it may be dropped then."""
        if self._api.get(f"/runs/{run_id}")["stage"] != "active":
            raise refusal

    def _store(self, run_id: str, file: File) -> None:
        path = self._folder / "files" / file.name
        if not path.exists():
            self._refuse(file, "its copy is gone")
            return
        try:
            self._api.put_bytes(f"/runs/{run_id}/artifacts/content?path={quote(file.path, safe='')}", _chunks(path))
        except (Invalid, TooLarge) as refusal:
            self._require_active(run_id, refusal)
            self._refuse(file, refusal.message)

    def _refuse(self, entry: Entry, why: str) -> None:
        with (self._folder / REFUSED).open("a") as out:
            out.write(json.dumps({"why": why, "entry": repr(entry)[:10_000]}) + "\n")

    @property
    def refused_count(self) -> int:
        return _lines(self._folder / REFUSED)


def deliver(folder: Path, api: Any) -> dict[str, Any]:
    """Send all of a journal whose process is gone, and remove it; returns what was done.

    A run whose process ended without saying so is marked KILLED at its last entry. Raises Conflict while the process lives,
    and what `ship` raises.
    """
    lock = journal.Lock(folder)
    try:
        sender = Sender(folder, api, is_live=False)
        about, before = describe(folder, is_held=True), sender.reader.waiting_bytes()
        while sender.ship():
            pass
        mark, torn = sender.reader.mark, sender.reader.torn_bytes
        if mark.run_id and about["state"] == "interrupted":
            if api.get(f"/runs/{mark.run_id}")["status"] not in ENDED:
                api.patch(f"/runs/{mark.run_id}", {"status": "KILLED", "ended_at_ms": about["last_at_ms"]})
            sender.reader.acknowledge(msgspec.structs.replace(mark, is_ended=True))
        refused = sender.refused_count
        if not refused:
            journal.remove(folder)
        return {"journal": folder.name, "run": mark.run_id, "sent_bytes": before - torn, "torn_bytes": torn,
                "refused": refused}  # fmt: skip
    finally:
        lock.release()


def describe(folder: Path, *, is_held: bool = False) -> dict[str, Any]:
    """A journal as a row: its run, what waits, and whether its process runs, ended well or was interrupted.

    Reads everything that waits; `last_at_ms` is the time of the last entry that has one. `is_held`: by the caller.
    """
    reader = Reader(folder, is_live=True)
    segments = [path.stat().st_mtime for path in folder.glob("*.journal")]
    found: dict[str, Any] = {
        "journal": folder.name, "run": reader.mark.run_id or folder.name.rsplit(".", 1)[0], "name": "", "experiment": "",
        "state": "interrupted", "entries": 0, "waiting_bytes": reader.waiting_bytes(), "refused": _lines(folder / REFUSED),
        "last_at_ms": int(max(segments, default=folder.stat().st_mtime) * 1000), "is_joined": False,
    }  # fmt: skip
    with suppress(FileNotFoundError, ValueError):
        found |= json.loads((folder / ABOUT).read_text())
    is_ended = reader.mark.is_ended
    while entries := reader.entries():
        found["entries"] += len(entries)
        for entry, reader.mark in entries:
            if isinstance(entry, Start):
                found |= {"name": entry.name, "experiment": entry.experiment, "is_joined": entry.is_joined}
            elif isinstance(entry, Numbers | End):
                found["last_at_ms"] = entry.at_ms
            is_ended = is_ended or isinstance(entry, End)
    if is_ended or found["is_joined"]:
        found["state"] = "ended"
    if not is_held and _is_running(folder):
        found["state"] = "running"
    return found


def _is_running(folder: Path) -> bool:
    try:
        journal.Lock(folder).release()
    except Conflict:
        return True
    return False


def batches(group: Sequence[Entry]) -> Iterator[Batch]:
    """Entries as requests within the protocol's limits, in their order; a later tag wins, as it would have."""
    batch = Batch()
    for entry in group:
        for add in _items(entry):
            if not add(batch):
                yield batch
                batch = Batch()
                add(batch)
    if len(batch):
        yield batch


def _items(entry: Entry) -> Iterator[Callable[[Batch], bool]]:
    """One call for each number, param and tag of an entry: adds it to a batch, or answers False when it does not fit."""
    if isinstance(entry, Numbers):
        for key, number in entry.values.items():
            yield partial(Batch.add_point, key=key, value=number, at_ms=entry.at_ms, step=entry.step)
    elif isinstance(entry, Params):
        for key, text in entry.values.items():
            yield partial(Batch.add_param, key=key, value=text)
    elif isinstance(entry, Tags):
        for key, text in entry.values.items():
            yield partial(Batch.add_tag, key=key, value=text)


def _split(entry: Entry) -> list[Entry]:
    """An entry of several keys as entries of one."""
    if isinstance(entry, Numbers):
        return [msgspec.structs.replace(entry, values={key: value}) for key, value in entry.values.items()]
    if isinstance(entry, Params | Tags):
        return [type(entry)({key: value}) for key, value in entry.values.items()]
    return [entry]


def _grouped(found: Sequence[tuple[Entry, Mark]]) -> Iterator[tuple[list[Entry], Mark]]:
    """Entries that go in one kind of request, and the mark after the last of them."""
    kinds: dict[type, str] = {Numbers: "log", Params: "log", Tags: "log", Text: "text"}
    group, kind, size, end = list[Entry](), "", 0, Mark()
    for entry, mark in found:
        its = kinds.get(type(entry), "")
        weight = len(entry.text) * 4 if isinstance(entry, Text) else 0
        if group and (its != kind or not its or size + weight > 1 << 20):
            yield group, end
            group, size = [], 0
        group.append(entry)
        kind, size, end = its, size + weight, mark
    if group:
        yield group, end


def wire(value: float) -> float | str:
    """A number as JSON can hold it, in MLflow's words."""
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _pairs(found: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in found.items()]


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0
