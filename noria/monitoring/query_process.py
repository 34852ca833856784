"""One statement over the prediction log, in a process of its own that can do nothing else.

Reads a task from standard input, answers on standard output, ends. DuckDB sees the tables that are handed to it and no file, no
network, no extension, no setting and no variable of this process; the process has no secret in its environment, and limits on its
memory, its time and what it writes.
"""

from __future__ import annotations

import decimal
import math
import resource
import sys
import threading
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from noria.kernel.processes import die_with_parent

SPILL_BYTES_MAX = 2 << 30
THREADS = 2
ROOM_BYTES = 1 << 30  # address space that threads and allocators reserve and do not use
COLUMNS = {
    "prediction_id": "varchar", "revision_id": "varchar", "model_version": "bigint", "role": "varchar", "at_ms": "bigint",
    "event_at_ms": "bigint", "key": "varchar", "latency_ms": "double", "status": "bigint", "prediction": "double",
    "score": "double", "probability": "double[]",
}  # fmt: skip  # of an endpoint that has not answered yet


class Part(Struct, frozen=True, kw_only=True):
    """A file of answers."""

    path: str
    format: str  # parquet, arrow


class Task(Struct, frozen=True, kw_only=True):
    """What is asked, of which files, and how much of it."""

    sql: str
    parts: list[Part]
    truth: str  # an Arrow file of labels
    spill: str  # a folder
    from_ms: int | None
    to_ms: int | None
    rows_max: int
    bytes_max: int
    timeout_s: float
    memory_mb: int


class Found(Struct, kw_only=True):
    """The answer; or `error`, which is the asker's, in a sentence."""

    columns: list[tuple[str, str]] = []
    rows: list[list[Any]] = []
    is_truncated: bool = False
    error: str = ""


def main() -> None:
    die_with_parent()
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    seconds = int(task.timeout_s * (THREADS + 1)) + 10
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (SPILL_BYTES_MAX, SPILL_BYTES_MAX))
    limit_memory(task.memory_mb << 20)
    sys.stdout.buffer.write(msgspec.json.encode(answer(task)))


def limit_memory(size_bytes: int) -> None:
    """Let this process map twice `size_bytes` more than its libraries do: as much as DuckDB may use, and as much for its rows as
    Python's. What goes beyond that is a MemoryError."""
    import duckdb
    import pyarrow
    from pyarrow import dataset

    assert duckdb, dataset
    pyarrow.set_cpu_count(THREADS)  # else one for each core, and each reserves address space
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except FileNotFoundError:  # not Linux, where this limit does not hold either
        return
    most = pages * resource.getpagesize() + 2 * size_bytes + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def answer(task: Task) -> Found:
    """Run the statement."""
    import duckdb

    connection = duckdb.connect(":memory:", config={"allow_community_extensions": "false", "threads": THREADS})
    try:
        offer(connection, task)
        lock(connection, task)
        statements = connection.extract_statements(task.sql)
        if len(statements) != 1 or not _is_select(statements[0]):
            return Found(error="One select is needed, and nothing else is run.")
        timer = threading.Timer(task.timeout_s, connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            connection.execute(statements[0])
            return fetch(connection, task)
        finally:
            timer.cancel()
    except duckdb.InterruptException:
        return Found(error=f"It took longer than {task.timeout_s:g} s.")
    except (duckdb.OutOfMemoryException, MemoryError):
        return Found(error=f"It needs more than {task.memory_mb} MB of memory.")
    except duckdb.Error as cause:
        return Found(error=_sentence(str(cause), task))
    finally:
        connection.close()


def _is_select(statement: Any) -> bool:
    import duckdb

    try:
        return bool(statement.type == duckdb.StatementType.SELECT)
    except ValueError:  # of a kind that Python has no name for
        return False


def lock(connection: Any, task: Task) -> None:
    """Close every door, and throw away the key."""
    for setting in (
        f"memory_limit = '{task.memory_mb}MB'",
        f"threads = {THREADS}",
        f"temp_directory = {_literal(task.spill)}",
        f"max_temp_directory_size = '{SPILL_BYTES_MAX}B'",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"set {setting}")


def offer(connection: Any, task: Task) -> None:
    """Make `predictions`: the answers of all files, of whatever form, with the truth that is known of them."""
    import pyarrow as pa
    from pyarrow import dataset

    grouped: dict[str, tuple[Any, list[Part]]] = {}
    for part in task.parts:
        schema = dataset.dataset(part.path, format=part.format).schema.remove_metadata()
        grouped.setdefault(f"{part.format} {schema}", (schema, []))[1].append(part)
    schemas = [schema for schema, _ in grouped.values()]
    names = list(dict.fromkeys(name for schema in schemas for name in schema.names)) or list(COLUMNS)
    types = {n: _type([s.field(n).type for s in schemas if n in s.names]) if schemas else COLUMNS[n] for n in names}
    selects = []
    for i, (schema, parts) in enumerate(grouped.values()):
        files = dataset.dataset([p.path for p in parts], schema=schema, format=parts[0].format)
        connection.register(f"part_{i}", files)
        columns = ", ".join(
            f"cast({_name(n)} as {types[n]}) as {_name(n)}"
            if n in schema.names
            else f"cast(null as {types[n]}) as {_name(n)}"
            for n in names
        )
        selects.append(f"select {columns} from part_{i}")
    if not selects:
        selects = [f"select {', '.join(f'cast(null as {types[n]}) as {_name(n)}' for n in names)} where false"]
    with pa.OSFile(task.truth) as file:
        connection.register("labels", pa.ipc.open_file(file).read_all())
    where = " and ".join(
        f"event_at_ms {sign} {int(at)}" for sign, at in ((">=", task.from_ms), ("<", task.to_ms)) if at is not None
    )
    times = "".join(f", make_timestamp({n}_ms * 1000) as {n}" for n in ("at", "event_at") if f"{n}_ms" in names)
    connection.execute(f"create view answers as {' union all '.join(selects)}")
    connection.execute(
        f"""create view predictions as
            select a.*{times}, l.truth, l.truth_value, l.truth_at_ms
              from (select * from answers{" where " + where if where else ""}) a
              left join labels l on l.prediction_id = a.prediction_id and l.revision_id = a.revision_id"""
    )


def fetch(connection: Any, task: Task) -> Found:
    """The rows, as far as the limits go."""
    columns = [(str(d[0]), str(d[1])) for d in connection.description or []]
    found, size = Found(columns=columns), 0
    while batch := connection.fetchmany(256):
        for row in batch:
            values = [plain(v) for v in row]
            size += len(msgspec.json.encode(values))
            if len(found.rows) == task.rows_max or size > task.bytes_max:
                found.is_truncated = True
                return found
            found.rows.append(values)
    return found


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are none become null, times become text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _type(types: list[Any]) -> str:
    """One DuckDB type that holds all of these Arrow types."""
    from pyarrow import types as is_

    if all(is_.is_boolean(t) for t in types) and types:
        return "boolean"
    if all(is_.is_integer(t) for t in types) and types:
        return "bigint"
    if all(is_.is_integer(t) or is_.is_floating(t) for t in types) and types:
        return "double"
    if all(is_.is_list(t) for t in types) and types:
        return "double[]"
    return "varchar"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sentence(error: str, task: Task) -> str:
    """What DuckDB says, without its class and our paths."""
    text = error.split("\n\n")[0].strip().replace(str(Path(task.spill).parent), "…")
    return text[:1000]


if __name__ == "__main__":
    main()
