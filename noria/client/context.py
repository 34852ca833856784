"""What a run was made by and from: the step, the code, the environment, the data read so far; as tags.

In a pipeline step the worker sets NORIA_PIPELINE_RUN and its companions. What the step reads is noted in a file of the
step's folder, so that it counts from its child processes too; what the steps before it read comes in NORIA_READS.
`noria.context_tags()` gives the tags to any client.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_reads: list[tuple[str, str]] = []  # outside a step: what this process read

_FROM_ENVIRONMENT = {
    "noria.pipeline": "NORIA_PIPELINE",
    "noria.pipeline_run": "NORIA_PIPELINE_RUN",
    "noria.step": "NORIA_STEP",
    "noria.step_run": "NORIA_STEP_RUN",
    "noria.source_digest": "NORIA_SOURCE_DIGEST",
    "noria.source.diff_digest": "NORIA_SOURCE_DIFF_DIGEST",
    "mlflow.source.git.commit": "NORIA_SOURCE_COMMIT",  # MLflow's own names where it has one
    "mlflow.source.git.branch": "NORIA_SOURCE_BRANCH",
    "mlflow.source.git.dirty": "NORIA_SOURCE_DIRTY",
    "noria.environment_digest": "NORIA_ENVIRONMENT_DIGEST",
    "noria.argv": "NORIA_ARGV",
}


def in_step() -> bool:
    """Does this process run a pipeline step?"""
    return bool(os.environ.get("NORIA_STEP_RUN"))


def note_read(ref: str, url: str = "") -> None:
    """Remember that `ref` (`dataset_version:…`) was read here, from the server at `url`; it becomes an edge of the run."""
    folder = os.environ.get("NORIA_STEP_DIR")
    if not folder:
        if (ref, url) not in _reads:
            _reads.append((ref, url))
            if launched := os.environ.get("NORIA_READS_FILE"):  # `noria run -- CMD` waits for it
                with Path(launched).open("a") as file:
                    file.write(f"{ref}\t{url}\n")
    elif ref not in _noted(folder):
        with (Path(folder) / "reads.txt").open("a") as file:
            file.write(ref + "\n")


def reads(url: str = "") -> list[str]:
    """What the results of this process rest on so far: what the steps before it read, then what it read itself.

    With `url`, only what came from that server: another one does not know the versions.
    """
    folder = os.environ.get("NORIA_STEP_DIR")
    own = _noted(folder) if folder else [ref for ref, at in _reads if not url or not at or _same(at, url)]
    return list(dict.fromkeys([*os.environ.get("NORIA_READS", "").split(), *own]))


def pinned(selector: str | int) -> list[str]:
    """Where a run is reproduced: the ids of the versions that it read, the last first, to take for what moves ("latest", an alias,
    a branch). Empty elsewhere, and for a selector that always names the same version."""
    text = str(selector).strip().removeprefix("@")
    if re.fullmatch(r"v?\d+|[0-9a-f]{32}", text):
        return []
    return list(reversed(os.environ.get("NORIA_DATASET_PINS", "").split()))


def _same(one: str, other: str) -> bool:
    return one.rstrip("/").replace("//localhost", "//127.0.0.1") == other.rstrip("/").replace("//localhost", "//127.0.0.1")


def _noted(folder: str) -> list[str]:
    with suppress(FileNotFoundError):
        return (Path(folder) / "reads.txt").read_text().split()
    return []


def context_tags(url: str = "") -> dict[str, str]:
    """The tags that tie a run, on the server at `url`, to the step, code, environment and data it came from.

    `noria.dataset_version` is the id of the version read last; `noria.dataset_versions` all of them, when there are more.
    """
    from noria.client.capture import machine
    from noria.client.seeds import seed_tags

    tags = {tag: value for tag, name in _FROM_ENVIRONMENT.items() if (value := os.environ.get(name))}
    if not in_step():
        tags = {**_of_this_process(), **tags}
    return {**{k: v for k, v in machine().items() if v}, **seed_tags(), **tags, **read_tags(reads(url))}


def read_tags(refs: list[str]) -> dict[str, str]:
    """The dataset versions among these, as tags."""
    versions = [ref.split(":", 1)[1] for ref in refs if ref.startswith("dataset_version:")]
    tags = {"noria.dataset_version": versions[-1]} if versions else {}
    return {**tags, "noria.dataset_versions": ",".join(versions)} if len(versions) > 1 else tags


def launched_reads(file: Path, url: str) -> list[str]:
    """What a command that was launched, and whatever it started, read from the server at `url`."""
    with suppress(FileNotFoundError):
        lines = [line.split("\t") for line in file.read_text().splitlines()]
        return list(dict.fromkeys(ref for ref, at in lines if not url or not at or _same(at, url)))
    return []


def _of_this_process() -> dict[str, str]:
    """Commit, environment and arguments of a plain script; asked once."""
    from noria.client.capture import source_tags, this_command
    from noria.client.environment import environment

    return {"noria.environment_digest": environment()[0], **source_tags(this_command())}
