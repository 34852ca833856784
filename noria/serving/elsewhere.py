"""A node on another machine: the gateway and its recorder, as one process that can be a container.

    NORIA_URL=https://noria.example.org NORIA_TOKEN=nrk_… NORIA_SERVE_ONLY=flights noria endpoint serve

It is the same data plane as the server's own, told what to run by the same control plane; the token is that of a service account
with the role `node`. The recorder is a child that is started again when it dies; what it has not handed over stays in the home.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

from noria.config import load_config
from noria.kernel.errors import Invalid
from noria.logs import set_up_logging
from noria.serving import node

log = logging.getLogger("noria.node")

RESTART_WAIT_S = (0.0, 0.2, 1.0, 5.0, 30.0)
STOP_TIMEOUT_S = 20.0
LOCK_WAIT_S = 1.0


class RecorderProcess:
    """The recorder of a home as a child of one of the processes that share the home: whoever holds the lock has it.

    It is the child of the thread that keeps it, because a child's death signal is tied to its thread.
    """

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self._lock = home / "serving" / "recorder.lock"
        self._environment = environment
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="keep-recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """It seals and hands over what it has, then ends."""
        self._stop.set()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        self._thread.join(STOP_TIMEOUT_S)

    def _keep(self) -> None:
        with self._lock.open("w") as mine:
            while True:
                try:
                    fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._stop.wait(LOCK_WAIT_S):
                        return
            self._run()

    def _run(self) -> None:
        for tries in range(sys.maxsize):
            if self._stop.wait(RESTART_WAIT_S[min(tries, len(RESTART_WAIT_S) - 1)]):
                return
            self._process = subprocess.Popen(
                [sys.executable, "-m", "noria.serving.recorder"], stdin=subprocess.DEVNULL, env=self._environment
            )
            code = self._process.wait()
            if self._stop.is_set():
                return
            log.warning("the recorder ended with code %d; it is started again", code)


def main() -> None:
    config = load_config()
    set_up_logging("node", config.log_level)
    if not config.url or not (config.token.reveal() or config.internal_token.reveal()):
        raise SystemExit(
            "NORIA_URL and NORIA_TOKEN say which server this node belongs to; the token's owner needs the role node."
        )
    try:
        (config.home / "serving").mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise Invalid(
            f"{config.home} cannot be written.", where="home", hint="Set NORIA_HOME to a folder that can."
        ) from cause
    recorder = RecorderProcess(config.home, dict(os.environ))
    recorder.start()
    try:
        node.serve(config)
    finally:
        recorder.stop()


if __name__ == "__main__":
    main()
