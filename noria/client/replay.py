"""Runs one step of a run here, in this process, with the code and the inputs it had there. Nothing is written to the server.

The token that the server gives can only read; runs are logged into a folder that is thrown away.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3

from noria.client.api import Api
from noria.kernel.errors import Invalid
from noria.pipelines.model.runs import Replay
from noria.pipelines.model.values import stored


def replay(api: Api, given: Replay, url: str, folder: Path, *, debug: bool) -> Any:
    """What the step returns. Raises what it raises; with `debug` under pdb, which also stops where it raises.

    Changes this process for good (its path, its environment, its working directory): for a process of its own.
    """
    from noria.client.zygote import arguments, decoded, find, load

    code, blobs = folder / "code", folder / "blobs"
    code.mkdir()
    blobs.mkdir()
    _unpack(_blob(api, given.code.archive_digest), code)
    for kept in [found for value in given.inputs.values() for found in stored(value)]:
        _fetch(api, kept.digest, blobs / kept.digest)
    _look_like_the_step(given, url, folder)
    os.chdir(code)
    load(code, given.entry)
    function = find(given.function)
    args, kwargs = arguments(function, decoded(given.inputs, blobs, folder / "values"))
    return _debugged(function, args, kwargs) if debug else function(*args, **kwargs)


def _debugged(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Under pdb, from the first line of the step on; when it raises, there."""
    import bdb
    import pdb

    try:
        return pdb.Pdb().runcall(function, *args, **kwargs)
    except bdb.BdbQuit:
        raise Invalid("The replay was left.") from None
    except Exception:
        pdb.post_mortem(sys.exc_info()[2])
        raise


def _blob(api: Api, digest: str) -> bytes:
    body = b"".join(api.get_bytes(f"/blobs/{digest}"))
    if blake3(body).hexdigest() != digest:
        raise Invalid(f"The blob {digest[:12]} arrived damaged.", hint="Try again.")
    return body


def _fetch(api: Api, digest: str, path: Path) -> None:
    """A value, which may be larger than memory."""
    seen = blake3()
    with path.open("wb") as file:
        for piece in api.get_bytes(f"/blobs/{digest}"):
            seen.update(piece)
            file.write(piece)
    if seen.hexdigest() != digest:
        raise Invalid(f"The blob {digest[:12]} arrived damaged.", hint="Try again.")


def _unpack(archive: bytes, target: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        tar.extractall(target, filter="data")


def _look_like_the_step(given: Replay, url: str, folder: Path) -> None:
    """The variables of a step, with everything it would log going into the folder."""
    for name in [n for n in os.environ if n.startswith(("NORIA_", "MLFLOW_"))]:
        del os.environ[name]
    os.environ |= {
        "NORIA_URL": url, "NORIA_TOKEN": given.token, "NORIA_MODE": "offline", "NORIA_JOURNALS": str(folder / "journals"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "NORIA_PIPELINE": given.pipeline,
        "NORIA_STEP": given.step, "NORIA_SOURCE_DIGEST": given.code.archive_digest, "NORIA_SOURCE_COMMIT": given.code.commit,
        "NORIA_ENVIRONMENT_DIGEST": given.environment_digest,
    }  # fmt: skip
