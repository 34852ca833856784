"""A project as large as the ones that make other tools give up, put into a database in bulk: rows, not requests."""

from __future__ import annotations

import math
from typing import Any

from noria.app import App
from noria.kernel.ids import new_id
from noria.kernel.op import Actor

START_MS = 1_700_000_000_000
PARAMS, METRICS, TAGS = 20, 10, 5
SPIKE_AT, SPIKE = 654_321, 42.0


def big_project(
    app: App, *, runs: int = 10_000, points: int = 1_000_000, keys: int = 1_000, name: str = "big"
) -> dict[str, str]:
    """Fill an empty SQLite home: `runs` runs × (20 params, 10 metrics, 5 tags). The last but one of them has `points` points of one
    metric, with one spike, a NaN and an infinity; the last has `keys` metrics. Returns ids: experiment, long, wide and a usual run."""
    op = app.ops.mint(Actor(kind="system", id="seed", name="seed"))
    experiment = app.tracking.create_experiment(op, name).id
    ids = [new_id(START_MS + i) for i in range(runs - 2)]
    long, wide = new_id(START_MS + runs - 2), new_id(START_MS + runs - 1)
    with app.db.system_write() as tx:
        cursor = tx.raw.cursor()
        cursor.executemany(
            """insert into run (id, experiment_id, name, status, stage, started_at_ms, ended_at_ms, user_name, actor, workspace,
                                has_points) values (?, ?, ?, ?, 'active', ?, ?, ?, 'user:ada', ?, 1)""",
            [_run(id_, experiment, i, op.workspace) for i, id_ in enumerate([*ids, long, wide])],
        )  # fmt: skip
        cursor.executemany("insert into param (run_id, key, value) values (?, ?, ?)", _params(ids))
        cursor.executemany("insert into tag (run_id, key, value) values (?, ?, ?)", _tags(ids))
        cursor.executemany(_SERIES, _latest(ids))
        cursor.executemany(
            _SERIES, [(wide, f"layer{i % 50}/weight_{i}/norm", 1, START_MS, float(i), 0) for i in range(keys)]
        )
        cursor.execute(_SERIES, (long, "loss", points - 1, START_MS + points, 0.1, 0))
        series = dict(cursor.execute("select run_id || ' ' || key, id from series").fetchall())
        cursor.executemany(
            "insert into point (series_id, step, at_ms, value, is_nan) values (?, ?, ?, ?, ?)",
            _points(series, ids[-8:], wide, keys),
        )
        cursor.execute(
            _LONG,
            {"series": series[f"{long} loss"], "points": points, "start": START_MS, "spike_at": SPIKE_AT, "spike": SPIKE},
        )
    return {"experiment": str(experiment), "long": long, "wide": wide, "last": ids[-1]}


_SERIES = (
    """insert into series (run_id, key, step, at_ms, value, is_nan, writes, disorder) values (?, ?, ?, ?, ?, ?, 1, 0)"""
)


def _run(run_id: str, experiment: str, i: int, workspace: str) -> tuple[Any, ...]:
    status = "FAILED" if i % 9 == 0 else "FINISHED"
    return (
        run_id, experiment, f"run-{i}", status, START_MS + i * 1000, START_MS + i * 1000 + 5_000 + i % 700, "ada" if i % 3 else "bo",
        workspace,
    )  # fmt: skip


def _params(ids: list[str]) -> list[tuple[str, str, str]]:
    words = ["adam", "sgd", "lion"]
    rows = []
    for i, run_id in enumerate(ids):
        rows.append((run_id, "lr", f"{10 ** -(1 + (i * 7 % 400) / 100):.6f}"))
        rows.append((run_id, "optimizer", words[i % 3]))
        rows += [(run_id, f"p{k:02}", str((i * (k + 3)) % 17)) for k in range(PARAMS - 2)]
    return rows


def _tags(ids: list[str]) -> list[tuple[str, str, str]]:
    return [(run_id, f"tag{k}", f"v{(i + k) % 5}") for i, run_id in enumerate(ids) for k in range(TAGS)]


def _latest(ids: list[str]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for i, run_id in enumerate(ids):
        quality = (
            abs(math.log10(10 ** -(1 + (i * 7 % 400) / 100)) + 3) / 2
        )  # best at lr = 0.001; the other params do nothing
        rows.append((run_id, "val/loss", 99, START_MS + i * 1000 + 99, 0.2 + quality + (i % 13) / 100, 0))
        rows += [
            (run_id, f"metric{k}", 99, START_MS + i * 1000 + 99, math.sin(i * (k + 1)) / 2 + 0.5, 0)
            for k in range(METRICS - 1)
        ]
    return rows


# A falling curve with a ripple, made where it is kept; one spike, one NaN, one infinity.
_LONG = """
    insert into point (series_id, step, at_ms, value, is_nan)
    with recursive steps(i) as (select 0 union all select i + 1 from steps where i + 1 < :points)
    select :series, i, :start + i,
           case i when :spike_at then :spike when 123456 then 0.0 when 777777 then 9e999
                  else 1.0 / (1 + i / 1000.0) + (i % 977) / 30000.0 end,
           case i when 123456 then 1 else 0 end
      from steps"""


def _points(series: dict[str, int], ids: list[str], wide: str, keys: int) -> Any:
    for run_id in ids:
        for key in ["val/loss", *[f"metric{k}" for k in range(METRICS - 1)]]:
            number = series[f"{run_id} {key}"]
            yield from ((number, step, START_MS + step, 1 / (1 + step) + number % 7 / 50, 0) for step in range(100))
    for i in range(keys):
        yield from (
            (series[f"{wide} layer{i % 50}/weight_{i}/norm"], step, START_MS + step, i + step / 10, 0) for step in range(2)
        )
