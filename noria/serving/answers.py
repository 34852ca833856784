"""Errors in the form that the callers of each protocol expect. Imports nothing heavy: the gateway uses it too."""

from __future__ import annotations

import msgspec

from noria.kernel.errors import NoriaError, Unavailable

_json = msgspec.json.Encoder().encode


class Timeout(Unavailable):
    """The deadline passed: 504."""

    code, status = "timeout", 504


class ModelError(NoriaError):
    """The model's own code raised: 500 to the caller, with its words. Never leaves the data plane."""

    code, status, mlflow_code = "model_failed", 500, "INTERNAL_ERROR"


def error_body(protocol: str, error: NoriaError) -> bytes:
    """An error in the form that the callers of `protocol` expect."""
    text = error.message + (f" {error.hint}" if error.hint else "")
    if protocol in ("v2", "generate_stream", "explain", "explain_v1"):
        return _json({"error": text})
    if protocol == "invocations":
        code = "BAD_REQUEST" if error.code == "invalid" else error.mlflow_code
        return _json({"error_code": code, "message": text})
    fields = {"code": error.code, "message": error.message, "hint": error.hint, "where": error.where}
    return _json({"error": {k: v for k, v in fields.items() if v}})
