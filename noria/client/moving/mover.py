"""An import from beginning to end: experiments, logged models, runs, registered models with versions and aliases, traces.

Models come before the runs that name them, and what is put away elsewhere is put away here last, so that at every moment the next
try goes on where this one was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

from noria.client.api import Api
from noria.client.moving import fit
from noria.client.moving.arrival import Arrival
from noria.client.moving.model import DELETED, Experiment, Model, Registered, Run, Source
from noria.client.moving.report import ALREADY, NEW, Report
from noria.kernel.errors import AlreadyExists, Conflict, Invalid, NoriaError, NotFound, TooLarge

WORKERS = 4  # a request waits for the disk of the server; four at once keep it busy
AT_ONCE = 64  # runs in memory
OF_ONE_THING = (Invalid, NotFound, AlreadyExists, Conflict, TooLarge)  # the rest can still come; other errors end the import
T = TypeVar("T")
Say = Callable[[str], None]


class Mover:
    """Moves everything of a source into a Noria. `only`: the names of the experiments; None: all of them."""

    def __init__(self, api: Api, source: Source, *, only: set[str] | None = None, say: Say = lambda text: None) -> None:
        self._api, self._source, self._only, self._say = api, source, only, say
        self.report = Report(source.label)
        self._arrival = Arrival(api, source, self.report)
        self._models: set[str] = set()  # that came, when only some experiments do

    def look(self) -> Report:
        """Count what there is and what is here already; change nothing."""
        here = {e["name"]: e["id"] for e in self._api.items("/experiments", stage="all", limit=1000)}
        for experiment in self._wanted():
            known = here.get(experiment.name, "")
            self.report.count("experiments", ALREADY if known else NEW)
            self.report.mapped(experiment, known or "(new)")
            sealed = self._sealed(known) if known else set()
            for run in self._told(experiment, "runs", self._source.runs(experiment)):
                self.report.count("runs", "found")
                self.report.count("runs", ALREADY if run.id in sealed else NEW)
                self.report.brought({
                    "points": 0, "files": 0, "file_bytes": 0, "params": len(run.params), "tags": len(run.tags),
                    "inputs": len(run.inputs),
                })  # fmt: skip
            for _ in self._source.logged_models(experiment):
                self.report.count("logged models", "found")
        for _ in self._source.registered():
            self.report.count("registered models", "found")
        for _ in self._source.versions():
            self.report.count("versions", "found")
        return self.report

    def move(self) -> Report:
        """Bring everything that is not here yet. May be broken off and repeated. Raises what ends an import."""
        known = {e["name"] for e in self._api.items("/experiments", stage="all", limit=1000)}
        places = [(experiment, self._place(experiment, known)) for experiment in self._wanted()]
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="import") as pool:
            for experiment, here in places:
                if here:
                    models = self._told(experiment, "logged models", self._source.logged_models(experiment))
                    _each(pool, partial(self._model, here), models)
            for experiment, here in places:
                if here:
                    self._runs(pool, experiment, here)
        self._registered()
        for experiment, here in places:
            if here:
                self._traces(experiment, here)
                if experiment.stage == DELETED:
                    self._api.delete(f"/experiments/{here}")
        for name, why in dict.fromkeys(getattr(self._source, "broken", [])):
            self.report.leave_out("files", name, why)
        return self.report

    # --- experiments ----------------------------------------------------------------------------------------------------

    def _wanted(self) -> Iterator[Experiment]:
        missing = set(self._only or ())
        for experiment in self._source.experiments():
            if self._only is None or experiment.name in self._only:
                missing.discard(experiment.name)
                self.report.count("experiments", "found")
                yield experiment
        if missing:
            raise NotFound(
                f"{self._source.label} has no experiment named {', '.join(map(repr, sorted(missing)))}.",
                hint="Names are compared exactly.",
            )

    def _place(self, experiment: Experiment, known: set[str]) -> str:
        """The id of the experiment here; '' when it is not to be filled."""
        note = self._noter("experiments", experiment.name)
        try:
            found = self._api.post("/imports/experiments", {
                "name": experiment.name, "created_at_ms": experiment.created_at_ms,
                "updated_at_ms": experiment.updated_at_ms,
                "tags": fit.fitting(experiment.tags, "tag", note),
            })  # fmt: skip
        except OF_ONE_THING as refusal:
            self.report.leave_out("experiments", experiment.name, refusal.message, whole=True)
            return ""
        self.report.mapped(experiment, found["id"])
        self.report.count("experiments", ALREADY if experiment.name in known else NEW)
        if found["stage"] == DELETED and experiment.stage != DELETED:
            self.report.leave_out("experiments", experiment.name, "it is put away here; restore it first", whole=True)
            return ""
        if found["stage"] == DELETED:
            self._count_as_there(experiment)
            return ""
        return str(found["id"])

    def _count_as_there(self, experiment: Experiment) -> None:
        """An experiment that was put away here was so after all of it had come."""
        for kind, things in (
            ("runs", self._source.runs(experiment)),
            ("logged models", self._source.logged_models(experiment)),
        ):
            for _ in things:
                self.report.count(kind, "found")
                self.report.count(kind, ALREADY)

    # --- runs and models ------------------------------------------------------------------------------------------------

    def _runs(self, pool: ThreadPoolExecutor, experiment: Experiment, here: str) -> None:
        sealed = self._sealed(here)

        def bring(run: Run) -> None:
            self.report.count("runs", "found")
            if run.id in sealed:
                self.report.count("runs", ALREADY)
                return
            goes_along = experiment.stage == DELETED
            self._bring("runs", run.id, lambda: self._arrival.run(run, here, is_put_away=goes_along))

        _each(pool, bring, self._told(experiment, "runs", self._source.runs(experiment)))

    def _sealed(self, here: str) -> set[str]:
        """The runs of an experiment here that an import found to be whole."""
        found: set[str] = set()
        page: str | None = None
        column = f"tags.{fit.SEALED_TAG}"
        while True:
            answer = self._api.get("/runs", experiment=here, columns=column, stage="all", limit=5_000, page=page)
            values = answer["columns"].get(column) or [None] * len(answer["ids"])
            found |= {run_id for run_id, sealed in zip(answer["ids"], values, strict=True) if sealed}
            page = answer.get("next")
            if not page:
                return found

    def _model(self, here: str, model: Model) -> None:
        self.report.count("logged models", "found")
        self._models.add(model.id)
        self._bring("logged models", model.id, lambda: self._arrival.model(model, here))

    def _bring(self, kind: str, name: str, bring: Callable[[], str]) -> None:
        try:
            self.report.count(kind, bring())
        except OF_ONE_THING as refusal:
            self.report.leave_out(kind, name, _sentence(refusal), whole=True)

    # --- the registry ---------------------------------------------------------------------------------------------------

    def _registered(self) -> None:
        self._say("registered models")
        models = {model.name: model for model in self._source.registered()}
        wanted = [v for v in self._source.versions() if self._only is None or self._came(v.source, v.run_id)]
        named = set(models) if self._only is None else {v.model for v in wanted}
        for name in sorted(named & set(models)):
            self.report.count("registered models", "found")
            self._bring("registered models", name, partial(self._register, models[name]))
        for version in wanted:
            name = f"{version.model}@{version.number}"
            self.report.count("versions", "found")
            if version.status != "READY":
                self.report.leave_out("versions", name, f"its status is {version.status}", whole=True)
                continue
            self._bring("versions", name, partial(self._arrival.version, version))
        for name in sorted(named & set(models)):
            self._aliases(name, models[name].aliases)

    def _register(self, model: Registered) -> str:
        is_new = not self._has_model(model.name)
        tags = fit.fitting(model.tags, "tag", self._noter("registered models", model.name))
        self._api.post("/imports/models", {
            "name": model.name, "created_at_ms": model.created_at_ms, "updated_at_ms": model.updated_at_ms,
            "description": model.description, "tags": tags,
        })  # fmt: skip
        return NEW if is_new else ALREADY

    def _came(self, source: str, run_id: str) -> bool:
        """Does a version belong to what came, when only some experiments do?"""
        if any(model_id in source for model_id in self._models):
            return True
        if not run_id:
            return False
        try:
            self._api.get(f"/runs/{quote(run_id, safe='')}")
        except (NotFound, Invalid):
            return False
        return True

    def _has_model(self, name: str) -> bool:
        try:
            self._api.get(f"/models/{quote(name, safe='')}")
        except (NotFound, Invalid):
            return False
        return True

    def _aliases(self, name: str, aliases: dict[str, int]) -> None:
        """Point aliases as they pointed elsewhere; one that was moved here since stays where it is."""
        if not aliases:
            return
        path = f"/models/{quote(name, safe='')}"
        try:
            here = {a["name"]: a["version"] for a in self._api.get(path)["model"]["aliases"]}
        except (NotFound, Invalid):
            return  # its model was left out
        for alias, number in sorted(aliases.items()):
            self.report.count("aliases", "found")
            at = f"{name}@{alias}"
            if here.get(alias) == number:
                self.report.count("aliases", ALREADY)
            elif alias in here:
                self.report.leave_out(
                    "aliases", at, f"it points at version {here[alias]} here, at {number} there", whole=True
                )
            else:
                wish = {"version": number, "expect": 0, "reason": f"As it was in {self.report.source}"}
                try:
                    self._api.put(f"{path}/aliases/{quote(alias, safe='')}", wish)
                    self.report.count("aliases", NEW)
                except NoriaError as refusal:  # a policy may say no; that is no reason to stop
                    self.report.leave_out("aliases", at, _sentence(refusal), whole=True)

    # --- traces ---------------------------------------------------------------------------------------------------------

    def _traces(self, experiment: Experiment, here: str) -> None:
        for trace in self._told(experiment, "traces", self._source.traces(experiment)):
            self.report.count("traces", "found")
            self._bring("traces", trace.id, partial(self._arrival.trace, trace, here))
        uncounted = getattr(self._source, "traces_count", lambda _: 0)(experiment)
        if uncounted:
            self.report.count("traces", "found", uncounted)
            self.report.count("traces", "left_out", uncounted)
            self.report.leave_out(
                "traces", experiment.name, f"{uncounted} traces: start an MLflow server on it, and import from its URL"
            )

    def _told(self, experiment: Experiment, what: str, things: Iterable[T]) -> Iterator[T]:
        for n, thing in enumerate(things, 1):
            parts = self.report.parts
            self._say(f"{experiment.name}: {n:,} {what}; {parts['points']:,} points, {parts['files']:,} files")
            yield thing

    def _noter(self, kind: str, name: str) -> Callable[[str], None]:
        return lambda why: self.report.leave_out(kind, name, why)


def _each(pool: ThreadPoolExecutor, do: Callable[[Any], None], things: Iterable[Any]) -> None:
    """Do it to each, some at once; the first error that ends the import is raised, and nothing more is begun."""
    waiting = iter(things)
    while few := list(islice(waiting, AT_ONCE)):
        for done in [pool.submit(do, thing) for thing in few]:
            done.result()


def _sentence(refusal: NoriaError) -> str:
    return f"{refusal.message} {refusal.hint}".strip()
