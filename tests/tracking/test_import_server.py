"""An MLflow server as a source, when it answers strangely: clear errors, older versions, pages."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from noria.client.moving.mlflow_server import MlflowServer
from noria.client.moving.model import Experiment, Run
from noria.kernel.errors import Forbidden, Invalid, NoriaError, Unauthenticated, Unavailable

Answer = Callable[[httpx.Request], httpx.Response]
EXPERIMENT = Experiment(id="1", name="e", created_at_ms=1, updated_at_ms=1)


def opened(answer: Answer) -> MlflowServer:
    def known(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/experiments/search") and answer is not broken:
            return httpx.Response(200, json={})
        return answer(request)

    transport = httpx.MockTransport(answer if answer.__name__ == "<lambda>" else known)
    return MlflowServer(
        "http://ada:secret@there:5000/", http=httpx.Client(transport=transport, base_url="http://there:5000")
    )


def broken(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (lambda _: httpx.Response(401), Unauthenticated, "wants to know who you are"),
        (lambda _: httpx.Response(403, json={"message": "no"}), Forbidden, "no"),
        (lambda _: httpx.Response(404, text="<html>nothing</html>"), Invalid, "is no MLflow"),
        (lambda _: httpx.Response(200, text="<html>a page</html>"), Invalid, "is no MLflow"),
        (lambda _: httpx.Response(500, text="oops"), Unavailable, "answered 500: oops"),
        (lambda _: httpx.Response(503), Unavailable, "No MLflow answers"),
        (lambda request: broken(request), Unavailable, "No MLflow answers"),
    ],
)
def test_what_is_wrong_at_the_door_is_said_at_once(answer: Answer, error: type[NoriaError], says: str) -> None:
    with pytest.raises(error, match=says) as refused:
        opened(answer)
    assert "secret" not in refused.value.message + refused.value.hint


def test_a_server_from_before_logged_models_has_none() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, text="<html>Not Found</html>")

    source = opened(answer)
    assert source.label == "http://there:5000", "no password is kept with what came"
    assert list(source.logged_models(EXPERIMENT)) == [] and list(source.traces(EXPERIMENT)) == []


def test_a_page_follows_a_page_and_a_busy_server_is_asked_again() -> None:
    asked: list[dict[str, str]] = []
    busy = iter([503, 200, 429, 200, 200, 200])

    def answer(request: httpx.Request) -> httpx.Response:
        status = next(busy)
        if status != 200:
            return httpx.Response(status)
        asked.append(dict(request.url.params))
        n = len(asked)
        points = [{"key": "loss", "value": v, "timestamp": n, "step": n} for v in ("NaN", 1.7976931348623157e308, 0.5)]
        return httpx.Response(200, json={"metrics": points, **({"next_page_token": f"p{n}"} if n < 3 else {})})

    run = Run(id="r", experiment_id="1", name="", user="", status="FINISHED", started_at_ms=1, keys=["loss"])
    found = [repr(p.value) for p in opened(answer).numbers(run)]
    assert found == ["nan", "inf", "0.5"] * 3
    assert [a.get("page_token") for a in asked] == [None, "p1", "p2"]


def test_what_a_run_lacks_is_empty() -> None:
    bare = {"info": {"run_id": "r", "experiment_id": "1"}}

    def answer(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content)["experiment_ids"] == ["1"]
        return httpx.Response(200, json={"runs": [bare]})

    (run,) = opened(answer).runs(EXPERIMENT)
    assert (run.id, run.status, run.params, run.keys, run.inputs, run.ended_at_ms) == ("r", "RUNNING", {}, [], [], None)
