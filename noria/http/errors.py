"""The one table that turns errors into answers. Anything not in it is a bug: 500, with the op id and nothing internal."""

from __future__ import annotations

import errno
import logging
from typing import Any

import msgspec
from litestar import MediaType, Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    SerializationException,
    ValidationException,
)

from noria.kernel.errors import Invalid, NoriaError, NotFound, StorageFull, Unavailable

log = logging.getLogger("noria.http")

# What reading a body may raise. A text that is not UTF-8 is a UnicodeDecodeError of msgspec's, not one of its own errors.
_UNREADABLE = (msgspec.ValidationError, msgspec.DecodeError, SerializationException, RecursionError, UnicodeDecodeError)
SCIM_PREFIX = "/scim/v2/"
MLFLOW_PREFIXES = (
    "/api/2.0/",
    "/api/3.0/",
    "/ajax-api/",
    "/get-artifact",
    "/model-versions/get-artifact",
    "/gateway/",
    "/graphql",
    "/v1/traces",
)


def is_mlflow(path: str) -> bool:
    """Does the caller expect MLflow's error shape?"""
    return path.startswith(MLFLOW_PREFIXES)


def body(path: str, error: NoriaError, op_id: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON body for `error` on `path`."""
    if path.startswith(SCIM_PREFIX):
        return error.status, _scim(error)
    if is_mlflow(path):
        status = 400 if error.code == "already_exists" else error.status
        text = error.message + (f" {error.hint}" if error.hint else "")
        return status, {"error_code": error.mlflow_code, "message": text}
    fields = {"code": error.code, "message": error.message, "hint": error.hint, "where": error.where, "op": op_id}
    return error.status, {"error": {k: v for k, v in fields.items() if v}}


def _scim(error: NoriaError) -> dict[str, Any]:
    """RFC 7644, section 3.12."""
    kind = {"already_exists": "uniqueness", "invalid": "invalidFilter" if error.where == "filter" else "invalidValue"}.get(
        error.code
    )
    text = error.message + (f" {error.hint}" if error.hint else "")
    said = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "status": str(error.status), "detail": text}
    return said | ({"scimType": kind} if kind else {})


def bug_body(path: str, op_id: str) -> dict[str, Any]:
    text = f"Something went wrong in Noria. The log has the details under operation {op_id}."
    if is_mlflow(path):
        return {"error_code": "INTERNAL_ERROR", "message": text}
    return {"error": {"code": "internal", "message": text, "hint": "Tell the people who run this server.", "op": op_id}}


def translate(error: Exception) -> NoriaError | None:
    """The framework's own errors as ours; None for a bug."""
    if isinstance(error, NoriaError):
        return error
    if isinstance(error, ValidationException):
        return Invalid(_explain(error), where=_where(error))
    if isinstance(error, _UNREADABLE):
        return Invalid(f"The request cannot be read: {str(error.__cause__ or error)[:300]}.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(
            "A disk of the server is full; nothing was changed.", retry_after_s=60,
            hint="Reading goes on. Free space where TMPDIR points to, and on the home, then try again.",
        )  # fmt: skip
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return Unavailable(
            "The server can open no more files now, or has no memory left.", retry_after_s=2,
            hint="Try again in a moment. If it stays so: raise the limit of open files (ulimit -n) of the server.",
        )  # fmt: skip
    if isinstance(error, NotFoundException):
        return NotFound("There is nothing at this address.", hint="The API is described at /api/openapi.json.")
    return None


def render(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The exception handler of the door."""
    op_id = str(request.scope.get("noria_op_id", ""))
    status, content, headers = answer(request.method, request.url.path, op_id, error)
    return Response(content, status_code=status, headers=headers, media_type=MediaType.JSON)


def answer(method: str, path: str, op_id: str, error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, JSON body and headers for `error`; a bug is logged with its cause."""
    known = translate(error)
    if isinstance(error, MethodNotAllowedException) and is_mlflow(path):
        # MLflow has more verbs on some paths than Noria: like everything it does not serve, refused by name.
        text = f"{method} {path[:200]} is not served here."
        status: int = 501
        content: dict[str, Any] = {"error_code": "NOT_IMPLEMENTED", "message": text}
    elif isinstance(error, MethodNotAllowedException):
        status = 405
        _, content = body(path, Invalid(f"{method} is not possible here."), op_id)
    elif known is not None:
        status, content = body(path, known, op_id)
        if known.status >= 500:
            log.warning("op %s: %s", op_id, known.message, exc_info=error)
    elif isinstance(error, HTTPException) and error.status_code < 500:
        status, content = error.status_code, body(path, Invalid(error.detail), op_id)[1]
    else:
        log.error("op %s: a bug on %s %s", op_id, method, path, exc_info=error)
        status, content = 500, bug_body(path, op_id)
    headers = {"retry-after": str(max(1, round(known.retry_after_s)))} if known and known.retry_after_s else {}
    return status, content, headers


def _explain(error: ValidationException) -> str:
    parts = []
    for item in error.extra if isinstance(error.extra, list) else []:
        if isinstance(item, dict):
            parts.append(f"{item.get('key', '')}: {item.get('message', '')}".strip(": "))
    detail = "; ".join(parts) or (str(error.__cause__) if error.__cause__ else error.detail)
    return f"The request is not valid: {detail[:500]}"


def _where(error: ValidationException) -> str:
    for item in error.extra if isinstance(error.extra, list) else []:
        if isinstance(item, dict) and item.get("key"):
            return str(item["key"])
    return ""
