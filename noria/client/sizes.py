"""Sizes as people write them."""

from __future__ import annotations

import re

from noria.kernel.errors import Invalid

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*\Z", re.IGNORECASE)


def size_bytes(text: str | int) -> int:
    """`"4GB"` as 4,000,000,000, `"4GiB"` as 4,294,967,296; a number is bytes. Raises Invalid."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    found = _SIZE.match(str(text))
    if not found:
        raise Invalid(f"{text!r} is not a size.", hint='Write it as "500MB", "4GB" or "4GiB".')
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " kmgt".index(found[2].lower() or " "))
