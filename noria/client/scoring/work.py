"""What the steps of batch scoring do: look before anything runs, score one chunk, put the parts together.

A chunk's answers depend on the chunk, the model's files, the columns that are kept and how they are recorded, and on nothing else:
that is the key under which the step is cached. The parts are files in the store already when the last step names them, so no
process ever holds all predictions.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from noria.client.api import Api, connect
from noria.client.context import note_read
from noria.client.datasets import Version, _fit, _Upload, dataset, silent
from noria.client.following import say
from noria.client.scoring.chunks import Cut, read
from noria.datasets.model import DatasetVersion, FileEntry, NewVersion
from noria.kernel.errors import Invalid
from noria.kernel.ids import parse_handle

if TYPE_CHECKING:
    import pyarrow as pa

RULES = 1  # raised when the same model and the same chunk would give other answers or other columns
PATIENCE_S = 60.0  # a server that is started again is waited for
MODELS_KEPT = 8
CHUNK_ROWS_MAX = 10_000_000
ANSWERS = ("prediction", "score", "probability")


def warm() -> None:
    """In the process that steps are forked from: load what every chunk needs, once."""

    for name in ("sklearn", "pandas"):
        try:
            __import__(name)
        except ImportError:  # a worker for models of another kind
            continue


# --- before anything runs -----------------------------------------------------------------------------------------------


def check(
    api: Api, model: str, data: str, *, output: str, keep: list[str] | None, chunk_rows: int, record: bool
) -> tuple[Any, Cut, list[str]]:
    """What the server says of model and data, the chunks, and the columns that are kept.

    Raises Invalid naming the column that does not fit, and whatever the server refuses.
    """
    from noria.serving.batches import check_columns
    from noria.serving.rows import read_schema

    if not 1 <= chunk_rows <= CHUNK_ROWS_MAX:
        raise Invalid(f"A chunk has between 1 and {CHUNK_ROWS_MAX:,} rows.", where="chunk_rows")
    output = output or f"{parse_handle(data, kind='dataset').name}-scored"
    found = api.post("/scoring/check", {"model": model, "dataset": data, "output": output, "record": record})
    cut = Cut(_version(api, found["dataset"], found["dataset_version_id"]), chunk_rows)
    assert cut.schema is not None
    check_columns(read_schema(found["signature"]), cut.schema)
    kept = _kept(cut, keep)
    for name in kept:
        if name not in cut.schema.names:
            raise Invalid(f"The data has no column {name!r} that could be kept.", where="keep",
                          hint=f"It has {', '.join(cut.schema.names[:20])}.")  # fmt: skip
        if name in ANSWERS:
            raise Invalid(f"The column {name!r} is called like one of the answers.", where="keep",
                          hint="Keep other columns; those that name a row are enough to join by.")  # fmt: skip
    return found, cut, kept


def _kept(cut: Cut, keep: list[str] | None) -> list[str]:
    """What was asked for; else the key of the table, or every column where nothing names a row."""
    assert cut.schema is not None
    everything = [name for name in cut.schema.names if name not in ANSWERS]
    if keep is None:
        return cut.key or everything
    return everything if keep == ["*"] else list(dict.fromkeys(keep))


def prepare(
    model: str, data: str, output: str, keep: list[str] | None, chunk_rows: int, record: bool
) -> dict[str, Any]:  # fmt: skip
    """The first step: which model, which data, which chunks; by digest, so that nothing moves meanwhile."""
    from noria.serving.batches import check_columns
    from noria.serving.loader import load_model

    with connect(patience_s=PATIENCE_S) as api:
        found, cut, kept = check(api, model, data, output=output, keep=keep, chunk_rows=chunk_rows, record=record)
        loaded = load_model(_model_folder(api, found))
    assert cut.schema is not None
    check_columns(loaded.schema, cut.schema)  # a model without a signature may know its columns itself
    how = {"model": found["digest"], "keep": kept, "rules": RULES, "record": found["revision_id"] if record else ""}
    where = {
        **{k: found[k] for k in ("model", "number", "version_id", "dataset", "dataset_number", "dataset_version_id")},
        "endpoint": found["endpoint"], "columns": cut.schema.names, "key": cut.key, "output": output or f"{found['dataset']}-scored",
    }  # fmt: skip
    say(f"{found['model']}@{found['number']} scores {found['dataset']}@{found['dataset_number']}: "
          f"{cut.rows_count:,} rows in {len(cut.chunks)} chunks; kept: {', '.join(kept) or 'no column'}")  # fmt: skip
    # A tuple keeps its items apart, so that a chunk is the same input whatever other chunks there are.
    return {"chunks": tuple(cut.chunks), "how": how, "where": where}


# --- one chunk --------------------------------------------------------------------------------------------------------------


def predict(chunk: dict[str, Any], how: dict[str, Any], where: dict[str, Any]) -> dict[str, Any]:
    """Score one chunk; its part is stored, and named by what is returned."""
    from noria.serving.batches import predict as answer
    from noria.serving.loader import load_model

    with connect(patience_s=PATIENCE_S) as api:
        found = api.post("/scoring/check", {"model": f"model_version:{where['version_id']}", "dataset": _ref(where)})
        if found["digest"] != how["model"]:
            raise Invalid("The model is not the one that was looked at.", where="model")
        model = load_model(_model_folder(api, found))
        version = _version(api, where["dataset"], where["dataset_version_id"])
        wanted = None if model.schema.is_free or not model.schema.is_named else set(model.schema.names)
        needed = [c for c in where["columns"] if wanted is None or c in wanted or c in how["keep"] or c in where["key"]]
        table = read(version, chunk, needed)
        asked = table if wanted is None else table.select([c for c in table.column_names if c in wanted])
        done, answers = answer(model, asked)
        if how["record"]:
            from noria.client.scoring.recording import record

            record(api, chunk, how, where, model, table, done)
        part = _part(table, how["keep"], answers)
        entry = _stored(api, part, chunk)
    say(f"{chunk['path']}: rows {chunk['start']:,} to {chunk['stop']:,} scored")
    return {"rows": table.num_rows, "file": msgspec.to_builtins(entry)}


def _part(table: pa.Table, keep: list[str], answers: dict[str, Any]) -> pa.Table:
    import pyarrow as pa

    columns = {name: table.column(name) for name in keep}
    return pa.table({**columns, **answers})


def _stored(api: Api, part: pa.Table, chunk: dict[str, Any]) -> FileEntry:
    """The part as a Parquet file in the store; the same rows are the same bytes, which are not sent again."""
    from pyarrow import parquet

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.parquet"
        parquet.write_table(part, file, compression="zstd", use_content_defined_chunking=True)
        return _Upload(api, silent).send({"part.parquet": file})[0]


# --- all of them ------------------------------------------------------------------------------------------------------------


def gather(parts: list[dict[str, Any]], where: dict[str, Any]) -> dict[str, Any]:
    """Name the parts as the files of one version, and say where it comes from."""
    note_read(f"model_version:{where['version_id']}")
    files = [
        msgspec.structs.replace(msgspec.convert(part["file"], FileEntry), path=f"part-{i:05d}.parquet")
        for i, part in enumerate(parts)
    ]
    rows = sum(part["rows"] for part in parts)
    source = f"{where['dataset']}@{where['dataset_number']}"
    with connect(patience_s=PATIENCE_S) as api:
        new = NewVersion(files=files, message=f"{source} scored by {where['model']}@{where['number']}")
        answer = api.post(f"/datasets/{quote(where['output'], safe='')}/versions", _fit(api, new), timeout_s=600.0)
        made = msgspec.convert(answer["version"], DatasetVersion)
        api.post("/scoring/results", {
            "model_version": where["version_id"], "dataset_version": where["dataset_version_id"], "output": made.id, "rows": rows,
            "pipeline_run": os.environ.get("NORIA_PIPELINE_RUN", ""),
        })  # fmt: skip
    say(f"{rows:,} rows of {source} are {made.dataset}@{made.number}")
    return {
        "version": f"{made.dataset}@{made.number}",
        "version_id": made.id,
        "rows": rows,
        "model": f"{where['model']}@{where['number']}",
    }


# --- models -----------------------------------------------------------------------------------------------------------------


def _model_folder(api: Api, found: dict[str, Any]) -> Path:
    """The model's directory, fetched once on this machine; its files are those that were registered. The server was asked first."""
    from noria.serving.fetched import fetch_model
    from noria.serving.intact import require_intact
    from noria.serving.model import ModelFileInfo

    sys.dont_write_bytecode = True  # in the model's folder: the next step would find files that were never registered
    label, base = f"{found['model']}@{found['number']}", os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    models = Path(base) / "noria" / "models"
    files = msgspec.convert(found["files"], list[ModelFileInfo])

    def fetch(file: ModelFileInfo, into: Any) -> None:
        for piece in api.get_bytes(
            f"/models/{quote(found['model'], safe='')}/versions/{found['number']}/content", path=file.path
        ):
            into.write(piece)

    folder = fetch_model(models, label, found["digest"], files, fetch)
    require_intact(folder, found["digest"], label)
    os.utime(folder)
    _forget_old(models)
    note_read(f"model_version:{found['version_id']}", api.url)
    return folder


def _forget_old(models: Path) -> None:
    """Only the models used last stay. Other steps fetch theirs meanwhile: what is under way is left, and what is gone is gone."""
    kept = []
    for each in models.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if each.suffix != ".tmp":
                kept.append((each.stat().st_mtime, each))
    for _, old in sorted(kept, reverse=True)[MODELS_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def _version(api: Api, name: str, version_id: str) -> Version:
    return dataset(name, api=api).version(version_id)


def _ref(where: dict[str, Any]) -> str:
    return f"dataset_version:{where['dataset_version_id']}"
