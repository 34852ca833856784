"""What `noria run export` wrote, as a source. Nothing of it is believed before all of it agrees with its digests.

Invariant: only files that SHA256SUMS names are read, under names that are paths below the export in every spelling.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from noria.client.moving.exporter import EXPORT, FORMAT, METRICS
from noria.client.moving.model import LOG_FILE, Experiment, File, Model, Number, Registered, Run, Trace, Version
from noria.client.moving.sinks import SUMS, TARS
from noria.kernel.errors import Invalid, NotFound
from noria.tracking.model import check_path

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_CHUNK_BYTES = 1 << 20
_ROWS_PER_BATCH = 50_000
T = TypeVar("T", Experiment, Run, Model)


class Exported:
    """See `Source`. A folder, or an archive, which is unpacked into a temporary folder first."""

    def __init__(self, path: Path, *, say: Callable[[str], None] = lambda text: None) -> None:
        if not path.exists():
            raise NotFound(f"There is no {path}.", hint="Give what `noria run export` wrote.")
        self._scratch = None if path.is_dir() else tempfile.TemporaryDirectory(prefix="noria-import-")
        try:
            self._root = path if self._scratch is None else _unpack(path, Path(self._scratch.name))
            self._digests = _sums(self._root)
            self._check(say)
            about = self._about()
        except BaseException:
            self.close()
            raise
        self.label = f"{about['source']} (exported)"
        self._ids: dict[str, list[str]] = {kind: about[kind] for kind in ("experiments", "runs", "models")}
        self._runs: dict[str, list[str]] | None = None

    def _check(self, say: Callable[[str], None]) -> None:
        for n, (name, wanted) in enumerate(self._digests.items(), 1):
            if n % 100 == 0:
                say(f"checking {n:,} of {len(self._digests):,} files")
            file = self._root / name
            if not file.is_file() or file.is_symlink():
                raise Invalid(f"The export is not whole: {name} is missing.", hint="Copy it again.")
            with file.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
            if found != wanted:
                raise Invalid(f"The export is damaged: {name} is not what was written.", hint="Copy it again.")

    def _about(self) -> dict[str, Any]:
        found = self._json(EXPORT)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise Invalid("This export has a format that this Noria does not read.", hint=f"It reads format {FORMAT}.")
        ids = [found.get(kind) for kind in ("experiments", "runs", "models")]
        if not all(isinstance(i, list) and all(isinstance(text, str) for text in i) for i in ids):
            raise Invalid(f"{EXPORT} does not say what is in the export.")
        return found

    def experiments(self) -> Iterator[Experiment]:
        for experiment_id in self._ids["experiments"]:
            yield self._noun(f"experiments/{experiment_id}.json", Experiment)

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        for run_id in self._ids["runs"]:
            run = self._noun(f"runs/{run_id}/run.json", Run)
            if run.experiment_id == experiment.id:
                yield run

    def numbers(self, run: Run) -> Iterator[Number]:
        for form, name in METRICS.items():
            path = f"runs/{run.id}/{name}"
            if path in self._digests:
                yield from (_parquet if form == "parquet" else _csv)(self._root / path)

    def logged_models(self, experiment: Experiment) -> Iterator[Model]:
        for model_id in self._ids["models"]:
            model = self._noun(f"models/{model_id}/model.json", Model)
            if model.experiment_id == experiment.id:
                yield model

    def registered(self) -> Iterator[Registered]:
        return iter(())

    def versions(self) -> Iterator[Version]:
        return iter(())

    def files(self, owner: Run | Model) -> Iterator[File]:
        root = self._artifacts(owner)
        for name in self._digests:
            if name.startswith(root):
                yield File(name[len(root) :], (self._root / name).stat().st_size)

    def read(self, owner: Run | Model, path: str) -> Iterator[bytes]:
        with self._open(self._artifacts(owner) + path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def log(self, run: Run) -> Iterator[str]:
        name = f"runs/{run.id}/{LOG_FILE}"
        if name in self._digests:
            with (self._root / name).open(encoding="utf-8", errors="replace", newline="") as file:
                while text := file.read(_CHUNK_BYTES):
                    yield text

    def traces(self, experiment: Experiment) -> Iterator[Trace]:
        return iter(())

    def close(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()

    def _artifacts(self, owner: Run | Model) -> str:
        return f"{'runs' if isinstance(owner, Run) else 'models'}/{owner.id}/artifacts/"

    def _noun(self, name: str, kind: type[T]) -> T:
        found = self._json(name)
        try:
            for point in found.get("points", []):
                point["value"] = float(point["value"])
            return msgspec.convert(found, kind)
        except (msgspec.ValidationError, AttributeError, TypeError, ValueError, KeyError) as cause:
            raise Invalid(f"{name} does not describe a {kind.__name__.lower()}: {cause}") from cause

    def _json(self, name: str) -> Any:
        with self._open(name) as file:
            try:
                return json.loads(file.read())
            except (ValueError, RecursionError) as cause:
                raise Invalid(f"{name} is not JSON.") from cause

    def _open(self, name: str) -> IO[bytes]:
        if name not in self._digests:
            raise Invalid(f"The export does not name {name[:200]} in {SUMS}.")
        return (self._root / name).open("rb")


def _sums(root: Path) -> dict[str, str]:
    """The digest of each file, by name. Raises Invalid for anything but plain lines with plain names."""
    try:
        lines = (root / SUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as cause:
        raise Invalid(f"There is no {SUMS} in it that can be read.", hint="Give what `noria run export` wrote.") from cause
    found: dict[str, str] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if not match:
            raise Invalid(f"{SUMS} has a line that cannot be read: {line[:100]!r}.")
        found[check_path(match[2], what="name in the export")] = match[1]
    return found


def _unpack(path: Path, target: Path) -> Path:
    """The files of an archive, below `target`. Raises Invalid."""
    try:
        for name, file in _zipped(path) if zipfile.is_zipfile(path) else _tarred(path):
            out = target / check_path(name, what="name in the archive")
            out.parent.mkdir(parents=True, exist_ok=True)
            with out.open("xb") as written:
                shutil.copyfileobj(file, written, _CHUNK_BYTES)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as cause:
        raise Invalid(
            f"{path} is no archive that can be read to its end.", hint=f"Known: .zip, {', '.join(TARS)}."
        ) from cause
    except FileExistsError as cause:
        raise Invalid(f"{path} holds a name twice.") from cause
    return target


def _zipped(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                with archive.open(info) as file:
                    yield info.filename, file


def _tarred(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path, "r|*") as archive:
        for info in archive:
            file = archive.extractfile(info) if info.isreg() else None
            if file is not None:
                yield info.name, file
            elif not info.isdir():
                raise Invalid(f"{path} holds {info.name[:100]!r}, which is no plain file.")


def _parquet(path: Path) -> Iterator[Number]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_PER_BATCH, columns=["key", "step", "at_ms", "value"]):
                columns = (batch.column(name).to_pylist() for name in ("key", "value", "at_ms", "step"))
                for key, value, at_ms, step in zip(*columns, strict=True):
                    yield Number(key, float(value), int(at_ms), int(step))
    except (pa.ArrowException, KeyError, TypeError) as cause:
        raise Invalid(f"{path.name} of {path.parent.name} holds no metrics: {cause}") from cause


def _csv(path: Path) -> Iterator[Number]:
    with path.open(newline="", encoding="utf-8") as file:
        try:
            for row in csv.DictReader(file):
                yield Number(row["key"], float(row["value"]), int(row["at_ms"]), int(row["step"]))
        except (ValueError, KeyError, TypeError, csv.Error) as cause:
            raise Invalid(f"{path.name} of {path.parent.name} holds no metrics: {cause}") from cause
