"""Starting a process that runs a model's code: what it may read and reach, what it inherits, what it knows of the environment.

The rest of the machine is kept from it by `confine.py`, which runs first, in the server's own Python.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Literal

from msgspec import Struct

import noria
from noria.kernel.errors import Unavailable
from noria.kernel.linking import tops_of
from noria.serving import confine
from noria.serving.bounds import Limits, fence
from noria.serving.environments import WORKER_NEEDS

# Names of variables that a model may know. Tokens, passwords and addresses of services are under other names.
_HARMLESS = re.compile(
    r"(PATH|LANG|LANGUAGE|LC_\w+|TZ|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|SSL_CERT_FILE|SSL_CERT_DIR|PYTHONHASHSEED|PYTHONUTF8|NPY_\w+"
    r"|(OMP|OPENBLAS|MKL|BLIS|KMP|NUMEXPR|VECLIB|CUDA|CUBLAS|CUDNN|NCCL|NVIDIA|HIP|ROCR|HSA|XLA|TF|TORCH|PYTORCH)_\w+)\Z"
)
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|(?<![A-Z])KEY(?![A-Z])")
_PROXIES = frozenset(a + b for a in ("HTTP", "HTTPS", "NO", "ALL") for b in ("_PROXY",))


class Wish(Struct, frozen=True, kw_only=True):
    """What one process that runs a model's code is to be given."""

    python: str
    is_own: bool  # an environment of its own
    scratch: Path  # its working folder, its home and its temporary files
    reads: tuple[Path, ...]
    limits: Limits
    writes: tuple[Path, ...] = ()
    ports: tuple[int, ...] = ()


class Launcher:
    """Starts them, the same way each time."""

    def __init__(
        self, mode: Literal["best", "required", "off"], environ: Mapping[str, str], variables: Iterable[str] = ()
    ) -> None:
        self._mode, self._environ, self._granted = mode, environ, frozenset(variables)
        self.is_whole, self.words = (False, "off, as it is set") if self._mode == "off" else confine.offers()

    def start(
        self, wish: Wish, module: str, args: list[str], output: IO[bytes], *, fds: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        """Run a module of Noria's. Raises Unavailable where isolation is required and the machine has not got all of it."""
        if self._mode == "required" and not self.is_whole:
            raise Unavailable(
                f"Models are to be kept from this machine, which it cannot do: {self.words}.",
                hint="Use a newer Linux, or set NORIA_MODEL_ISOLATION=best.",
            )
        wish.scratch.mkdir(parents=True, exist_ok=True)
        command = [wish.python, "-m", module, *args]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", str(confine.__file__), json.dumps(self._rules(wish)), *command]
        # A child's death signal is tied to the thread that made it, so this is called from the loop's.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._variables(wish), cwd=wish.scratch,
            pass_fds=fds, process_group=0,  # a group of its own, to be ended as one
        )  # fmt: skip

    def _rules(self, wish: Wish) -> dict[str, object]:
        packages = Path(noria.__file__).parent
        reads, lists = {*wish.reads, packages}, {packages.parent}
        python = Path(wish.python)
        reads |= {python.parents[1], python.resolve().parents[1]}
        if wish.is_own:
            reads |= {python.parents[2], *(target for name in WORKER_NEEDS for _, target in tops_of(name))}
            reads.add(python.parents[4] / "lent")
        else:
            reads |= {Path(sys.prefix), Path(sys.base_prefix)}
            for entry in map(Path, filter(None, sys.path)):
                (reads if entry.name in ("site-packages", "dist-packages") else lists).add(entry)
        return {
            "read": sorted(str(p.resolve()) for p in reads), "list": sorted(str(p.resolve()) for p in lists),
            "write": sorted(str(p.resolve()) for p in (wish.scratch, *wish.writes)), "ports": list(wish.ports),
            "limits": fence(wish.limits), "is_open": self._mode == "off",
        }  # fmt: skip

    def _variables(self, wish: Wish) -> dict[str, str]:
        """One compute thread each unless told otherwise: batches, not threads."""
        found = {
            k: v for k, v in self._environ.items()
            if k in self._granted or (_HARMLESS.match(k) and not _SECRET.search(k)) or (wish.ports and k.upper() in _PROXIES)
        }  # fmt: skip
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            found.setdefault(name, "1")
        found["JOBLIB_MULTIPROCESSING"] = (
            "0"  # its semaphores lie in /dev/shm, beside everybody's; it would warn at each start
        )
        found |= dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR"), str(wish.scratch))
        if not wish.is_own:
            source = str(Path(noria.__file__).parents[1])
            found["PYTHONPATH"] = ":".join([source, *filter(None, self._environ.get("PYTHONPATH", "").split(":"))])
        return found
