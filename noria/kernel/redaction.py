"""Secrets taken out of texts before anybody reads them: the value itself, and the forms in which programs print it.

`Redactor.mask` is for whole texts. A `Stream` is for output that comes in pieces: it holds back what may be the beginning of a secret until
the next piece tells, so that a value cut in two is found too. What a program encodes its own way (encrypted, reversed) is not found.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

FORM_LENGTH_MIN = 6  # shorter parts would mask ordinary words


class Redactor:
    """Masks these secrets, by name."""

    def __init__(self, values: Mapping[str, str]) -> None:
        forms = {form: name for name, value in values.items() for form in forms_of(value)}
        # Longest first: a value within another's form is masked as the longer one.
        self._forms = sorted(forms.items(), key=lambda item: -len(item[0]))
        self._longest = max(map(len, forms), default=0)
        self._firsts = frozenset(form[0] for form in forms)

    def __bool__(self) -> bool:
        return bool(self._forms)

    def mask(self, text: str) -> str:
        for form, name in self._forms:
            if form in text:
                text = text.replace(form, f"[secret {name}]")
        return text

    def open_end(self, text: str) -> int:
        """How many characters at the end may be the beginning of a secret."""
        for at in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[at] in self._firsts:
                rest = text[at:]
                if any(form.startswith(rest) for form, _ in self._forms):
                    return len(rest)
        return 0


class Stream:
    """Masks a text that comes in pieces."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor, self._held = redactor, ""

    def push(self, text: str) -> str:
        """What may be shown by now."""
        if not self._redactor:
            return text
        text = self._redactor.mask(self._held + text)
        held = self._redactor.open_end(text)
        self._held = text[len(text) - held :] if held else ""
        return text[: len(text) - held] if held else text

    def end(self) -> str:
        """What was held back; nothing follows."""
        rest, self._held = self._held, ""
        return rest


def forms_of(value: str) -> set[str]:
    """The value as programs print it: itself, its lines, in JSON, in a URL, in base64."""
    forms = {value, json.dumps(value)[1:-1], repr(value)[1:-1], quote(value, safe=""), quote_plus(value)}
    forms |= {line.strip() for line in value.splitlines()}
    for shift in range(3):  # base64 of the value wherever it stands in what was encoded: the part that depends on it alone
        encoded = base64.b64encode(b"\0" * shift + value.encode()).decode()
        start, cut = (0, 2, 3)[shift], {0: 0, 1: 3, 2: 2}[(shift + len(value.encode())) % 3]
        forms.add(encoded[start : len(encoded) - cut])
    return {form for form in forms if len(form) >= FORM_LENGTH_MIN}
