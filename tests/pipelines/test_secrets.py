"""A step gets the secrets that it asks for, and nothing that it prints, raises or logs shows them (A13)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipelines.processes import Server, ended, imported, logs

pytestmark = pytest.mark.protocol

CANARY = "canary-77aa-of-the-step"
STEPS = """
import base64
import os
import sys
import time
import noria

@noria.step(secrets=["DB_PASSWORD"])
def uses() -> dict:
    value = os.environ["DB_PASSWORD"]
    print("password:", value)
    print(repr(value), base64.b64encode(b"ada:" + value.encode()).decode(), file=sys.stderr)
    for part in (value[:7], value[7:]):  # in two pieces
        sys.stdout.write(part)
        sys.stdout.flush()
        time.sleep(0.4)
    run = noria.init("secrets", params={"dsn": "postgres://ada:" + value + "@db"})
    print("in a run:", value)
    run.set_tags({"key": value})
    run.finish()
    return {"length": len(value), "names": sorted(k for k in os.environ if k.startswith("DB_"))}

@noria.step
def has_none() -> bool:
    return "DB_PASSWORD" in os.environ

@noria.step(secrets=["DB_PASSWORD"])
def raises():
    raise ValueError("cannot sign in as ada:" + os.environ["DB_PASSWORD"])

@noria.step(secrets="NOT_THERE")
def asks_for_another():
    return 1

@noria.pipeline
def good():
    return {"uses": uses(), "none": has_none()}

@noria.pipeline
def bad():
    return raises()

@noria.pipeline
def other():
    return asks_for_another()
"""


def test_secrets_are_given_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "steps.py.txt").write_text(STEPS)
    (tmp_path / "code").mkdir()
    server = Server(tmp_path / "home")
    try:
        with server.worker(), server.api() as api, imported(tmp_path / "steps.py.txt", tmp_path / "code") as module:
            api.request("PUT", "/api/v1/secrets/DB_PASSWORD", json={"value": CANARY})
            runs = {name: getattr(module, name).submit(api=api) for name in ("good", "bad", "other")}
            views = {name: ended(api, run["id"]) for name, run in runs.items()}
            outputs = views["good"]["run"]["outputs"]
            assert outputs["uses"]["value"] == {"length": len(CANARY), "names": ["DB_PASSWORD"]}, views["good"]["run"][
                "error"
            ]
            assert outputs["none"]["value"] is False, "only a step that asks is given it"
            printed = logs(api, views["good"], "uses")
            assert printed.count("[secret DB_PASSWORD]") == 5, printed
            assert views["bad"]["run"]["state"] == "failed"
            assert "ValueError: cannot sign in as ada:[secret DB_PASSWORD]" in logs(api, views["bad"], "raises")
            assert "no secret NOT_THERE" in views["other"]["run"]["error"]
            kept = json.dumps([views, [logs(api, v, s["step"]["name"]) for v in views.values() for s in v["steps"]]])
            assert CANARY not in kept
        assert server.app is not None
        with server.app.db.read() as tx:
            params = tx.column("select value from param")
            tags = tx.column("select value from tag where key = 'key'")
            console = "".join(tx.column("select content from run_log order by start_byte"))
            events = "".join(tx.column("select data from event"))
        assert params == ["postgres://ada:[secret DB_PASSWORD]@db"] and tags == ["[secret DB_PASSWORD]"]
        assert "in a run: [secret DB_PASSWORD]" in console and CANARY not in console + events
        assert CANARY.encode() not in b"".join(p.read_bytes() for p in server.config.home.rglob("*.db*"))
    finally:
        server.stop()
