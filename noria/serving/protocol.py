"""The two ways to ask a model: Open Inference Protocol V2 and MLflow's /invocations; decoded to rows, answered in kind.

Runs in the worker.
"""

from __future__ import annotations

import zlib

import msgspec

from noria.kernel.errors import Invalid, TooLarge
from noria.serving import invocations, streams, v2
from noria.serving.frames import Ask
from noria.serving.rows import Listed, Rows, Schema

_FORMS = {
    "v2": v2.FORM, "explain": v2.FORM, "invocations": invocations.FORM, "explain_v1": 'Send {"instances": [[…], …]}.',
    "generate_stream": streams.FORM,
}  # fmt: skip


def decode(ask: Ask, body: bytes, schema: Schema, *, as_matrix: bool, bytes_max: int) -> Rows:
    """A request's body as rows. Raises Invalid, naming the column at fault, and TooLarge."""
    if ask.encoding:
        body = decompressed(body, bytes_max)
    try:
        if ask.protocol == "generate_stream":
            return streams.decode(body, schema)
        if ask.protocol in ("v2", "explain"):
            return v2.decode(body, ask.json_size, schema, as_matrix=as_matrix)
        return invocations.decode(ask.content_type, body, schema, as_matrix=as_matrix)
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise Invalid(f"The body cannot be read: {cause}.", hint=_FORMS[ask.protocol]) from cause


def decompressed(body: bytes, bytes_max: int) -> bytes:
    """What gzip or deflate made small; never more than `bytes_max`. Raises Invalid, TooLarge."""
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: either of the two headers
    try:
        found = reader.decompress(body, bytes_max + 1)
    except zlib.error as cause:
        raise Invalid(
            f"The body is not compressed as its content-encoding says: {cause}.", where="content-encoding"
        ) from cause
    if len(found) > bytes_max:
        raise TooLarge(f"The body is larger than {bytes_max >> 20} MiB once it is decompressed.", hint="Send less at once.")
    if not reader.eof:
        raise Invalid("The compressed body ends too early.", where="content-encoding")
    return found


def encode(
    ask: Ask, listed: Listed, start: int, rows: Rows, *, model: str, version: str
) -> tuple[bytes, int]:  # fmt: skip
    """The body of the answer to the request whose rows begin at `start`, and how much of it is JSON when not all (else 0).

    Raises Invalid for an unknown output.
    """
    if ask.protocol == "v2":
        return v2.encode(listed, start, rows, prediction_id=ask.prediction_id, model=model, version=version)
    return invocations.encode(listed, start, rows), 0
