"""How many different values there are, from parts: HyperLogLog with 2,048 registers, an error of about 2 %.

Source: Flajolet, Fusy, Gandouet, Meunier, HyperLogLog (AofA 2007), with linear counting for small numbers.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

from noria.repository.tables.rows import numbers, plain

if TYPE_CHECKING:
    import pyarrow as pa

BITS = 11
REGISTERS = 1 << BITS
_ALPHA = 0.7213 / (1 + 1.079 / REGISTERS)


def sketch(column: Any) -> str:
    """The values of an Arrow column, as text; '' of a type that is not counted."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = plain(column)
    kind = array.type
    if pa.types.is_nested(kind) or pa.types.is_null(kind):
        return ""
    array = array.drop_null()
    if not pa.types.is_primitive(kind):
        values = pc.unique(array).to_pylist()
        hashes = np.frombuffer(b"".join(blake3(str(v).encode()).digest(length=8) for v in values), dtype="<u8")
    else:
        hashes = numbers(_one(array), ["x"])
    return _encode(_registers(hashes))


def _one(array: Any) -> pa.Table:
    import pyarrow as pa

    return pa.table({"x": array})


def _registers(hashes: Any) -> Any:
    found = np.zeros(REGISTERS, dtype=np.uint8)
    places = (hashes >> np.uint64(64 - BITS)).astype(np.int64)
    rest = (hashes << np.uint64(BITS)) | np.uint64(1 << (BITS - 1))  # never zero
    ranks = (64 - np.floor(np.log2(rest.astype(np.float64)))).astype(np.uint8)
    np.maximum.at(found, places, ranks)
    return found


def _encode(registers: Any) -> str:
    return base64.b64encode(zlib.compress(registers.tobytes(), 9)).decode()


def estimate(sketches: Iterable[str]) -> int:
    """How many different values all of these saw together."""
    found = np.zeros(REGISTERS, dtype=np.uint8)
    for text in sketches:
        np.maximum(found, np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8), out=found)
    guess = _ALPHA * REGISTERS**2 / float(np.sum(2.0 ** -found.astype(np.float64)))
    empty = int((found == 0).sum())
    if guess <= 2.5 * REGISTERS and empty:
        guess = REGISTERS * math.log(REGISTERS / empty)
    return round(guess)
