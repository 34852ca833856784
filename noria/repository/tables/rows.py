"""What rows say, whichever way Arrow holds them: the digest of a table's content, which rows differ, a number for each row.

The digest covers names, types and values: chunks, offsets, what lies under a null and the order of a dictionary are not part
of it, and NaN is NaN. Two rows differ when their digests would.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from noria.kernel.errors import Invalid

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Numbers = np.ndarray[Any, Any]
else:
    Numbers = Any  # NumPy is loaded where something is computed: a plain data set is read without it

_MIX = 0x9E3779B97F4A7C15


def digest(table: pa.Table) -> str:
    """32 hex digits that say what is in a table."""
    whole = blake3()
    for field, column in zip(table.schema, table.columns, strict=True):
        array = plain(column)
        whole.update(f"{len(field.name)}:{field.name}:{array.type}:{len(array)};".encode())
        _feed(whole, array)
    return str(whole.hexdigest(length=16))


def bare(schema: pa.Schema) -> pa.Schema:
    """Names and types: what a data frame says about itself besides may differ."""
    import pyarrow as pa

    return pa.schema([pa.field(f.name, f.type, f.nullable) for f in schema])


def plain(column: Any) -> Any:
    """One array without a dictionary or an extension around it."""
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # too long for one array of strings
        array = pa.concat_arrays([c.cast(_large(c.type)) for c in array.chunks])
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _large(kind: Any) -> Any:
    import pyarrow as pa

    return pa.large_binary() if pa.types.is_binary(kind) else pa.large_string()


def _feed(whole: Any, array: Any) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    types, kind = pa.types, array.type
    whole.update(array.null_count.to_bytes(8, "little"))
    if array.null_count:
        whole.update(np.packbits(pc.is_null(array).to_numpy(zero_copy_only=False)).tobytes())
    if types.is_null(kind):
        return
    if (numbers := _numbers(array)) is not None:
        whole.update(np.ascontiguousarray(numbers).view(np.uint8).data)
    elif _is_text(kind):
        known = array.drop_null()
        whole.update(np.ascontiguousarray(_lengths(known)).view(np.uint8).data)
        whole.update(_bytes_of(known))
    elif types.is_fixed_size_binary(kind) or types.is_decimal(kind):
        known, width = array.drop_null(), kind.byte_width
        data = memoryview(known.buffers()[1]) if len(known) else memoryview(b"")
        whole.update(data[known.offset * width : (known.offset + len(known)) * width])
    elif types.is_struct(kind):
        for child in array.flatten():
            _feed(whole, child)
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        known = array.drop_null()
        whole.update(pc.list_value_length(known).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes())
        _feed(whole, plain(known.flatten()))
    elif types.is_map(kind):
        _feed(whole, array.cast(pa.list_(pa.struct([kind.key_field, kind.item_field]))))
    else:
        raise Invalid(f"A column of type {kind} cannot be in a table.", hint="Commit it as a file.")


def _numbers(array: Any) -> Numbers | None:
    """Values of a fixed width as integers, nulls as zero; None for other types."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    elif pa.types.is_primitive(kind) and kind.bit_width in (8, 16, 32, 64):
        array = array.view({8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[kind.bit_width])
    else:
        return None
    if array.null_count:
        array = pc.fill_null(array, 0)
    found: Numbers = array.to_numpy(zero_copy_only=False)
    return found


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    t = pa.types
    return bool(
        t.is_string(kind)
        or t.is_binary(kind)
        or t.is_large_string(kind)
        or t.is_large_binary(kind)
        or t.is_string_view(kind)
        or t.is_binary_view(kind)
    )


def _offsets(array: Any) -> Numbers:
    """Where each value begins in the bytes of the array, and where the last one ends."""
    import numpy as np
    import pyarrow as pa

    if not len(array):
        return np.zeros(1, dtype=np.int64)
    width = np.dtype(np.int64) if array.type in (pa.large_string(), pa.large_binary()) else np.dtype(np.int32)
    return np.frombuffer(array.buffers()[1], dtype=width, count=array.offset + len(array) + 1)[array.offset :]


def _unviewed(array: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    return array.cast(pa.large_binary()) if pa.types.is_binary_view(array.type) else array


def _lengths(array: Any) -> Numbers:
    import numpy as np

    return np.diff(_offsets(_unviewed(array))).astype(np.int64)


def _bytes_of(array: Any) -> memoryview:
    array = _unviewed(array)
    offsets, data = _offsets(array), array.buffers()[2] if len(array) else None
    return memoryview(data)[int(offsets[0]) : int(offsets[-1])] if data is not None else memoryview(b"")


# --- differences ------------------------------------------------------------------------------------------------------


def differing(a: pa.Table, b: pa.Table) -> Numbers:
    """Which rows of two tables of one schema and length are not the same; a mask."""
    import numpy as np

    found = np.zeros(a.num_rows, dtype=bool)
    for x, y in zip(a.columns, b.columns, strict=True):
        found |= _differing(plain(x), plain(y))
    return found


def _differing(x: Any, y: Any) -> Numbers:
    import numpy as np
    import pyarrow.compute as pc

    if x.type != y.type:  # text and large text
        x, y = x.cast(y.type), y
    left, right = _numbers(x), _numbers(y)
    if left is not None and right is not None:
        found: Numbers = left != right
    elif _is_text(x.type):
        found = pc.fill_null(pc.not_equal(x, y), False).to_numpy(zero_copy_only=False)
    else:
        found = np.zeros(len(x), dtype=bool)
        _bisect(x, y, 0, found)
        return found
    if x.null_count or y.null_count:
        found = found | (pc.is_null(x).to_numpy(zero_copy_only=False) != pc.is_null(y).to_numpy(zero_copy_only=False))
    return found


def _bisect(x: Any, y: Any, at: int, found: Numbers) -> None:
    """Of types without a comparison: halves that say the same are left alone."""
    if _array_digest(x) == _array_digest(y):
        return
    if len(x) == 1:
        found[at] = True
        return
    half = len(x) // 2
    _bisect(x[:half], y[:half], at, found)
    _bisect(x[half:], y[half:], at + half, found)


def _array_digest(array: Any) -> bytes:
    whole = blake3()
    _feed(whole, array)
    return whole.digest()


# --- a number for each row --------------------------------------------------------------------------------------------


def numbers(table: pa.Table, columns: Sequence[str]) -> Numbers:
    """A number that depends on what a row says in `columns` (nested ones are left out), the same on every machine."""
    import numpy as np

    found: Numbers = np.full(table.num_rows, 0x243F6A8885A308D3, dtype=np.uint64)
    for name in columns:
        array = plain(table.column(name))
        values = _numbers(array)
        if values is None and _is_text(array.type):
            values = _text_numbers(array)
        if values is not None:
            found = (found ^ values.astype(np.int64).view(np.uint64)) * _MIX
            found ^= found >> np.uint64(32)
    found *= np.uint64(0xBF58476D1CE4E5B9)
    found ^= found >> np.uint64(29)
    return found


def _text_numbers(array: Any) -> Numbers:
    """Length, the first and the last eight bytes of each text."""
    import numpy as np
    import pyarrow.compute as pc

    array = _unviewed(array)
    if array.null_count:
        array = pc.fill_null(array, b"" if "binary" in str(array.type) else "")
    offsets = _offsets(array).astype(np.int64)
    data = (
        np.frombuffer(array.buffers()[2] or b"", dtype=np.uint8)
        if len(array) and array.buffers()[2]
        else np.zeros(0, np.uint8)
    )
    starts, ends = offsets[:-1], offsets[1:]
    found = (ends - starts).astype(np.uint64)
    if not len(data):
        return found.view(np.int64)
    for i in range(8):
        first, last = starts + i, ends - 1 - i
        for places in (first, last):
            is_there = (places >= starts) & (places < ends)
            byte = np.where(is_there, data[np.clip(places, 0, len(data) - 1)], 0).astype(np.uint64)
            found = (found ^ byte) * _MIX
    return found.view(np.int64)
