"""Following a run from the command line: what happens, line by line, until it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from noria.client.api import Api
from noria.kernel.errors import NoriaError

POLL_S = 0.2


class PipelineFailed(Exception):
    """A run that was waited for did not succeed; `run` is how it ended."""

    def __init__(self, run: dict[str, Any]) -> None:
        super().__init__(f"The pipeline run {run['id']} {run['state']}. {run.get('error', '')}".strip())
        self.run = run


ENDED = ("succeeded", "failed", "cancelled")
_MARKS = {"succeeded": "✓", "failed": "✗", "cancelled": "–", "skipped": "–", "running": "▸", "asking": "?"}


def follow(api: Api, run_id: str, *, show: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Wait for a run to end, saying what happens; returns it. Raises PipelineFailed when it did not succeed."""
    seen: dict[str, str] = {}
    has_warned = False
    while True:
        view = api.get(f"/pipeline-runs/{run_id}")
        run = view["run"]
        for line in _news(view, seen):
            if show:
                show(line)
        if run["state"] in ENDED:
            break
        if not view["workers"] and not has_warned and show:
            has_warned = True
            show("  waiting: no worker is running; start one with: noria server")
        time.sleep(POLL_S)
    if run["state"] == "succeeded":
        return dict(run)
    if show:
        for line in _failure(api, view):
            show(line)
    raise PipelineFailed(run)


def _news(view: dict[str, Any], seen: dict[str, str]) -> Iterator[str]:
    if not seen:
        seen[""] = "begun"
        run = view["run"]
        yield f"{run['pipeline']} v{run['version']}, run {run['id']}"
    for item in view["steps"]:
        step = item["step"]
        state = f"{step['state']} {step['attempt']}{_share_done(view, step)}"
        if seen.get(step["name"]) == state or step["state"] not in _MARKS:
            continue
        if step["parent_id"] and step["state"] != "failed":  # a map says how many elements it has, and how it ended
            continue
        seen[step["name"]] = state
        yield f"  {_MARKS[step['state']]} {step['name']}{_detail(step, _made(view, step))}"


def _share_done(view: dict[str, Any], step: dict[str, Any]) -> str:
    """Of a map that runs: how many tenths of it are done, so that a long one is heard of now and then."""
    made = _made(view, step) if step["kind"] == "map" and step["state"] == "running" else 0
    return f" {10 * (made - step['waits']) // made}" if made > 1 else ""


def _made(view: dict[str, Any], step: dict[str, Any]) -> int:
    """How many steps a map has become."""
    return sum(item["step"]["parent_id"] == step["id"] for item in view["steps"])


def _detail(step: dict[str, Any], made: int) -> str:
    if step["state"] == "asking":
        return f"  waits for an answer: noria pipeline approve {step['run_id']} {step['name']}"
    if step["state"] == "skipped" and step.get("reason"):
        return f"  {step['reason']}"
    if step["kind"] == "map" and step["state"] == "running":
        done = made - step["waits"]
        return f"  {done} of {made} steps" if done else f"  {made} steps"
    if step.get("cached_from"):
        return "  cached"
    if step["state"] == "running":
        return f"  attempt {step['attempt']}" if step["attempt"] > 1 else ""
    if step["state"] == "succeeded" and step.get("ended_at_ms") and step.get("started_at_ms"):
        return f"  {(step['ended_at_ms'] - step['started_at_ms']) / 1000:.2f} s"
    return f"  {step['error']}" if step.get("error") else ""


def _failure(api: Api, view: dict[str, Any]) -> Iterator[str]:
    """The last lines that the failed steps printed."""
    for item in view["steps"]:
        step = item["step"]
        if step["state"] != "failed":
            continue
        offset = max(0, step["log_bytes"] - 4000)
        try:
            text = api.get(f"/step-runs/{step['id']}/logs", offset=offset)["text"]
        except NoriaError:
            continue
        yield f"--- the end of what {step['name']} printed"
        yield from text.rstrip().splitlines()[-30:]


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
