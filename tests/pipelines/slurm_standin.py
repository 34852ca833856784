"""Stands in for `sbatch`, `squeue` and `scancel`: jobs are processes of this machine, kept as files of one folder.

Runs as a script under each of the three names (`install`); the folder is SLURM_STANDIN. Options that it does not know are refused.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SBATCH = (
    "--job-name", "--output", "--open-mode", "--cpus-per-task", "--ntasks", "--chdir", "--comment", "--mem", "--gres", "--time",
    "--partition",
)  # fmt: skip
KILL_WAIT_S = 5.0
GPUS = 2


def install(folder: Path) -> dict[str, str]:
    """Put the commands into `folder`; returns the variables that make them found."""
    bin_ = folder / "bin"
    bin_.mkdir(parents=True)
    (folder / "jobs").mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        path = bin_ / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {Path(__file__).resolve()} {name} "$@"\n')
        path.chmod(0o755)
    return {"SLURM_STANDIN": str(folder), "PATH": f"{bin_}:{os.environ['PATH']}"}


def jobs(folder: Path) -> dict[str, dict[str, object]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((folder / "jobs").glob("*.json"))}


def save(folder: Path, id: str, job: dict[str, object]) -> None:
    part = folder / f"{id}.part"
    part.write_text(json.dumps(job))
    part.rename(folder / "jobs" / f"{id}.json")


def new_id(folder: Path) -> str:
    """A number that no other job has, however many are submitted at once."""
    for number in range(100, 100_000):
        try:
            (folder / f"id-{number}").mkdir()
        except FileExistsError:
            continue
        return str(number)
    sys.exit("sbatch: error: There are no numbers left.")


def options(args: list[str], known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for arg in args:
        name, sign, value = arg.partition("=")
        if name not in known or not sign:
            sys.exit(f"unrecognized option '{arg}'")
        found[name] = value
    return found


def sbatch(folder: Path, args: list[str]) -> None:
    asked = options([a for a in args if a not in ("--parsable", "--no-requeue")], SBATCH)
    if asked.get("--partition") == "missing":
        sys.exit("sbatch: error: invalid partition specified: missing")
    script = sys.stdin.read()
    if not script.startswith("#!"):
        sys.exit("sbatch: error: This does not look like a batch script.")
    id = new_id(folder)
    save(folder, id, {"state": "PENDING", "options": asked, "pid": 0})
    if os.fork() == 0:
        os.setsid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(quiet, fd)
        run(folder, id, script, asked)
        os._exit(0)
    sys.stdout.write(f"{id}\n")


def run(folder: Path, id: str, script: str, asked: dict[str, str]) -> None:
    path = folder / f"{id}.sh"
    path.write_text(script)
    path.chmod(0o700)
    gpus = wait_for_gpus(folder, int(asked.get("--gres", "gpu:0").removeprefix("gpu:")))
    output = asked["--output"].replace("%x", asked["--job-name"]).replace("%j", id)
    with open(output, "ab") as log:
        process = subprocess.Popen(
            [str(path)], cwd=asked["--chdir"], env={**os.environ, "SLURM_JOB_ID": id, **visible(gpus)}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    save(folder, id, {"state": "RUNNING", "options": asked, "pid": process.pid})
    code = process.wait()
    for gpu in gpus:
        (folder / f"gpu-{gpu}").rmdir()
    stopped = (folder / f"{id}.cancelled").exists()
    state = "CANCELLED" if stopped else "FAILED" if code else "COMPLETED"
    save(folder, id, {"state": state, "options": asked, "pid": 0})


def wait_for_gpus(folder: Path, count: int) -> list[int]:
    """So many of the node's, which no other job has until it ended."""
    while count:
        taken: list[int] = []
        for gpu in range(GPUS):
            try:
                (folder / f"gpu-{gpu}").mkdir()
            except FileExistsError:
                continue
            taken.append(gpu)
            if len(taken) == count:
                return taken
        for gpu in taken:
            (folder / f"gpu-{gpu}").rmdir()
        time.sleep(0.1)
    return []


def visible(gpus: list[int]) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))} if gpus else {}


def squeue(folder: Path, args: list[str]) -> None:
    if args == ["--noheader", "--me"]:
        return
    asked = options([a for a in args if a not in ("--noheader", "--states=all", "--me")], ("--jobs", "--format", "--name"))
    known = jobs(folder)
    named = [id for id, job in known.items() if dict(job["options"]).get("--job-name") == asked.get("--name")]  # type: ignore[call-overload]
    for id in named if "--name" in asked else asked["--jobs"].split(","):
        if id not in known:
            sys.exit("slurm_load_jobs error: Invalid job id specified")
        sys.stdout.write(
            asked["--format"].replace("%i", id).replace("%T", str(known[id]["state"])).replace("%r", "None") + "\n"
        )


def scancel(folder: Path, args: list[str]) -> None:
    at_once = "--signal=KILL" in args
    which = args[-1]
    for id, job in jobs(folder).items():
        if which not in (id, f"--name={dict(job['options']).get('--job-name')}") or not job["pid"]:  # type: ignore[call-overload]
            continue
        pid = int(str(job["pid"]))
        (folder / f"{id}.cancelled").touch()
        try:
            os.kill(pid, signal.SIGKILL if at_once else signal.SIGTERM)
            if not at_once and os.fork() == 0:
                os.setsid()
                time.sleep(KILL_WAIT_S)
                os.kill(pid, signal.SIGKILL)
                os._exit(0)
        except ProcessLookupError:
            pass


if __name__ == "__main__":
    {"sbatch": sbatch, "squeue": squeue, "scancel": scancel}[sys.argv[1]](Path(os.environ["SLURM_STANDIN"]), sys.argv[2:])
