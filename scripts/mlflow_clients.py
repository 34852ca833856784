"""Makes the environments of other MLflow versions that the protocol tests speak with, below .venv/clients.

One environment for each lock in tests/protocol/clients: clients of older versions, the full server of the newest, `autolog`, the
frameworks that MLflow logs by itself, `tables`, the libraries of Delta, Iceberg and Lance, `inference`, the clients of serving, and
`supply`, what others use to verify signed models, bills of materials and descriptions of data;
`ray`, a cluster for the tests of executors and of serving; `ray-train`, the same with PyTorch (1.5 GB), is made when it is asked for.
`notebook`: a kernel of IPython.
Made with uv, with hashes; made again when its lock changes. `make test` calls this; so does a test that finds one missing.

PyTorch comes after the lock: its ordinary wheels for Linux need gigabytes of CUDA, the ones for processors alone have another
index, and a lock would name the wrong ones.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "tests" / "protocol" / "clients"
PLACE = ROOT / ".venv" / "clients"
LIMIT_S = 900
WITHOUT_CUDA = {"autolog": ["torch==2.13.0"], "ray-train": ["torch==2.13.0"]}


def python_of(name: str) -> Path:
    """The interpreter of the environment `name`, made first if it must be."""
    lock, place = LOCKS / f"{name}.lock", PLACE / name
    wanted = hashlib.sha256(lock.read_bytes() + " ".join(WITHOUT_CUDA.get(name, [])).encode()).hexdigest()
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / f"{name}.wait").open("w") as waiting:
        fcntl.flock(waiting, fcntl.LOCK_EX)  # two test processes may want it at once
        mark = place / "made-from"
        if not mark.is_file() or mark.read_text() != wanted:
            shutil.rmtree(place, ignore_errors=True)
            uv = [str(ROOT / ".venv" / "bin" / "uv")]
            subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(place)], check=True, timeout=LIMIT_S)
            install = ["pip", "install", "--quiet", "--python", str(place / "bin" / "python")]
            # The lock names everything; what it leaves out of its packages' wishes (CUDA) is meant to be left out.
            subprocess.run([*uv, *install, "--require-hashes", "--no-deps", "-r", str(lock)], check=True, timeout=LIMIT_S)
            for package in WITHOUT_CUDA.get(name, []):
                _install_without_cuda(package, place / "bin" / "python", [*uv, *install])
            mark.write_text(wanted)
    return place / "bin" / "python"


def _install_without_cuda(package: str, python: Path, uv_install: list[str]) -> None:
    """From PyTorch's own index for processors; where that cannot be reached, whatever pip is told to prefer here."""
    quick = {**os.environ, "UV_HTTP_RETRIES": "0"}
    asked = [*uv_install, "--no-deps", "--torch-backend", "cpu", package]
    if subprocess.run(asked, check=False, timeout=LIMIT_S, env=quick, capture_output=True).returncode:
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, package], check=True, timeout=LIMIT_S)


def names() -> list[str]:
    return sorted(path.stem for path in LOCKS.glob("*.lock"))


def versions() -> list[str]:
    """Those that hold a version of MLflow to speak with."""
    return [
        name for name in names() if name not in ("autolog", "tables", "inference", "notebook", "ray", "ray-train", "supply")
    ]


if __name__ == "__main__":
    for name in sys.argv[1:] or [name for name in names() if name != "ray-train"]:
        print(python_of(name))
