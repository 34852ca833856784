"""Values between steps, in the step's own process: plain JSON as it is; else in files, by the materialiser of its type; else pickled.

Only step processes load and unpickle, and only what steps of the same code kept. The server stores digests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from noria.client.materialisers import chosen
from noria.client.saving import load, save, type_of
from noria.client.tracing import is_json
from noria.pipelines.model.limits import STEPS_MAX
from noria.pipelines.model.values import Json, Many, Named, Part, Pickle, Saved, Value

PARTS_BYTES_MIN = 1 << 20  # a list larger than this is kept by its items, so that a step that is given one loads only that


def encode(value: Any, folder: Path) -> Value:
    """`value` as data; what is stored lies in `folder` under its digest. A tuple, a dict by text, and a list that is large or
    holds what a materialiser saves keep their parts."""
    if is_json(value):
        return Json(value)
    saved = save(value, folder)
    if saved is not None:
        return saved
    if type(value) is tuple:
        return Many([encode(item, folder) for item in value], "tuple")
    if type(value) is dict and value and all(type(key) is str for key in value):
        return Named({key: encode(item, folder) for key, item in value.items()})
    if type(value) is list and len(value) <= STEPS_MAX and any(chosen(item) for item in value):
        return Many([encode(item, folder) for item in value])
    import cloudpickle

    body = cloudpickle.dumps(value)
    if type(value) is list and 0 < len(value) <= STEPS_MAX and len(body) > PARTS_BYTES_MIN:
        bodies = [cloudpickle.dumps(item) for item in value]
        if sum(map(len, bodies)) <= 2 * len(body):  # else the items share things, which would be stored again with each
            return Many([_kept(item, part, folder) for item, part in zip(value, bodies, strict=True)])
    return _kept(value, body, folder)


def _kept(value: Any, body: bytes, folder: Path) -> Pickle:
    digest = blake3(body).hexdigest()
    (folder / digest).write_bytes(body)
    return Pickle(digest, len(body), type_of(value), len(value) if type(value) is list else None)


def decode(value: Value, folder: Path, scratch: Path) -> Any:
    """What `encode` made; stored parts are read from `folder`, and files unpacked in `scratch`."""
    if isinstance(value, Json):
        return value.value
    if isinstance(value, Many):
        items = [decode(item, folder, scratch) for item in value.items]
        return tuple(items) if value.kind == "tuple" else items
    if isinstance(value, Named):
        return {key: decode(item, folder, scratch) for key, item in value.items.items()}
    if isinstance(value, Part):
        found = decode(value.value, folder, scratch)
        for key in value.path:
            found = found[key]
        return found
    if isinstance(value, Saved):
        return load(value, folder, scratch)
    import cloudpickle

    with (folder / value.digest).open("rb") as file:
        return cloudpickle.load(file)


class Job(msgspec.Struct, kw_only=True):
    """One try of a step, as the worker writes it down for the process that does it."""

    function: str
    inputs: dict[str, Value]
    env: dict[str, str]
    folder: str  # of this try: the working directory, the results, the notes
    blobs: str
    procs: str = ""  # the file of the control group that limits it


class Result(msgspec.Struct, kw_only=True):
    """How the try ended, as its process writes it down."""

    ok: bool
    value: Value | None = None
    error: str = ""
