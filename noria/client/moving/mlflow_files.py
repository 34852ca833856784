"""The files behind an MLflow database: a folder, or a bucket that the usual credentials open.

MLflow's database names a place for each run and model. `mlflow-artifacts:/…` is below the folder or bucket given; so is a place on
another machine's disk, found by its end, `<experiment>/<run>/artifacts`. Nothing outside of the given folder is read, whatever
a database says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from noria.client.moving.model import File
from noria.kernel.errors import Invalid, NotFound, Unavailable

BUCKETS = ("s3", "gs", "az", "abfs", "abfss")
CHUNK_BYTES = 1 << 20
_PARTS = 3  # <experiment>/<run>/artifacts; one more for models and traces


class MlflowFiles:
    """`root`: a folder or the URL of a bucket; '' when only buckets that the database names are to be read."""

    def __init__(self, root: str) -> None:
        scheme = urlparse(root).scheme if "://" in root else ""
        if scheme not in ("", "file", *BUCKETS):
            raise Invalid(
                f"{root!r} is no place of files that can be read.", where="artifacts",
                hint=f"Give a folder, or a URL of {', '.join(BUCKETS)}.",
            )  # fmt: skip
        self._bucket = root.rstrip("/") if scheme in BUCKETS else ""
        folder = unquote(urlparse(root).path) if scheme == "file" else root
        self._folder = Path(folder).resolve() if folder and not self._bucket else None
        if self._folder is not None and not self._folder.is_dir():
            raise NotFound(f"There is no folder {self._folder}.", hint="Where does MLflow keep its artifacts?")

    def files(self, place: str) -> Iterator[File]:
        """Every file below a place. Raises Invalid for a place that is not to be read."""
        where = self._where(place)
        if isinstance(where, Path):
            yield from _walk(where)
            return
        store = _bucket(where)
        for found in _listed(store, where):
            yield File(found["path"], int(found["size"]))

    def read(self, place: str, path: str) -> Iterator[bytes]:
        """The bytes of one file. Raises Invalid, NotFound, Unavailable."""
        where = self._where(place)
        if isinstance(where, Path):
            inside = where / path
            if not inside.resolve().is_relative_to(where):
                raise Invalid(f"{path!r} leads out of {where}.")
            try:
                with inside.open("rb") as file:
                    while chunk := file.read(CHUNK_BYTES):
                        yield chunk
            except OSError as cause:
                raise NotFound(f"{inside} cannot be read: {cause.strerror}.") from cause
            return
        try:
            yield from (bytes(chunk) for chunk in _bucket(where).get(path).stream(min_chunk_size=CHUNK_BYTES))
        except Exception as cause:  # obstore's errors have no common base that says more
            raise Unavailable(f"{where}/{path} cannot be read: {cause}") from cause

    def _where(self, place: str) -> Path | str:
        """A folder, or the URL of a folder in a bucket."""
        found = urlparse(place)
        if found.scheme in BUCKETS:
            return place
        if found.scheme not in ("", "file", "mlflow-artifacts"):
            raise Invalid(f"files at {place!r} cannot be read", where="artifacts")
        path = unquote(found.path) if found.scheme else place
        parts = [part for part in path.split("/") if part]
        if ".." in parts or not parts:
            raise Invalid(f"files at {place!r} cannot be read", where="artifacts")
        if self._bucket:
            below = parts if found.scheme == "mlflow-artifacts" else _end(parts)
            return "/".join([self._bucket, *below])
        if self._folder is None:
            raise Invalid(
                f"files at {place!r} cannot be found", where="artifacts",
                hint="Say where MLflow keeps its artifacts: --artifacts FOLDER.",
            )  # fmt: skip
        if found.scheme == "mlflow-artifacts":
            return self._inside(self._folder.joinpath(*parts))
        itself = Path(path)
        if itself.is_absolute() and itself.resolve().is_relative_to(self._folder):
            return itself.resolve()
        return self._inside(self._folder.joinpath(*_end(parts)))

    def _inside(self, found: Path) -> Path:
        assert self._folder is not None
        resolved = found.resolve()
        if not resolved.is_relative_to(self._folder):
            raise Invalid(f"{found} leads out of {self._folder}.", where="artifacts")
        return resolved


def _end(parts: list[str]) -> list[str]:
    """The last parts of a place, which are the same wherever the store was moved: 3/<run>/artifacts, 3/models/<id>/artifacts."""
    for at in range(len(parts) - 1, -1, -1):
        if re.fullmatch(r"\d+", parts[at]) and len(parts) - at >= _PARTS:
            return parts[at:]
    return parts[-_PARTS:]


def _walk(folder: Path) -> Iterator[File]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if path.is_symlink() and not path.resolve().is_relative_to(folder):
                continue  # it leads elsewhere; MLflow itself makes none
            yield File(path.relative_to(folder).as_posix(), path.stat().st_size)


def _bucket(url: str) -> Any:
    import obstore.store

    options: dict[str, Any] = {}
    if url.startswith("s3://") and (endpoint := os.environ.get("MLFLOW_S3_ENDPOINT_URL")):
        options = {"endpoint": endpoint, "client_options": {"allow_http": endpoint.startswith("http://")}}
    return obstore.store.from_url(url, **options)


def _listed(store: Any, url: str) -> Iterator[dict[str, Any]]:
    try:
        for part in store.list():
            yield from part
    except Exception as cause:  # as above
        raise Unavailable(f"{url} cannot be listed: {cause}", hint="Are the credentials of the bucket set?") from cause
