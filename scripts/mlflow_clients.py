"""Makes the environments of other MLflow versions that the protocol tests speak with, below .venv/clients.

One environment for each lock in tests/protocol/clients: clients of older versions, and the full server of the newest. Made with
uv, with hashes; made again when its lock changes. `make test` calls this; so does a test that finds one missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "tests" / "protocol" / "clients"
PLACE = ROOT / ".venv" / "clients"
LIMIT_S = 900


def python_of(name: str) -> Path:
    """The interpreter of the environment `name`, made first if it must be."""
    lock, place = LOCKS / f"{name}.lock", PLACE / name
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / f"{name}.wait").open("w") as waiting:
        fcntl.flock(waiting, fcntl.LOCK_EX)  # two test processes may want it at once
        mark = place / "made-from"
        if not mark.is_file() or mark.read_text() != wanted:
            shutil.rmtree(place, ignore_errors=True)
            uv = [str(ROOT / ".venv" / "bin" / "uv")]
            subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(place)], check=True, timeout=LIMIT_S)
            install = [
                "pip",
                "install",
                "--quiet",
                "--python",
                str(place / "bin" / "python"),
                "--require-hashes",
                "-r",
                str(lock),
            ]
            subprocess.run([*uv, *install], check=True, timeout=LIMIT_S)
            mark.write_text(wanted)
    return place / "bin" / "python"


def names() -> list[str]:
    return sorted(path.stem for path in LOCKS.glob("*.lock"))


if __name__ == "__main__":
    for name in sys.argv[1:] or names():
        print(python_of(name))
