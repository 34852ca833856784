"""One script of requests, played to MLflow's own server and to Noria: the answers are the same, but for a written list.

scripts/mlflow_differences.py is that list; docs/reference/mlflow.md shows it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.mlflow_differences import APART, apart
from tests.protocol.differential import errors, files, prompts, registry, tracking, webhooks
from tests.protocol.differential.api import Api
from tests.protocol.differential.server import MlflowServer
from tests.protocol.test_mlflow_tracking import Server

pytestmark = [pytest.mark.protocol, pytest.mark.slow, pytest.mark.timeout(600)]
Answers = dict[str, tuple[int, Any]]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Answers, Answers]]:
    """Every answer of MLflow's server, and of Noria."""
    theirs, ours = MlflowServer(tmp_path_factory.mktemp("mlflow")), Server(tmp_path_factory.mktemp("home"))
    try:
        yield played(theirs.url), played(ours.url)
    finally:
        theirs.stop()
        ours.stop()


def played(url: str) -> Answers:
    api = Api(url)
    for part in (tracking, errors, registry, prompts, files, webhooks):
        part.play(api)
    return {step: (status, everywhere(answer)) for step, (status, answer) in api.answers.items()}


def everywhere(found: Any, key: str = "") -> Any:
    """An answer without what differs everywhere."""
    if isinstance(found, dict):
        made = key in ("registered_model", "registered_models", "latest_versions", "model_version", "model_versions")
        listed = key in ("latest_versions", "model_versions")
        left_out = ({"user_id"} if made else set()) | ({"aliases"} if listed else set())
        return {k: everywhere(v, k) for k, v in found.items() if k not in left_out}
    if isinstance(found, list):
        return [everywhere(item, key) for item in found]
    if isinstance(found, float) and abs(found) == sys.float_info.max:
        return "Infinity" if found > 0 else "-Infinity"
    return found


def test_the_answers_are_the_same(answers: tuple[Answers, Answers]) -> None:
    theirs, ours = answers
    assert list(theirs) == list(ours) and len(theirs) > 700
    differing = {step: (theirs[step], ours[step]) for step in theirs if theirs[step] != ours[step] and not apart(step)}
    assert not differing, "\n".join(f"{step}\n  MLflow: {m}\n  Noria:  {n}" for step, (m, n) in differing.items())


@pytest.mark.parametrize("difference", APART, ids=lambda d: d.mlflow[:40])
def test_what_is_listed_as_different_is_different(answers: tuple[Answers, Answers], difference: Any) -> None:
    theirs, ours = answers
    for pattern in difference.steps:
        held = [step for step in theirs if type(difference)("", "", "", (pattern,)).holds(step)]
        assert held, f"no step is called {pattern!r}"
        for step in held:
            assert theirs[step] != ours[step], f"{step!r} is the same on both; take it off the list"


def test_noria_never_answers_500(answers: tuple[Answers, Answers]) -> None:
    assert {step: status for step, (status, _) in answers[1].items() if status >= 500 and status != 501} == {}
