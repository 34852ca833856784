"""Opaque page tokens: where the last page ended, as URL-safe base64 of JSON. Keyset paging: never an offset."""

from __future__ import annotations

import base64
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from noria.kernel.errors import Invalid

T = TypeVar("T")
PAGE_LIMIT = 100
PAGE_LIMIT_MAX = 1000


class Page(Struct, Generic[T], frozen=True):
    """One page of a list; `next` is None on the last."""

    items: list[T]
    next: str | None = None


def encode_token(*key: Any) -> str:
    """The sort key of the last row as a token."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decode_token(token: str, *, size: int) -> list[Any]:
    """The sort key in `token`, of `size` parts. Raises Invalid."""
    try:
        key = msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=list)
    except (ValueError, msgspec.DecodeError) as cause:
        raise Invalid("The page token is damaged.", where="page", hint="Start again without it.") from cause
    if len(key) != size:
        raise Invalid("The page token belongs to another list.", where="page", hint="Start again without it.")
    return list(key)


def check_limit(limit: int | None, *, default: int = PAGE_LIMIT, most: int = PAGE_LIMIT_MAX) -> int:
    """`limit` within its bounds. Raises Invalid."""
    if limit is None:
        return default
    if not 1 <= limit <= most:
        raise Invalid(f"limit is {limit}; it must be between 1 and {most}.", where="limit")
    return limit
