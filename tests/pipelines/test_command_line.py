"""The command line against a real server and worker: many dates at once, a message that starts a run, rules of queues."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from noria.client.api import Api
from tests.pipelines.processes import ROOT, Server, ended, until

pytestmark = pytest.mark.protocol

FLIGHTS = """
import noria

@noria.step
def load(day: str, ref: str) -> dict:
    return {"day": day, "ref": ref}

@noria.pipeline(name="flights")
def flights(day: str = "2026-01-01", ref: str = ""):
    return load(day, ref)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    file = tmp_path_factory.mktemp("code") / "flights.py"
    file.write_text(FLIGHTS)
    with made.worker():
        noria(made, "run", str(file))
        yield made
    made.stop()


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with server.api() as made:
        yield made


def noria(server: Server, *args: str, group: str = "pipeline") -> subprocess.CompletedProcess[str]:
    """A command as somebody types it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("NORIA_")}
    done = subprocess.run(
        [sys.executable, "-m", "noria.cli.main", group, *args], env={**env, "NORIA_URL": server.url, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def outputs(api: Api, by: str) -> list[dict[str, Any]]:
    """What the runs gave that ended well, of those that `by` started."""
    runs = [run for run in api.get("/pipeline-runs", pipeline="flights")["items"] if by in run["actor"]]
    return [ended(api, run["id"])["run"]["outputs"]["result"]["value"] for run in runs]


def test_one_command_fills_a_range_of_dates(server: Server, api: Api) -> None:
    done = noria(
        server, "backfill", "flights", "--param", "day", "--from", "2026-03-01", "--to", "2026-03-03", "--parallel", "2", "--wait"
    )  # fmt: skip
    said = done.stderr.splitlines()
    assert len(set(said)) == len(said) and said[-1].startswith("3 of 3"), said
    assert sorted(found["day"] for found in outputs(api, "backfill")) == ["2026-03-01", "2026-03-02", "2026-03-03"]


def test_a_signed_message_from_elsewhere_starts_a_run_with_what_it_says(server: Server, api: Api) -> None:
    made = noria(server, "trigger", "create", "on-push", "flights", "--hook", "--param", "ref=${data.body.ref}")
    found = re.search(r"to (\S+), signed with whsec_(\S+)", made.stdout + made.stderr)
    assert found, made.stdout
    body, at = b'{"ref": "refs/heads/main"}', str(int(time.time()))
    signed = hmac.new(base64.b64decode(found[2]), f"m1.{at}.".encode() + body, hashlib.sha256).digest()
    headers = {"webhook-id": "m1", "webhook-timestamp": at, "webhook-signature": "v1," + base64.b64encode(signed).decode()}
    for is_new in (True, False):  # the sender may say it again
        answer = httpx.post(found[1], content=body, headers=headers)
        assert answer.json() == {"is_new": is_new}
    until(lambda: outputs(api, "on-push"))
    assert [each["ref"] for each in outputs(api, "on-push")] == ["refs/heads/main"]


def test_rules_of_a_queue_are_set_and_listed(server: Server) -> None:
    noria(server, "set", "gpu", "--priority", "5", "--quota", "1", group="queue")
    (row,) = [line.split() for line in noria(server, "list", group="queue").stdout.splitlines() if line.startswith("gpu")]
    assert row[:3] == ["gpu", "5", "1"]
