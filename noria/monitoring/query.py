"""SQL over the predictions of an endpoint: its files and segments are laid out in a folder, a process of their own answers.

The statement is a stranger's program. It runs in `query_process.py`, whose DuckDB sees two tables and nothing else, and which is
ended when its time is over. Bounded: bytes that are read, rows and bytes that are answered, memory, time, how many at once.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read
from noria.kernel.errors import Invalid, NotFound, TooMuch, Unavailable
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.kernel.processes import kept_environment
from noria.monitoring import answers_store, log_store
from noria.monitoring.model import LogFile
from noria.monitoring.query_process import Found, Part, Task

QUERIES_AT_ONCE = 2
ROWS_DEFAULT, ROWS_MAX = 1_000, 10_000
ANSWER_BYTES_MAX = 8 << 20
READ_BYTES_MAX = 2 << 30
LOOSE_MAX = 5_000  # segments of the hour that is not over
LABELS_MAX = 2_000_000
TIMEOUT_S = 30.0
START_S = 20.0  # for the process to load and read its files
MEMORY_MB = 1_024
SQL_LENGTH_MAX = 20_000
_KEPT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR")  # of the environment: no token, no database


class QueryRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One select over `predictions`, of answers with an event time in [from_ms, to_ms)."""

    sql: str
    limit: int = ROWS_DEFAULT
    from_ms: int | None = None
    to_ms: int | None = None


class QueryColumn(Struct, frozen=True, kw_only=True):
    """A column of the answer and its type in DuckDB's words."""

    name: str
    type: str


class QueryAnswer(Struct, frozen=True, kw_only=True):
    """Rows in the order of `columns`; `is_truncated`: there were more."""

    columns: list[QueryColumn]
    rows: list[list[Any]]
    is_truncated: bool
    files: int
    took_ms: float


class Queries:
    """Answers selects."""

    def __init__(self, db: Database, blobs: BlobStore) -> None:
        self._db, self._blobs = db, blobs
        self._turns = threading.BoundedSemaphore(QUERIES_AT_ONCE)

    def files(self, op: Op, endpoint: str, *, limit: int | None = None, page: str = "") -> Page[LogFile]:
        """The Parquet files of an endpoint's log, those that arrived longest ago first; their bytes are blobs."""
        op.require("inference.read", on=Ref("endpoint", endpoint))
        size, after = check_limit(limit), decode_token(page, size=2) if page else (0, "")
        with self._db.read() as tx:
            found = log_store.files(tx, endpoint, after=(int(after[0]), str(after[1])), limit=size)
        return Page(found, encode_token(found[-1].to_ms, found[-1].id) if len(found) == size else None)

    def query(self, op: Op, endpoint: str, request: QueryRequest) -> QueryAnswer:
        """Raises Invalid (also: what DuckDB says of the statement), TooMuch, Forbidden, Unavailable."""
        op.require("inference.read", on=Ref("endpoint", endpoint))
        if not 1 <= request.limit <= ROWS_MAX:
            raise Invalid(f"limit is between 1 and {ROWS_MAX}.", where="limit")
        if not request.sql.strip() or len(request.sql) > SQL_LENGTH_MAX:
            raise Invalid(f"A statement has 1 to {SQL_LENGTH_MAX} characters.", where="sql")
        if request.from_ms is not None and request.to_ms is not None and request.from_ms >= request.to_ms:
            raise Invalid("The span is empty.", where="from_ms")
        if not self._turns.acquire(blocking=False):
            raise TooMuch(f"{QUERIES_AT_ONCE} queries are running.", retry_after_s=2, hint="Try again in a moment.")
        started_s = self._db.clock.monotonic_s()
        try:
            with self._laid_out(endpoint, request) as task:
                found = self._ask(task)
                files = len(task.parts)
        finally:
            self._turns.release()
        if found.error:
            raise Invalid(
                found.error, where="sql", hint="The table is predictions; noria endpoint query --columns shows its columns."
            )
        return QueryAnswer(
            columns=[QueryColumn(name=n, type=t) for n, t in found.columns], rows=found.rows, is_truncated=found.is_truncated,
            files=files, took_ms=(self._db.clock.monotonic_s() - started_s) * 1000,
        )  # fmt: skip

    @contextmanager
    def _laid_out(self, endpoint: str, request: QueryRequest) -> Iterator[Task]:
        """A folder with everything the statement may read."""
        with tempfile.TemporaryDirectory(prefix="noria-query-", ignore_cleanup_errors=True) as made:
            folder = Path(made).resolve()
            with self._db.read() as tx:
                places = self._places(tx, endpoint, request)
                labels = _labels(tx, endpoint, request)
            if sum(size for _, _, size in places) > READ_BYTES_MAX:
                raise Invalid(
                    f"That is more than {READ_BYTES_MAX >> 30} GiB of answers.", where="from_ms",
                    hint="Ask for a shorter span with from_ms and to_ms.",
                )  # fmt: skip
            parts = [p for i, (digest, form, _) in enumerate(places) if (p := self._part(folder, i, digest, form))]
            _write_labels(folder / "labels.arrow", labels)
            yield Task(
                sql=request.sql, parts=parts, truth=str(folder / "labels.arrow"), spill=str(folder / "spill"),
                from_ms=request.from_ms, to_ms=request.to_ms, rows_max=request.limit, bytes_max=ANSWER_BYTES_MAX,
                timeout_s=TIMEOUT_S, memory_mb=MEMORY_MB,
            )  # fmt: skip

    def _places(self, tx: Read, endpoint: str, request: QueryRequest) -> list[tuple[str, str, int]]:
        """Digest, form and size of every file that may hold answers of the span; if none may, of one that says the columns."""
        files = log_store.files(tx, endpoint, kind="inference", limit=100_000)
        within = [
            f for f in files
            if (request.from_ms is None or f.event_to_ms >= request.from_ms)
            and (request.to_ms is None or f.event_from_ms < request.to_ms)
        ]  # fmt: skip
        loose = log_store.loose_segments(tx, endpoint, "inference", limit=LOOSE_MAX + 1)
        if len(loose) > LOOSE_MAX:
            raise Unavailable(
                f"More than {LOOSE_MAX:,} segments of {endpoint} lie in no file yet.",
                hint="They are put into files every minute; ask again in a few minutes.",
            )
        chosen = within or ([] if loose else files[-1:])
        return [(f.digest, "parquet", f.size_bytes) for f in chosen] + [(s.digest, "arrow", 0) for s in loose]

    def _part(self, folder: Path, number: int, digest: str, form: str) -> Part | None:
        path = folder / f"{number}.{form}"
        try:
            with path.open("wb") as file:
                for chunk in self._blobs.open(digest):
                    file.write(chunk)
        except NotFound:  # retention deleted it since
            path.unlink(missing_ok=True)
            return None
        return Part(path=str(path), format=form)

    def _ask(self, task: Task) -> Found:
        environment = kept_environment(*_KEPT) | {"HOME": str(Path(task.spill).parent)}
        command = [sys.executable, "-P", "-m", "noria.monitoring.query_process"]
        try:
            done = subprocess.run(
                command, input=msgspec.json.encode(task), capture_output=True, cwd=Path(task.spill).parent, env=environment,
                timeout=task.timeout_s + START_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as cause:
            raise Invalid(f"It took longer than {task.timeout_s:g} s.", where="sql") from cause
        if done.returncode:
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise Unavailable(f"The process that answers queries ended with {done.returncode}: {''.join(last)[:300]}")
        return msgspec.json.decode(done.stdout, type=Found)


def _labels(tx: Read, endpoint: str, request: QueryRequest) -> list[tuple[Any, ...]]:
    streams = answers_store.streams(tx, endpoint, shadows=True)
    found = answers_store.labels_of(
        tx, [s.id for s in streams], request.from_ms, request.to_ms, limit=LABELS_MAX + 1
    )  # fmt: skip
    if len(found) > LABELS_MAX:
        raise Invalid(
            f"More than {LABELS_MAX:,} answers of that span have their truth.",
            where="from_ms",
            hint="Ask for a shorter span.",
        )
    names = {s.id: s.revision_id for s in streams}
    return [(row[0], names[row[1]], *row[2:]) for row in found]


def _write_labels(path: Path, rows: list[tuple[Any, ...]]) -> None:
    import pyarrow as pa

    types = (pa.string(), pa.string(), pa.string(), pa.float64(), pa.int64())
    names = ("prediction_id", "revision_id", "truth", "truth_value", "truth_at_ms")
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    table = pa.table({n: pa.array(c, t) for n, c, t in zip(names, columns, types, strict=True)})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
