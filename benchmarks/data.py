"""How fast versions of data are: many small files and one big one, beside DVC, Git and a plain copy.

    python -m benchmarks.data [--fast] [--runs 3] [--json FILE]

Every tool works on the same folder, in a home of its own, in turn; figures are medians of wall seconds with the start of the
process, ratios are to Noria. Checkouts are compared with the source. DVC lives in .venv/clients/dvc, made when first needed.
`--fast`: a fiftieth of the sizes.
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
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
DVC = ROOT / ".venv" / "clients" / "dvc" / "bin" / "dvc"
TIMEOUT_S = 600


def run(*command: str, cwd: Path, env: dict[str, str] | None = None, codes: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, timeout=TIMEOUT_S, capture_output=True, text=True
    )
    assert done.returncode in codes, f"{command}: {done.stdout[-500:]} {done.stderr[-500:]}"


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
        shutil.rmtree(self.home / "data")
        begun = time.perf_counter()
        run(str(DVC), "checkout", "-q", cwd=self.home, env=self.env)
        self.checkout_s = time.perf_counter() - begun
        (self.home / "data").rename(target)
        shutil.copytree(target, self.home / "data")


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
    time.sleep(0.1)
    found: dict[str, dict[str, float]] = {t.name: {} for t in made}
    for step in ("commit1", "status", "commit2", "diff", "checkout"):
        if step == "commit2":
            change()
        for tool in made:
            if step == "commit2" and isinstance(tool, Dvc):
                tool.sync()
            before = size_of(tool.home) if step == "commit2" else 0
            work = getattr(tool, step.rstrip("12"), None)
            if work is None:
                continue
            target = folder / f"out-{tool.name}"
            os.sync()
            found[tool.name][step] = timed((lambda work=work, target=target: work(target)) if step == "checkout" else work)
            if step == "commit2":
                found[tool.name]["added_mb"] = (size_of(tool.home) - before) / 1e6
            if step == "checkout":
                found[tool.name][step] = getattr(tool, "checkout_s", found[tool.name][step])
                assert is_same(source, target), f"{tool.name} gave back other files"
                shutil.rmtree(target)
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
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if not DVC.exists():
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([uv, "venv", "-q", DVC.parents[1]], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", DVC.parent / "python", "dvc"], check=True)
    part = 50 if asked.fast else 1
    rows = {
        f"{100_000 // part:,} files of 4 KiB": lambda f: small(f, 100_000 // part),
        f"one file of {4096 // part:,} MiB": lambda f: big(f, (4096 // part) << 20),
    }
    results = {}
    for title, make in rows.items():
        runs = []
        for _ in range(asked.runs):
            with tempfile.TemporaryDirectory(prefix="noria-bench-", dir=ROOT / ".venv") as folder:
                runs.append(measure(make, [Noria, Dvc, Git, Copy] if "KiB" in title else [Noria, Dvc, Copy], Path(folder)))
        results[title] = table(title, runs)
    if asked.json:
        versions = {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count(),
                    "load": os.getloadavg()}  # fmt: skip
        asked.json.write_text(json.dumps({"at": time.strftime("%Y-%m-%d"), **versions, "results": results}, indent=2))


def table(title: str, runs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    steps = ["commit1", "status", "commit2", "added_mb", "diff", "checkout"]
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
