"""A string that does not show itself: in logs, tracebacks and `repr` it reads `Secret(…)`."""

from __future__ import annotations

import hmac


class Secret:
    """Holds a secret string. `reveal()` is the only way to read it, and easy to search for."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def matches(self, other: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self._value.encode(), other.encode("utf-8", "surrogatepass"))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__
