"""A Noria as a source: some of its runs, or those of an experiment, with what they printed and the models they logged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec

from noria.client.api import Api
from noria.client.moving.mlflow_server import V2, MlflowServer
from noria.client.moving.model import DELETED, Experiment, Model, Registered, Run, Version
from noria.kernel.errors import NotFound

RUNS_PER_PAGE = 1_000


class NoriaServer(MlflowServer):
    """See `Source`. `experiments`: names or ids of those whose runs are wanted; `runs`: ids of single ones."""

    @staticmethod
    def number(value: Any) -> float:
        """A value as it is: here an infinity is one."""
        return float(value)

    def __init__(self, api: Api, *, experiments: list[str], runs: list[str], with_deleted: bool = False) -> None:
        self._api, self._with_deleted = api, with_deleted
        super().__init__(api.url, http=api.http)
        self._singles: dict[str, list[Run]] = {}
        for run_id in dict.fromkeys(runs):
            run = self._run(run_id)
            self._singles.setdefault(run.experiment_id, []).append(run)
        self._whole = [self._experiment_id(text) for text in dict.fromkeys(experiments)]

    def experiments(self) -> Iterator[Experiment]:
        for experiment_id in dict.fromkeys([*self._whole, *self._singles]):
            yield _experiment(self._api.get(f"/experiments/{quote(experiment_id, safe='')}"))

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        if experiment.id not in self._whole:
            yield from self._singles[experiment.id]
            return
        page: str | None = None
        stage = "all" if self._with_deleted or experiment.stage == DELETED else "active"
        asked = {"experiment": experiment.id, "columns": "status", "stage": stage, "limit": RUNS_PER_PAGE}
        while True:
            answer = self._api.get("/runs", **asked, page=page)
            yield from map(self._run, answer["ids"])
            page = answer.get("next")
            if not page:
                return

    def logged_models(self, experiment: Experiment) -> Iterator[Model]:
        if experiment.id in self._whole:
            yield from super().logged_models(experiment)
            return
        named = {use.model_id for run in self._singles[experiment.id] for use in run.models}
        for model_id in sorted(named):
            try:
                found = self._get(f"{V2}/logged-models/{model_id}", {"allow_deleted": "true"})["model"]
            except NotFound:
                continue  # purged since; the run still names it
            yield self._logged_model(found)

    def registered(self) -> Iterator[Registered]:
        return iter(())

    def versions(self) -> Iterator[Version]:
        return iter(())

    def log(self, run: Run) -> Iterator[str]:
        offset = 0
        while True:
            page = self._api.get(f"/runs/{run.id}/logs", offset=offset)
            if page["text"]:
                yield page["text"]
            if page["next_offset"] <= offset:
                return
            offset = page["next_offset"]

    def close(self) -> None:
        """Nothing: the connection is the caller's."""

    def _run(self, run_id: str) -> Run:
        found = self._api.get(f"/runs/{quote(run_id, safe='')}")
        wanted = {name: found[name] for name in Run.__struct_fields__ if name in found}
        keys = sorted(point["key"] for point in found["points"])
        return msgspec.convert(wanted | {"keys": keys}, Run)

    def _experiment_id(self, text: str) -> str:
        """The id of an experiment given by name or id. Raises NotFound."""
        try:
            return str(self._api.get(f"/experiments/{quote(text, safe='')}")["id"])
        except NotFound:
            found = self._get(f"{V2}/experiments/get-by-name", {"experiment_name": text})
            return str(found["experiment"]["experiment_id"])


def _experiment(found: dict[str, Any]) -> Experiment:
    return msgspec.convert({name: found[name] for name in Experiment.__struct_fields__ if name in found}, Experiment)
