"""`make dev`: a server on ./noria-home that starts again when a Python file changes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "noria"


def stamp() -> float:
    return max(p.stat().st_mtime for p in SOURCE.rglob("*") if p.suffix in {".py", ".js", ".css", ".html"})


def main() -> None:
    while True:
        seen = stamp()
        server = subprocess.Popen([sys.executable, "-m", "noria.cli.main", "server"])
        try:
            while stamp() == seen and server.poll() is None:
                time.sleep(0.5)
        except KeyboardInterrupt:
            server.wait()
            return
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
