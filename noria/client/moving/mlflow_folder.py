"""A folder of MLflow's (`mlruns`) as a source: runs in files, as MLflow kept them before it kept a database.

    <experiment>/meta.yaml · tags/ · datasets/ · models/<id>/…
    <experiment>/<run>/meta.yaml · metrics/ · params/ · tags/ · inputs/ · outputs/ · artifacts/
    models/<name>/meta.yaml · tags/ · aliases/ · version-<n>/meta.yaml · tags/
    .trash/<experiment>/…

Nothing outside of the folder is read. What cannot be read is named in `broken`, and the rest comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from noria.client.moving.mlflow_files import MlflowFiles
from noria.client.moving.model import (
    Experiment,
    File,
    Input,
    Model,
    ModelNumber,
    Number,
    Registered,
    Run,
    Trace,
    Use,
    Version,
)
from noria.kernel.errors import Invalid

STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
MODEL_STATUSES = {1: "LOGGED_MODEL_PENDING", 2: "LOGGED_MODEL_READY", 3: "LOGGED_MODEL_UPLOAD_FAILED"}
META, TRASH, REGISTRY = "meta.yaml", ".trash", "models"
NOT_RUNS = frozenset({"tags", "datasets", "models", "traces"})
TEXT_BYTES_MAX = 1 << 20  # of a param or tag; longer ones cannot be kept anyway
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as quick


class MlflowFolder:
    """See `Source`. `artifacts`: where files are that do not lie beside their runs."""

    def __init__(self, root: Path, artifacts: str = "") -> None:
        self._root = root.resolve()
        self.label = f"file://{self._root}"
        self._own, self._elsewhere = MlflowFiles(str(self._root)), MlflowFiles(artifacts)
        self.broken: list[tuple[str, str]] = []
        if not any(True for _ in self._experiment_folders()):
            raise Invalid(
                f"{root} is no folder of MLflow's: no experiment is in it.",
                where="source",
                hint="Give the folder called mlruns.",
            )

    def experiments(self) -> Iterator[Experiment]:
        for folder in self._experiment_folders():
            meta = self._meta(folder)
            if meta is not None:
                created = int(meta.get("creation_time") or 0)
                yield Experiment(
                    id=folder.name, name=str(meta.get("name") or folder.name), stage=_stage(meta), created_at_ms=created,
                    updated_at_ms=int(meta.get("last_update_time") or created), tags=_texts(folder / "tags"),
                )  # fmt: skip

    def _experiment_folders(self) -> Iterator[Path]:
        for root in (self._root, self._root / TRASH):
            for folder in sorted(root.iterdir()) if root.is_dir() else ():
                if folder.name != REGISTRY and (folder / META).is_file() and not folder.is_symlink():
                    yield folder

    def _folder(self, experiment_id: str) -> Path:
        folder = self._root / experiment_id
        return folder if folder.is_dir() else self._root / TRASH / experiment_id

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        folder = self._folder(experiment.id)
        for place in sorted(folder.iterdir()):
            if place.name in NOT_RUNS or not (place / META).is_file() or place.is_symlink():
                continue
            meta = self._meta(place)
            if meta is not None:
                yield self._run(folder, place, experiment, meta)

    def _run(self, folder: Path, place: Path, experiment: Experiment, meta: dict[str, Any]) -> Run:
        tags = _texts(place / "tags")
        return Run(
            id=place.name, experiment_id=experiment.id, name=str(meta.get("run_name") or tags.get("mlflow.runName") or ""),
            user=str(meta.get("user_id") or ""), status=STATUSES.get(meta.get("status", 1), "RUNNING"),
            started_at_ms=int(meta.get("start_time") or 0), ended_at_ms=int(meta["end_time"]) if meta.get("end_time") else None,
            stage=_stage(meta), deleted_at_ms=meta.get("deleted_time"), tags=tags, params=_texts(place / "params"),
            keys=[key for key, _ in _below(place / "metrics")], inputs=self._inputs(folder, place), models=self._uses(place),
            place=_place(place, str(meta.get("artifact_uri") or "")),
        )  # fmt: skip

    def numbers(self, run: Run) -> Iterator[Number]:
        for key, path in _below(self._folder(run.experiment_id) / run.id / "metrics"):
            for n, parts in _lines(path):
                # time value [step [dataset_name dataset_digest]]
                if len(parts) not in (2, 3, 5):
                    raise Invalid(f"line {n} of the metric {key!r} has {len(parts)} words")
                at_ms, value, step = _number(key, n, parts)
                yield Number(key, value, at_ms, step)

    def logged_models(self, experiment: Experiment) -> Iterator[Model]:
        root = self._folder(experiment.id) / "models"
        for place in sorted(root.iterdir()) if root.is_dir() else ():
            meta = self._meta(place) if (place / META).is_file() and not place.is_symlink() else None
            if meta is None:
                continue
            created = int(meta.get("creation_timestamp") or 0)
            yield Model(
                id=place.name, experiment_id=experiment.id, name=str(meta.get("name") or ""),
                status=MODEL_STATUSES.get(meta.get("status", 2), "LOGGED_MODEL_PENDING"), created_at_ms=created,
                updated_at_ms=int(meta.get("last_updated_timestamp") or created), model_type=str(meta.get("model_type") or ""),
                source_run_id=str(meta.get("source_run_id") or ""), status_message=str(meta.get("status_message") or ""),
                stage=_stage(meta), tags=_texts(place / "tags"), params=_texts(place / "params"),
                points=self._measured(place), place=_place(place, str(meta.get("artifact_location") or "")),
            )  # fmt: skip

    def _measured(self, place: Path) -> list[ModelNumber]:
        found = []
        for key, path in _below(place / "metrics"):
            for n, parts in _lines(path):
                # time value step run [dataset_name dataset_digest]
                if len(parts) not in (4, 6):
                    self.broken.append((place.name, f"line {n} of the metric {key!r} has {len(parts)} words"))
                    continue
                at_ms, value, step = _number(key, n, parts)
                name, digest = parts[4:] or ("", "")
                found.append(
                    ModelNumber(
                        run_id=parts[3],
                        key=key,
                        value=value,
                        at_ms=at_ms,
                        step=step,
                        dataset_name=name,
                        dataset_digest=digest,
                    )
                )
        return found

    def registered(self) -> Iterator[Registered]:
        for folder, meta in self._registered_folders():
            created = int(meta.get("creation_timestamp") or 0)
            aliases = {alias: int(number) for alias, number in _texts(folder / "aliases").items() if number.isdigit()}
            yield Registered(
                name=str(meta.get("name") or folder.name), created_at_ms=created,
                updated_at_ms=int(meta.get("last_updated_timestamp") or created), description=str(meta.get("description") or ""),
                tags=_texts(folder / "tags"), aliases=aliases,
            )  # fmt: skip

    def versions(self) -> Iterator[Version]:
        found = []
        for folder, model in self._registered_folders():
            for place in folder.glob("version-*"):
                meta = self._meta(place)
                stage = str((meta or {}).get("current_stage") or "None")
                if meta is None or stage == "Deleted_Internal":
                    continue
                created = int(meta.get("creation_timestamp") or 0)
                found.append(Version(
                    model=str(model.get("name") or folder.name), number=int(place.name.removeprefix("version-")),
                    source=str(meta.get("source") or ""), created_at_ms=created,
                    updated_at_ms=int(meta.get("last_updated_timestamp") or created), run_id=str(meta.get("run_id") or ""),
                    run_link=str(meta.get("run_link") or ""), description=str(meta.get("description") or ""),
                    status=str(meta.get("status") or "READY"),
                    tags=_texts(place / "tags") | ({"mlflow.stage": stage} if stage != "None" else {}),
                ))  # fmt: skip
        yield from sorted(found, key=lambda v: (v.created_at_ms, v.number))

    def _registered_folders(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        root = self._root / REGISTRY
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            meta = self._meta(folder) if (folder / META).is_file() else None
            if meta is not None:
                yield folder, meta

    def files(self, owner: Run | Model) -> Iterator[File]:
        return self._where(owner).files(owner.place)

    def read(self, owner: Run | Model, path: str) -> Iterator[bytes]:
        return self._where(owner).read(owner.place, path)

    def _where(self, owner: Run | Model) -> MlflowFiles:
        return self._own if owner.place.startswith(f"{self._root}/") else self._elsewhere

    def log(self, run: Run) -> Iterator[str]:
        return iter(())

    def traces(self, experiment: Experiment) -> Iterator[Trace]:
        return iter(())

    def traces_count(self, experiment: Experiment) -> int:
        """Traces that do not come; see MlflowDatabase."""
        root = self._folder(experiment.id) / "traces"
        return sum(1 for _ in root.iterdir()) if root.is_dir() else 0

    def close(self) -> None:
        return

    # --- small files ----------------------------------------------------------------------------------------------------

    def _meta(self, folder: Path) -> dict[str, Any] | None:
        try:
            found = yaml.load((folder / META).read_text(), _Loader)  # noqa: S506 (the safe one)
            if isinstance(found, dict):
                return found
            self.broken.append((folder.name, f"its {META} is empty"))
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            self.broken.append((folder.name, f"its {META} cannot be read: {type(error).__name__}"))
        return None

    def _inputs(self, folder: Path, place: Path) -> list[Input]:
        found = []
        for meta in self._links(place / "inputs"):
            data = folder / "datasets" / str(meta.get("source_id"))
            if meta.get("source_type") != "DATASET" or not (data / META).is_file() or data.parent != folder / "datasets":
                continue
            about = self._meta(data)
            if about is not None:
                text = {k: str(about.get(k) or "") for k in ("name", "digest", "source_type", "source", "schema", "profile")}
                found.append(Input(**text, tags={str(k): str(v) for k, v in (meta.get("tags") or {}).items()}))
        return found

    def _uses(self, place: Path) -> list[Use]:
        read = [
            Use(model_id=str(m["source_id"]), direction="input")
            for m in self._links(place / "inputs")
            if m.get("source_type") in ("MODEL", "MODEL_INPUT")
        ]
        wrote = [
            Use(model_id=str(m["destination_id"]), direction="output", step=int(m.get("step") or 0))
            for m in self._links(place / "outputs")
            if m.get("destination_type") == "MODEL_OUTPUT"
        ]
        return read + wrote

    def _links(self, root: Path) -> list[dict[str, Any]]:
        found = [self._meta(folder) for folder in sorted(root.iterdir())] if root.is_dir() else []
        return [meta for meta in found if meta is not None]


def _stage(meta: dict[str, Any]) -> str:
    return "deleted" if meta.get("lifecycle_stage") == "deleted" else "active"


def _place(owner: Path, uri: str) -> str:
    """Where files are: beside their run or model, or where its meta.yaml says."""
    own = owner / "artifacts"
    return str(own) if own.is_dir() and not own.is_symlink() else uri


def _below(root: Path) -> Iterator[tuple[str, Path]]:
    """Names and files below a folder; a name may hold slashes."""
    for path in sorted(root.rglob("*")) if root.is_dir() else ():
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(root).as_posix(), path


def _texts(root: Path) -> dict[str, str]:
    found = {}
    for key, path in _below(root):
        with path.open("rb") as file:
            found[key] = file.read(TEXT_BYTES_MAX).decode("utf-8", "replace").rstrip("\n")
    return found


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for n, line in enumerate(file, 1):
            if line.strip():
                yield n, line.strip().split(" ")


def _number(key: str, n: int, parts: list[str]) -> tuple[int, float, int]:
    try:
        return int(parts[0]), float(parts[1]), int(parts[2]) if len(parts) > 2 else 0
    except ValueError as cause:
        raise Invalid(f"line {n} of the metric {key!r} holds no number") from cause
