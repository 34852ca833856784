"""The eight errors of Noria. `http/errors.py` is the one table that turns them into answers.

Raise where the reason is known; catch where something can be done. `code` is stable for machines, `message` is a sentence
for people, `hint` says what to do, `where` names the field at fault.
"""

from __future__ import annotations

from typing import ClassVar


class NoriaError(Exception):
    """The base of the eight; never raised itself."""

    code: ClassVar[str]
    status: ClassVar[int]
    mlflow_code: ClassVar[str]

    def __init__(
        self, message: str, *, hint: str = "", where: str = "", ref: object = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where
        self.ref = None if ref is None else str(ref)
        self.retry_after_s = retry_after_s


class Invalid(NoriaError):
    """Change the request; `where` names the field."""

    code, status, mlflow_code = "invalid", 400, "INVALID_PARAMETER_VALUE"


class Unauthenticated(NoriaError):
    """Sign in."""

    code, status, mlflow_code = "unauthenticated", 401, "UNAUTHENTICATED"


class Reauthenticate(Unauthenticated):
    """The same, for an act that wants a recent sign-in."""

    code = "reauthenticate"


class Forbidden(NoriaError):
    """Ask someone; used only when existence is no secret."""

    code, status, mlflow_code = "forbidden", 403, "PERMISSION_DENIED"


class NotFound(NoriaError):
    """Gone, never was, or not yours to know."""

    code, status, mlflow_code = "not_found", 404, "RESOURCE_DOES_NOT_EXIST"


class AlreadyExists(NoriaError):
    """Pick another name."""

    code, status, mlflow_code = "already_exists", 409, "RESOURCE_ALREADY_EXISTS"


class Conflict(NoriaError):
    """It moved; read again and retry."""

    code, status, mlflow_code = "conflict", 409, "RESOURCE_CONFLICT"


class TooMuch(NoriaError):
    """Smaller or later; `retry_after_s` says when."""

    code, status, mlflow_code = "too_much", 429, "REQUEST_LIMIT_EXCEEDED"


class TooLarge(TooMuch):
    """The same, for a body above its limit: 413."""

    code, status = "too_large", 413


class Unavailable(NoriaError):
    """A dependency is down; retry."""

    code, status, mlflow_code = "unavailable", 503, "TEMPORARILY_UNAVAILABLE"


class StorageFull(Unavailable):
    """The same, when there is no room to write: 507. Nothing was changed; reading goes on."""

    code, status = "storage_full", 507


ERRORS: tuple[type[NoriaError], ...] = (
    Invalid, Unauthenticated, Forbidden, NotFound, AlreadyExists, Conflict, TooMuch, Unavailable,
)  # fmt: skip
