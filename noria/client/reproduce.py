"""`noria run reproduce`: a run made again from what was captured, as a new run that is linked to it, and compared with it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blake3 import blake3
from msgspec import Struct, convert, field
from msgspec.structs import replace

from noria.client.api import Api
from noria.client.capture import Captured, machine
from noria.client.following import PipelineFailed, follow
from noria.client.rebuild import command_of, compile_lock, rebuild
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import new_id
from noria.pipelines.model.spec import EnvironmentSpec, PipelineSpec

Say = Callable[[str], None]
OWN_METRICS = "system/"  # of the machine, not of what ran on it


class Compared(Struct, frozen=True):
    """One number of the run and of its repetition; None where there is none."""

    key: str
    was: float | None
    now: float | None
    matches: bool


class Reproduced(Struct):
    """What came of it."""

    run_id: str
    made_again: str  # the id of the new run
    status: str
    metrics: list[Compared]
    notes: list[str] = field(default_factory=list)
    place: str = ""

    @property
    def matches(self) -> bool:
        """Did it end as before, and is every number what it was?"""
        return self.status == "same" and all(m.matches for m in self.metrics)


def reproduce(
    api: Api, run_id: str, *, tolerance: float = 1e-6, folder: Path | None = None, keep: bool = False, repository: Path,
    say: Say,
) -> Reproduced:  # fmt: skip
    """Make a run again: of tracking, or of a pipeline. Raises NotFound, Invalid when it cannot be built again."""
    if not tolerance >= 0:
        raise Invalid("The tolerance is a number that is not negative.", where="tolerance")
    try:
        run = api.get(f"/runs/{run_id}")
    except NotFound:
        try:
            view = api.get(f"/pipeline-runs/{run_id}")
        except NotFound:
            raise NotFound(f"There is no run {run_id}, neither of tracking nor of a pipeline.") from None
        return _again_as_pipeline(api, view, tolerance, say)
    if run["tags"].get("noria.pipeline_run"):
        raise Invalid(
            f"This run was made by a step of a pipeline run ({run['tags'].get('noria.step')}).", where="run",
            hint=f"Reproduce that: noria run reproduce {run['tags']['noria.pipeline_run']}",
        )  # fmt: skip
    with _place(folder, keep, say) as place:
        return _again(api, run, place, tolerance, repository, say)


@contextmanager
def _place(folder: Path | None, keep: bool, say: Say) -> Iterator[Path]:
    """An empty folder; one of our own is removed at the end, unless it is to be kept."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Invalid(f"The folder {folder} is not empty.", where="dir")
        yield folder.resolve()
    elif keep:
        made = Path(tempfile.mkdtemp(prefix="noria-reproduce-"))
        say(f"Folder: {made}")
        yield made
    else:
        with tempfile.TemporaryDirectory(prefix="noria-reproduce-", ignore_cleanup_errors=True) as name:
            yield Path(name).resolve()


# --- a run of tracking ----------------------------------------------------------------------------------------------------


def _again(api: Api, run: Mapping[str, Any], place: Path, tolerance: float, repository: Path, say: Say) -> Reproduced:
    from noria.client.launch import Place, launch

    def read(path: str) -> bytes:
        return b"".join(api.get_bytes(f"/runs/{run['id']}/artifacts/content", path=path))

    built = rebuild(run, read, place, repository=repository, say=say)
    command = command_of(run["tags"], built.code, built.python)
    data = run["tags"].get("noria.dataset_versions") or run["tags"].get("noria.dataset_version", "")
    if data:
        say(f"Data: {len(data.split(','))} versions of datasets, as they were read.")
    made = new_id()
    captured = _captured(run, built.environment)
    variables = {
        "PATH": f"{built.python.parent}:{_path()}", "VIRTUAL_ENV": str(built.python.parents[1]), "PYTHONPATH": "",
        "NORIA_DATASET_PINS": data.replace(",", " "),
    }  # fmt: skip
    code = launch(
        command, experiment=_experiment(api, run), name=f"{run['name']} again"[:250],
        tags={**captured.tags, "noria.reproduces": run["id"]}, mode="online", say=say,
        place=Place(made, built.cwd, variables, captured),
    )  # fmt: skip
    now = api.get(f"/runs/{made}")
    was_well, is_well = run["status"] == "FINISHED", code == 0
    notes = [*built.notes]
    data_now = now["tags"].get("noria.dataset_versions") or now["tags"].get("noria.dataset_version", "")
    if data != data_now:
        notes.append(f"It read other versions of data: {data_now or 'none'} instead of {data or 'none'}.")
    if was_well != is_well:
        notes.append(f"It ended with code {code}; the run was {run['status']}.")
    return Reproduced(
        run_id=run["id"], made_again=made, status="same" if was_well == is_well else "other",
        metrics=compare(_numbers(run), _numbers(now), tolerance), notes=notes, place=str(place),
    )  # fmt: skip


def _captured(run: Mapping[str, Any], environment: Mapping[str, Any]) -> Captured:
    """What is recorded of the new run: the old one's commit and arguments, this machine, the environment that was built."""
    import json

    body = json.dumps(environment, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    kept = {k: v for k, v in run["tags"].items() if k.startswith(("mlflow.source.", "noria.argv", "noria.source.diff"))}
    tags = {**kept, **{k: v for k, v in machine().items() if v}, "noria.environment_digest": blake3(body).hexdigest()}
    packages = "".join(f"{name}=={version}\n" for name, version in sorted(environment["packages"].items()))
    return Captured(tags, {"environment/environment.json": body, "environment/packages.txt": packages.encode()})


def _experiment(api: Api, run: Mapping[str, Any]) -> str:
    return str(api.get(f"/experiments/{run['experiment_id']}")["name"])


def _path() -> str:
    import os

    return os.environ.get("PATH", "")


def _numbers(run: Mapping[str, Any]) -> dict[str, float]:
    return {key: _number(value) for key, value in run["metrics"].items() if not key.startswith(OWN_METRICS)}


def _number(value: Any) -> float:
    """Infinities and NaN travel as texts."""
    return math.nan if value is None else float(value)


def compare(was: Mapping[str, float], now: Mapping[str, float], tolerance: float) -> list[Compared]:
    """Each number beside its repetition. They match within `tolerance`, of the number itself or of one, whichever is more."""
    return [
        Compared(key, was.get(key), now.get(key), _is_same(was.get(key), now.get(key), tolerance))
        for key in sorted({*was, *now})
    ]


def _is_same(was: float | None, now: float | None, tolerance: float) -> bool:
    if was is None or now is None:
        return False
    if math.isnan(was) or math.isnan(now):
        return math.isnan(was) and math.isnan(now)
    return math.isclose(was, now, rel_tol=tolerance, abs_tol=tolerance)


# --- a run of a pipeline --------------------------------------------------------------------------------------------------


def _again_as_pipeline(api: Api, view: Mapping[str, Any], tolerance: float, say: Say) -> Reproduced:
    """The same code, parameters and packages as another pipeline, so that nothing is taken from the cache."""
    run, notes = view["run"], list[str]()
    versions = api.items(f"/pipelines/{run['pipeline']}/versions")
    spec = next(convert(v["spec"], PipelineSpec) for v in versions if v["number"] == run["version"])
    steps = {step["step"]["name"]: step for step in view["steps"]}
    locked: dict[str, EnvironmentSpec] = {}
    new_steps = []
    for step in spec.steps:
        env = step.env
        if env is None and (digest := _environment_digest(steps.get(step.name))):
            if digest not in locked:
                locked[digest], more = _lock(api, digest)
                notes += more
            env = locked[digest]
        elif env is None:
            notes.append(f"The step {step.name} did not run, so nothing is known of its packages; it gets the worker's.")
        new_steps.append(replace(step, env=env, cache_s=None))
    name = f"{run['pipeline']}-reproduced"
    say(f"Code: version {run['version']} of {run['pipeline']}. Packages: {len(locked)} captured environments.")
    registered = api.post("/pipelines", replace(spec, name=name, steps=new_steps))
    body = {"params": run["params"], "version": registered["version"], "reproduces": run["id"]}
    made = api.post(f"/pipelines/{name}/runs", body)
    try:
        ended = follow(api, made["id"], show=say)
    except PipelineFailed as failed:
        ended = failed.run
    notes.append("Steps run on whichever worker takes them; their machines may differ.")
    was = {**_outputs(run), **_logged(api, run["id"])}
    now = {**_outputs(ended), **_logged(api, made["id"])}
    return Reproduced(
        run_id=run["id"], made_again=made["id"], status="same" if ended["state"] == run["state"] else "other",
        metrics=compare(was, now, tolerance), notes=list(dict.fromkeys(notes)),
    )  # fmt: skip


def _environment_digest(step: Mapping[str, Any] | None) -> str:
    """That of the try whose result counted."""
    tries = [a for a in (step or {}).get("attempts", []) if a["environment_digest"]]
    return str(tries[-1]["environment_digest"]) if tries else ""


def _lock(api: Api, digest: str) -> tuple[EnvironmentSpec, list[str]]:
    captured = api.get(f"/blobs/{digest}")
    python = ".".join(str(captured["python"]).split(".")[:2])
    text, notes = compile_lock(captured["packages"], python)
    body = text.encode()
    lock = blake3(body).hexdigest()
    api.put_bytes(f"/blobs/{lock}", body)
    return EnvironmentSpec(lock_digest=lock, python=python, asked=[f"the environment {digest[:12]}"]), notes


def _outputs(run: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that a pipeline run gave out, by their place."""
    found: dict[str, float] = {}
    for name, value in (run.get("outputs") or {}).items():
        found.update(_flat(f"outputs.{name}", value.get("value") if value.get("as") == "json" else value.get("items")))
    return found


def _flat(at: str, value: Any) -> dict[str, float]:
    if isinstance(value, bool) or value is None:
        return {}
    if isinstance(value, int | float):
        return {at: float(value)}
    if isinstance(value, dict) and value.get("as") in ("json", "many", "named"):
        return _flat(at, value.get("value", value.get("items")))
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {key: number for name, item in items for key, number in _flat(f"{at}.{name}", item).items()}


def _logged(api: Api, pipeline_run: str) -> dict[str, float]:
    """The metrics of the runs that its steps logged, by step and key; the last one of a step counts."""
    found: dict[str, float] = {}
    listed = api.get("/runs", filter=f"tags.`noria.pipeline_run` = '{pipeline_run}'", order_by="started_at_ms", limit=1000)
    for run_id in listed["ids"]:
        run = api.get(f"/runs/{run_id}")
        found.update({f"{run['tags'].get('noria.step', '')}: {key}": value for key, value in _numbers(run).items()})
    return found
