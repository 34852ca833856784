"""The points of metrics: read whole, by pages or thinned for a chart."""

from __future__ import annotations

from typing import Any

from noria.kernel.db import Database
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.kernel.paging import Page, decode_token, encode_token
from noria.tracking import store
from noria.tracking.model import Point
from noria.tracking.series import Curve, SeriesCache, between, thin
from noria.tracking.sight import readable

_NAN = float("nan")


class Histories:
    """Part of the tracking service."""

    _db: Database
    _cache: SeriesCache

    def series(
        self, op: Op, run_id: str, keys: list[str] | None = None, *, buckets: int = 1000, start: int | None = None,
        end: int | None = None,
    ) -> dict[str, Curve]:  # fmt: skip
        """Curves of a run's metrics, thinned to `buckets`, over steps in [start, end]; all keys when None."""
        return self.compare(op, [run_id], keys, buckets=buckets, start=start, end=end)[run_id]

    def compare(
        self, op: Op, run_ids: list[str], keys: list[str] | None = None, *, buckets: int = 1000, start: int | None = None,
        end: int | None = None,
    ) -> dict[str, dict[str, Curve]]:  # fmt: skip
        """Curves of several runs, by run and key. Raises NotFound."""
        with self._db.read() as tx:
            readable(tx, op, run_ids)
            out: dict[str, dict[str, Curve]] = {run_id: {} for run_id in run_ids}
            for head in store.series_heads(tx, run_ids, keys):
                points = between(*self._cache.points(tx, head), start, end)
                out[head.run_id][head.key] = thin(*points, buckets)
        return out

    def history(self, op: Op, run_id: str, key: str, *, limit: int, page: str | None = None) -> Page[Point]:
        """Every point of one metric, in order. Raises NotFound."""
        with self._db.read() as tx:
            readable(tx, op, [run_id])
            heads = store.series_heads(tx, [run_id], [key])
            if not heads:
                return Page([])
            after = None if not page else _point_token(page)
            rows = store.points_page(tx, heads[0].id, after=after, limit=limit + 1)
        items = [Point(key=key, value=_NAN if nan else v, at_ms=at, step=step) for step, at, v, nan in rows[:limit]]
        return Page(items, _token_of(rows[limit - 1]) if len(rows) > limit else None)

    def histories(
        self, op: Op, run_ids: list[str], key: str, *, limit: int, start: int | None = None, end: int | None = None
    ) -> list[tuple[str, Point]]:
        """Up to `limit` points of one metric of each run, evenly spread when there are more, by run and step."""
        with self._db.read() as tx:
            readable(tx, op, run_ids)
            out: list[tuple[str, Point]] = []
            for head in store.series_heads(tx, run_ids, [key]):
                step, at_ms, value = between(*self._cache.points(tx, head), start, end)
                for i in _spread(len(step), limit):
                    point = Point(key=key, value=float(value[i]), at_ms=int(at_ms[i]), step=int(step[i]))
                    out.append((head.run_id, point))
        return out


def _token_of(row: tuple[int, int, float, bool]) -> str:
    step, at_ms, value, is_nan = row
    return encode_token(step, at_ms, repr(float(value)), bool(is_nan))


def _point_token(page: str) -> list[Any]:
    step, at_ms, value, is_nan = decode_token(page, size=4)
    try:
        number = float(value)
    except (TypeError, ValueError) as cause:
        raise Invalid("The page token belongs to another list.", where="page", hint="Start again without it.") from cause
    if not isinstance(step, int) or not isinstance(at_ms, int) or not isinstance(is_nan, bool):
        raise Invalid("The page token belongs to another list.", where="page", hint="Start again without it.")
    return [step, at_ms, number, is_nan]


def _spread(count: int, limit: int) -> list[int]:
    """Indices of at most `limit` of `count` things, evenly spread, first and last among them; of one, the last.

    The same as MLflow's: the first of each of `limit` buckets, of which the front ones take what is over, and the very last.
    """
    if count <= limit:
        return list(range(count))
    size, over = divmod(count, limit)
    return [*(i * size + min(i, over) for i in range(limit - 1)), count - 1]
