"""Tokens that `noria login` got, by the address of the server: a file of the user's own, readable by nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path


def path() -> Path:
    """Where they lie."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "noria" / "credentials.json"


def saved(url: str) -> str:
    """The token for a server; '' for none."""
    return str(_read().get(url.rstrip("/"), ""))


def save(url: str, token: str) -> None:
    """Keep the token for a server; '' forgets it. Replaced as a whole, so that a reader sees the old file or the new."""
    known = _read()
    if token:
        known[url.rstrip("/")] = token
    else:
        known.pop(url.rstrip("/"), None)
    place = path()
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=place.parent)  # 0600 from the start
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(known, file, indent=1)
        Path(temporary).replace(place)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def _read() -> dict[str, str]:
    try:
        found = json.loads(path().read_text())
    except (OSError, ValueError, RuntimeError):  # none, unreadable, or nobody's home
        return {}
    return found if isinstance(found, dict) else {}
