"""What the API says of itself, played back to it by somebody else's generator: Schemathesis finds no failure of ours.

Asked for by `make test-openapi`, which installs it beside the rest: what it makes of 400 operations takes ten minutes. The suite's own
strategies (`test_bad_input.py`) know real ids and MLflow's routes, too.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.server.control import Control

PROGRAM = os.environ.get("NORIA_SCHEMATHESIS", "")
# These wait for something to happen, or ask a gateway that does not run here (tests/serving/test_elsewhere.py has one).
LEFT_OUT = "/(stream|desired|claim|try)$"

pytestmark = [
    pytest.mark.protocol,
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="NORIA_SCHEMATHESIS says where it is; make test-openapi"),
]


@pytest.mark.timeout(3600)
def test_schemathesis_finds_no_failure_of_ours(tmp_path: Path, database_url: str) -> None:
    control = Control(tmp_path / "home", database_url).start()
    try:
        described = tmp_path / "openapi.json"
        described.write_bytes(httpx.get(f"{control.url}/api/openapi.json", timeout=30).raise_for_status().content)
        command = [
            PROGRAM, "run", described.name, "--url", control.url, "--checks", "not_a_server_error", "--phases", "coverage,fuzzing",
            "--max-examples", os.environ.get("NORIA_EXAMPLES", "10"), "--exclude-path-regex", LEFT_OUT, "--seed", "6", "--workers", "1",
            "--suppress-health-check", "all", "--continue-on-failure", "--no-shrink", "--warnings", "off", "--request-timeout", "30",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=3500, check=False)
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
        assert " selected / " in done.stdout and " passed" in done.stdout, done.stdout[-2_000:]
        assert httpx.get(f"{control.url}/health", timeout=30).status_code == 200 and control.is_alive()
        assert "Traceback" not in control.log.read_text(), control.log.read_text()[-5_000:]
    finally:
        control.kill()
