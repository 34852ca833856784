"""Open Inference Protocol V2: JSON, and tensors as bytes behind it (the binary tensor extension).

With `Inference-Header-Content-Length: n`, the first n bytes of a body are its JSON; the tensors that say `binary_data_size` follow,
in their order, little-endian and row by row. BYTES is a sequence of elements, each behind its length in four bytes.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from noria.kernel.errors import Invalid
from noria.serving.rows import Listed, Output, Rows, Schema, Wanted, as_text, check_count, from_columns, from_rows

FORM = 'Send {"inputs": [{"name": …, "shape": [n], "datatype": "FP64", "data": […]}, …]}.'
NUMPY = {
    "BOOL": "bool", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2", "INT32": "<i4",
    "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_KNOWN = frozenset({*NUMPY, "BYTES"})
_OF_KIND = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "text": "BYTES", "datetime": "BYTES", "any": "BYTES"}
_LENGTH = struct.Struct("<I")
_json = msgspec.json.Encoder().encode


class Tensor(Struct):
    """An input as it is sent."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class _Named(Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Infer(Struct):
    inputs: list[Tensor]
    id: str = ""
    outputs: list[_Named] | None = None
    parameters: dict[str, Any] | None = None


_infer = msgspec.json.Decoder(_Infer).decode


# --- in -----------------------------------------------------------------------------------------------------------------


def decode(body: bytes, json_size: int, schema: Schema, *, as_matrix: bool) -> Rows:
    """A request's body as rows; `json_size` -1: all of it is JSON. Raises Invalid, naming the input at fault."""
    if json_size > len(body):
        raise Invalid(f"The header says {json_size} bytes of JSON, but the body has {len(body)}.", where="inputs")
    asked = _infer(body if json_size < 0 else memoryview(body)[:json_size])
    tensors = asked.inputs
    if not tensors:
        raise Invalid("The request has no inputs.", where="inputs")
    arrays = _arrays(tensors, memoryview(body)[json_size:] if json_size >= 0 else memoryview(b""))
    rows = _rows(tensors, arrays, schema, as_matrix)
    rows.request_id = asked.id
    if asked.outputs:
        rows.outputs = tuple(Wanted(o.name, o.parameters.get("binary_data")) for o in asked.outputs)
    if asked.parameters:
        rows.is_binary = asked.parameters.get("binary_data_output") is True
    if schema.params and asked.parameters:
        rows.params = {k: v for k, v in asked.parameters.items() if k in schema.params} or None
    return rows


def _arrays(tensors: list[Tensor], rest: memoryview) -> list[NDArray[Any] | None]:
    """The arrays of the tensors that come as bytes; None for those whose values are in the JSON."""
    found: list[NDArray[Any] | None] = []
    at = 0
    for tensor in tensors:
        if tensor.datatype not in _KNOWN:
            raise Invalid(
                f"{tensor.name!r} has the datatype {tensor.datatype!r}, which V2 does not know.", where=tensor.name,
                hint="It knows BYTES, " + ", ".join(NUMPY) + ".",
            )  # fmt: skip
        parameters = tensor.parameters
        size = None if parameters is None else parameters.get("binary_data_size")
        if size is None:
            if tensor.data is None:
                raise Invalid(f"{tensor.name!r} has neither data nor a binary_data_size.", where=tensor.name, hint=FORM)
            found.append(None)
            continue
        if type(size) is not int or not 0 <= size <= len(rest) - at:
            raise Invalid(
                f"{tensor.name!r} says it has {size} bytes; {len(rest) - at} are left behind the JSON.", where=tensor.name
            )
        found.append(_array(tensor, rest[at : at + size]))
        at += size
    if at != len(rest):
        raise Invalid(f"{len(rest) - at} bytes of the body belong to no input.", where="inputs")
    return found


def _array(tensor: Tensor, data: memoryview) -> NDArray[Any]:
    """One tensor out of its bytes."""
    count = _count(tensor)
    if tensor.datatype == "BYTES":
        values: NDArray[Any] = np.empty(count, dtype=object)
        elements = _elements(tensor, data)
        if len(elements) != count:
            raise _wrong_count(tensor, len(elements))
        values[:] = elements
        return values.reshape(tensor.shape)
    form = np.dtype(NUMPY[tensor.datatype])
    if len(data) != count * form.itemsize:
        raise Invalid(
            f"{tensor.name!r} has {len(data)} bytes; {tensor.datatype} of the shape {tensor.shape} has {count * form.itemsize}.",
            where=tensor.name,
        )
    flat: NDArray[Any] = (
        np.frombuffer(data, dtype="u1") != 0 if tensor.datatype == "BOOL" else np.frombuffer(data, dtype=form)
    )
    return flat.reshape(tensor.shape)


def _elements(tensor: Tensor, data: memoryview) -> list[Any]:
    """Texts, each behind its length; bytes that are no text stay bytes."""
    found: list[Any] = []
    at = 0
    while at < len(data):
        end = at + 4
        if end <= len(data):
            end += _LENGTH.unpack_from(data, at)[0]
        if end > len(data) or end < at + 4:
            raise Invalid(f"{tensor.name!r} ends within an element.", where=tensor.name)
        element = bytes(data[at + 4 : end])
        try:
            found.append(element.decode())
        except UnicodeDecodeError:
            found.append(element)
        at = end
    return found


def _rows(tensors: list[Tensor], arrays: list[NDArray[Any] | None], schema: Schema, as_matrix: bool) -> Rows:
    first, array = tensors[0], arrays[0]
    if schema.is_free:
        raw = [(t.name, _whole(t) if a is None else a, t.datatype) for t, a in zip(tensors, arrays, strict=True)]
        return Rows(first.shape[0] if first.shape else 1, raw=raw)
    if len(tensors) == 1 and len(first.shape) == 2 and (first.shape[1] > 1 or not schema.is_named):
        width = len(schema.columns)
        if first.shape[1] != width:
            raise Invalid(
                f"The tensor {first.name!r} has {first.shape[1]} columns; the model takes {width}.", where=first.name
            )
        if array is not None:
            return _matrix(array, schema, as_matrix)
        flat = _flat(first)
        return from_rows([flat[i : i + width] for i in range(0, len(flat), width)], None, schema, as_matrix)
    if not schema.is_named:
        raise Invalid(f"The model takes one tensor of shape [n, {len(schema.columns)}].", where=first.name)
    return from_columns({t.name: _column(t, a) for t, a in zip(tensors, arrays, strict=True)}, schema, as_matrix)


def _matrix(array: NDArray[Any], schema: Schema, as_matrix: bool) -> Rows:
    """Numbers straight into the model's matrix where their type fits every column; else value by value."""
    kinds = {c.kind for c in schema.columns}
    is_exact = array.dtype.kind == "f" and kinds == {"number"}
    is_exact = is_exact or (array.dtype.kind in "iu" and array.dtype.itemsize <= 4 and kinds <= {"number", "integer"})
    if as_matrix and is_exact:
        check_count(len(array))
        return Rows(len(array), matrix=array.astype(np.float64))
    return from_rows(array.tolist(), None, schema, as_matrix)


def _column(tensor: Tensor, array: NDArray[Any] | None) -> list[Any]:
    shape = tensor.shape
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        raise Invalid(f"{tensor.name!r} has the shape {shape}; a column is [n] or [n, 1].", where=tensor.name)
    if array is not None:
        found: list[Any] = array.ravel().tolist()
        return found
    data = tensor.data or []
    if len(shape) == 2 and data and type(data[0]) is list:
        data = _flat(tensor)
    elif tensor.datatype not in _FLOATS:
        _check_type(tensor, data)
    if len(data) != shape[0]:
        raise _wrong_count(tensor, len(data))
    return data


def _count(tensor: Tensor) -> int:
    if min(tensor.shape, default=0) < 0:
        raise Invalid(f"{tensor.name!r} has the shape {tensor.shape}; sizes cannot be negative.", where=tensor.name)
    return math.prod(tensor.shape)


def _flat(tensor: Tensor) -> list[Any]:
    data = tensor.data or []
    while data and type(data[0]) is list:
        if not all(type(d) is list for d in data):
            raise Invalid(f"{tensor.name!r} is nested unevenly.", where=tensor.name)
        data = [v for d in data for v in d]
    if len(data) != _count(tensor):
        raise _wrong_count(tensor, len(data))
    if tensor.datatype not in _FLOATS:
        _check_type(tensor, data)
    return data


def _wrong_count(tensor: Tensor, found: int) -> Invalid:
    return Invalid(f"{tensor.name!r} has {found} values, but its shape says {tensor.shape}.", where=tensor.name)


_FLOATS = frozenset({"FP64", "FP32", "FP16"})
_RANGES = {
    name: (int(np.iinfo(form).min), int(np.iinfo(form).max)) for name, form in NUMPY.items() if "INT" in name
}  # fmt: skip


def _check_type(tensor: Tensor, data: list[Any]) -> None:
    """Raises Invalid for a value in the JSON that its datatype cannot hold; what the model takes is checked later."""
    name, datatype = tensor.name, tensor.datatype
    if datatype in _RANGES:
        low, high = _RANGES[datatype]
        wrong = [v for v in data if not (type(v) is int or (type(v) is float and v.is_integer())) or not low <= v <= high]
    elif datatype == "BOOL":
        wrong = [v for v in data if type(v) is not bool and v not in (0, 1)]
    elif datatype == "BYTES":
        wrong = [v for v in data if type(v) is not str]
    else:
        wrong = [v for v in data if type(v) not in (int, float, type(None))]
    wrong = [v for v in wrong if v is not None or datatype == "BOOL"]  # the signature says whether a value may be missing
    if wrong:
        raise Invalid(
            f"{name!r} has the datatype {datatype}, which does not hold {str(wrong[0])[:50]!r}.", where=name,
            hint="Name the datatype of what you send, or send what the datatype holds.",
        )  # fmt: skip


def _whole(tensor: Tensor) -> NDArray[Any]:
    """A tensor of JSON values in the type it names."""
    data = _flat(tensor)
    if tensor.datatype in _FLOATS:
        _check_type(tensor, data)
    form: Any = NUMPY.get(tensor.datatype, object)
    return np.array(data, dtype=form).reshape(tensor.shape)


# --- out ----------------------------------------------------------------------------------------------------------------


def encode(
    listed: Listed, start: int, rows: Rows, *, prediction_id: str, model: str, version: str
) -> tuple[bytes, int]:  # fmt: skip
    """The body of the answer to the request whose rows begin at `start` of the batch, and how much of it is JSON (0: all).

    Raises Invalid for an output that the model has not.
    """
    end = start + rows.n
    outputs: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for output, is_binary in _chosen(listed, rows):
        described: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": [rows.n, *output.width]}
        if is_binary:
            raw.append(_bytes(output.array[start:end], output.datatype))
            described["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            described["data"] = _values(output, start, end)
        outputs.append(described)
    ids = [prediction_id, *(f"{prediction_id}.{i}" for i in range(1, rows.n))]
    head = _json({
        "model_name": model, "model_version": version, "id": rows.request_id or prediction_id,
        "parameters": {"prediction_ids": ids}, "outputs": outputs,
    })  # fmt: skip
    return (b"".join((head, *raw)), len(head)) if raw else (head, 0)


def _chosen(listed: Listed, rows: Rows) -> list[tuple[Output, bool]]:
    """The outputs that were asked for, and whether each is wanted as bytes."""
    if not rows.outputs:
        return [(o, rows.is_binary) for o in listed.outputs]
    by_name = {o.name: o for o in listed.outputs}
    found: list[tuple[Output, bool]] = []
    for wanted in rows.outputs:
        if wanted.name not in by_name:
            raise Invalid(
                f"The model has no output {wanted.name!r}.", where="outputs", hint="It has " + ", ".join(by_name) + "."
            )
        found.append((by_name[wanted.name], rows.is_binary if wanted.is_binary is None else wanted.is_binary))
    return found


def _values(output: Output, start: int, end: int) -> list[Any]:
    values = output.values()[start:end]
    for _ in output.width:
        values = [v for row in values for v in row]
    datatype = output.datatype
    if datatype in _FLOATS:
        return [v if v == v and abs(v) != math.inf else None for v in values]
    if datatype == "BYTES":
        return [as_text(v) for v in values]
    return values


def _bytes(array: NDArray[Any], datatype: str) -> bytes:
    if datatype != "BYTES":
        return np.ascontiguousarray(array, dtype=NUMPY[datatype]).tobytes()
    texts = [v if isinstance(v, bytes) else as_text(v).encode() for v in array.ravel().tolist()]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def metadata(schema: Schema, outputs: list[tuple[str, str, list[int]]]) -> dict[str, object]:
    """The V2 description of a model's inputs and outputs."""
    if schema.is_free:
        inputs: list[dict[str, object]] = []
    elif schema.is_named:
        inputs = [{"name": c.name, "datatype": _OF_KIND[c.kind], "shape": [-1]} for c in schema.columns]
    else:
        inputs = [{"name": "input", "datatype": "FP64", "shape": [-1, len(schema.columns)]}]
    return {"inputs": inputs, "outputs": [{"name": n, "datatype": t, "shape": s} for n, t, s in outputs]}
