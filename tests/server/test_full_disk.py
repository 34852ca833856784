"""F3: no room left, on a real small disk: 507 in the caller's shape, nothing half done, reading goes on, and writing once there is room."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.control import Control

pytestmark = [
    pytest.mark.protocol,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """A file that takes all the room there is."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


def test_a_full_disk_is_said_and_nothing_is_half_done(disk: Path, tmp_path: Path) -> None:
    control = Control(disk / "home", log=tmp_path / "control.log", TMPDIR=str(tmp_path)).start()
    try:
        with httpx.Client(base_url=control.url, timeout=60) as http:
            run = http.post("/api/v1/runs", json={"experiment": "full", "name": "r"}).json()["id"]
            kept = random.Random(1).randbytes(200_000)
            content = f"/api/v1/runs/{run}/artifacts/content"
            http.put(content, params={"path": "kept.bin"}, content=kept).raise_for_status()
            acknowledged, refused, filler = 0, None, None
            for number in range(2_000):
                points = [{"key": "m", "value": k / 7, "timestamp": k, "step": number * 100 + k} for k in range(100)]
                answer = http.post("/api/2.0/mlflow/runs/log-batch", json={"run_id": run, "metrics": points})
                if answer.status_code != 200:
                    refused = answer
                    break
                acknowledged += len(points)
                filler = filler or fill(disk)  # after the first; the database may have some room left inside its files
            assert filler is not None
            assert refused is not None and refused.status_code == 507, (refused, control.log.read_text()[-3000:])
            assert refused.json()["error_code"] == "TEMPORARILY_UNAVAILABLE" and "full" in refused.json()["message"]
            assert int(refused.headers["retry-after"]) > 0
            made = http.post("/api/v1/runs", json={"experiment": "full", "name": "too much"})
            assert made.status_code == 507 and made.json()["error"]["code"] == "storage_full", made.text
            # The blobs.
            for path, address in (
                ("no.bin", content), ("no.bin", f"/api/2.0/mlflow-artifacts/artifacts/{_experiment(http)}/{run}/artifacts/no.bin"),
            ):  # fmt: skip
                sent = http.put(address, params={"path": path}, content=random.Random(2).randbytes(3 << 20))
                assert sent.status_code == 507 and "full" in sent.text, (address, sent.status_code, sent.text)
            # Reading goes on.
            assert http.get("/health").json()["status"] == "ok" and http.get("/").status_code == 200
            assert http.get(content, params={"path": "kept.bin"}).content == kept
            assert [f["path"] for f in http.get(f"/api/v1/runs/{run}/artifacts").json()["items"]] == ["kept.bin"]
            assert (
                http.get(f"/api/v1/runs/{run}/series", params={"keys": "m"}).json()["series"]["m"]["count"] == acknowledged
            )
            # And writing, once there is room.
            filler.unlink()
            point = {"key": "m", "value": 1.0, "timestamp": 1, "step": 999_999}
            http.post("/api/2.0/mlflow/runs/log-batch", json={"run_id": run, "metrics": [point]}).raise_for_status()
            http.put(content, params={"path": "later.bin"}, content=kept[::-1]).raise_for_status()
            assert http.get(content, params={"path": "later.bin"}).content == kept[::-1]
            assert (
                http.get(f"/api/v1/runs/{run}/series", params={"keys": "m"}).json()["series"]["m"]["count"]
                == acknowledged + 1
            )
        assert control.is_alive()
    finally:
        control.kill()
    with sqlite3.connect(disk / "home" / "noria.db") as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    assert not [p for p in (disk / "home").rglob("*") if "#" in p.name], "half a blob was left"
    assert "a bug on" not in control.log.read_text(), control.log.read_text()[-3000:]


def test_no_room_for_what_arrives_is_said_too(disk: Path, tmp_path: Path) -> None:
    """Uploads are spooled where TMPDIR points to, which may be another disk."""
    control = Control(tmp_path / "home", TMPDIR=str(disk)).start()
    try:
        with httpx.Client(base_url=control.url, timeout=60) as http:
            run = http.post("/api/v1/runs", json={"experiment": "full", "name": "r"}).json()["id"]
            content, data = f"/api/v1/runs/{run}/artifacts/content", random.Random(3).randbytes(2 << 20)
            http.put(content, params={"path": "first.bin"}, content=data[:-1]).raise_for_status()
            filler = fill(disk)  # only now: Python looks for another folder when its first use of one finds it full
            sent = http.put(content, params={"path": "no.bin"}, content=data)
            assert sent.status_code == 507 and sent.json()["error"]["code"] == "storage_full", sent.text
            assert "TMPDIR" in sent.json()["error"]["hint"]
            assert [f["path"] for f in http.get(f"/api/v1/runs/{run}/artifacts").json()["items"]] == ["first.bin"]
            filler.unlink()
            http.put(content, params={"path": "no.bin"}, content=data).raise_for_status()
            assert not [p for p in disk.iterdir() if p.name.startswith("noria-upload")], "a spool was left"
        assert control.is_alive() and "a bug on" not in control.log.read_text()
    finally:
        control.kill()


def _experiment(http: httpx.Client) -> str:
    return str(http.get("/api/v1/experiments").json()["items"][0]["id"])
