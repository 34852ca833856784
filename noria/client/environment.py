"""Capture of where code runs: the environment as one canonical JSON text, and the code as git sees it and as an archive.

Both are content-addressed: the same packages and the same files have the same digest on every machine.
"""

from __future__ import annotations

import gzip
import inspect
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from blake3 import blake3
from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.pipelines.model.spec import CodeInfo

FILE_BYTES_MAX = 1 << 20  # larger files are data, not code; Python files are always taken
ARCHIVE_BYTES_MAX = 32 << 20
FILES_MAX = 5_000
DIFF_BYTES_MAX = 8 << 20
GIT_TIMEOUT_S = 20.0
ENVIRONMENT_TIMEOUT_S = 60.0
_SKIPPED = {
    "__pycache__", "node_modules", "venv", "env", "build", "dist", "mlruns", "noria-home", "site-packages",
}  # fmt: skip


@lru_cache(maxsize=1)
def environment() -> tuple[str, bytes]:
    """(digest, canonical JSON) of this interpreter and every installed distribution."""
    text = _described()
    return blake3(text).hexdigest(), text


@lru_cache(maxsize=4)
def environment_of(python: str) -> tuple[str, bytes]:
    """The same of another interpreter, which need not have Noria. Raises Invalid when it does not answer."""
    code = f"import sys\n{inspect.getsource(_described)}\nsys.stdout.buffer.write(_described())"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, timeout=ENVIRONMENT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as cause:
        raise Invalid(f"{python} cannot be asked for its packages.", where="environment") from cause
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise Invalid(f"{python} does not tell its packages: {reason}", where="environment")
    return blake3(done.stdout).hexdigest(), done.stdout


def _described() -> bytes:
    """What `environment` gives. It runs in other interpreters too: the standard library only, and nothing from this module."""
    import json
    import platform
    import re
    import sys
    from importlib import metadata

    packages: dict[str, str] = {}
    for found in metadata.distributions():
        name, version = found.metadata["Name"], str(found.version)
        if not name or name.startswith("noria-run-context"):
            continue
        try:
            source = json.loads(found.read_text("direct_url.json") or "{}")
        except ValueError:
            source = {}
        # From version control the commit is added; a folder in development is marked.
        if commit := source.get("vcs_info", {}).get("commit_id"):
            version += f"+{commit[:12]}"
        elif source.get("dir_info", {}).get("editable"):
            version += "+editable"
        packages.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    described = {
        "python": platform.python_version(), "implementation": sys.implementation.name,
        "platform": sys.platform, "machine": platform.machine(), "libc": "-".join(platform.libc_ver()).strip("-"),
        "packages": packages,
    }  # fmt: skip
    return json.dumps(described, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class GitState(Struct, frozen=True):
    """A folder as git sees it; all empty outside a repository."""

    commit: str = ""
    branch: str = ""
    is_dirty: bool = False
    remote: str = ""
    diff: bytes = b""


@lru_cache(maxsize=8)
def git_state(folder: Path) -> GitState:
    """Commit, branch, remote without credentials, and the uncommitted difference of the repository around `folder`."""
    commit = _git(folder, "rev-parse", "HEAD").decode().strip()
    if not commit:
        return GitState()
    diff = _git(folder, "diff", "HEAD", "--binary")
    return GitState(
        commit=commit,
        branch=_git(folder, "rev-parse", "--abbrev-ref", "HEAD").decode().strip(),
        is_dirty=bool(_git(folder, "status", "--porcelain", "--", ".").strip() or diff),
        remote=_without_credentials(_git(folder, "config", "--get", "remote.origin.url").decode().strip()),
        diff=diff if len(diff) <= DIFF_BYTES_MAX else b"",
    )


class Captured(Struct, frozen=True):
    """Code ready to be sent: what to say about it, the module that was named, and the blobs that must be stored first."""

    info: CodeInfo
    entry: str
    blobs: dict[str, bytes]


def capture_code(file: Path) -> Captured:
    """The folder of `file` (from the top of its package), as a content-addressed archive, with git's view of it.

    In a repository, what git ignores is left out. Raises Invalid when there is too much for code.
    """
    file = file.resolve()
    root = file.parent
    while (root / "__init__.py").exists():
        root = root.parent
    entry = ".".join(file.relative_to(root).with_suffix("").parts)
    found = sorted(_files(root))
    archive = _archive(root, found, file)
    info, blobs = code_info(archive, len(found), root)
    return Captured(info=info, entry=entry, blobs=blobs)


def code_info(archive: bytes, files_count: int, folder: Path) -> tuple[CodeInfo, dict[str, bytes]]:
    """What to say about an archive of code from `folder`, and the blobs to store: the archive, and what differs from the commit."""
    state = git_state(folder)
    info = CodeInfo(
        archive_digest=blake3(archive).hexdigest(), files_count=files_count, size_bytes=len(archive), commit=state.commit,
        branch=state.branch, is_dirty=state.is_dirty, remote=state.remote,
        diff_digest=blake3(state.diff).hexdigest() if state.diff else "",
    )  # fmt: skip
    return info, {info.archive_digest: archive, **({info.diff_digest: state.diff} if state.diff else {})}


def archive_folder(root: Path) -> bytes:
    """The code of a folder as one archive. Raises Invalid when there is too much for code."""
    return _archive(root, sorted(_files(root)), None)


def git_root(folder: Path) -> Path | None:
    """The top of the repository around `folder`."""
    found = _git(folder, "rev-parse", "--show-toplevel").decode("utf-8", "surrogateescape").strip()
    return Path(found).resolve() if found else None


def unpack_code(archive: bytes, target: Path) -> None:
    """Files and folders only, inside `target` only."""
    target.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        tar.extractall(target, filter="data")


def _files(root: Path) -> Iterator[Path]:
    listed = _git(root, "ls-files", "-co", "--exclude-standard", "-z")
    if listed:
        yield from (root / name for name in listed.decode("utf-8", "surrogateescape").split("\0") if _is_code(root / name))
        return
    for folder, names, files in os.walk(root):
        here = Path(folder)
        names[:] = [n for n in names if not n.startswith(".") and n not in _SKIPPED and not _is_foreign(here / n)]
        yield from (here / name for name in files if not name.startswith(".") and _is_code(here / name))


def _is_code(path: Path) -> bool:
    if not path.is_file() or path.is_symlink():
        return False
    return path.suffix == ".py" or path.stat().st_size <= FILE_BYTES_MAX


def _is_foreign(folder: Path) -> bool:
    """A virtual environment, or a home of Noria."""
    return any((folder / mark).exists() for mark in ("pyvenv.cfg", "noria.db", "server.json"))


def _archive(root: Path, files: list[Path], entry: Path | None) -> bytes:
    """A tar whose bytes depend on names and contents only."""
    if entry is not None and entry not in files:
        files = [*files, entry]
    if len(files) > FILES_MAX:
        raise Invalid(f"The folder {root} has {len(files)} files; a pipeline's code may have {FILES_MAX}.", hint=_ROOM)
    bodies: dict[str, bytes] = {}
    size = 0
    for path in sorted(files):
        body = path.read_bytes()
        size += len(body)
        if size > ARCHIVE_BYTES_MAX:
            raise Invalid(f"The folder {root} holds more than {ARCHIVE_BYTES_MAX >> 20} MiB of files.", hint=_ROOM)
        bodies[path.relative_to(root).as_posix()] = body
    return archive_of(bodies)


def archive_of(files: dict[str, bytes]) -> bytes:
    """A tar of files by their paths; its bytes depend on names and contents only."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(body), 0o644
            tar.addfile(member, io.BytesIO(body))
    return out.getvalue()


_ROOM = "Give the pipeline a folder of its own; keep data in datasets."


def _git(folder: Path, *args: str) -> bytes:
    """What git prints; empty when it fails, is not there, or the folder is no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, timeout=GIT_TIMEOUT_S, check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    if not parts.scheme or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[1]))
