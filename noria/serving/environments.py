"""The environment in which a model's worker runs: the server's own where it has what the model needs, else one built for the model.

What a model needs is resolved once per node to a lock with digests, which is kept; the environment of a lock is built once and used by
every revision that has the same. Only wheels are installed: building a package from its source would run its code with the node's
rights. See `kernel/environments.py` for the rest.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

from blake3 import blake3
from msgspec import Struct

from noria.kernel.environments import Environments, Say, Uv, interpreter, key_of
from noria.kernel.errors import Invalid
from noria.serving.flavors import described, direct_flavor
from noria.serving.model import EnvironmentChoice
from noria.serving.requirements import Needs, differences, read_needs

log = logging.getLogger("noria.node")

# What a worker imports, besides the standard library and what its model brings.
WORKER_NEEDS = ("msgspec", "blake3", "pyyaml", "typing_extensions", "numpy")
BUILDS_MAX = 2
Prime = Callable[
    [Path, list[str]], Awaitable[None]
]  # compile what these modules import, in an environment by its interpreter
_SHOWN = 3  # differences that are told


class Prepared(Struct, frozen=True, kw_only=True):
    """Where a worker runs. `key`: of an environment of its own; empty: the server's. `words`: for people."""

    python: str
    key: str = ""
    words: str


class ModelEnvironments:
    """Those of one node."""

    def __init__(self, home: Path, environ: Mapping[str, str], usual: EnvironmentChoice, prime: Prime) -> None:
        self._prime = prime
        self._folder, self._usual = home / "serving" / "environments", usual
        self._built = Environments(self._folder, home / "serving" / "lent", environ, needs=WORKER_NEEDS)
        self._uv = Uv(environ)
        self._turns = asyncio.Semaphore(BUILDS_MAX)

    async def prepare(self, folder: Path, choice: EnvironmentChoice, say: Say) -> Prepared:
        """The environment for the model in `folder`, built if need be. Raises Invalid with the reason why it cannot be."""
        wish = self._usual if choice == "default" else choice
        if wish == "server":
            return Prepared(python=sys.executable, words="the server's, as it was asked for")
        needs = await asyncio.to_thread(_needs, folder)
        for note in needs.notes:
            say(f"{note}\n")
        lacks = differences(needs)
        if wish == "auto" and not lacks:
            return Prepared(python=sys.executable, words="the server's, which has what the model needs")
        why = ", ".join(lacks[:_SHOWN]) + (f" and {len(lacks) - _SHOWN} more" if len(lacks) > _SHOWN else "")
        python = needs.python or f"3.{sys.version_info[1]}"
        options = ("--no-build", "--offline") if wish == "offline" else ("--no-build",)
        try:
            async with self._turns:
                say("resolving what the model needs\n")
                (self._folder / "locks").mkdir(parents=True, exist_ok=True)
                lock = await self._lock(needs, python, options, say)
                key = key_of(blake3(lock.encode()).hexdigest(), python)
                about = f"{len(needs.wanted)} requirements"

                async def given() -> bytes:
                    return lock.encode()

                path = await self._built.python(key, python, given, say, about=about, options=options)
                mark = self._folder / key / "primed"
                if not mark.exists():
                    say("compiling what the model imports\n")
                    await self._prime(path, _modules(folder))
                    mark.touch()
        except Invalid as error:
            raise Invalid(
                f"{error.message} The model was to run in an environment of its own"
                + (f", because it needs {why}." if lacks else "."),
                hint="Log it with requirements that can be installed here, or serve it with --environment server.",
            ) from error  # fmt: skip
        count = len(re.findall(r"^[A-Za-z0-9]", lock, re.MULTILINE))
        words = f"its own: Python {python}, {count} packages" + (f"; it needs {why}" if why else "")
        return Prepared(python=str(path), key=key, words=words)

    def prune(self, in_use: Iterable[str]) -> None:
        """Remove those that nobody used for longest, when there are many."""
        if self._folder.is_dir():
            self._built.prune(in_use)

    async def _lock(self, needs: Needs, python: str, options: tuple[str, ...], say: Say) -> str:
        """Exact versions with digests: the model's own lock, or what its requirements resolve to, once."""
        if needs.lock:
            return needs.lock
        kept = self._folder / "locks" / f"{blake3(f'{python} {needs.text}'.encode()).hexdigest()[:20]}.txt"
        if kept.is_file():
            return await asyncio.to_thread(kept.read_text)
        limits = kept.with_suffix(".limits")
        await asyncio.to_thread(limits.write_text, "\n".join(needs.limits) + "\n")
        limited = ["--constraint", str(limits)] if needs.limits else []
        args = ["pip", "compile", "-", "--generate-hashes", "--python", interpreter(python), *limited, *options]
        args += ["--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--no-header", "--no-progress"]
        text = await self._uv.run(args, self._folder, say, text="\n".join(needs.wanted) + "\n")
        new = kept.with_suffix(".new")
        await asyncio.to_thread(new.write_text, text)
        new.replace(kept)
        return text


def _modules(folder: Path) -> list[str]:
    """What will be imported to load the model, as far as its description says."""
    description = described(folder)
    if direct_flavor(description) is not None:
        return ["pandas", "sklearn.pipeline", "sklearn.ensemble", "sklearn.linear_model"]
    loader = (description.get("flavors") or {}).get("python_function", {}).get("loader_module")
    return ["mlflow.pyfunc", *([loader] if isinstance(loader, str) and loader.startswith("mlflow.") else [])]


def _needs(folder: Path) -> Needs:
    return read_needs(folder, is_direct=direct_flavor(described(folder)) is not None)
