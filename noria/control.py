"""The control plane's process: `python -m noria.control`, started by the supervisor with every setting in its environment."""

from __future__ import annotations

import gc
import sys

import uvicorn

from noria.app import build
from noria.config import load_config
from noria.http.asgi import asgi
from noria.http.patience import patient
from noria.kernel.errors import NoriaError
from noria.kernel.processes import die_with_parent
from noria.logs import set_up_logging


def main() -> None:
    die_with_parent()
    config = load_config()
    set_up_logging("control", config.log_level)
    try:
        app = build(config)
    except (
        NoriaError
    ) as error:  # a setting, a database that is away, a schema that is newer: a sentence says it, not a trace
        sys.exit(f"The control plane cannot start: {error.message} {error.hint}".rstrip())
    collect_seldom()
    uvicorn.run(
        asgi(app), host=config.host, port=config.port, log_config=None, access_log=False, server_header=False,
        timeout_keep_alive=30, timeout_graceful_shutdown=5, http=patient(config.slow_request_s),
    )  # fmt: skip


def collect_seldom() -> None:
    """What is loaded by now stays; and an answer of 1,000 runs makes 40,000 objects, none of them in a circle.

    With Python's defaults a third of the time of such an answer goes into looking for circles in it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


if __name__ == "__main__":
    main()
