"""`noria://flights@3/train/a.parquet`: versions of data as a file system that pandas, Arrow, DuckDB and Dask can read.

    pandas.read_parquet("noria://flights@train/data.parquet")

Read only; connects like every command (NORIA_URL, NORIA_TOKEN) unless given an `api`. What a version holds never changes, so
its listing is kept; an alias or `latest` is looked up each time.
"""

from __future__ import annotations

import io
from typing import Any

from fsspec import AbstractFileSystem

from noria.client.api import Api, connect
from noria.client.datasets import Version, resolve
from noria.datasets.model import VersionFile
from noria.kernel.errors import NotFound


class NoriaFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Paths are `name@selector/path`; without a selector, the latest version."""

    protocol = "noria"
    root_marker = ""
    cachable = True

    def __init__(self, api: Api | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._given = api
        self._listings: dict[str, dict[str, VersionFile]] = {}
        self._known: dict[str, Version] = {}

    @classmethod
    def of(cls, version: Version) -> NoriaFileSystem:
        """The file system in which the handle of `version` is that very one, wherever it was opened."""
        made = cls(skip_instance_cache=True)
        made._known[version.handle] = version
        return made

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What is directly below `path`: datasets, files, folders. Raises FileNotFoundError."""
        path = self._strip_protocol(path).rstrip("/")
        found = self._datasets() if not path else self._below(path)
        return found if detail else [entry["name"] for entry in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, size and type; of files also the digest."""
        path = self._strip_protocol(path).rstrip("/")
        if not path:
            return {"name": "", "size": 0, "type": "directory"}
        handle, _slash, inner = path.partition("/")
        version = self._version(handle)
        file = self._files(version).get(inner)
        if file is not None:
            return _entry(handle, version._whole(file))  # the true size of a table, which listings do not know
        if inner and not self._below(path):
            raise FileNotFoundError(path)
        return {"name": path, "size": 0, "type": "directory"}

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        if mode != "rb":
            raise io.UnsupportedOperation("Versions never change; commit a new one: noria data commit NAME PATH.")
        handle, _slash, inner = path.partition("/")
        version = self._version(handle)
        if inner not in self._files(version):
            raise FileNotFoundError(path)
        return version.open(inner)

    def _datasets(self) -> list[dict[str, Any]]:
        return [{"name": d["name"], "size": 0, "type": "directory"} for d in self._api.items("/datasets", limit=1000)]

    def _below(self, path: str) -> list[dict[str, Any]]:
        handle, _slash, inner = path.partition("/")
        files = self._files(self._version(handle))
        if inner in files:
            return [_entry(handle, files[inner])]
        prefix = f"{inner}/" if inner else ""
        found: dict[str, dict[str, Any]] = {}
        for name, file in files.items():
            if name.startswith(prefix):
                head, slash, _rest = name[len(prefix) :].partition("/")
                place = f"{handle}/{prefix}{head}"
                found[place] = {"name": place, "size": 0, "type": "directory"} if slash else _entry(handle, file)
        if inner and not found:
            raise FileNotFoundError(path)
        return list(found.values())

    def _version(self, handle: str) -> Version:
        if handle in self._known:
            return self._known[handle]
        try:
            return resolve(handle, api=self._given)
        except NotFound as cause:
            raise FileNotFoundError(f"{handle}: {cause.message}") from cause

    def _files(self, version: Version) -> dict[str, VersionFile]:
        if version.id not in self._listings:
            self._listings[version.id] = {f.path: f for f in version.files()}
        return self._listings[version.id]

    @property
    def _api(self) -> Api:
        if self._given is None:
            self._given = connect()
        return self._given


def _entry(handle: str, file: VersionFile) -> dict[str, Any]:
    return {"name": f"{handle}/{file.path}", "size": file.size_bytes, "type": "file", "digest": file.digest}
