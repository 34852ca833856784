"""The rows of answers, their streams, and the truths that came for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from noria.kernel.db import Read, Write

T = TypeVar("T")
IDS_PER_QUERY = 900  # SQLite of the oldest kind takes 999 parameters
_INFERENCE = (
    "prediction_id, stream_id, segment_id, row_index, key, event_at_ms, at_ms, score, prediction, truth, truth_value, "
    "truth_at_ms, truth_by, label_seq"
)


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


class Pair(Struct, frozen=True, kw_only=True):
    """What a caller got and what a shadow said to the same request."""

    prediction_id: str
    key: str
    event_at_ms: int
    answer: str | None
    answer_score: float | None
    shadow: str | None
    shadow_score: float | None
    truth: str | None


def pairs(tx: Read, live: Sequence[int], shadow: int, from_ms: int, *, limit: int) -> list[Pair]:
    """The answers of a shadow beside those that were given, newest first."""
    return tx.all(
        Pair,
        """select s.prediction_id, s.key, s.event_at_ms, i.prediction as answer, i.score as answer_score, s.prediction as shadow,
                  s.score as shadow_score, i.truth
             from inference s
             join inference i on i.prediction_id = s.prediction_id and i.stream_id in :live
            where s.stream_id = :shadow and s.event_at_ms >= :from_ms
            order by s.event_at_ms desc, s.prediction_id desc
            limit :limit""",
        live=live, shadow=shadow, from_ms=from_ms, limit=limit,
    )  # fmt: skip


def scored(tx: Read, stream_id: int, start_ms: int, end_ms: int, *, with_ids: bool = False) -> list[tuple[Any, ...]]:
    """Event time, score, truth as a number, and whether the prediction was right (null: not known), of the answers in [start, end);
    after it, if wanted, the prediction id; then in the order in which they came.

    Through the driver, without a dict per row: a year of the demo is 45,000 rows, and its page asks again with every truth.
    """
    mark = "%s" if tx.dialect == "postgresql" else "?"
    more, order = (", prediction_id", " order by segment_id, row_index") if with_ids else ("", "")
    sql = f"""select event_at_ms, score, truth_value,
                     case when truth is null then null when prediction = truth then 1.0 else 0.0 end{more}
                from inference
               where stream_id = {mark} and event_at_ms >= {mark} and event_at_ms < {mark}{order}"""
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
    truth as a number, whether the prediction was right, prediction, truth, key."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for part in chunks(segment_ids):
        rows = tx.rows(
            """select segment_id, row_index, event_at_ms, score, truth_value, prediction, truth, key,
                      case when truth is null then null when prediction = truth then 1.0 else 0.0 end as hit
                 from inference
                where stream_id in :streams and event_at_ms >= :start and event_at_ms < :end and segment_id in :segments
                order by segment_id, row_index""",
            streams=stream_ids, start=start_ms, end=end_ms, segments=part,
        )  # fmt: skip
        for r in rows:
            found.setdefault(int(r["segment_id"]), []).append(
                (
                    r["row_index"],
                    r["event_at_ms"],
                    r["score"],
                    r["truth_value"],
                    r["hit"],
                    r["prediction"],
                    r["truth"],
                    r["key"],
                )
            )
    return found


def labels_of(
    tx: Read, stream_ids: Sequence[int], from_ms: int | None, to_ms: int | None, *, limit: int
) -> list[tuple[Any, ...]]:
    """Prediction id, stream, truth, truth as a number, time of the truth, of the labelled answers of [from, to)."""
    if not stream_ids:
        return []
    return tx.tuples(
        """select prediction_id, stream_id, truth, truth_value, truth_at_ms from inference
            where stream_id in :streams and event_at_ms >= :from and event_at_ms < :to and truth is not null limit :limit""",
        streams=stream_ids, limit=limit, **{"from": from_ms if from_ms is not None else -(1 << 62), "to": to_ms or 1 << 62},
    )  # fmt: skip


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
