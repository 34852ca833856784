"""Takes sealed segments into the tables: answers, truths, sketches, the watermark.

A segment is taken in one transaction that first notes its digest, so being told of it again changes nothing. Truth may come before
its answer or after it: both sides look for the other. What comes too late for a judged window opens that window again.

Which truth an answer takes: one sent for its prediction id, the latest of those; else the first one of its key that is not earlier
than the answer's event time. The rule does not depend on the order in which segments arrive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read, Write
from noria.kernel.events import Event
from noria.kernel.ids import Ref
from noria.kernel.op import Ops
from noria.kernel.ticks import Ticks
from noria.monitoring import answers_store, monitors_store, segments_store, sketches_store
from noria.monitoring.answers_store import InferenceRow, TruthRow
from noria.monitoring.embeddings import is_vector
from noria.monitoring.model import BUCKET_MS, PREDICTION, SCORE
from noria.monitoring.segments import Inferences, Truths, number, predicted, read_inferences, read_truths
from noria.monitoring.segments_store import Watermark
from noria.monitoring.sketches import Profile, merge_profiles, profiles_by_bucket

BY_ID, BY_KEY = "id", "key"


class Ingest:
    """Subscriber on `segment.written` and `truth.written`."""

    name = "monitoring.ingest"

    def __init__(self, db: Database, ops: Ops, blobs: BlobStore, ticks: Ticks) -> None:
        self._db, self._ops, self._blobs, self._ticks = db, ops, blobs, ticks

    def interest(self, _: Read) -> frozenset[str]:
        return frozenset({"segment.written", "truth.written"})

    def handle(self, event: Event) -> None:
        endpoint, digest = str(event.data["endpoint"]), str(event.data["digest"])
        with self._db.read() as tx:
            if segments_store.is_taken(tx, digest):
                return
        data = self._blobs.get(digest)
        if event.kind == "segment.written":
            self.take_inferences(endpoint, digest, read_inferences(data), seq=event.seq)
        else:
            self.take_truths(endpoint, digest, read_truths(data), seq=event.seq)

    def take_inferences(self, endpoint: str, digest: str, rows: Inferences, *, seq: int) -> int:
        """Take the rows of one inference segment; returns how many answers were new."""
        op = self._ops.system(self.name, cause=seq)
        with self._db.write(op) as tx:
            segment_id = segments_store.take_segment(tx, digest, endpoint, "inference", len(rows.prediction_ids), seq)
            if segment_id is None or not rows.prediction_ids:
                return 0
            mark = segments_store.lock_watermark(tx, endpoint, bucket_ms=BUCKET_MS, event_at_ms=int(rows.event_at_ms.max()))
            added = 0
            for is_shadow in np.unique(rows.is_shadow).tolist():
                mark, count = _add_stream(tx, mark, rows, segment_id, is_shadow=is_shadow)
                added += count
            upto = int(rows.event_at_ms.max())
            mark = msgspec.structs.replace(mark, event_at_ms=max(upto, mark.event_at_ms), seq=seq)
            segments_store.move_watermark(tx, mark)
            segments_store.note_skipped(tx, segment_id, len(rows.prediction_ids) - added)
            monitors_store.open_again(tx, endpoint, int(rows.event_at_ms.min()), upto)
        self._tell(endpoint, mark)
        return added

    def take_truths(self, endpoint: str, digest: str, rows: Truths, *, seq: int) -> int:
        """Take the rows of one truth segment; returns how many answers got a truth or another one."""
        op = self._ops.system(self.name, cause=seq)
        with self._db.write(op) as tx:
            segment_id = segments_store.take_segment(tx, digest, endpoint, "truth", len(rows.values), seq)
            if segment_id is None or not rows.values:
                return 0
            mark = segments_store.lock_watermark(tx, endpoint, bucket_ms=BUCKET_MS, event_at_ms=0)
            by_id, by_key = _truth_rows(rows)
            answers_store.add_truths(tx, endpoint, [msgspec.structs.asdict(t) for t in (*by_id, *by_key)])
            mark, changed = _label(tx, mark, by_id, by_key)
            # Truth does not move the event time: it says nothing about how far the traffic has come.
            segments_store.move_watermark(tx, msgspec.structs.replace(mark, seq=seq))
            if changed:
                times = [row.event_at_ms for row in changed]
                monitors_store.open_again(tx, endpoint, min(times), max(times))
        self._tell(endpoint, mark)
        return len(changed)

    def _tell(self, endpoint: str, mark: Watermark) -> None:
        self._ticks.tick(
            Ref("endpoint", endpoint),
            {"watermark_ms": mark.event_at_ms, "predictions": mark.predictions, "labels": mark.labels},
        )


def _add_stream(tx: Write, mark: Watermark, rows: Inferences, segment_id: int, *, is_shadow: bool) -> tuple[Watermark, int]:
    """Insert the answers of one role with the truths that wait for them, and add them to the sketches."""
    stream_id = answers_store.stream_of(tx, mark.endpoint, rows.revision_id, is_shadow, rows.model_version)
    mine = np.flatnonzero(rows.is_shadow == is_shadow).tolist()
    known = {p for p, _ in answers_store.known_predictions(tx, [rows.prediction_ids[i] for i in mine], [stream_id])}
    fresh: dict[str, int] = {}
    for i in mine:  # an answer recorded twice counts once
        if rows.prediction_ids[i] not in known:
            fresh.setdefault(rows.prediction_ids[i], i)
    kept = sorted(fresh.values())
    if not kept:
        return mark, 0
    waiting = _Waiting(tx, mark.endpoint, [rows.prediction_ids[i] for i in kept], [rows.keys[i] for i in kept])
    scores = rows.scores.tolist()
    label_seq, inserts = mark.label_seq, list[dict[str, Any]]()
    events, arrivals = rows.event_at_ms.tolist(), rows.at_ms.tolist()
    for i in kept:
        key = rows.keys[i] or ""
        chosen = waiting.truth_of(rows.prediction_ids[i], key, events[i])
        label_seq += 1 if chosen else 0
        inserts.append({
            "prediction_id": rows.prediction_ids[i], "stream_id": stream_id, "segment_id": segment_id, "row_index": i,
            "key": key, "event_at_ms": events[i], "at_ms": arrivals[i],
            "score": scores[i] if np.isfinite(scores[i]) else None, "prediction": rows.predictions[i],
            "truth": chosen.value if chosen else None, "truth_value": number(chosen.value) if chosen else None,
            "truth_at_ms": chosen.at_ms if chosen else None, "truth_by": chosen.named_by if chosen else None,
            "label_seq": label_seq if chosen else None,
        })  # fmt: skip
    answers_store.add_inferences(tx, inserts)
    _add_sketches(tx, stream_id, rows, np.asarray(kept), mark.bucket_ms)
    counted = 0 if is_shadow else len(kept)
    return msgspec.structs.replace(
        mark, label_seq=label_seq, predictions=mark.predictions + counted,
        labels=mark.labels + (0 if is_shadow else label_seq - mark.label_seq),
    ), len(kept)  # fmt: skip


def _add_sketches(tx: Write, stream_id: int, rows: Inferences, kept: Any, bucket_ms: int) -> None:
    starts = rows.event_at_ms[kept] // bucket_ms * bucket_ms
    columns: dict[str, Any] = {SCORE: rows.scores[kept], PREDICTION: predicted(rows)[kept]}
    columns |= {name: values[kept] for name, values in rows.inputs.items() if not is_vector(values)}
    fresh = profiles_by_bucket(starts, columns)
    found = sketches_store.sketches_at(tx, stream_id, sorted(fresh))
    merged: dict[int, Profile] = {s: merge_profiles([found[s], p]) if s in found else p for s, p in fresh.items()}
    sketches_store.put_sketches(tx, stream_id, merged)


def sketch_again(tx: Write, endpoint: str, bucket_ms: int, parts: Iterable[tuple[int, Inferences]]) -> None:
    """Replace the sketches of an endpoint by ones of `bucket_ms`, from the segments they came from."""
    streams = answers_store.streams(tx, endpoint, shadows=True)
    sketches_store.forget_sketches(tx, [s.id for s in streams])
    for segment_id, rows in parts:
        for stream in streams:
            if stream.revision_id != rows.revision_id:
                continue
            kept = segments_store.rows_taken(tx, segment_id, stream.id)
            if kept:
                _add_sketches(tx, stream.id, rows, np.asarray(kept), bucket_ms)


class _Waiting:
    """The truths that came before their answers."""

    def __init__(self, tx: Read, endpoint: str, ids: Sequence[str], keys: Sequence[str | None]) -> None:
        self._by_id = answers_store.truths(tx, endpoint, BY_ID, ids)
        self._by_key = answers_store.truths(tx, endpoint, BY_KEY, sorted({k for k in keys if k}))

    def truth_of(self, prediction_id: str, key: str, event_at_ms: int) -> TruthRow | None:
        return choose(self._by_id.get(prediction_id, []), self._by_key.get(key, []), event_at_ms)


def choose(by_id: list[TruthRow], by_key: list[TruthRow], event_at_ms: int) -> TruthRow | None:
    """The truth that an answer takes; both lists are ordered by time. See the module."""
    if by_id:
        return by_id[-1]
    return next((t for t in by_key if t.at_ms >= event_at_ms), None)


def _truth_rows(rows: Truths) -> tuple[list[TruthRow], list[TruthRow]]:
    """The truths by id and by key, each name and time once, the last of equals."""
    by_id: dict[tuple[str, int], TruthRow] = {}
    by_key: dict[tuple[str, int], TruthRow] = {}
    for i, value in enumerate(rows.values):
        prediction_id, key, at_ms = rows.prediction_ids[i], rows.keys[i], rows.at_ms[i]
        if prediction_id:
            by_id[prediction_id, at_ms] = TruthRow(named_by=BY_ID, name=prediction_id, at_ms=at_ms, value=value)
        elif key:
            by_key[key, at_ms] = TruthRow(named_by=BY_KEY, name=key, at_ms=at_ms, value=value)
    return list(by_id.values()), list(by_key.values())


def _label(
    tx: Write, mark: Watermark, by_id: list[TruthRow], by_key: list[TruthRow]
) -> tuple[Watermark, list[InferenceRow]]:
    """Give truths to the answers that are there; returns those that changed. New labels are numbered in the order they came."""
    streams = answers_store.streams(tx, mark.endpoint, shadows=True)
    shadows = {s.id for s in streams if s.is_shadow}
    ids = list(dict.fromkeys(t.name for t in by_id))
    keys = list(dict.fromkeys(t.name for t in by_key))
    stream_ids = [s.id for s in streams]
    answers = {(a.prediction_id, a.stream_id): a for a in answers_store.inferences_by_id(tx, ids, stream_ids)}
    answers |= {(a.prediction_id, a.stream_id): a for a in answers_store.inferences_by_key(tx, keys, stream_ids)}
    by_name: dict[str, list[InferenceRow]] = defaultdict(list)
    for answer in answers.values():
        by_name[answer.prediction_id].append(answer)
        if answer.key and answer.key != answer.prediction_id:
            by_name[answer.key].append(answer)
    all_ids = answers_store.truths(tx, mark.endpoint, BY_ID, sorted({a.prediction_id for a in answers.values()}))
    all_keys = answers_store.truths(tx, mark.endpoint, BY_KEY, keys)
    label_seq, labels, changed, updates = (
        mark.label_seq,
        mark.labels,
        list[InferenceRow](),
        dict[tuple[str, int], dict[str, Any]](),
    )
    for name in (*ids, *keys):
        for answer in by_name.get(name, ()):
            identity = (answer.prediction_id, answer.stream_id)
            chosen = choose(all_ids.get(answer.prediction_id, []), all_keys.get(answer.key, []), answer.event_at_ms)
            if identity in updates or chosen is None or _has(answer, chosen):
                continue
            is_new = answer.label_seq is None
            label_seq += is_new
            labels += is_new and answer.stream_id not in shadows
            updates[identity] = {
                "prediction_id": answer.prediction_id, "stream_id": answer.stream_id, "truth": chosen.value,
                "truth_value": number(chosen.value), "truth_at_ms": chosen.at_ms, "truth_by": chosen.named_by,
                "label_seq": label_seq if is_new else answer.label_seq,
            }  # fmt: skip
            changed.append(answer)
    answers_store.set_truths(tx, list(updates.values()))
    return msgspec.structs.replace(mark, label_seq=label_seq, labels=labels), changed


def _has(answer: InferenceRow, truth: TruthRow) -> bool:
    return (answer.truth, answer.truth_at_ms, answer.truth_by) == (truth.value, truth.at_ms, truth.named_by)
