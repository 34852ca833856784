"""Bad input in every field of every route: refused in the caller's error shape, never a failure of ours, nothing lost."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from noria.access.policy import INTERNAL
from noria.http.errors import is_mlflow
from noria.tracking.model import Point
from tests.conftest import Noria
from tests.hostile.values import BODIES, FOR_DATABASES, SPELLINGS, TOKENS, TYPES, Shape, filled, places, shape_of, written

pytestmark = pytest.mark.slow

STREAMS = ("/api/v1/stream", "/api/v1/serving/desired", "/api/v1/pipelines/work/claim")  # these wait for something to happen
SHARE = 12
AT_ONCE = 48
MODEL_FILES = {"MLmodel": b"flavors: {python_function: {loader_module: none}}\n", "data.bin": b"bytes"}


class Given:
    """A run, a model, a data set …: what hostile requests could damage. `victim` is what they may delete."""

    def __init__(self, noria: Noria) -> None:
        self.noria = noria
        self.keep = self._known("kept")
        self.victim = self._known("victim")

    def _known(self, name: str) -> dict[str, Any]:
        app, op = self.noria.app, self.noria.op()
        experiment = app.tracking.create_experiment(op, name)
        run = app.tracking.create_run(op, experiment.id, name)
        app.tracking.log_batch(op, run.id, [Point(key="loss", value=0.5, at_ms=1)], {"lr": "0.1"}, {"team": "a"})
        logged = app.tracking.models.create(op, experiment.id, name="m", run_id=run.id)
        for path, data in MODEL_FILES.items():
            app.tracking.put_artifact(op, run.id, f"model/{path}", data)
        version = app.registry.create_version(op, name, source=f"runs:/{run.id}/model")
        app.registry.promote(op, version, "champion")
        return {
            "run_id": run.id, "run_uuid": run.id, "run_ids": [run.id], "experiment_id": experiment.id,
            "experiment_ids": [experiment.id], "experiment_name": name, "name": name, "model": name, "version": "1",
            "selector": "1", "number": 1, "alias": "champion", "model_id": logged.id, "metric_key": "loss", "path": "model",
            "source": f"runs:/{run.id}/model", "experiment": name, "handle": f"{name}@1",
        }  # fmt: skip

    def for_(self, action: str) -> dict[str, Any]:
        return self.victim if action.endswith(".delete") or action == "model.promote" else self.keep

    def state(self) -> Any:
        """What must be as it was."""
        app, op, keep = self.noria.app, self.noria.system(), self.keep
        run = app.tracking.run(op, keep["run_id"])
        history = app.tracking.history(op, run.id, "loss", limit=10).items
        version = app.registry.version(op, f"{keep['name']}@1")
        files = b"".join(b"".join(app.registry.open_file(op, version, path)[1]) for path in MODEL_FILES)
        return (
            run.params["lr"],
            history[0].value,
            version.digest,
            files,
            app.tracking.experiment(op, keep["experiment_id"]).id,
        )


@pytest.fixture
def given(noria: Noria) -> Given:
    return Given(noria)


class Asking:
    """Sends many requests at once, judges each answer, remembers what was wrong."""

    def __init__(self, noria: Noria) -> None:
        self.noria = noria
        self.wrong: list[str] = []
        self.statuses: Counter[int] = Counter()
        self._waiting: list[tuple[str, httpx.Request]] = []

    def ask(
        self, what: str, method: str, url: str, body: bytes = b"", type_: str = "application/json", params: str = ""
    ) -> None:
        """Put a request in the queue; a full queue is sent."""
        headers: Any = {"content-type": type_.encode("latin-1")} if type_ else {}
        query = f"?{params}" if params else ""
        self._waiting.append((what, self.noria.http.build_request(method, url + query, content=body, headers=headers)))
        if len(self._waiting) >= AT_ONCE:
            self.send()

    def send(self) -> None:
        """Send what is in the queue, all at the same time."""
        requests, self._waiting = self._waiting, []
        for (what, request), answer in zip(requests, self.noria.at_once([r for _, r in requests]), strict=True):
            self.statuses[answer.status_code] += 1
            told = self._complaint(answer, request.url.path)
            if told:
                path = request.url.raw_path.decode()[:140]
                self.wrong.append(f"{what}: {request.method} {path} → {answer.status_code} {told} {answer.text[:160]}")

    def all_was_refused_well(self) -> None:
        self.send()
        assert not self.wrong, "\n".join(self.wrong[:80])

    def _complaint(self, answer: httpx.Response, path: str) -> str:
        if answer.status_code < 400 or answer.status_code == 501:
            return ""
        if answer.status_code == 503 and path.endswith("/try"):
            return ""  # there is no gateway here that could be asked
        if answer.status_code >= 500:
            return "a failure of the server"
        try:
            said = answer.json()
        except ValueError:
            return "an error that is not JSON"
        if is_mlflow(path):
            return "" if said.get("error_code") and said.get("message") else "not MLflow's error shape"
        error = said.get("error", {})
        return "" if error.get("code") and error.get("message") else "not Noria's error shape"


def routes(noria: Noria, *, mirrors: bool = False) -> list[tuple[str, str, str, Shape]]:
    """Every (method, path, action, shape) that a user can reach; without the mirror for browsers, which is the same code."""
    found = []
    for handler in noria.app.routes():
        action = handler.opt["action"]
        for path in sorted(handler.paths):
            for method in handler.http_methods - {"OPTIONS", "HEAD"}:
                if action in INTERNAL or path in STREAMS or (path.startswith("/ajax-api") and not mirrors):
                    continue
                if path.startswith("/api/"):
                    found.append((method, path, action, shape_of(handler, method)))
    return sorted(found, key=lambda r: r[:2])


def address(route: str, known: dict[str, Any], instead: dict[str, str] | None = None) -> str:
    """`route` with its names filled in: with what is known, or with a spelling as it is."""
    out = []
    for part in route.split("/"):
        name = part[1:].partition(":")[0]
        filled_in = (instead or {}).get(name) or quote(str(known.get(name, "a")), safe="")
        out.append(filled_in if part.startswith("{") else part)
    return "/".join(out)


def some(things: list[str], at: int, share: int = SHARE) -> list[str]:
    """Every twelfth thing, another twelfth at each place, so that all meet all kinds of fields; all of them when asked to.

    NORIA_HOSTILE=all takes minutes a database; do it when a parser or a protocol changes.
    """
    return things if os.environ.get("NORIA_HOSTILE") == "all" else things[at % share :: share]


def test_no_value_in_any_field_of_any_body_is_a_failure_of_ours(noria: Noria, given: Given) -> None:
    asking, before, count = Asking(noria), given.state(), 0
    tokens = list(TOKENS if noria.app.db.dialect == "sqlite" else FOR_DATABASES)
    for method, path, action, shape in routes(noria):
        if shape.body is None:
            continue
        known = given.for_(action)
        body, url = filled(shape.body, known), address(path, known)
        for at in places(body):
            count += 1
            for name in some(tokens, count):
                asking.ask(f"{name} at {'.'.join(map(str, at))}", method, url, written(body, at, TOKENS[name]))
    asking.all_was_refused_well()
    assert given.state() == before
    assert count > 500 and asking.statuses[400] > count / 4, (count, asking.statuses)


def test_no_body_as_a_whole_is_a_failure_of_ours(noria: Noria, given: Given) -> None:
    asking, before, count = Asking(noria), given.state(), 0
    for method, path, action, shape in routes(noria):
        if method == "GET" or (shape.body is None and "artifacts" in path):
            continue
        url = address(path, given.for_(action))
        count += 1
        for name in some(list(BODIES), count, 3):
            asking.ask(name, method, url, BODIES[name])
        for type_ in some(list(TYPES), count, 3):
            asking.ask(f"type {type_!r}", method, url, b'{"name": "a"', type_)
    asking.all_was_refused_well()
    assert given.state() == before


def test_no_spelling_in_an_address_is_a_failure_of_ours(noria: Noria, given: Given) -> None:
    asking, before, count = Asking(noria), given.state(), 0
    spellings = list(SPELLINGS) if noria.app.db.dialect == "sqlite" else ["NUL", "surrogate", "2^63", "quote", "wildcard"]
    for method, path, action, shape in routes(noria):
        known = given.for_(action)
        for name in shape.path:
            count += 1
            for spelling in some(spellings, count, 3):
                url = address(path, known, {name: SPELLINGS[spelling]})
                asking.ask(f"{spelling} as {name}", method, url, b"{}" if method != "GET" else b"")
        for name in shape.query:
            others = "&".join(f"{n}={quote(str(known[n]))}" for n in shape.query if n != name and n in known)
            count += 1
            for spelling in some(spellings, count):
                asking.ask(
                    f"{spelling} in ?{name}", method, address(path, known), b"{}" if method != "GET" else b"",
                    params=f"{others}&{name}={SPELLINGS[spelling]}",
                )  # fmt: skip
    asking.all_was_refused_well()
    assert given.state() == before


@pytest.mark.parametrize(
    ("where", "body"),
    [
        ("runs/log-batch", {"tags": [{"key": f"k{i}", "value": "v"} for i in range(1_000_000)]}),
        ("runs/log-batch", {"params": [{"key": f"k{i}", "value": "v"} for i in range(300_000)]}),
        ("runs/log-batch", {"metrics": [{"key": "x", "value": 1.0, "timestamp": 1, "step": 1}] * 300_000}),
        ("runs/create", {"tags": [{"key": f"k{i}", "value": "v"} for i in range(300_000)]}),
        ("runs/log-inputs", {"datasets": [{"dataset": {"name": "a", "digest": "b"}}] * 20_000}),
        ("runs/set-tag", {"key": "k", "value": "v" * 20_000_000}),
        ("experiments/create", {"name": "e", "tags": [{"key": f"k{i}", "value": "v"} for i in range(300_000)]}),
        ("experiments/search", {"filter": "name = 'a'", "order_by": ["name"] * 300_000}),
        ("registered-models/create", {"name": "m", "tags": [{"key": f"k{i}", "value": "v"} for i in range(300_000)]}),
        ("logged-models", {"params": [{"key": f"k{i}", "value": "v"} for i in range(300_000)]}),
    ],
)
def test_too_much_at_once_is_refused_and_leaves_nothing(
    noria: Noria, given: Given, where: str, body: dict[str, Any]
) -> None:
    facts, known = len(noria.facts()), given.keep
    whole = {"run_id": known["run_id"], "experiment_id": known["experiment_id"], **body}
    answer = noria.http.post(f"/api/2.0/mlflow/{where}", content=msgspec.json.encode(whole))
    assert answer.status_code in (400, 413), answer.status_code
    assert answer.json()["error_code"] in ("INVALID_PARAMETER_VALUE", "REQUEST_LIMIT_EXCEEDED")
    assert len(noria.facts()) == facts
    assert noria.http.get("/api/2.0/mlflow/runs/get", params={"run_id": known["run_id"]}).status_code == 200


def test_every_number_is_kept_exactly_or_refused(noria: Noria, given: Given) -> None:
    """MLflow's server stores NaN and 1e400 as 0, and a step of 2^63 as 0; here nothing is changed silently."""
    kept = {
        "0.1": 0.1, '"NaN"': "NaN", '"Infinity"': "Infinity", '"-Infinity"': "-Infinity", "1e308": 1e308, "5e-324": 5e-324, "-0.0": -0.0,
        "9007199254740993": 9007199254740992.0, '"0.5"': 0.5, "1": 1.0,
    }  # fmt: skip
    for i, (token, value) in enumerate(kept.items()):
        body = f'{{"run_id": "{given.keep["run_id"]}", "key": "v{i}", "value": {token}, "timestamp": 5, "step": 7}}'
        assert noria.http.post("/api/2.0/mlflow/runs/log-metric", content=body).status_code == 200, token
        history = {"run_id": given.keep["run_id"], "metric_key": f"v{i}"}
        found = noria.http.get("/api/2.0/mlflow/metrics/get-history", params=history).json()["metrics"]
        assert [(m["value"], m["step"], m["timestamp"]) for m in found] == [(value, 7, 5)], token
    for field, token in [
        *(
            ("value", t)
            for t in (
                "NaN",
                "Infinity",
                "1e400",
                "-1e400",
                '"1e400"',
                '"nan"',
                '"inf"',
                '"0x1"',
                '"1_0"',
                "null",
                "[]",
                '""',
            )
        ),
        *(("step", t) for t in ("9223372036854775808", '"9223372036854775808"', "1.5", "7" * 5000, '"1.0"', '"²"', "{}")),
        *(("timestamp", t) for t in ("-1", "1180591620717411303424", '"1e3"', "1e30", "null")),
    ]:
        fields = {"value": "1.0", "step": "1", "timestamp": "1", field: token}
        fields |= {"run_id": f'"{given.keep["run_id"]}"', "key": '"refused"'}
        body = "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"
        assert noria.http.post("/api/2.0/mlflow/runs/log-metric", content=body).status_code == 400, (field, token[:50])
    assert "refused" not in noria.app.tracking.run(noria.op(), given.keep["run_id"]).metrics
