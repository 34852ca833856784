"""What is recorded of a command, and what is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from noria.client.capture import ARGV_LENGTH_MAX, capture, interpreter_of, without_secrets


def test_secrets_in_arguments_are_left_out() -> None:
    command = [
        "train.py", "--api-key", "abc", "--depth", "3", "--DB_PASSWORD=x", "TOKEN=y", "nrk_0123abc", "--token", "--fast",
    ]  # fmt: skip
    assert without_secrets(command) == [
        "train.py", "--api-key", "[left out]", "--depth", "3", "--DB_PASSWORD=[left out]", "TOKEN=[left out]",
        "nrk_[left out]", "--token", "--fast",
    ]  # fmt: skip


def test_a_command_says_where_it_ran() -> None:
    captured = capture(["python", "train.py", "--password", "swordfish"])
    assert json.loads(captured.tags["noria.argv"]) == ["python", "train.py", "--password", "[left out]"]
    assert captured.tags["noria.python"] == sys.version.split()[0]
    assert {"noria.os", "noria.cpu", "noria.cpu_count", "noria.memory_gb"} <= captured.tags.keys()
    assert b"msgspec==" in captured.files["environment/packages.txt"]
    assert not any(b"swordfish" in body for path, body in captured.files.items() if path.startswith("environment/"))


def test_a_command_line_too_long_for_a_tag_says_so() -> None:
    argv = capture(["train.py", *(f"--file={i:040d}" for i in range(5_000))]).tags["noria.argv"]
    assert len(argv) <= ARGV_LENGTH_MAX and json.loads(argv)[-1] == "[and more]"


def test_importing_noria_loads_nothing_heavy() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import sys, noria; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert not {"httpx", "msgspec", "numpy", "psutil", "sqlalchemy", "litestar"} & set(found.stdout.split())


def test_the_interpreter_of_a_command_is_seen(tmp_path: Path) -> None:
    script = tmp_path / "train"
    script.write_text("#!/opt/env/bin/python3.11\nprint(1)\n")
    script.chmod(0o755)
    assert interpreter_of([str(script)]) == "/opt/env/bin/python3.11"
    assert interpreter_of([sys.executable, "x.py"]) == sys.executable
    assert interpreter_of(["sh", "train.sh"]) is None and interpreter_of(["no-such-program"]) is None
