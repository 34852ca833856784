"""The rows of monitoring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from noria.kernel.db import Read, Write, js
from noria.kernel.events import Event
from noria.kernel.things import things
from noria.monitoring.model import Alert, Monitor, Window
from noria.monitoring.sketches import Profile

T = TypeVar("T")
IDS_PER_QUERY = 900  # SQLite of the oldest kind takes 999 parameters

things("monitor", "select name from monitor")

_MONITOR = (
    "id, name, endpoint, spec, state, judged_until_ms, counted_from_ms, created_at_ms, actor, is_active, muted_until_ms, "
    "mute_reason, muted_by"
)
_WINDOW = (
    'monitor_id, start_ms, end_ms, verdict, value, low, high, limit_value as "limit", count, predictions, coverage, findings, '
    "why, judged_at_ms, judgements, is_stale, seq"
)
_ALERT = (
    'id, monitor_id, monitor, endpoint, metric, severity, state, value, limit_value as "limit", why, event_at_ms, '
    "opened_at_ms, resolved_at_ms, resolved_event_at_ms, resolved_by, resolution, owner"
)
_INFERENCE = (
    "prediction_id, stream_id, segment_id, row_index, key, event_at_ms, at_ms, score, prediction, truth, truth_value, "
    "truth_at_ms, truth_by, label_seq"
)


class Watermark(Struct, frozen=True, kw_only=True):
    """How far an endpoint's event time has come, and the fact that moved it there."""

    endpoint: str
    event_at_ms: int
    bucket_ms: int
    seq: int
    label_seq: int = 0
    predictions: int = 0
    labels: int = 0


class Stream(Struct, frozen=True, kw_only=True):
    """The answers of one revision at one endpoint; a shadow's are apart, since nobody received them."""

    id: int
    endpoint: str
    revision_id: str
    is_shadow: bool
    model_version: str


class InferenceRow(Struct, frozen=True, kw_only=True):
    """One answer as it is kept: what was sent stays in the segment, at `row_index`."""

    prediction_id: str
    stream_id: int
    segment_id: int
    row_index: int
    key: str
    event_at_ms: int
    at_ms: int
    score: float | None
    prediction: str | None
    truth: str | None = None
    truth_value: float | None = None
    truth_at_ms: int | None = None
    truth_by: str | None = None
    label_seq: int | None = None


class TruthRow(Struct, frozen=True, kw_only=True):
    """One truth as it came: named by `id` of a prediction or by `key` of an entity."""

    named_by: str
    name: str
    at_ms: int
    value: str


class SegmentRow(Struct, frozen=True, kw_only=True):
    """A segment that was taken."""

    id: int
    digest: str
    endpoint: str
    kind: str
    rows: int
    skipped: int
    seq: int
    at_ms: int


class Labelled(Struct, frozen=True, kw_only=True):
    """What the judge of a canary needs of one labelled answer."""

    prediction_id: str
    stream_id: int
    label_seq: int
    at_ms: int
    truth_at_ms: int
    score: float | None
    prediction: str | None
    truth: str
    truth_value: float | None


def chunks(values: Sequence[T], size: int = IDS_PER_QUERY) -> Iterator[Sequence[T]]:
    for at in range(0, len(values), size):
        yield values[at : at + size]


# --- what arrived ---------------------------------------------------------------------------------------------------


def take_segment(tx: Write, digest: str, endpoint: str, kind: str, rows: int, seq: int) -> int | None:
    """Note a segment; its number, or None when it was taken before."""
    number = int(tx.scalar("select coalesce(max(id), 0) from ingested_segment")) + 1
    taken = tx.run(
        """insert into ingested_segment (id, digest, endpoint, kind, rows, seq, at_ms)
           values (:id, :digest, :endpoint, :kind, :rows, :seq, :at_ms)
           on conflict (digest) do nothing""",
        id=number, digest=digest, endpoint=endpoint, kind=kind, rows=rows, seq=seq, at_ms=tx.op.at_ms if tx.op else 0,
    )  # fmt: skip
    return number if taken else None


def is_taken(tx: Read, digest: str) -> bool:
    return tx.scalar("select 1 from ingested_segment where digest = :digest", digest=digest) is not None


def rows_taken(tx: Read, segment_id: int, stream_id: int) -> list[int]:
    """Which rows of a segment became answers of a stream."""
    return tx.column(
        "select row_index from inference where segment_id = :segment and stream_id = :stream order by row_index",
        segment=segment_id, stream=stream_id,
    )  # fmt: skip


def note_skipped(tx: Write, segment_id: int, skipped: int) -> None:
    tx.run("update ingested_segment set skipped = :skipped where id = :id", id=segment_id, skipped=skipped)


def segment_at(tx: Read, segment_id: int) -> SegmentRow | None:
    return tx.one(
        SegmentRow,
        "select id, digest, endpoint, kind, rows, skipped, seq, at_ms from ingested_segment where id = :id",
        id=segment_id,
    )


def inference_segments(tx: Read, endpoint: str, after_id: int, *, limit: int = 200) -> list[SegmentRow]:
    return tx.all(
        SegmentRow,
        """select id, digest, endpoint, kind, rows, skipped, seq, at_ms from ingested_segment
            where endpoint = :endpoint and kind = 'inference' and id > :after order by id limit :limit""",
        endpoint=endpoint, after=after_id, limit=limit,
    )  # fmt: skip


def lock_watermark(tx: Write, endpoint: str, *, bucket_ms: int, event_at_ms: int) -> Watermark:
    """The endpoint's watermark, made when it is new; the row is locked until the transaction ends."""
    found = tx.one(
        Watermark,
        """insert into watermark (endpoint, event_at_ms, bucket_ms, seq) values (:endpoint, :at_ms, :bucket, 0)
           on conflict (endpoint) do update set endpoint = excluded.endpoint
           returning endpoint, event_at_ms, bucket_ms, seq, label_seq, predictions, labels""",
        endpoint=endpoint, at_ms=event_at_ms, bucket=bucket_ms,
    )  # fmt: skip
    assert found is not None
    return found


def move_watermark(tx: Write, mark: Watermark) -> None:
    tx.run(
        """update watermark set event_at_ms = :event_at_ms, bucket_ms = :bucket_ms, seq = :seq, label_seq = :label_seq,
                  predictions = :predictions, labels = :labels
            where endpoint = :endpoint""",
        **msgspec.structs.asdict(mark),
    )  # fmt: skip


def watermark(tx: Read, endpoint: str) -> Watermark | None:
    return tx.one(
        Watermark,
        "select endpoint, event_at_ms, bucket_ms, seq, label_seq, predictions, labels from watermark where endpoint = :e",
        e=endpoint,
    )


def stream_of(tx: Write, endpoint: str, revision_id: str, is_shadow: bool, model_version: str) -> int:
    """The number of a stream, given when it is new. The caller holds the endpoint's watermark."""
    found = tx.scalar(
        """select id from inference_stream
            where endpoint = :endpoint and revision_id = :revision and is_shadow = :shadow""",
        endpoint=endpoint, revision=revision_id, shadow=is_shadow,
    )  # fmt: skip
    if found is not None:
        return int(found)
    if tx.dialect == "postgresql":  # two endpoints may meet here; SQLite has one writer
        tx.run("lock table inference_stream in share row exclusive mode")
    number = int(tx.scalar("select coalesce(max(id), 0) from inference_stream")) + 1
    tx.run(
        """insert into inference_stream (id, endpoint, revision_id, is_shadow, model_version)
           values (:id, :endpoint, :revision, :shadow, :version)""",
        id=number, endpoint=endpoint, revision=revision_id, shadow=is_shadow, version=model_version,
    )  # fmt: skip
    return number


def streams(tx: Read, endpoint: str, *, shadows: bool = False) -> list[Stream]:
    """The streams of an endpoint, oldest first."""
    found = tx.all(
        Stream,
        "select id, endpoint, revision_id, is_shadow, model_version from inference_stream where endpoint = :e order by id",
        e=endpoint,
    )
    return [s for s in found if shadows or not s.is_shadow]


def stream_at(tx: Read, stream_id: int) -> Stream | None:
    return tx.one(
        Stream,
        "select id, endpoint, revision_id, is_shadow, model_version from inference_stream where id = :id",
        id=stream_id,
    )


def add_inferences(tx: Write, rows: list[dict[str, Any]]) -> None:
    """Insert answers; one that is known stays as it is."""
    tx.many(
        """insert into inference (prediction_id, stream_id, segment_id, row_index, key, event_at_ms, at_ms, score, prediction,
                                  truth, truth_value, truth_at_ms, truth_by, label_seq)
           values (:prediction_id, :stream_id, :segment_id, :row_index, :key, :event_at_ms, :at_ms, :score, :prediction,
                   :truth, :truth_value, :truth_at_ms, :truth_by, :label_seq)
           on conflict (prediction_id, stream_id) do nothing""",
        rows,
    )


def known_predictions(tx: Read, ids: Sequence[str], stream_ids: Sequence[int]) -> set[tuple[str, int]]:
    """Which of these answers are already kept."""
    found: set[tuple[str, int]] = set()
    for part in chunks(ids):
        rows = tx.rows(
            "select prediction_id, stream_id from inference where prediction_id in :ids and stream_id in :streams",
            ids=part, streams=stream_ids,
        )  # fmt: skip
        found |= {(r["prediction_id"], int(r["stream_id"])) for r in rows}
    return found


def add_truths(tx: Write, endpoint: str, rows: list[dict[str, Any]]) -> None:
    tx.many(
        """insert into truth (endpoint, named_by, name, at_ms, value) values (:endpoint, :named_by, :name, :at_ms, :value)
           on conflict (endpoint, named_by, name, at_ms) do update set value = excluded.value""",
        [{"endpoint": endpoint, **row} for row in rows],
    )


def truths(tx: Read, endpoint: str, named_by: str, names: Sequence[str]) -> dict[str, list[TruthRow]]:
    """The truths that came under these names, by name, earliest first."""
    found: dict[str, list[TruthRow]] = {}
    for part in chunks(names):
        rows = tx.rows(
            """select named_by, name, at_ms, value from truth
                where endpoint = :endpoint and named_by = :by and name in :names
                order by at_ms""",
            endpoint=endpoint, by=named_by, names=part,
        )  # fmt: skip
        for row in rows:
            found.setdefault(row["name"], []).append(TruthRow(**row))
    return found


def inferences_by_id(tx: Read, ids: Sequence[str], stream_ids: Sequence[int]) -> list[InferenceRow]:
    return _inferences_by(tx, "prediction_id", ids, stream_ids)


def inferences_by_key(tx: Read, keys: Sequence[str], stream_ids: Sequence[int]) -> list[InferenceRow]:
    return _inferences_by(tx, "key", keys, stream_ids)


def _inferences_by(tx: Read, column: str, names: Sequence[str], stream_ids: Sequence[int]) -> list[InferenceRow]:
    if not stream_ids:
        return []
    found: list[InferenceRow] = []
    for part in chunks(names):
        rows = tx.rows(
            f"select {_INFERENCE} from inference where {column} in :names and stream_id in :streams",
            names=part, streams=stream_ids,
        )  # fmt: skip
        found += [InferenceRow(**row) for row in rows]
    return found


def set_truths(tx: Write, rows: list[dict[str, Any]]) -> None:
    tx.many(
        """update inference set truth = :truth, truth_value = :truth_value, truth_at_ms = :truth_at_ms, truth_by = :truth_by,
                  label_seq = :label_seq
            where prediction_id = :prediction_id and stream_id = :stream_id""",
        rows,
    )


def inference(tx: Read, prediction_id: str) -> InferenceRow | None:
    """The answer that the caller got; a shadow's answer under the same id is not that."""
    found = tx.rows(
        f"""select {", ".join("i." + c.strip() for c in _INFERENCE.split(","))} from inference i
              join inference_stream s on s.id = i.stream_id
             where i.prediction_id = :id order by s.is_shadow, s.id limit 1""",
        id=prediction_id,
    )  # fmt: skip
    return InferenceRow(**found[0]) if found else None


def scored(tx: Read, stream_id: int, start_ms: int, end_ms: int) -> list[tuple[Any, ...]]:
    """Event time, score, truth as a number, and whether the prediction was right (null: not known), of the answers in [start, end).

    Through the driver, without a dict per row: a year of the demo is 45,000 rows, and its page asks again with every truth.
    """
    mark = "%s" if tx.dialect == "postgresql" else "?"
    sql = f"""select event_at_ms, score, truth_value,
                     case when truth is null then null when prediction = truth then 1.0 else 0.0 end
                from inference
               where stream_id = {mark} and event_at_ms >= {mark} and event_at_ms < {mark}"""
    found: list[tuple[Any, ...]] = tx.raw.execute(sql, (stream_id, start_ms, end_ms)).fetchall()
    return found


def segments_between(tx: Read, stream_ids: Sequence[int], start_ms: int, end_ms: int) -> dict[int, int]:
    """How many answers of [start, end) came in each segment."""
    if not stream_ids:
        return {}
    rows = tx.rows(
        """select segment_id, count(*) as answers from inference
            where stream_id in :streams and event_at_ms >= :start and event_at_ms < :end group by segment_id""",
        streams=stream_ids, start=start_ms, end=end_ms,
    )  # fmt: skip
    return {int(r["segment_id"]): int(r["answers"]) for r in rows}


def labels_between(tx: Read, stream_ids: Sequence[int], start_ms: int, end_ms: int) -> int:
    """How many answers of [start, end) have their truth."""
    if not stream_ids:
        return 0
    return int(
        tx.scalar(
            """select count(*) from inference
                where stream_id in :streams and event_at_ms >= :start and event_at_ms < :end and truth is not null""",
            streams=stream_ids, start=start_ms, end=end_ms,
        )
    )  # fmt: skip


def label_delays(tx: Read, stream_id: int, start_ms: int, end_ms: int) -> list[tuple[Any, ...]]:
    """Event time, and the time of the truth (null: not known), of the answers in [start, end). Through the driver, as `scored`."""
    mark = "%s" if tx.dialect == "postgresql" else "?"
    sql = f"""select event_at_ms, truth_at_ms from inference
               where stream_id = {mark} and event_at_ms >= {mark} and event_at_ms < {mark}"""
    found: list[tuple[Any, ...]] = tx.raw.execute(sql, (stream_id, start_ms, end_ms)).fetchall()
    return found


def answers_in(
    tx: Read, stream_ids: Sequence[int], segment_ids: Sequence[int], start_ms: int, end_ms: int
) -> dict[int, list[tuple[Any, ...]]]:
    """The answers of [start, end) that came in these segments, by segment, in the order of their rows: row, event time, score,
    truth as a number, whether the prediction was right, prediction, truth."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for part in chunks(segment_ids):
        rows = tx.rows(
            """select segment_id, row_index, event_at_ms, score, truth_value, prediction, truth,
                      case when truth is null then null when prediction = truth then 1.0 else 0.0 end as hit
                 from inference
                where stream_id in :streams and event_at_ms >= :start and event_at_ms < :end and segment_id in :segments
                order by segment_id, row_index""",
            streams=stream_ids, start=start_ms, end=end_ms, segments=part,
        )  # fmt: skip
        for r in rows:
            found.setdefault(int(r["segment_id"]), []).append(
                (r["row_index"], r["event_at_ms"], r["score"], r["truth_value"], r["hit"], r["prediction"], r["truth"])
            )
    return found


def first_event_at(tx: Read, stream_ids: Sequence[int], from_ms: int) -> int | None:
    """The earliest event time of an answer at or after `from_ms`."""
    found = [
        tx.scalar(
            "select min(event_at_ms) from inference where stream_id = :stream and event_at_ms >= :from",
            stream=stream_id, **{"from": from_ms},
        )
        for stream_id in stream_ids
    ]  # fmt: skip
    return min((int(at) for at in found if at is not None), default=None)


def first_label_since(tx: Read, stream_ids: Sequence[int], at_ms: int) -> int | None:
    """The number of the first label of an answer given at or after `at_ms` (arrival)."""
    found = tx.scalar(
        """select min(label_seq) from inference
            where stream_id in :streams and label_seq is not null and at_ms >= :at""",
        streams=stream_ids, at=at_ms,
    )  # fmt: skip
    return None if found is None else int(found)


def labelled_after(tx: Read, stream_ids: Sequence[int], label_seq: int, *, limit: int) -> list[Labelled]:
    """Labelled answers in the order their truth came."""
    rows = tx.rows(
        """select prediction_id, stream_id, label_seq, at_ms, truth_at_ms, score, prediction, truth, truth_value from inference
            where stream_id in :streams and label_seq > :after order by label_seq limit :limit""",
        streams=stream_ids, after=label_seq, limit=limit,
    )  # fmt: skip
    return [Labelled(**row) for row in rows]


# --- sketches -------------------------------------------------------------------------------------------------------


def sketches(tx: Read, stream_ids: Sequence[int], start_ms: int, end_ms: int) -> list[Profile]:
    """The profiles of every bucket in [start, end)."""
    if not stream_ids:
        return []
    found = tx.column(
        "select profile from sketch where stream_id in :streams and start_ms >= :start and start_ms < :end",
        streams=stream_ids, start=start_ms, end=end_ms,
    )  # fmt: skip
    return [msgspec.json.decode(text, type=Profile) for text in found]


def sketches_at(tx: Read, stream_id: int, starts: Sequence[int]) -> dict[int, Profile]:
    found: dict[int, Profile] = {}
    for part in chunks(starts):
        rows = tx.rows(
            "select start_ms, profile from sketch where stream_id = :stream and start_ms in :starts",
            stream=stream_id, starts=part,
        )  # fmt: skip
        found |= {int(r["start_ms"]): msgspec.json.decode(r["profile"], type=Profile) for r in rows}
    return found


def put_sketches(tx: Write, stream_id: int, profiles: dict[int, Profile]) -> None:
    tx.many(
        """insert into sketch (stream_id, start_ms, profile) values (:stream_id, :start_ms, :profile)
           on conflict (stream_id, start_ms) do update set profile = excluded.profile""",
        [{"stream_id": stream_id, "start_ms": start, "profile": js(p)} for start, p in profiles.items()],
    )


def forget_sketches(tx: Write, stream_ids: Sequence[int]) -> None:
    if stream_ids:
        tx.run("delete from sketch where stream_id in :streams", streams=stream_ids)


# --- monitors -------------------------------------------------------------------------------------------------------


def add_monitor(tx: Write, monitor: Monitor, baseline: dict[str, Any]) -> bool:
    """Insert; False when the name is taken. One that was removed gives its name away and keeps its windows and alerts."""
    tx.run("update monitor set name = name || '~' || id where name = :name and is_active = :no", name=monitor.name, no=False)
    return bool(
        tx.run(
            f"""insert into monitor ({_MONITOR}, baseline)
                values (:id, :name, :endpoint, :spec, :state, :judged, :counted, :created, :actor, :active, null, '', '',
                        :baseline)
                on conflict (name) do nothing""",
            id=monitor.id, name=monitor.name, endpoint=monitor.endpoint, spec=js(monitor.spec), state=monitor.state,
            judged=monitor.judged_until_ms, counted=monitor.counted_from_ms, created=monitor.created_at_ms,
            actor=monitor.actor, active=monitor.is_active, baseline=js(baseline),
        )
    )  # fmt: skip


def monitors(tx: Read, *, endpoint: str = "", active: bool = False, limit: int = 1000) -> list[Monitor]:
    where = " and endpoint = :endpoint" if endpoint else ""
    where += " and is_active" if active else ""
    args = {"endpoint": endpoint} if endpoint else {}
    return tx.all(
        Monitor, f"select {_MONITOR} from monitor where 1 = 1{where} order by name limit :limit", limit=limit, **args
    )


def monitor(tx: Read, name: str) -> Monitor | None:
    return tx.one(Monitor, f"select {_MONITOR} from monitor where name = :name", name=name)


def baseline(tx: Read, monitor_id: str) -> dict[str, Any]:
    found = tx.scalar("select baseline from monitor where id = :id", id=monitor_id)
    return dict(msgspec.json.decode(found)) if found else {}


def set_baseline(tx: Write, monitor_id: str, value: dict[str, Any]) -> None:
    tx.run("update monitor set baseline = :baseline where id = :id", id=monitor_id, baseline=js(value))


def move_monitor(tx: Write, monitor: Monitor, *, state: str, judged_until_ms: int, counted_from_ms: int) -> bool:
    """Write where a monitor stands, unless another judge was faster; False then."""
    return bool(
        tx.run(
            """update monitor set state = :state, judged_until_ms = :judged, counted_from_ms = :counted
                where id = :id and judged_until_ms = :was and counted_from_ms = :counted_was and is_active""",
            id=monitor.id, state=state, judged=judged_until_ms, counted=counted_from_ms, was=monitor.judged_until_ms,
            counted_was=monitor.counted_from_ms,
        )
    )  # fmt: skip


def mute_monitor(tx: Write, monitor_id: str, *, until_ms: int | None, reason: str, by: str) -> None:
    """Silence a monitor until a time, or (None) no longer."""
    tx.run(
        "update monitor set muted_until_ms = :until, mute_reason = :reason, muted_by = :by where id = :id",
        id=monitor_id, until=until_ms, reason=reason, by=by,
    )  # fmt: skip


def end_monitor(tx: Write, monitor_id: str) -> None:
    tx.run("update monitor set is_active = :no where id = :id", id=monitor_id, no=False)


# --- windows --------------------------------------------------------------------------------------------------------


def put_window(tx: Write, window: Window) -> None:
    tx.run(
        """insert into monitor_window (monitor_id, start_ms, end_ms, verdict, value, low, high, limit_value, count, predictions,
                                       coverage, findings, why, judged_at_ms, judgements, is_stale, seq)
           values (:monitor_id, :start_ms, :end_ms, :verdict, :value, :low, :high, :limit, :count, :predictions, :coverage,
                   :findings, :why, :judged_at_ms, :judgements, :is_stale, :seq)
           on conflict (monitor_id, start_ms) do update
              set verdict = excluded.verdict, value = excluded.value, low = excluded.low, high = excluded.high,
                  count = excluded.count, predictions = excluded.predictions, coverage = excluded.coverage,
                  findings = excluded.findings, why = excluded.why, judged_at_ms = excluded.judged_at_ms,
                  judgements = excluded.judgements, is_stale = excluded.is_stale""",
        **{**msgspec.structs.asdict(window), "findings": js(window.findings)},
    )


def windows(tx: Read, monitor_id: str, *, before_ms: int | None = None, limit: int = 100) -> list[Window]:
    """Judged windows, newest first."""
    where, args = ("and start_ms < :before", {"before": before_ms}) if before_ms is not None else ("", {})
    return tx.all(
        Window,
        f"select {_WINDOW} from monitor_window where monitor_id = :id {where} order by start_ms desc limit :limit",
        id=monitor_id, limit=limit, **args,
    )  # fmt: skip


def stale_windows(tx: Read, monitor_id: str, *, limit: int = 50) -> list[Window]:
    return tx.all(
        Window,
        f"select {_WINDOW} from monitor_window where is_stale and monitor_id = :id order by start_ms limit :limit",
        id=monitor_id, limit=limit,
    )  # fmt: skip


def open_again(tx: Write, endpoint: str, from_ms: int, to_ms: int) -> int:
    """Mark the judged windows that touch [from, to]; the judge looks at them once more."""
    return tx.run(
        """update monitor_window set is_stale = :yes
            where start_ms <= :to and end_ms > :from and not is_stale
              and monitor_id in (select id from monitor where endpoint = :endpoint and is_active)""",
        endpoint=endpoint, yes=True, **{"from": from_ms, "to": to_ms},
    )  # fmt: skip


def said_since(tx: Read, monitor_id: str, from_ms: int, n: int) -> list[tuple[str, float | None]]:
    """Verdict and value of the last `n` windows that said over or within, starting no earlier than `from_ms`; oldest first."""
    found = tx.rows(
        """select verdict, value from monitor_window
            where monitor_id = :id and start_ms >= :from and verdict in ('over', 'within')
            order by start_ms desc limit :n""",
        id=monitor_id, n=n, **{"from": from_ms},
    )  # fmt: skip
    return [(r["verdict"], r["value"]) for r in reversed(found)]


# --- alerts ---------------------------------------------------------------------------------------------------------


def add_alert(tx: Write, alert: Alert) -> None:
    tx.run(
        """insert into alert (id, monitor_id, monitor, endpoint, metric, severity, state, value, limit_value, why, event_at_ms,
                              opened_at_ms, resolved_at_ms, resolved_event_at_ms, resolved_by, resolution, owner)
           values (:id, :monitor_id, :monitor, :endpoint, :metric, :severity, :state, :value, :limit, :why, :event_at_ms,
                   :opened_at_ms, :resolved_at_ms, :resolved_event_at_ms, :resolved_by, :resolution, :owner)""",
        **msgspec.structs.asdict(alert),
    )


def resolve_alert(tx: Write, alert_id: str, *, at_ms: int, event_at_ms: int, by: str, why: str) -> bool:
    """End an open alert; False when it has ended."""
    return bool(
        tx.run(
            """update alert set state = 'resolved', resolved_at_ms = :at_ms, resolved_event_at_ms = :event_at_ms,
                      resolved_by = :by, resolution = :why
                where id = :id and state = 'open'""",
            id=alert_id, at_ms=at_ms, event_at_ms=event_at_ms, by=by, why=why,
        )
    )  # fmt: skip


def alert(tx: Read, alert_id: str) -> Alert | None:
    return tx.one(Alert, f"select {_ALERT} from alert where id = :id", id=alert_id)


def open_alert(tx: Read, monitor_id: str) -> Alert | None:
    return tx.one(
        Alert,
        f"select {_ALERT} from alert where monitor_id = :id and state = 'open' order by opened_at_ms desc limit 1",
        id=monitor_id,
    )


def alerts(
    tx: Read,
    *,
    monitor: str = "",
    endpoint: str = "",
    state: str = "",
    before: tuple[int, str] | None = None,
    limit: int = 100,
) -> list[Alert]:
    """Alerts, newest first."""
    where, args = ["1 = 1"], dict[str, Any]()
    for column, value in (("monitor", monitor), ("endpoint", endpoint), ("state", state)):
        if value:
            where.append(f"{column} = :{column}")
            args[column] = value
    if before:
        where.append("(opened_at_ms < :at or (opened_at_ms = :at and id < :id))")
        args |= {"at": before[0], "id": before[1]}
    return tx.all(
        Alert,
        f"select {_ALERT} from alert where {' and '.join(where)} order by opened_at_ms desc, id desc limit :limit",
        limit=limit, **args,
    )  # fmt: skip


def alerts_in_force(tx: Read, endpoint: str, event_at_ms: int) -> list[Alert]:
    """The alerts of an endpoint that were open at an event time."""
    return tx.all(
        Alert,
        f"""select {_ALERT} from alert
             where endpoint = :endpoint and event_at_ms <= :at
               and (resolved_event_at_ms is null or resolved_event_at_ms > :at)
             order by event_at_ms limit 100""",
        endpoint=endpoint, at=event_at_ms,
    )  # fmt: skip


def last_window_before(tx: Read, monitor_id: str, event_at_ms: int) -> Window | None:
    return tx.one(
        Window,
        f"select {_WINDOW} from monitor_window where monitor_id = :id and end_ms <= :at order by start_ms desc limit 1",
        id=monitor_id, at=event_at_ms,
    )  # fmt: skip


def window_over(tx: Read, monitor_id: str, event_at_ms: int) -> Window | None:
    """The window in which an event time lies, if it was judged."""
    return tx.one(
        Window,
        f"select {_WINDOW} from monitor_window where monitor_id = :id and start_ms <= :at and end_ms > :at limit 1",
        id=monitor_id, at=event_at_ms,
    )  # fmt: skip


# --- facts ----------------------------------------------------------------------------------------------------------

_EVENT = "seq, at_ms, kind, subject, actor, op_id, cause, workspace, data"


def caused_by(tx: Read, seqs: Iterable[int], *, limit: int) -> list[Event]:
    """The facts that the given facts led to directly, oldest first."""
    return tx.all(
        Event, f"select {_EVENT} from event where cause in :seqs order by seq limit :limit", seqs=sorted(seqs), limit=limit
    )


def facts_about(tx: Read, kinds: Sequence[str], subjects: Sequence[str], *, limit: int = 200) -> list[Event]:
    """Facts about these subjects, of these kinds (none: of all), oldest first."""
    if not subjects:
        return []
    where, args = ("and kind in :kinds", {"kinds": list(kinds)}) if kinds else ("", {})
    return tx.all(
        Event,
        f"select {_EVENT} from event where subject in :subjects {where} order by seq limit :limit",
        subjects=sorted(subjects), limit=limit, **args,
    )  # fmt: skip


def facts_of_kinds(tx: Read, kinds: Sequence[str], *, limit: int) -> list[Event]:
    """The latest facts of some kinds, oldest first."""
    found = tx.all(
        Event,
        f"select {_EVENT} from event where kind in :kinds order by seq desc limit :limit",
        kinds=list(kinds),
        limit=limit,
    )
    return found[::-1]


# --- canaries -------------------------------------------------------------------------------------------------------


class CanaryTestRow(Struct, frozen=True, kw_only=True):
    """How far the test of one canary has come."""

    canary_id: str
    endpoint: str
    label_seq: int
    judgements: int
    state: dict[str, Any]
    is_over: bool


def canary_test(tx: Read, canary_id: str) -> CanaryTestRow | None:
    return tx.one(
        CanaryTestRow,
        "select canary_id, endpoint, label_seq, judgements, state, is_over from canary_test where canary_id = :id",
        id=canary_id,
    )


def put_canary_test(tx: Write, row: CanaryTestRow, *, was_label_seq: int | None) -> bool:
    """Write how far the test has come, unless another judge was faster; False then."""
    args = {**msgspec.structs.asdict(row), "state": js(row.state)}
    if was_label_seq is None:
        return bool(
            tx.run(
                """insert into canary_test (canary_id, endpoint, label_seq, judgements, state, is_over)
                   values (:canary_id, :endpoint, :label_seq, :judgements, :state, :is_over)
                   on conflict (canary_id) do nothing""",
                **args,
            )
        )
    args.pop("endpoint")
    return bool(
        tx.run(
            """update canary_test set label_seq = :label_seq, judgements = :judgements, state = :state, is_over = :is_over
                where canary_id = :canary_id and label_seq = :was""",
            was=was_label_seq, **args,
        )
    )  # fmt: skip


def add_judgement(
    tx: Write, canary_id: str, number: int, endpoint: str, at_ms: int, event_at_ms: int, evidence: str
) -> None:
    tx.run(
        """insert into canary_judgement (canary_id, number, endpoint, at_ms, event_at_ms, evidence)
           values (:canary_id, :number, :endpoint, :at_ms, :event_at_ms, :evidence)""",
        canary_id=canary_id, number=number, endpoint=endpoint, at_ms=at_ms, event_at_ms=event_at_ms, evidence=evidence,
    )  # fmt: skip


def judgements(tx: Read, *, endpoint: str = "", canary_id: str = "", limit: int = 1000) -> list[str]:
    """Evidence rows as JSON, newest first."""
    column, value = ("canary_id", canary_id) if canary_id else ("endpoint", endpoint)
    return tx.column(
        f"select evidence from canary_judgement where {column} = :value order by at_ms desc, number desc limit :limit",
        value=value, limit=limit,
    )  # fmt: skip
