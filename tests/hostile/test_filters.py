"""Ten thousand filters: each is answered or refused; the valid ones give exactly the rows that they mean."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from noria.kernel.errors import Invalid
from noria.tracking.model import Point
from tests.conftest import Noria
from tests.hostile.filters import TEXTS, Condition, Kind, holds, mutated, some_condition, written

pytestmark = pytest.mark.slow

VALID, MUTATED = 400, 1_600  # of each of five lists: ten thousand; PostgreSQL, where each takes longer, is asked a fifth
Row = dict[str, Any]
Ask = Callable[[str], list[str]]


class Searched(msgspec.Struct):
    """One kind of list: what it can be asked, the rows it has as plain dicts by id, and how to ask."""

    kind: Kind
    rows: dict[str, Row]
    ask: Ask


KEYS = {"param": ["model", "a b", "mlflow.x"], "tag": ["team", "a.b", "Team"], "metric": ["loss", "val/loss", "none"]}


def _pairs(dice: random.Random, entity: str) -> dict[str, str]:
    return {key: dice.choice(TEXTS) for key in KEYS[entity] if dice.random() < 0.7}


@pytest.fixture
def searched(noria: Noria) -> dict[str, Searched]:
    """Twelve of each noun with values that databases like to confuse."""
    dice, app, op = random.Random(7), noria.app, noria.op()
    found: dict[str, dict[str, Row]] = {name: {} for name in ("runs", "experiments", "logged models", "models", "versions")}
    default = app.tracking.create_experiment(op, "e")
    found["experiments"][default.id] = {"attribute": {"name": "e", "creation_time": default.created_at_ms}, "tag": {}}
    found["experiments"]["0"] = _experiment_row(app.tracking.experiment(op, "0"))
    for i in range(12):
        noria.clock.advance(1)
        op = noria.op()
        tags, params = _pairs(dice, "tag"), _pairs(dice, "param")
        numbers = {k: dice.choice([0.5, 2.5, -1.0, math.nan, math.inf, 1e300, 0.0, -0.0]) for k in KEYS["metric"][:2]}
        made = app.tracking.create_experiment(op, f"{dice.choice(TEXTS)}{i}", tags)
        found["experiments"][made.id] = _experiment_row(made)
        run = app.tracking.create_run(op, default.id, dice.choice(TEXTS) or "run", tags, user=dice.choice(TEXTS))
        app.tracking.log_batch(op, run.id, [Point(key=k, value=v, at_ms=1) for k, v in numbers.items()], params)
        run = app.tracking.run(op, run.id)
        attributes = {"run_name": run.name, "user_id": run.user, "status": run.status, "start_time": run.started_at_ms}
        found["runs"][run.id] = {"attribute": attributes, "metric": run.metrics, "param": run.params, "tag": run.tags}
        logged = app.tracking.models.create(
            op, default.id, name=f"m{i}", tags=tags, params=params, model_type=dice.choice(TEXTS)
        )
        attributes = {"name": logged.name, "model_type": logged.model_type, "creation_time": logged.created_at_ms}
        found["logged models"][logged.id] = {"attribute": attributes, "param": params, "tag": tags}
        app.tracking.put_artifact(op, run.id, "model/MLmodel", b"flavors: {}\n")
        version = app.registry.create_version(op, f"model {i % 4}", source=f"runs:/{run.id}/model", tags=tags)
        attributes = {
            "name": version.model,
            "version_number": version.number,
            "run_id": run.id,
            "creation_timestamp": op.at_ms,
        }
        found["versions"][version.id] = {"attribute": attributes, "tag": tags}
    for model in app.registry.models(op, limit=100).items:
        found["models"][model.name] = {
            "attribute": {"name": model.name, "creation_timestamp": model.created_at_ms}, "tag": model.tags
        }  # fmt: skip
    tracking, registry = app.tracking, app.registry
    numbers_of = {k: KEYS[k] for k in ("metric", "param", "tag")}
    only_tags = {"tag": KEYS["tag"]}
    return {
        "runs": Searched(
            Kind(["run_name", "user_id", "status"], ["start_time"], numbers_of), found["runs"],
            lambda text: [r.id for r in tracking.search_runs(op, experiments=[default.id], filter=text, limit=100).items],
        ),
        "experiments": Searched(
            Kind(["name"], ["creation_time"], only_tags), found["experiments"],
            lambda text: [e.id for e in tracking.experiments(op, filter=text, limit=100).items],
        ),
        "logged models": Searched(
            Kind(["name", "model_type"], ["creation_time"], {"param": KEYS["param"], "tag": KEYS["tag"]}), found["logged models"],
            lambda text: [m.id for m in tracking.models.search(op, [default.id], filter=text, limit=100).items],
        ),
        "models": Searched(
            Kind(["name"], ["creation_timestamp"], only_tags), found["models"],
            lambda text: [m.name for m in registry.models(op, filter=text, limit=100).items],
        ),
        "versions": Searched(
            Kind(["name", "run_id"], ["version_number", "creation_timestamp"], only_tags), found["versions"],
            lambda text: [v.id for v in registry.search_versions(op, filter=text, limit=100).items],
        ),
    }  # fmt: skip


def _experiment_row(found: Any) -> Row:
    return {"attribute": {"name": found.name, "creation_time": found.created_at_ms}, "tag": found.tags}


def test_a_filter_gives_exactly_the_rows_it_means_or_is_refused(noria: Noria, searched: dict[str, Searched]) -> None:
    wrong, count = list[str](), _share(noria, VALID)
    for name, it in searched.items():
        dice, answered, matched = random.Random(11), 0, 0
        for _ in range(count):
            conditions = [some_condition(dice, it.kind) for _ in range(dice.randint(1, 3))]
            text = written(dice, conditions)
            wanted = {id_ for id_, row in it.rows.items() if all(holds(row, c) for c in conditions)}
            try:
                got = it.ask(text)
            except Invalid as error:
                if not _may_be_refused(conditions):
                    wrong.append(f"{name}: {text!r} was refused: {error.message}")
                continue
            answered, matched = answered + 1, matched + bool(wanted)
            if sorted(got) != sorted(wanted):
                wrong.append(f"{name}: {text!r} gave {len(got)} rows, not {len(wanted)}")
        if answered < count / 2 or matched < count / 20:
            wrong.append(f"{name}: only {answered} of {count} were answered, {matched} with rows")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong[:40])


def _share(noria: Noria, count: int) -> int:
    whole = os.environ.get("NORIA_HOSTILE") == "all" or noria.app.db.dialect == "sqlite"
    return count if whole else count // 5


def _may_be_refused(conditions: list[Condition]) -> bool:
    """Comparisons that one list has and another has not."""
    return any(
        c.entity == "attribute" and c.key in ("version_number", "creation_timestamp") and isinstance(c.value, float | list)
        for c in conditions
    )


def test_a_broken_filter_is_refused_and_gives_no_extra_rows(noria: Noria, searched: dict[str, Searched]) -> None:
    count = _share(noria, MUTATED)
    for it in searched.values():
        dice, refused = random.Random(13), 0
        everything = set(it.rows)
        for _ in range(count):
            text = mutated(dice, written(dice, [some_condition(dice, it.kind) for _ in range(dice.randint(1, 3))]))
            try:
                assert set(it.ask(text)) <= everything
            except Invalid:
                refused += 1
        assert count / 3 < refused < count
    assert all(len(it.ask("")) == len(it.rows) for it in searched.values())


ORDERS = [
    "metrics.loss", "metrics.loss; drop table run", "params.`a b` desc", "tags.'a'", "name asc, (select 1)", "start_time desc desc", "1",
    "attributes.name collate nocase", "metrics.`a` nulls first", "random()", "tags.a.b", "\x00", "metrics.\ud800", "metrics." + "x" * 9_000,
    "creation_time", "version_number desc", "last_updated_timestamp", "name", "", " ", "desc", "asc", "tags.\"a\\\" desc", "' or 1=1",
]  # fmt: skip


def test_a_sort_key_is_known_or_refused(noria: Noria, searched: dict[str, Searched]) -> None:
    for path in (
        "runs/search", "experiments/search", "logged-models/search", "registered-models/search", "model-versions/search"
    ):  # fmt: skip
        for order in ORDERS:
            ask: dict[str, Any] = {"order_by": [order], "experiment_ids": [], "max_results": 5}
            if "models/" in path and "logged" in path:
                ask["order_by"] = [{"field_name": order, "ascending": False}]
            body = msgspec.json.encode(ask) if "\ud800" not in order else b'{"order_by": ["metrics.\\ud800"]}'
            is_get = path.startswith(("registered", "model-"))
            answer = (
                noria.http.get(f"/api/2.0/mlflow/{path}", params={"order_by": order.encode("utf-8", "replace")})
                if is_get
                else noria.http.post(f"/api/2.0/mlflow/{path}", content=body)
            )
            assert answer.status_code in (200, 400), (path, order, answer.status_code, answer.text)
            if answer.status_code == 400:
                assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE", (path, order, answer.text)
    assert noria.http.get("/api/v1/runs").status_code == 200
