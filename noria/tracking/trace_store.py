"""The rows of tracing: one named function per query, none of them in a loop."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.kernel.db import Read, Write, js
from noria.tracking.search import Condition, Order
from noria.tracking.store import among
from noria.tracking.trace_model import Assessment, Span, Trace

_TRACE = """r.id, r.experiment_id, r.name, r.state, r.at_ms, r.duration_ms, r.client_request_id, r.request_preview,
            r.response_preview, r.is_final, r.spans_count"""
_ASSESSMENT = """id, trace_id, name, kind, source_type, source_id, value, format, error, rationale, metadata, span_id, overrides,
                 is_valid, created_at_ms, updated_at_ms, actor"""

# --- traces -------------------------------------------------------------------------------------------------------------


def add_trace(tx: Write, trace: Trace, workspace: str) -> bool:
    """False when it is there already."""
    added = tx.run(
        """insert into trace (id, experiment_id, name, state, at_ms, duration_ms, client_request_id, request_preview,
                              response_preview, is_final, spans_count, workspace)
           values (:id, :experiment_id, :name, :state, :at_ms, :duration_ms, :client_request_id, :request_preview,
                   :response_preview, :is_final, 0, :workspace)
           on conflict (id) do nothing""",
        **_columns(trace), workspace=workspace,
    )  # fmt: skip
    return added == 1


def update_trace(tx: Write, trace: Trace) -> None:
    tx.run(
        """update trace
              set experiment_id = :experiment_id, name = :name, state = :state, at_ms = :at_ms, duration_ms = :duration_ms,
                  client_request_id = :client_request_id, request_preview = :request_preview,
                  response_preview = :response_preview, is_final = :is_final
            where id = :id""",
        **_columns(trace),
    )  # fmt: skip


def _columns(trace: Trace) -> dict[str, Any]:
    return {
        "id": trace.id, "experiment_id": trace.experiment_id, "name": trace.name, "state": trace.state, "at_ms": trace.at_ms,
        "duration_ms": trace.duration_ms, "client_request_id": trace.client_request_id,
        "request_preview": trace.request_preview, "response_preview": trace.response_preview, "is_final": trace.is_final,
    }  # fmt: skip


def experiment_of(tx: Read, trace_id: str, workspace: str) -> str | None:
    found: str | None = tx.scalar(
        "select experiment_id from trace where id = :id and workspace = :workspace", id=trace_id, workspace=workspace
    )
    return found


def trace_rows(tx: Read, trace_ids: list[str], workspace: str, *, lock: bool = False) -> list[dict[str, Any]]:
    """Traces as rows, by id. `lock` holds them until the end of a write transaction; SQLite has one writer anyway."""
    return tx.rows(
        f"""select {_TRACE} from trace r where {among(tx, "r.id", "ids")} and r.workspace = :workspace
             order by r.id {"for update" if lock and tx.dialect != "sqlite" else ""}""",
        ids=js(trace_ids), workspace=workspace,
    )  # fmt: skip


def traces(
    tx: Read, workspace: str, experiment_ids: list[str], *, where: Condition, order: Order, after: Condition, limit: int
) -> list[dict[str, Any]]:
    """Traces of experiments as rows with the sort keys k0, k1, …"""
    scope, params = among(tx, "r.experiment_id", "experiments"), {"experiments": js(experiment_ids)}
    if len(experiment_ids) == 1:
        scope, params = "r.experiment_id = :experiment", {"experiment": experiment_ids[0]}
    clauses = ["r.workspace = :workspace", scope, where.sql, after.sql]
    return tx.rows(
        f"""select {_TRACE} {order.columns} from trace r {order.joins}
             where {" and ".join(c for c in clauses if c)} order by {order.clause} limit :limit""",
        workspace=workspace, limit=limit, **params, **where.params, **order.params, **after.params,
    )  # fmt: skip


def traces_from(tx: Read, rows: list[dict[str, Any]]) -> list[Trace]:
    """Rows as traces with tags, metadata, runs and assessments: one query for each kind."""
    ids = [row["id"] for row in rows]
    if not ids:
        return []
    tags, metadata = _pairs(tx, "trace_tag", ids), _pairs(tx, "trace_metadata", ids)
    runs: dict[str, list[str]] = {}
    for trace_id, run_id in tx.tuples(
        f"select trace_id, run_id from trace_run where {among(tx, 'trace_id', 'ids')} order by 1, 2", ids=js(ids)
    ):
        runs.setdefault(trace_id, []).append(run_id)
    judged: dict[str, list[Assessment]] = {}
    for found in assessments_of(tx, ids):
        judged.setdefault(found.trace_id, []).append(found)
    fields = Trace.__struct_fields__
    plain: list[dict[str, Any]] = [{k: v for k, v in row.items() if k in fields} for row in rows]
    return [
        Trace(
            **{**row, "is_final": bool(row["is_final"])},
            tags=tags.get(row["id"], {}), metadata=metadata.get(row["id"], {}), run_ids=runs.get(row["id"], []),
            assessments=judged.get(row["id"], []),
        )
        for row in plain
    ]  # fmt: skip


def _pairs(tx: Read, table: str, ids: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for trace_id, key, value in tx.tuples(
        f"select trace_id, key, value from {table} where {among(tx, 'trace_id', 'ids')} order by 1, 2", ids=js(ids)
    ):
        found.setdefault(trace_id, {})[key] = value
    return found


def pairs_count(tx: Read, table: str, trace_id: str) -> int:
    return int(tx.scalar(f"select count(*) from {table} where trace_id = :id", id=trace_id))


def set_tags(tx: Write, rows: list[tuple[str, str, str]]) -> None:
    """Set tags, given as (trace, key, value)."""
    _set(tx, "trace_tag", rows, "do update set value = excluded.value")


def set_metadata(tx: Write, rows: list[tuple[str, str, str]], *, replace: bool = True) -> None:
    """Set metadata, given as (trace, key, value); unless `replace`, only what is missing."""
    _set(tx, "trace_metadata", rows, "do update set value = excluded.value" if replace else "do nothing")


def _set(tx: Write, table: str, rows: list[tuple[str, str, str]], conflict: str) -> None:
    tx.many(
        f"""insert into {table} (trace_id, key, value) values (:trace_id, :key, :value)
            on conflict (trace_id, key) {conflict}""",
        [{"trace_id": t, "key": k, "value": v} for t, k, v in sorted(rows)],
    )  # fmt: skip


def remove_tag(tx: Write, trace_id: str, key: str) -> int:
    return tx.run("delete from trace_tag where trace_id = :id and key = :key", id=trace_id, key=key)


def link_runs(tx: Write, rows: list[tuple[str, str]]) -> None:
    tx.many(
        "insert into trace_run (trace_id, run_id) values (:trace_id, :run_id) on conflict do nothing",
        [{"trace_id": t, "run_id": r} for t, r in sorted(rows)],
    )


def link_prompts(tx: Write, trace_id: str, prompts: list[str]) -> None:
    tx.many(
        "insert into trace_prompt (trace_id, prompt) values (:trace_id, :prompt) on conflict do nothing",
        [{"trace_id": trace_id, "prompt": p} for p in sorted(prompts)],
    )


def ids_to_delete(tx: Read, experiment_id: str, *, ids: list[str] | None, upto_ms: int | None, limit: int) -> list[str]:
    """The oldest traces of an experiment among `ids`, or not later than `upto_ms`."""
    only, params = "", dict[str, Any]()
    if ids is not None:
        only, params = f"and {among(tx, 'id', 'ids')}", {"ids": js(ids)}
    if upto_ms is not None:
        only, params = f"{only} and at_ms <= :upto", {**params, "upto": upto_ms}
    return tx.column(
        f"select id from trace where experiment_id = :experiment {only} order by at_ms, id limit :limit",
        experiment=experiment_id, limit=limit, **params,
    )  # fmt: skip


def files_of(tx: Read, trace_ids: list[str]) -> list[tuple[str, int]]:
    """Digest and size of every file of traces."""
    owners = js([f"trace:{t}" for t in trace_ids])
    rows = tx.tuples(f"select digest, size_bytes from artifact where {among(tx, 'owner', 'ids')}", ids=owners)
    return [(row[0], int(row[1])) for row in rows]


def delete_traces(tx: Write, trace_ids: list[str]) -> int:
    """Remove traces and everything that belongs to them."""
    ids = js(trace_ids)
    for table in ("span", "assessment", "trace_tag", "trace_metadata", "trace_run", "trace_prompt"):
        tx.run(f"delete from {table} where {among(tx, 'trace_id', 'ids')}", ids=ids)
    tx.run(f"delete from artifact where {among(tx, 'owner', 'ids')}", ids=js([f"trace:{t}" for t in trace_ids]))
    return tx.run(f"delete from trace where {among(tx, 'id', 'ids')}", ids=ids)


# --- spans --------------------------------------------------------------------------------------------------------------


def put_spans(tx: Write, spans: list[Span], tokens: dict[tuple[str, str], tuple[int, int]]) -> None:
    """Keep spans; one that is there is replaced. `tokens`: input and output, by (trace, span)."""
    tx.many(
        """insert into span (trace_id, span_id, parent_id, name, kind, status, start_ns, end_ns, input_tokens, output_tokens,
                             body)
           values (:trace_id, :span_id, :parent_id, :name, :kind, :status, :start_ns, :end_ns, :input, :output, :body)
           on conflict (trace_id, span_id) do update
              set parent_id = excluded.parent_id, name = excluded.name, kind = excluded.kind, status = excluded.status,
                  start_ns = excluded.start_ns, end_ns = excluded.end_ns, input_tokens = excluded.input_tokens,
                  output_tokens = excluded.output_tokens, body = excluded.body""",
        [
            {
                "trace_id": s.trace_id, "span_id": s.span_id, "parent_id": s.parent_id, "name": s.name, "kind": s.kind,
                "status": s.status, "start_ns": s.start_ns, "end_ns": s.end_ns,
                "input": tokens.get((s.trace_id, s.span_id), (None, None))[0],
                "output": tokens.get((s.trace_id, s.span_id), (None, None))[1], "body": s.body,
            }
            for s in sorted(spans, key=lambda s: (s.trace_id, s.span_id))
        ],
    )  # fmt: skip


def span_sums(tx: Read, trace_ids: list[str]) -> dict[str, dict[str, Any]]:
    """How many spans each trace has, when the first began and the last ended."""
    rows = tx.rows(
        f"""select trace_id, count(*) as n, min(start_ns) as first_ns, max(end_ns) as last_ns,
                   max(case when parent_id = '' then 1 else 0 end) as has_root
              from span where {among(tx, "trace_id", "ids")} group by trace_id""",
        ids=js(trace_ids),
    )  # fmt: skip
    return {row["trace_id"]: row for row in rows}


def span_tokens(tx: Read, trace_ids: list[str]) -> dict[str, list[Any]]:
    """(span, parent, input tokens, output tokens) of each span, by trace."""
    found: dict[str, list[Any]] = {}
    for trace_id, *rest in tx.tuples(
        f"""select trace_id, span_id, parent_id, input_tokens, output_tokens from span
             where {among(tx, "trace_id", "ids")}""",
        ids=js(trace_ids),
    ):
        found.setdefault(trace_id, []).append(rest)
    return found


def set_spans_count(tx: Write, counts: dict[str, int]) -> None:
    tx.many(
        "update trace set spans_count = :n where id = :id",
        [{"id": trace_id, "n": n} for trace_id, n in sorted(counts.items())],
    )


def spans_of(tx: Read, trace_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Spans by trace, the earliest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in tx.rows(
        f"""select trace_id, span_id, parent_id, name, kind, status, start_ns, end_ns, body from span
             where {among(tx, "trace_id", "ids")} order by trace_id, start_ns, span_id""",
        ids=js(trace_ids),
    ):
        found.setdefault(row["trace_id"], []).append(row)
    return found


# --- assessments --------------------------------------------------------------------------------------------------------


def put_assessments(tx: Write, found: list[Assessment]) -> None:
    """Keep assessments; one of the same id and trace is replaced."""
    tx.many(
        f"""insert into assessment ({_ASSESSMENT}, number)
            values (:id, :trace_id, :name, :kind, :source_type, :source_id, :value, :format, :error, :rationale, :metadata,
                    :span_id, :overrides, :is_valid, :created_at_ms, :updated_at_ms, :actor, :number)
            on conflict (id) do update
               set name = excluded.name, value = excluded.value, number = excluded.number, format = excluded.format,
                   error = excluded.error, rationale = excluded.rationale, metadata = excluded.metadata,
                   is_valid = excluded.is_valid, updated_at_ms = excluded.updated_at_ms
             where assessment.trace_id = excluded.trace_id""",
        [
            {
                **{name: getattr(a, name) for name in Assessment.__struct_fields__},
                "value": js(a.value), "error": None if a.error is None else js(a.error), "metadata": js(a.metadata),
                "number": _number(a.value),
            }
            for a in found
        ],
    )  # fmt: skip


def _number(value: Any) -> float | None:
    """What a value counts as in comparisons."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 else None


def assessments_of(tx: Read, trace_ids: list[str]) -> list[Assessment]:
    """The assessments of traces, the oldest first."""
    return [
        _assessment(row)
        for row in tx.rows(
            f"""select {_ASSESSMENT} from assessment where {among(tx, "trace_id", "ids")}
                 order by trace_id, created_at_ms, id""",
            ids=js(trace_ids),
        )
    ]


def assessment(tx: Read, trace_id: str, assessment_id: str) -> Assessment | None:
    rows = tx.rows(
        f"select {_ASSESSMENT} from assessment where trace_id = :trace_id and id = :id", trace_id=trace_id, id=assessment_id
    )
    return _assessment(rows[0]) if rows else None


def _assessment(row: dict[str, Any]) -> Assessment:
    for name in ("value", "error", "metadata"):
        row[name] = None if row[name] is None else msgspec.json.decode(row[name])
    return Assessment(**{**row, "is_valid": bool(row["is_valid"])})


def assessments_count(tx: Read, trace_id: str) -> int:
    return int(tx.scalar("select count(*) from assessment where trace_id = :id", id=trace_id))


def set_valid(tx: Write, trace_id: str, assessment_id: str, is_valid: bool) -> int:
    return tx.run(
        "update assessment set is_valid = :is_valid where trace_id = :trace_id and id = :id",
        trace_id=trace_id, id=assessment_id, is_valid=is_valid,
    )  # fmt: skip


def remove_assessment(tx: Write, assessment_id: str) -> int:
    return tx.run("delete from assessment where id = :id", id=assessment_id)


def owners_of(tx: Read, assessment_ids: list[str]) -> dict[str, str]:
    """The traces of assessments that are there, by id of the assessment."""
    rows = tx.tuples(f"select id, trace_id from assessment where {among(tx, 'id', 'ids')}", ids=js(assessment_ids))
    return dict(rows)
