"""What of an answer is written: a policy per endpoint, kept to before the first byte reaches a disk.

The recorder reads the policies where the node keeps what the control plane wants (`desired.json`, written before a revision is
started). Sampling goes by a hash of the prediction id, so that a shadow's answer is kept where the champion's is. Hashes are keyed
with a secret of the endpoint: equal values stay equal, and nobody finds them out by trying.

Invariant: with a policy that cannot be read, or before the first is there, neither inputs nor keys are written.
"""

from __future__ import annotations

import logging
import secrets
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from blake3 import blake3
from msgspec import Struct

from noria.kernel.clock import Clock
from noria.serving.frames import Block
from noria.serving.model import Recording, RecordingPolicy

log = logging.getLogger("noria.recorder")

LOOK_S = 0.25  # how often the file is looked at
MASKED = "***"
HASH_HEX = 32
_BUCKETS = 1 << 32
_PER_ROW = ("at_ms", "event_at_ms", "ids", "keys", "roles", "latency_ms", "status", "predictions")


class _Told(Struct, frozen=True):
    """The part of `desired.json` that is read here."""

    recordings: list[RecordingPolicy] = []


class Policies:
    """The policies that the node was told last. An endpoint that is gone keeps its policy until this process ends."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self._path, self._clock = home / "serving" / "desired.json", clock
        self._known: dict[str, RecordingPolicy] = {}
        self._seen: tuple[int, int] | None = None
        self._looked_s = -LOOK_S
        self._is_blind = False
        self._unknown_salt = secrets.token_hex()  # nobody ever learns it: a key that is hashed with it says nothing

    def of(self, endpoint: str) -> RecordingPolicy | None:
        """The policy of an endpoint; None when everything is written."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._look()
        found = self._known.get(endpoint)
        if found is None and self._is_blind:
            return RecordingPolicy(
                endpoint=endpoint, recording=Recording(inputs="none", key="hash"), salt=self._unknown_salt
            )
        return found

    def _look(self) -> None:
        try:
            stat = self._path.stat()
            mark = (stat.st_mtime_ns, stat.st_size)
            if mark == self._seen:
                return
            told = msgspec.json.decode(self._path.read_bytes(), type=_Told)
        except (OSError, msgspec.DecodeError) as error:
            if not self._is_blind:
                log.error(
                    "policies of recording cannot be read (%s): until they can, neither inputs nor keys are written", error
                )
            self._is_blind = True
            return
        self._seen, self._is_blind = mark, False
        self._known |= {p.endpoint: p for p in told.recordings}


def is_kept(prediction_id: str, sample: float) -> bool:
    """Is this answer in the sample? The rows of one request stay together."""
    if sample >= 1:
        return True
    first = prediction_id.partition(".")[0]
    return int.from_bytes(blake3(first.encode()).digest(4), "little") < sample * _BUCKETS


def hashed(value: object, salt: str) -> str:
    """A keyed hash of a value, as text; the same for 1, 1.0 and True."""
    if isinstance(value, bool | int | float):
        value = int(value) if not isinstance(value, float) or value.is_integer() else value
    key = blake3(salt.encode()).digest()
    return blake3(str(value).encode("utf-8", "surrogatepass"), key=key).hexdigest()[:HASH_HEX]


def recorded(block: Block, body: bytes, policy: RecordingPolicy) -> tuple[Block, bytes] | None:
    """What is written of a block; None: nothing."""
    if block.kind == "truth":
        return block, _truth(body, policy)
    kept = [i for i, p in enumerate(block.ids) if is_kept(p, policy.recording.sample)]
    if not kept:
        return None
    arrays = _arrays(block, body)
    if len(kept) < block.rows:
        arrays = [(name, array[kept]) for name, array in arrays]
        columns = {name: [v[i] for i in kept] for name in _PER_ROW if (v := getattr(block, name))}
        values = [[v[i] for i in kept] for v in block.values]
        block = msgspec.structs.replace(block, rows=len(kept), values=values, **columns)
    block, arrays = _redacted(block, arrays, policy)
    if policy.recording.key == "hash":
        keys = [None if k is None else hashed(k, policy.salt) for k in block.keys]
        block = msgspec.structs.replace(block, keys=keys)
    layout = [(name, len(a), 1 if a.ndim == 1 else a.shape[1]) for name, a in arrays]
    return msgspec.structs.replace(block, layout=layout), b"".join(np.ascontiguousarray(a).tobytes() for _, a in arrays)


def _arrays(block: Block, body: bytes) -> list[tuple[str, Any]]:
    found, at = [], 0
    for name, rows, width in block.layout:
        array = np.frombuffer(body, dtype=np.float64, count=rows * width, offset=at)
        at += array.nbytes
        found.append((name, array.reshape(rows, width) if name in ("features", "probability") else array))
    return found


def _redacted(block: Block, arrays: list[tuple[str, Any]], policy: RecordingPolicy) -> tuple[Block, list[tuple[str, Any]]]:
    """Without the columns that are dropped, and with the others changed as the policy says."""
    wanted = policy.recording
    ways = ["drop" if wanted.inputs == "none" else wanted.columns.get(name, "") for name, _ in block.features]
    if not any(ways):
        return block, arrays
    left = [i for i, way in enumerate(ways) if way != "drop"]
    features = [block.features[i] for i in left]
    matrix = next((a for name, a in arrays if name == "features"), None)
    others = [(name, a) for name, a in arrays if name != "features"]
    is_text = {i for i in left if ways[i]}
    if matrix is not None and not is_text:  # still one matrix
        return msgspec.structs.replace(block, features=features), [("features", matrix[:, left]), *others]
    columns = _columns(block, matrix)
    values: list[list[object]] = []
    for i in left if columns else []:
        values.append([_changed(v, ways[i], policy.salt) for v in columns[i]] if ways[i] else columns[i])
    features = [(name, "text" if i in is_text else kind) for i, (name, kind) in zip(left, features, strict=True)]
    return msgspec.structs.replace(block, features=features, values=values), others


def _columns(block: Block, matrix: Any) -> list[list[object]]:
    """The features by column; missing is None."""
    if matrix is None:
        return block.values
    return [[None if v != v else v for v in matrix[:, i].tolist()] for i in range(matrix.shape[1])]


def _changed(value: object, way: str, salt: str) -> object:
    """A value as it is written; what is missing stays missing."""
    if value is None or value != value:
        return None
    return MASKED if way == "mask" else hashed(value, salt)


def _truth(body: bytes, policy: RecordingPolicy) -> bytes:
    """Truth under the same keys as the answers."""
    if policy.recording.key != "hash":
        return body
    told = msgspec.json.decode(body)
    for item in told["items"]:
        if item.get("key") is not None:
            item["key"] = hashed(item["key"], policy.salt)
    return msgspec.json.encode(told)
