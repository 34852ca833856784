"""SQL over predictions: what is answered, and what is not reached."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from noria.monitoring import query
from noria.monitoring.query_process import answer
from tests.conftest import Noria
from tests.monitoring.given import DAY, HOUR, answers, truths
from tests.monitoring.test_log import answered

T = 100 * DAY
SQLITE = pytest.mark.parametrize(
    "database_url", ["sqlite"], indirect=True
)  # where the database does not matter: a query takes half a second


def given(noria: Noria) -> None:
    rows = [
        {"id": f"p{i}", "event_at_ms": T + i, "key": f"k{i}", "score": i / 10, "prediction": float(i % 2), "in_temp": float(i),
         "in_carrier": "UA" if i % 2 else "AA"}
        for i in range(10)
    ]  # fmt: skip
    answers(noria, rows)
    truths(noria, [{"id": f"p{i}", "value": 1.0, "at_ms": T + HOUR} for i in range(5)])


def ask(client: httpx.Client, sql: str, **fields: Any) -> httpx.Response:
    return client.post("/api/v1/endpoints/flights/query", json={"sql": sql, **fields}, timeout=120)


def rows(client: httpx.Client, sql: str, **fields: Any) -> list[list[Any]]:
    found = ask(client, sql, **fields)
    assert found.status_code == 200, found.text
    given: list[list[Any]] = found.json()["rows"]
    return given


def test_answers_with_their_truth_and_version(noria: Noria) -> None:
    given(noria)
    sql = """select prediction_id, model_version, in_carrier, score, truth, truth_value, event_at from predictions
              where in_temp >= 4 order by event_at_ms limit 2"""
    assert rows(noria.http, sql) == [
        ["p4", 1, "AA", 0.4, "1", 1.0, "1970-04-11T00:00:00.004000"], ["p5", 1, "UA", 0.5, None, None, "1970-04-11T00:00:00.005000"],
    ]  # fmt: skip
    wrong = """select in_carrier, avg(cast(prediction <> truth_value as int)) from predictions
                where truth is not null group by 1 order by 1"""
    assert rows(noria.http, wrong) == [["AA", 1.0], ["UA", 0.0]]
    assert rows(noria.http, "select count(*) from predictions", from_ms=T + 2, to_ms=T + 5) == [[3]]


@SQLITE
def test_files_and_segments_of_several_forms_are_one_table(noria: Noria) -> None:
    answered(noria, 0)
    noria.app.monitoring.log_keeper.compact(everything=True)
    answered(noria, 3, revision="r2", in_temp="cold", in_wind=3.5)
    found = rows(noria.http, "select prediction_id, revision_id, in_temp, in_wind from predictions order by 1")
    assert found[0] == ["p0", "r1", "0.0", None]
    assert found[3] == ["p3", "r2", "cold", 3.5]


@SQLITE
def test_limits_are_kept_and_said(noria: Noria, monkeypatch: pytest.MonkeyPatch) -> None:
    given(noria)
    cut = ask(noria.http, "select prediction_id from predictions", limit=4).json()
    assert (len(cut["rows"]), cut["is_truncated"]) == (4, True)
    whole = ask(noria.http, "select prediction_id from predictions", limit=10).json()
    assert (len(whole["rows"]), whole["is_truncated"]) == (10, False)
    assert ask(noria.http, "select 1", limit=10_001).status_code == 400
    assert ask(noria.http, " ").status_code == 400
    assert ask(noria.http, "select 1", from_ms=5, to_ms=5).status_code == 400
    monkeypatch.setattr(query, "ANSWER_BYTES_MAX", 5_000)
    wide = ask(noria.http, "select repeat('x', 4000) from range(100)").json()
    assert wide["is_truncated"]
    assert len(wide["rows"]) < 5
    monkeypatch.setattr(query, "TIMEOUT_S", 0.5)
    slow = ask(
        noria.http,
        "select count(*) from range(100000) a, range(100000) b, range(1000) c where hash(a.range + b.range + c.range) % 7 = 3",
    )
    assert (slow.status_code, "longer than 0.5 s" in slow.text) == (400, True)
    monkeypatch.setattr(query, "MEMORY_MB", 60)
    large = ask(noria.http, "select list(range) from range(100000000)")
    assert large.status_code == 400, large.text
    monkeypatch.setattr(query, "READ_BYTES_MAX", -1)
    assert "shorter span" in ask(noria.http, "select 1").text


@SQLITE
def test_one_at_a_time_too_many_are_told(noria: Noria) -> None:
    queries = noria.app.monitoring.queries
    taken = [queries._turns.acquire(blocking=False) for _ in range(query.QUERIES_AT_ONCE)]
    assert all(taken)
    refused = ask(noria.http, "select 1")
    assert refused.status_code == 429
    assert refused.headers["retry-after"]
    for _ in taken:
        queries._turns.release()
    assert rows(noria.http, "select 1") == [[1]]


HOSTILE = [
    "select * from read_csv('/etc/passwd')", "select * from read_text('/etc/passwd')", "select * from '/etc/passwd'",
    "select * from read_blob('/etc/passwd')", "select * from glob('/etc/*')", "select * from read_csv('/proc/self/environ')",
    "select * from sniff_csv('/etc/passwd')", "select * from parquet_metadata('/tmp/x.parquet')",
    "select * from read_csv('http://127.0.0.1:1/x.csv')", "select * from 'https://example.org/x.parquet'",
    "select * from query('select * from read_text(''/etc/passwd'')')", "select * from sqlite_scan('/tmp/x.db', 't')",
    "select * from postgres_scan('host=127.0.0.1', 'public', 't')", "select * from task", "select * from connection",
]  # fmt: skip
STATEMENTS = [
    "copy (select 1) to '/tmp/noria-stolen.csv'", "copy predictions from '/etc/passwd'", "attach '/tmp/x.db' as x",
    "install httpfs", "load httpfs", "set enable_external_access = true", "set lock_configuration = false",
    "reset enable_external_access", "pragma enable_external_access", "create table t as select 1", "drop view predictions",
    "export database '/tmp/noria-stolen'", "call pragma_version()", "select 1; select 2", "create secret (type s3)",
    "prepare p as select 1", "explain analyze select 1", "checkpoint", "import database '/tmp'", "use memory", "",
    "with t as (select 1) insert into x select * from t", "detach memory", "update extensions",
]  # fmt: skip


@SQLITE
def test_nothing_else_is_reached(noria: Noria) -> None:
    given(noria)
    passwords = Path("/etc/passwd").read_text()
    with noria.app.monitoring.queries._laid_out("flights", query.QueryRequest(sql="")) as task:
        for sql in [*HOSTILE, *STATEMENTS]:
            found = answer(msgspec.structs.replace(task, sql=sql))  # as the process does it, without starting fifty
            assert found.error, (sql, found)
            assert not found.rows, sql
            assert passwords[:40] not in found.error, sql
            assert "noria-query-" not in found.error, sql
    told = ask(noria.http, HOSTILE[0])
    assert told.status_code == 400, told.text
    assert passwords[:40] not in told.text
    assert not Path("/tmp/noria-stolen.csv").exists()
    settings = dict(rows(noria.http, "select name, value from duckdb_settings()"))
    assert settings["lock_configuration"] == "true"
    assert settings["enable_external_access"] == "false"
    assert "Permission Error" in ask(noria.http, "select * from duckdb_extensions()").text, "it would look into a folder"


@SQLITE
def test_it_takes_the_right_to_read_answers(noria: Noria) -> None:
    given(noria)
    assert ask(noria.as_("aud", "auditor"), "select 1").status_code == 403
    assert ask(noria.as_("vic", "viewer"), "select count(*) from predictions").json()["rows"] == [[10]]


@SQLITE
def test_an_endpoint_that_has_not_answered_has_no_rows(noria: Noria) -> None:
    assert rows(noria.http, "select prediction_id, truth from predictions") == []
    assert "Referenced column" in ask(noria.http, "select nope from predictions").json()["error"]["message"]
    documented = 'select key, model_version, role, event_at, "at", score, latency_ms, status, truth_at_ms from predictions'
    assert rows(noria.http, documented + " where prediction <> truth_value and probability[1] > 0.5") == []


@SQLITE
def test_a_quiet_span_has_no_rows_and_all_columns(noria: Noria) -> None:
    answered(noria, 0)
    noria.app.monitoring.log_keeper.compact(everything=True)
    asked = "select in_temp, score, event_at, truth from predictions"
    assert len(rows(noria.http, asked)) == 3
    assert rows(noria.http, asked, from_ms=T + DAY) == []
    assert rows(noria.http, asked, to_ms=T) == []


@SQLITE
def test_answers_are_not_left_out_in_silence(noria: Noria, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "LOOSE_MAX", 1)
    answered(noria, 0)
    answered(noria, 3)
    refused = ask(noria.http, "select count(*) from predictions")
    assert (refused.status_code, "lie in no file yet" in refused.text) == (503, True)
    noria.app.monitoring.log_keeper.compact(everything=True)
    assert rows(noria.http, "select count(*) from predictions") == [[6]]


@SQLITE
def test_one_large_row_is_not_answered(noria: Noria) -> None:
    found = ask(noria.http, "select repeat('x', 20000000)").json()
    assert (found["rows"], found["is_truncated"]) == ([], True)


def test_the_process_gets_no_more_memory_than_it_may() -> None:
    code = "from noria.monitoring.query_process import limit_memory; limit_memory(1 << 20); bytearray(int(input()))"
    for size, told in ((1 << 20, ""), (2 << 30, "MemoryError")):
        done = subprocess.run(
            [sys.executable, "-c", code], input=str(size), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stderr.strip() == told if not told else told in done.stderr
