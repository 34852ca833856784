"""A model that somebody else trained becomes a version here: an MLflow model's folder, sent as the files of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from noria.client.api import Api, connect
from noria.kernel.errors import AlreadyExists, Invalid
from noria.kernel.ids import new_id

DESCRIPTION = "MLmodel"  # the file that makes a folder an MLflow model
PLACE = "model"  # where in the run its files lie
PIECE_BYTES = 1 << 20


def register(
    name: str, folder: str | Path, *, description: str = "", tags: dict[str, str] | None = None, api: Api | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """Send the MLflow model in `folder` and make it the next version of model `name`, which is made when it is missing.

    Returns the version as the API gives it. The files are a run of the experiment `name`, named "register", so that who
    brought them and when is known. Raises Invalid when the folder holds no MLflow model. Nothing in it is run.
    """
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []
    if root / DESCRIPTION not in files:
        raise Invalid(
            f"{root} is no MLflow model: it has no file {DESCRIPTION}.",
            where="folder",
            hint="Give the folder that mlflow.<flavour>.save_model() wrote, or the downloaded artifact folder of a model.",
        )
    if outside := [path for path in files if path.is_symlink()]:
        raise Invalid(f"{outside[0]} is a link.", where="folder", hint="Put the file itself there: cp -L.")
    server = api or connect()
    run = server.post("/runs", {"id": new_id(), "experiment": name, "name": "register", "tags": {"noria.registered": name}})
    status = "FAILED"
    try:
        for number, path in enumerate(files, 1):
            say(f"{number} of {len(files)} files")
            place = f"{PLACE}/{path.relative_to(root).as_posix()}"
            server.put_bytes(f"/runs/{run['id']}/artifacts/content?path={quote(place, safe='')}", _Content(path))
        with contextlib.suppress(AlreadyExists):
            server.post("/models", {"name": name})
        wish = {"source": f"runs:/{run['id']}/{PLACE}", "run_id": run["id"], "description": description, "tags": tags or {}}
        made: dict[str, Any] = server.post(f"/models/{quote(name, safe='')}/versions", wish)
        status = "FINISHED"
        return made
    finally:
        server.request("PATCH", f"/api/v1/runs/{run['id']}", json={"status": status})


class _Content:
    """The bytes of a file, read anew each time they are asked for, so that a request can be repeated."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
