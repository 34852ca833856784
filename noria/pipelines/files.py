"""New files as a cause: a folder or store that the server looks at, within the places that NORIA_WATCHED allows.

What is there when a trigger is made is no arrival. A file counts as arrived once two looks in a row found it the same (a store
shows only whole objects, there one look is enough), and again whenever it is replaced.
Invariant: a file in one state becomes at most one fact, noted in the transaction that writes the fact.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from msgspec import Struct

from noria.kernel.db import Database, Write
from noria.kernel.errors import Forbidden, Invalid
from noria.kernel.ids import Ref
from noria.kernel.op import Ops
from noria.pipelines import trigger_store
from noria.pipelines.model.limits import FILES_MAX
from noria.pipelines.model.starts import Files
from noria.pipelines.model.triggers import Trigger

log = logging.getLogger("noria.pipelines")


BEGUN = ""  # stands among a trigger's files once it has looked for the first time


class Found(Struct, frozen=True):
    """A file as one look saw it; `stamp` changes when it does."""

    path: str
    stamp: str
    size_bytes: int
    modified_at_ms: int


class Watch:
    """A reconciler that looks at the files of triggers."""

    name = "pipelines.files"
    every_s = 5.0
    wake_on: frozenset[str] = frozenset()

    def __init__(self, db: Database, ops: Ops, roots: Sequence[str]) -> None:
        self._db, self._ops = db, ops
        self._roots = tuple(root.rstrip("/") for root in roots)

    def check(self, files: Files) -> None:
        """Raises Forbidden for a place that the server may not look at."""
        parts = files.url.rstrip("/").split("/")
        is_inside = any(files.url.rstrip("/") == root or files.url.startswith(root + "/") for root in self._roots)
        if ".." in parts or not is_inside:
            raise Forbidden(
                f"This server may not look for files in {files.url[:200]!r}.",
                hint="Whoever runs it can name the folder or store in NORIA_WATCHED.",
            )

    def begin(self, tx: Write, trigger: Trigger, there: list[Found]) -> None:
        """Note what was there already, in the transaction that makes the trigger or turns it on."""
        trigger_store.forget_files(tx, trigger.id)
        trigger_store.put_files(tx, trigger.id, [(BEGUN, "", True), *((f.path, f.stamp, True) for f in there)])

    def reconcile(self) -> None:
        with self._db.read() as tx:
            watching = [t for t in trigger_store.triggers_enabled(tx) if t.files]
        for trigger in watching:
            self._look(trigger)

    def _look(self, trigger: Trigger) -> None:
        assert trigger.files is not None
        try:
            self.check(trigger.files)
            there = {f.path: f for f in look(trigger.files)}
        except (Invalid, Forbidden) as error:
            self._complain(trigger, error.message)
            return
        with self._db.read() as tx:
            known = trigger_store.files(tx, trigger.id)
        if BEGUN not in known:  # declared by code: the first look sees what was there already
            with self._db.system_write() as tx:
                self.begin(tx, trigger, list(there.values()))
            return
        is_store = "://" in trigger.files.url and not trigger.files.url.startswith("file://")
        news, arrived = list[tuple[str, str, bool]](), list[Found]()
        for path, file in there.items():
            stamp, is_told = known.get(path, ("", False))
            if is_told and stamp == file.stamp:
                continue
            is_whole = is_store or stamp == file.stamp
            news.append((path, file.stamp, is_whole))
            arrived += [file] if is_whole else []
        gone = [path for path in known if path not in there and path != BEGUN]
        if not news and not gone:
            return
        with self._db.write(self._ops.system("pipelines.files")) as tx:
            now = trigger_store.lock_trigger(tx, trigger.name)
            if now is None or not now.is_enabled or now.id != trigger.id:
                return
            trigger_store.drop_files(tx, trigger.id, gone)
            trigger_store.put_files(tx, trigger.id, news)
            for file in arrived:
                tx.emit(
                    "file.arrived", Ref("trigger", trigger.name), url=f"{trigger.files.url.rstrip('/')}/{file.path}",
                    path=file.path, size_bytes=file.size_bytes, modified_at_ms=file.modified_at_ms,
                )  # fmt: skip

    def _complain(self, trigger: Trigger, why: str) -> None:
        if trigger.error == why:
            return
        log.warning("trigger %s cannot look at its files: %s", trigger.name, why)
        with self._db.system_write() as tx:
            trigger_store.note_trigger_error(tx, trigger.id, why)


def look(files: Files) -> list[Found]:
    """The files under a place that match its pattern. Raises Invalid when it cannot be read, or has too many."""
    try:
        listed = _listed(files.url)
    except Exception as cause:  # each kind of store fails in its own way
        raise Invalid(f"The files in {files.url} cannot be listed: {cause}.", where="files") from cause
    found = [f for f in listed if fnmatch.fnmatchcase(f.path, files.pattern)]
    if len(found) > FILES_MAX:
        raise Invalid(
            f"{files.url} has {len(found)} such files; at most {FILES_MAX} are watched.", where="files",
            hint="Narrow the pattern, or watch a folder below.",
        )  # fmt: skip
    return found


def _listed(url: str) -> list[Found]:
    import obstore
    from obstore.store import LocalStore, from_url

    opened: Any
    if "://" not in url or url.startswith("file://"):
        folder = Path(unquote(url[len("file://") :]) if "://" in url else url)
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        opened = LocalStore(prefix=folder.resolve())
    else:
        opened = from_url(url)
    found = []
    for batch in obstore.list(opened):
        for item in batch:
            at_ms = int(item["last_modified"].timestamp() * 1000)
            stamp = f"{item['size']}:{item.get('e_tag') or at_ms}"
            found.append(Found(str(item["path"]), stamp, int(item["size"]), at_ms))
        if len(found) > 10 * FILES_MAX:  # whatever the pattern leaves of them
            break
    return found
