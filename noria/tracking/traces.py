"""Traces: what went through a program, told by the program itself or by OpenTelemetry.

A trace comes in two ways, in any order and possibly both: its client tells what it is (`start`), and its spans arrive on their
own (`log_spans`). Until the client has spoken, the trace follows from its spans. Permission is asked on the experiment, as for
runs; reading spans, or searching in them, takes the right to read artifacts: they hold what people typed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import structs

from noria.kernel.collector import condemn
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Invalid, NotFound, TooLarge
from noria.kernel.filters import parse_filter, parse_order
from noria.kernel.ids import ExperimentId, Ref, new_id
from noria.kernel.op import Op
from noria.kernel.paging import Page
from noria.tracking import trace_search
from noria.tracking import trace_store as store
from noria.tracking.assessments import Assessments, checked
from noria.tracking.service import Tracking
from noria.tracking.sight import experiment_for, may, visible, writable
from noria.tracking.span_meaning import preview, tokens_of, top_tokens, trace_tags
from noria.tracking.trace_model import (
    DERIVED_TAGS,
    NAME_LENGTH_MAX,
    NAME_TAG,
    PAIRS_PER_TRACE,
    RUN_METADATA,
    SESSION_METADATA,
    SIZE_METADATA,
    SPANS_FILE,
    SPANS_PER_REQUEST,
    SPANS_PER_TRACE,
    TOKENS_METADATA,
    TRACES_PER_LINK,
    TRACES_PER_READ,
    USER_METADATA,
    Span,
    SpanView,
    Trace,
    check_duration,
    check_name,
    check_pairs,
    check_preview,
    check_time,
    check_trace_id,
)

DELETES_PER_TURN = 500  # traces removed in one transaction, so that other writers get theirs
SPANS_FILE_BYTES_MAX = 64 << 20


class Traces:
    """The service. `assessments` are what people and judges said of traces."""

    def __init__(self, db: Database, tracking: Tracking) -> None:
        self._db, self._tracking = db, tracking
        self.assessments = Assessments(db, self)

    # --- writing --------------------------------------------------------------------------------------------------------

    def start(self, op: Op, trace: Trace) -> Trace:
        """Keep what a client says of a trace, over what followed from its spans. Raises NotFound, Invalid, Forbidden."""
        check_trace_id(trace.id)
        name = check_name(trace.tags.get(NAME_TAG, trace.name))
        tags = {k: v for k, v in check_pairs(trace.tags, "tag").items() if k not in DERIVED_TAGS and k != NAME_TAG}
        check_pairs(trace.metadata, "metadata")
        check_time(trace.at_ms)
        check_duration(trace.duration_ms)
        check_preview(trace.request_preview, "request_preview")
        check_preview(trace.response_preview, "response_preview")
        judged = [checked(structs.replace(a, trace_id=trace.id)) for a in trace.assessments]
        with self._db.write(op) as tx:
            self._active(tx, op, "run.log", trace.experiment_id)
            made = structs.replace(trace, name=name, is_final=True)
            if not store.add_trace(tx, made, op.workspace):
                was = self._row(tx, op, "run.log", trace.id, lock=True)
                store.update_trace(tx, structs.replace(
                    made, name=name or was["name"],
                    request_preview=was["request_preview"] if trace.request_preview is None else trace.request_preview,
                    response_preview=was["response_preview"] if trace.response_preview is None else trace.response_preview,
                ))  # fmt: skip
            self._keep_pairs(tx, trace.id, tags, trace.metadata)
            self.assessments.put(tx, trace.id, judged)
            return store.traces_from(tx, store.trace_rows(tx, [trace.id], op.workspace))[0]

    def begin(self, op: Op, experiment_id: str, at_ms: int, metadata: dict[str, str], tags: dict[str, str]) -> Trace:
        """Begin a trace as older clients do, before its end is known. Raises NotFound, Invalid, Forbidden."""
        made = Trace(
            id="tr-" + new_id(op.at_ms), experiment_id=ExperimentId(experiment_id), state="IN_PROGRESS", at_ms=at_ms,
            tags=tags, metadata=metadata,
        )  # fmt: skip
        return self.start(op, made)

    def end(self, op: Op, trace_id: str, at_ms: int, state: Any, metadata: dict[str, str], tags: dict[str, str]) -> Trace:
        """End a trace that `begin` began. Raises NotFound, Invalid, Forbidden."""
        found = self.trace(op, trace_id)
        return self.start(op, structs.replace(
            found, state=state, duration_ms=check_duration(at_ms - found.at_ms), metadata=metadata, tags=tags, assessments=[]
        ))  # fmt: skip

    def log_spans(self, op: Op, experiment_id: str, spans: list[Span], run_id: str = "") -> None:
        """Keep spans of any number of traces, all or none. Raises NotFound, Invalid, TooLarge, Forbidden."""
        if len(spans) > SPANS_PER_REQUEST:
            raise TooLarge(f"These are {len(spans)} spans; at most {SPANS_PER_REQUEST} fit one request.", hint="Send fewer.")
        by_trace: dict[str, list[Span]] = {}
        for span in spans:
            by_trace.setdefault(check_trace_id(span.trace_id), []).append(span)
        tokens = {(s.trace_id, s.span_id): used for s in spans if (used := tokens_of(s.attributes)) is not None}
        ids = sorted(by_trace)
        with self._db.write(op) as tx:
            self._active(tx, op, "run.log", experiment_id)
            if run_id:
                writable(tx, op, run_id)
            for trace_id in ids:
                store.add_trace(tx, _from_spans(trace_id, experiment_id, by_trace[trace_id]), op.workspace)
            rows = {row["id"]: row for row in store.trace_rows(tx, ids, op.workspace, lock=True)}
            for trace_id in ids:
                self._may(op, "run.log", rows.get(trace_id), trace_id)
            store.put_spans(tx, spans, tokens)
            sums = store.span_sums(tx, ids)
            for trace_id, found in sums.items():
                if found["n"] > SPANS_PER_TRACE:
                    raise TooLarge(
                        f"The trace {trace_id} would have {found['n']} spans; at most {SPANS_PER_TRACE} are kept."
                    )
            store.set_spans_count(tx, {trace_id: found["n"] for trace_id, found in sums.items()})
            self._follow(tx, rows, by_trace, sums, bool(tokens))
            if run_id:
                store.link_runs(tx, [(trace_id, run_id) for trace_id in ids])

    def _follow(
        self,
        tx: Write,
        rows: dict[str, dict[str, Any]],
        by_trace: dict[str, list[Span]],
        sums: dict[str, Any],
        has_tokens: bool,
    ) -> None:
        """Bring traces into line with their spans, where their client has not spoken."""
        tags, metadata = list[tuple[str, str, str]](), list[tuple[str, str, str]]()
        nodes = store.span_tokens(tx, list(by_trace)) if has_tokens else {}
        for trace_id, spans in by_trace.items():
            row, said = rows[trace_id], _from_spans(trace_id, rows[trace_id]["experiment_id"], spans)
            tags += [(trace_id, k, v) for span in spans for k, v in trace_tags(span).items()]
            for key, value in said.metadata.items():
                metadata.append((trace_id, key, value))
            used = top_tokens(nodes.get(trace_id, []))
            if used and not row["is_final"]:
                store.set_metadata(tx, [(trace_id, TOKENS_METADATA, used)])
            elif used:
                metadata.append((trace_id, TOKENS_METADATA, used))
            is_final, first = bool(row["is_final"]), sums[trace_id]["first_ns"] // 1_000_000
            last = sums[trace_id]["last_ns"]
            has_root = any(not span.parent_id for span in spans)
            store.update_trace(tx, Trace(
                id=trace_id, experiment_id=row["experiment_id"], name=row["name"] or said.name,
                state=row["state"] if is_final or not has_root else said.state,
                at_ms=row["at_ms"] if is_final else first,
                duration_ms=row["duration_ms"] if is_final else None if last is None else last // 1_000_000 - first,
                client_request_id=row["client_request_id"], is_final=is_final,
                request_preview=said.request_preview if row["request_preview"] is None else row["request_preview"],
                response_preview=said.response_preview if row["response_preview"] is None else row["response_preview"],
            ))  # fmt: skip
        store.set_tags(tx, list({(t, k): (t, k, v) for t, k, v in tags}.values()))
        store.set_metadata(tx, list({(t, k): (t, k, v) for t, k, v in metadata}.values()), replace=False)

    def set_tag(self, op: Op, trace_id: str, key: str, value: str) -> None:
        """Set a tag. Raises NotFound, Invalid, Forbidden."""
        _mutable(key)
        check_pairs({key: value}, "tag")
        with self._db.write(op) as tx:
            row = self._row(tx, op, "run.log", trace_id, lock=True)
            if key == NAME_TAG:
                found = store.traces_from(tx, [row])[0]
                store.update_trace(tx, structs.replace(found, name=check_name(value)))
            else:
                self._keep_pairs(tx, trace_id, {key: value}, {})

    def delete_tag(self, op: Op, trace_id: str, key: str) -> None:
        """Remove a tag. Raises NotFound, Invalid, Forbidden."""
        _mutable(key)
        with self._db.write(op) as tx:
            self._row(tx, op, "run.log", trace_id)
            if not store.remove_tag(tx, trace_id, key):
                raise NotFound(f"No trace tag with key {key[:80]!r} for the trace {trace_id}.")

    def _keep_pairs(self, tx: Write, trace_id: str, tags: dict[str, str], metadata: dict[str, str]) -> None:
        store.set_tags(tx, [(trace_id, k, v) for k, v in tags.items()])
        store.set_metadata(tx, [(trace_id, k, v) for k, v in metadata.items()])
        if metadata.get(RUN_METADATA):
            store.link_runs(tx, [(trace_id, metadata[RUN_METADATA])])
        for table, what in (("trace_tag", "tags"), ("trace_metadata", "metadata")):
            if store.pairs_count(tx, table, trace_id) > PAIRS_PER_TRACE:
                raise Invalid(f"The trace {trace_id} would have too many {what}.", where=what, hint="Remove some first.")

    def link_to_run(self, op: Op, trace_ids: list[str], run_id: str) -> None:
        """Say that traces belong to a run. Raises NotFound, Invalid, Forbidden."""
        if len(trace_ids) > TRACES_PER_LINK:
            raise Invalid(
                f"Cannot link more than {TRACES_PER_LINK} traces to a run in a single request. "
                f"Provided {len(trace_ids)} traces.", where="trace_ids",
            )  # fmt: skip
        with self._db.write(op) as tx:
            writable(tx, op, run_id)
            rows = {row["id"]: row for row in store.trace_rows(tx, trace_ids, op.workspace)}
            for trace_id in trace_ids:
                self._may(op, "run.read", rows.get(trace_id), trace_id)
            store.link_runs(tx, [(trace_id, run_id) for trace_id in set(trace_ids)])

    def link_prompts(self, op: Op, trace_id: str, prompts: list[tuple[str, str]]) -> None:
        """Say which versions of prompts a trace used. Raises NotFound, Invalid, Forbidden."""
        if len(prompts) > TRACES_PER_LINK or any(not n or not v or len(n) > 256 or len(v) > 64 for n, v in prompts):
            raise Invalid(
                f"Name 1 to {TRACES_PER_LINK} versions of prompts, each by name and version.", where="prompt_versions"
            )
        with self._db.write(op) as tx:
            self._row(tx, op, "run.log", trace_id)
            store.link_prompts(tx, trace_id, [f"{name}/{version}" for name, version in set(prompts)])

    def delete(
        self, op: Op, experiment_id: str, *, ids: list[str] | None = None, upto_ms: int | None = None, most: int | None = None
    ) -> int:  # fmt: skip
        """Remove traces of an experiment, by id or up to a time; returns how many went. Raises NotFound, Invalid, Forbidden."""
        if bool(ids) == (upto_ms is not None):
            raise Invalid("Either `max_timestamp_millis` or `trace_ids` must be specified, and not both.", where="trace_ids")
        if most is not None and (ids or most <= 0):
            raise Invalid("`max_traces` is a positive number and goes with `max_timestamp_millis` only.", where="max_traces")
        if len(ids or ()) > TRACES_PER_READ:
            raise Invalid(f"At most {TRACES_PER_READ} traces are named in one request.", where="trace_ids")
        removed = 0
        while True:  # in turns, each whole: what a crash leaves behind is removed by asking again
            left = DELETES_PER_TURN if most is None else min(DELETES_PER_TURN, most - removed)
            with self._db.write(op) as tx:
                experiment_for(tx, op, "run.delete", experiment_id)
                found = store.ids_to_delete(tx, experiment_id, ids=ids or None, upto_ms=upto_ms, limit=left) if left else []
                if not found:
                    return removed
                condemn(tx, store.files_of(tx, found), op.at_ms)
                removed += store.delete_traces(tx, found)
                tx.emit("trace.deleted", Ref("experiment", experiment_id), count=len(found), trace_ids=found[:100])

    # --- reading --------------------------------------------------------------------------------------------------------

    def trace(self, op: Op, trace_id: str) -> Trace:
        """One trace without its spans. Raises NotFound."""
        with self._db.read() as tx:
            return store.traces_from(tx, [self._row(tx, op, "run.read", trace_id)])[0]

    def traces(self, op: Op, trace_ids: list[str], action: str = "run.read") -> list[Trace]:
        """Those of these traces that are there and may be read, in the order asked for. Raises Invalid."""
        if len(trace_ids) > TRACES_PER_READ:
            raise Invalid(f"At most {TRACES_PER_READ} traces are read at once.", where="trace_ids")
        seen = visible(op, action)
        with self._db.read() as tx:
            rows = store.trace_rows(tx, trace_ids, op.workspace)
            found = store.traces_from(tx, [r for r in rows if seen is None or r["experiment_id"] in seen])
        by_id = {trace.id: trace for trace in found}
        return [by_id[i] for i in dict.fromkeys(trace_ids) if i in by_id]

    def search(
        self, op: Op, experiment_ids: Iterable[str], *, filter: str = "", order_by: list[str] | None = None, limit: int = 100,
        page: str | None = None,
    ) -> Page[Trace]:  # fmt: skip
        """Traces of experiments, latest first unless told otherwise. Five queries, however many. Raises Invalid."""
        comparisons = parse_filter(filter)
        order = trace_search.compile_order(parse_order(order_by or []))
        seen = visible(op, "run.read")
        if trace_search.reads_contents(comparisons):
            readable = visible(op, "artifact.read")
            seen = readable if seen is None else seen if readable is None else [e for e in seen if e in readable]
        wanted = [e for e in dict.fromkeys(experiment_ids) if seen is None or e in seen]
        with self._db.read() as tx:
            where = trace_search.compile_filter(comparisons, tx.dialect)
            rows = store.traces(tx, op.workspace, wanted, where=where, order=order, after=order.after(page), limit=limit + 1)
            return Page(store.traces_from(tx, rows[:limit]), order.token(rows[limit - 1]) if len(rows) > limit else None)

    def spans(self, op: Op, traces: list[Trace]) -> dict[str, list[dict[str, Any]]]:
        """The spans of traces as rows, by trace. Raises Forbidden."""
        for experiment_id in {trace.experiment_id for trace in traces}:
            op.require("artifact.read", on=Ref("experiment", experiment_id))
        with self._db.read() as tx:
            return store.spans_of(tx, [trace.id for trace in traces])

    def is_whole(self, trace: Trace, spans: list[dict[str, Any]]) -> bool:
        """Have all spans arrived: as many as the client said, or a root?"""
        try:
            said = msgspec.json.decode(trace.metadata.get(SIZE_METADATA, "{}"))
            wanted = said.get("num_spans") if isinstance(said, dict) else None
        except msgspec.DecodeError:
            wanted = None
        if isinstance(wanted, int):
            return len(spans) >= wanted
        return any(not span["parent_id"] for span in spans)

    def views(self, op: Op, trace_id: str) -> list[SpanView]:
        """The spans of a trace as people look at them, also those an older client put into a file. Raises NotFound, Forbidden."""
        from noria.tracking.span_view import views_of_file, views_of_rows

        trace = self.trace(op, trace_id)
        rows = self.spans(op, [trace]).get(trace_id, [])
        if rows:
            return views_of_rows(trace, rows)
        place = self._tracking.place(op, f"{trace.artifact_uri}/{SPANS_FILE}")
        try:
            file, chunks = self._tracking.open_at(op, place)
        except NotFound:
            return []
        if file.size_bytes > SPANS_FILE_BYTES_MAX:
            raise TooLarge(f"The spans of {trace_id} take {file.size_bytes >> 20} MiB.", hint="Download its traces.json.")
        return views_of_file(trace, b"".join(chunks))

    # --- may they -------------------------------------------------------------------------------------------------------

    def row(self, tx: Read, op: Op, action: str, trace_id: str, *, lock: bool = False) -> dict[str, Any]:
        """The row of a trace on which the caller may do `action`. Raises NotFound, Forbidden."""
        return self._row(tx, op, action, trace_id, lock=lock)

    def _row(self, tx: Read, op: Op, action: str, trace_id: str, *, lock: bool = False) -> dict[str, Any]:
        rows = store.trace_rows(tx, [trace_id], op.workspace, lock=lock)
        self._may(op, action, rows[0] if rows else None, trace_id)
        return rows[0]

    def _may(self, op: Op, action: str, row: dict[str, Any] | None, trace_id: str) -> None:
        may(op, action, row["experiment_id"] if row else None, f"Trace with ID {trace_id[:80]!r} not found.")

    def _active(self, tx: Read, op: Op, action: str, experiment_id: str) -> None:
        found = experiment_for(tx, op, action, experiment_id)
        if found.stage != "active":
            raise Invalid(f"The experiment {found.name!r} is deleted.", where="experiment_id", hint="Restore it first.")


def _mutable(key: str) -> None:
    if key in DERIVED_TAGS:
        raise Invalid(f"The tag {key!r} follows from the trace and cannot be changed.", where="key")


def _from_spans(trace_id: str, experiment_id: str, spans: list[Span]) -> Trace:
    """What these spans say of their trace."""
    first = min(s.start_ns for s in spans) // 1_000_000
    ends = [s.end_ns for s in spans if s.end_ns is not None]
    root = next((s for s in spans if not s.parent_id), None)
    metadata = dict[str, str]()
    for key, names in ((SESSION_METADATA, ("session.id", "gen_ai.conversation.id")), (USER_METADATA, ("user.id",))):
        said = next((str(s.attributes[n]) for s in spans for n in names if s.attributes.get(n)), "")
        if said and len(said) <= NAME_LENGTH_MAX:
            metadata[key] = said
    return Trace(
        id=trace_id, experiment_id=ExperimentId(experiment_id), name=root.name[:NAME_LENGTH_MAX] if root else "",
        state="IN_PROGRESS" if root is None else "ERROR" if root.status == "ERROR" else "OK", at_ms=first,
        duration_ms=max(ends) // 1_000_000 - first if ends else None,
        request_preview=preview(root, "inputs") if root else None,
        response_preview=preview(root, "outputs") if root else None, metadata=metadata,
    )  # fmt: skip
