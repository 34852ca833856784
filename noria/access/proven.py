"""Passwords that were checked a moment ago, so that a client which sends one with every request does not pay for argon2 each time.

What is remembered is a keyed hash of name and password, with a key of this process alone, and the stored hash it was right for. It
counts only as long as the stored hash is still that one – the caller has just read it – so a changed password and a user who was
turned off are refused at once, by every process. Bounded, and forgotten after a while.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict

from noria.kernel.clock import Clock

PROVEN_S = 300.0
PROVEN_MAX = 1_024


class ProvenPasswords:
    """What was proven, the latest last."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._key, self._lock = clock, secrets.token_bytes(32), threading.Lock()
        self._proven: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def holds(self, name: str, password: str, stored: str) -> bool:
        """Was this password right for this stored hash, not long ago?"""
        with self._lock:
            until_s, known = self._proven.get(self._mark(name, password), (0.0, ""))
        return self._clock.monotonic_s() < until_s and hmac.compare_digest(known, stored)

    def note(self, name: str, password: str, stored: str) -> None:
        """It was just proven right."""
        mark = self._mark(name, password)
        with self._lock:
            self._proven[mark] = (self._clock.monotonic_s() + PROVEN_S, stored)
            self._proven.move_to_end(mark)
            while len(self._proven) > PROVEN_MAX:
                self._proven.popitem(last=False)

    def _mark(self, name: str, password: str) -> bytes:
        text = f"{len(name)}:{name}{password}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, text, hashlib.sha256).digest()
