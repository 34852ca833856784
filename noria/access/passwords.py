"""Passwords as argon2id hashes. The library, and the hash that nobody has, are made when first needed: most servers never do."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argon2 import PasswordHasher


@lru_cache(maxsize=1)
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)  # OWASP's first choice for argon2id


@lru_cache(maxsize=1)
def _dummy() -> str:
    return hashed("a password nobody has")


def hashed(password: str) -> str:
    """The hash to keep of a password."""
    return _hasher().hash(password)


def is_right(known: str | None, password: str) -> bool:
    """Is it the password of this hash? Without one the answer is no, after the same work."""
    from argon2.exceptions import InvalidHashError, VerifyMismatchError

    try:
        _hasher().verify(known or _dummy(), password)
    except (VerifyMismatchError, InvalidHashError):
        return False
    return known is not None
