"""Writes runs and logged models as files that need no Noria to be read.

export.json                    format, version, time, and what is in it
README.md                      how to read the rest
SHA256SUMS                     of every other file
experiments/<id>.json
runs/<id>/run.json             params, tags, times, inputs, models, …
          metrics.parquet      key, step, at_ms, value: every point      (or metrics.csv)
          console.log          what it printed, if anything
          artifacts/…
models/<id>/model.json, artifacts/…
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import msgspec

from noria import __version__
from noria.client.moving.model import LOG_FILE, Model, Number, Run, Source
from noria.client.moving.sinks import Sink
from noria.client.sender import wire
from noria.kernel.clock import SystemClock
from noria.kernel.errors import Invalid

FORMAT = 1
EXPORT, README = "export.json", "README.md"
POINTS_PER_GROUP = 100_000
METRICS = {"parquet": "metrics.parquet", "csv": "metrics.csv"}
_CHUNK_BYTES = 1 << 20
_ABOUT = """\
# Runs exported from Noria

| | |
|---|---|
| `export.json` | the format (1), when and from where, ids of what is here |
| `SHA256SUMS` | digests of all files; check them with `sha256sum -c SHA256SUMS` |
| `experiments/<id>.json` | names, tags and times of experiments |
| `runs/<id>/run.json` | one run: params, tags, status, times (milliseconds since 1970, UTC), inputs, models |
| `runs/<id>/metrics.parquet` or `.csv` | every point: `key`, `step`, `at_ms`, `value` |
| `runs/<id>/console.log` | what the run printed |
| `runs/<id>/artifacts/` | its files |
| `models/<id>/` | logged models: `model.json` and their files |

`noria import runs THIS` brings them into a Noria, with their ids. Without one:

    import json, pathlib, pandas
    for run in pathlib.Path(".").glob("runs/*"):
        print(json.loads((run / "run.json").read_text())["params"], pandas.read_parquet(run / "metrics.parquet"))
"""


def export(
    source: Source, sink: Sink, *, metrics: str = "parquet", say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Write everything of `source` to `sink`, and finish it; returns what was written, by count."""
    if metrics not in METRICS:
        raise Invalid(f"Metrics are not written as {metrics!r}.", where="metrics", hint=f"Known: {', '.join(METRICS)}.")
    counts = {"experiments": 0, "runs": 0, "models": 0, "points": 0, "files": 0}
    ids: dict[str, list[str]] = {"experiments": [], "runs": [], "models": []}
    for experiment in source.experiments():
        sink.add_bytes(f"experiments/{experiment.id}.json", _json(experiment))
        ids["experiments"].append(experiment.id)
        for model in source.logged_models(experiment):
            _model(source, sink, model, counts)
            ids["models"].append(model.id)
        for run in source.runs(experiment):
            _run(source, sink, run, metrics, counts)
            ids["runs"].append(run.id)
            say(f"{experiment.name}: {len(ids['runs']):,} runs, {counts['points']:,} points, {sink.size_bytes:,} bytes")
    if not ids["runs"]:
        raise Invalid("There are no runs to export.", hint="Name runs, or an experiment that has some.")
    counts |= {kind: len(found) for kind, found in ids.items()}
    sink.add_bytes(README, _ABOUT.encode())
    about = {"format": FORMAT, "noria": __version__, "exported_at_ms": SystemClock().now_ms(), "source": source.label, **ids}
    sink.add_bytes(EXPORT, (json.dumps(about, indent=1) + "\n").encode())
    sink.finish()
    return counts | {"bytes": sink.size_bytes}


def _run(source: Source, sink: Sink, run: Run, metrics: str, counts: dict[str, int]) -> None:
    root = f"runs/{run.id}"
    sink.add_bytes(f"{root}/run.json", _json(run))
    if run.keys:
        with tempfile.TemporaryFile(prefix="noria-export-") as spool:
            write = _parquet if metrics == "parquet" else _csv
            counts["points"] += write(source.numbers(run), spool)
            size = spool.tell()
            spool.seek(0)
            sink.add(f"{root}/{METRICS[metrics]}", _chunks(spool), size)
    texts = source.log(run)
    first = next(texts, "")
    if first:
        sink.add(f"{root}/{LOG_FILE}", _encoded(first, texts))
    _files(source, sink, run, root, counts)


def _model(source: Source, sink: Sink, model: Model, counts: dict[str, int]) -> None:
    sink.add_bytes(f"models/{model.id}/model.json", _json(model))
    _files(source, sink, model, f"models/{model.id}", counts)


def _files(source: Source, sink: Sink, owner: Run | Model, root: str, counts: dict[str, int]) -> None:
    for file in source.files(owner):
        sink.add(f"{root}/artifacts/{file.path}", source.read(owner, file.path), file.size_bytes)
        counts["files"] += 1


def _json(thing: Any) -> bytes:
    """A noun as JSON; NaN and the infinities as words, places inside of the source left out."""
    found = msgspec.to_builtins(thing)
    found.pop("place", None)
    for point in found.get("points", []):
        point["value"] = wire(point["value"])
    return (json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode("utf-8", "surrogatepass")


def _parquet(points: Iterable[Number], out: IO[bytes]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("key", pa.string()), ("step", pa.int64()), ("at_ms", pa.int64()), ("value", pa.float64())])
    count = 0
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for group in _groups(points):
            columns = list(zip(*((p.key, p.step, p.at_ms, p.value) for p in group), strict=True))
            writer.write_table(pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema))
            count += len(group)
    return count


def _csv(points: Iterable[Number], out: IO[bytes]) -> int:
    text = io.TextIOWrapper(out, "utf-8", newline="", write_through=True)
    writer, count = csv.writer(text, lineterminator="\n"), 0
    writer.writerow(["key", "step", "at_ms", "value"])
    for count, point in enumerate(points, 1):  # noqa: B007
        writer.writerow([point.key, point.step, point.at_ms, wire(point.value)])
    text.detach()
    return count


def _groups(points: Iterable[Number]) -> Iterator[list[Number]]:
    group: list[Number] = []
    for point in points:
        group.append(point)
        if len(group) == POINTS_PER_GROUP:
            yield group
            group = []
    if group:
        yield group


def _encoded(first: str, rest: Iterator[str]) -> Iterator[bytes]:
    yield first.encode()
    for text in rest:
        yield text.encode()


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
