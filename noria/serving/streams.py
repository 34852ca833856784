"""Answers that come bit by bit: what is asked, how each part is written, what is kept of it. Runs in the worker.

As server-sent events, in the two forms that clients read: of /invocations with `"stream": true`, each part as it is and `[DONE]` at the
end (MLflow's deployment clients, OpenAI's); of V2's generate_stream, each part as `text_output` beside the model's name (Triton, KServe).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from noria.kernel.errors import Invalid
from noria.serving.answers import error_body
from noria.serving.frames import Ask
from noria.serving.rows import Outputs, Rows, Schema, as_text, from_columns, plain_json

PARTS_AHEAD = 8  # parts that may be made before the caller has taken them
KEPT_CHARACTERS = 65_536  # of an answer, in its record
FORM = 'Send {"text_input": …}, or the columns of one row by name, with "parameters" beside them.'
DONE = b"data: [DONE]\n\n"

_body = msgspec.json.Decoder(dict[str, Any]).decode


class Stream:
    """One answer on its way."""

    def __init__(self, ask: Ask, rows: Rows, parts: Iterator[Any], model: str, version: str) -> None:
        self.ask, self.rows = ask, rows
        self.credit = PARTS_AHEAD
        self.has_begun = False
        self._parts = parts
        self._named = {"model_name": model, "model_version": version}
        self._said: list[Any] = []
        self._size = 0

    def next(self) -> bytes | None:
        """The next part as an event; None at the end. Raises what the model raises."""
        for part in self._parts:
            self.credit -= 1
            if self._size < KEPT_CHARACTERS:
                self._said.append(part)
                self._size += max(len(part), 1) if isinstance(part, str) else 64
            return b"data: " + plain_json(self._form(part)) + b"\n\n"
        return None

    @property
    def is_kept_whole(self) -> bool:
        """Is everything it said so far in its record?"""
        return self._size < KEPT_CHARACTERS

    def _form(self, part: Any) -> Any:
        if self.ask.protocol != "generate_stream":
            return part
        return {**self._named, **(part if isinstance(part, dict) else {"text_output": part})}

    @property
    def last(self) -> bytes:
        """What is said at a good end."""
        return b"" if self.ask.protocol == "generate_stream" else DONE

    @staticmethod
    def failed(error: Any) -> bytes:
        """What is said at a bad one."""
        return b"data: " + error_body("v2", error) + b"\n\n"

    def close(self) -> None:
        """Let the generator end where it is: its `finally` runs."""
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()

    def outputs(self, status: int) -> Outputs:
        """What was said, for the record."""
        is_text = all(isinstance(part, str) for part in self._said)
        text = "".join(self._said) if is_text else as_text(self._said)
        return Outputs(np.array([text[:KEPT_CHARACTERS]] * self.rows.n, dtype=object), status=status)


def decode(body: bytes, schema: Schema) -> Rows:
    """A body of generate_stream as one row. Raises Invalid."""
    fields = _body(body)
    params, fields = fields.pop("parameters", None), {k: v for k, v in fields.items() if k != "id"}
    if not fields or (params is not None and not isinstance(params, dict)):
        raise Invalid("The body has no input.", where="text_input", hint=FORM)
    if schema.is_free:
        raw: Any = [fields["text_input"]] if set(fields) == {"text_input"} else fields
        rows = Rows(1, raw=raw)
    else:
        if set(fields) == {"text_input"} and len(schema.columns) == 1:
            fields = {schema.columns[0].name: fields["text_input"]}
        rows = from_columns({name: [value] for name, value in fields.items()}, schema, as_matrix=False)
    rows.is_stream = True
    rows.params = {k: v for k, v in (params or {}).items() if k in schema.params} or None
    return rows
