"""The control plane's process: `python -m noria.control`, started by the supervisor with every setting in its environment."""

from __future__ import annotations

import uvicorn

from noria.app import build
from noria.config import load_config
from noria.http.asgi import asgi
from noria.kernel.processes import die_with_parent
from noria.logs import set_up_logging


def main() -> None:
    die_with_parent()
    config = load_config()
    set_up_logging("control", config.log_level)
    app = build(config)
    uvicorn.run(
        asgi(app), host=config.host, port=config.port, log_config=None, access_log=False, server_header=False,
        timeout_keep_alive=30, timeout_graceful_shutdown=5, h11_max_incomplete_event_size=64 << 10,
    )  # fmt: skip


if __name__ == "__main__":
    main()
