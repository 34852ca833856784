"""Where files of runs, logged models and traces lie, and the URIs by which MLflow's clients name them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct, structs

from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.tracking.model import Artifact, check_path, check_run_id


class Mount(Protocol):
    """Files of a higher slice that the artifact proxy shows, read only. The registry mounts the files of versions."""

    def list_files(self, op: Op, path: str) -> list[Artifact]: ...
    def open_path(self, op: Op, path: str) -> tuple[Artifact, Iterator[bytes]]: ...


class Place(Struct, frozen=True, kw_only=True):
    """A path below the files of a run, of a logged model or of a trace."""

    owner: str
    experiment_id: str
    path: str
    run_id: str = ""
    model_id: str = ""


def owner_of(owner_id: str) -> str:
    """Whose files they are: `run:…`, or `logged_model:m-…`, whose ids tell them apart."""
    return str(Ref("logged_model" if owner_id.startswith("m-") else "run", owner_id))


def parse_uri(uri: str) -> tuple[str, str, str, str]:
    """(run | model | trace, its id, experiment id or '', path) of a URI of MLflow's. Raises Invalid."""
    scheme, _, rest = uri.partition(":")
    rest = rest.lstrip("/").rstrip("/")
    parts = rest.split("/") if rest else []
    if scheme in ("runs", "run") and parts:
        check_path(path := "/".join(parts[1:]))
        return "run", check_run_id(parts[0]), "", path
    if scheme == "models" and parts and parts[0].startswith("m-"):
        check_path(path := "/".join(parts[1:]))
        return "model", check_run_id(parts[0]), "", path
    if scheme == "mlflow-artifacts":
        return parse_place("/".join(parts))
    raise Invalid(
        f"{uri[:200]!r} does not name files that Noria keeps.", where="uri",
        hint="Use runs:/<run id>/<path>, models:/<logged model id> or mlflow-artifacts:/…",
    )  # fmt: skip


def parse_place(path: str) -> tuple[str, str, str, str]:
    """The same for MLflow's artifact proxy: `<experiment>/<run>/artifacts/…`, `<experiment>/models/<id>/artifacts/…`."""
    check_path(path)
    parts = path.split("/")
    if len(parts) >= 4 and parts[1] == "models" and parts[3] == "artifacts":
        return "model", check_run_id(parts[2]), parts[0], "/".join(parts[4:])
    if len(parts) >= 4 and parts[1] == "traces" and parts[3] == "artifacts":
        return "trace", check_run_id(parts[2]), parts[0], "/".join(parts[4:])
    if len(parts) >= 3 and parts[2] == "artifacts":
        return "run", check_run_id(parts[1]), parts[0], "/".join(parts[3:])
    raise NotFound(
        f"There are no artifacts at {path[:200]!r}.",
        hint="They lie at <experiment>/<run>/artifacts/… or <experiment>/models/<logged model>/artifacts/…",
    )


def check_file_path(path: str) -> str:
    """`path` if a file can have it: not the root. Raises Invalid."""
    if not check_path(path):
        raise Invalid("An artifact needs a path.", where="path")
    return path


def one_level(files: list[Artifact], folder: str) -> list[Artifact]:
    """The files directly in `folder` and its folders with the sum of their sizes, by path."""
    cut = len(folder) + 1 if folder else 0
    found: dict[str, Artifact] = {}
    for file in files:
        first, slash, _ = file.path[cut:].partition("/")
        path = file.path[:cut] + first
        if not slash:
            found[path] = file
        else:
            known = found.get(path) or Artifact(path=path, is_dir=True)
            found[path] = structs.replace(
                known, size_bytes=known.size_bytes + file.size_bytes, at_ms=max(known.at_ms, file.at_ms)
            )
    return sorted(found.values(), key=lambda a: (not a.is_dir, a.path))


def parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]
