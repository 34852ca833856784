"""Logging of the server's processes: one line per record on standard error, with the process's name."""

from __future__ import annotations

import logging


def set_up_logging(process: str, level: str) -> None:
    """Log `level` and above, as `time LEVEL process logger: message`."""
    logging.basicConfig(
        level=level.upper(),
        format=f"%(asctime)s %(levelname).1s {process} %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    for noisy in ("httpx", "httpcore", "alembic", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
