"""A worker loads what was registered, or nothing."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from noria.kernel.errors import Unavailable
from noria.registry.model import ModelFile, digest_of
from noria.serving.frames import Spec
from noria.serving.intact import require_intact


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "deep").mkdir(parents=True)
    (made / "MLmodel").write_bytes(b"flavors: {}\n")
    (made / "deep/model.pkl").write_bytes(b"\x80\x04N.")
    return made


def digest(folder: Path) -> str:
    files = [p for p in folder.rglob("*") if p.is_file()]
    return digest_of(
        [
            ModelFile(path=p.relative_to(folder).as_posix(), size_bytes=0, digest=blake3(p.read_bytes()).hexdigest())
            for p in files
        ]
    )


def test_what_was_registered_is_loaded(folder: Path) -> None:
    require_intact(folder, digest(folder), "flights@1")


@pytest.mark.parametrize("change", ["bytes", "more", "less", "link"])
def test_anything_else_is_refused(folder: Path, change: str) -> None:
    was = digest(folder)
    model = folder / "deep/model.pkl"
    if change == "bytes":
        model.write_bytes(b"\x80\x04N0N.")
    elif change == "more":
        (folder / "deep/__init__.py").write_text("import os")
    elif change == "less":
        model.unlink()
    else:
        model.rename(folder.parent / "elsewhere")
        model.symlink_to(folder.parent / "elsewhere")
    with pytest.raises(Unavailable, match=r"flights@1 on this machine are not those that were registered.*were not loaded"):
        require_intact(folder, was, "flights@1")


@pytest.mark.parametrize("what", ["model", "its ONNX form"])
def test_a_worker_says_so_and_runs_nothing_of_it(folder: Path, tmp_path: Path, what: str) -> None:
    was, proof, onnx = digest(folder), tmp_path / "proof", ""
    if what != "model":
        onnx = str(shutil.copytree(folder, tmp_path / "onnx"))
    (folder / "MLmodel").write_text("flavors: {sklearn: {pickled_model: deep/model.pkl, serialization_format: pickle}}")
    (folder / "deep/model.pkl").write_bytes(f"cos\nsystem\n(S'touch {proof}'\ntR.".encode())
    said, its = socket.socketpair()
    door, its_door = socket.socketpair()
    with said, its, door, its_door:
        fds = its.fileno(), its_door.fileno()
        spec = Spec(
            gateway_fd=fds[0], door_fd=fds[1], folder=str(folder), endpoint="e", revision_id="r", model="flights",
            model_version=1, digest=digest(folder) if onnx else was, onnx=onnx, onnx_digest="0" * 64 if onnx else "",
        )  # fmt: skip
        command = [sys.executable, "-m", "noria.serving.worker", msgspec.json.encode(spec).decode()]
        worker = subprocess.Popen(command, pass_fds=fds)
        its.close()
        said.settimeout(60)
        hello = b"".join(iter(lambda: said.recv(1 << 16), b""))
    assert worker.wait(60) == 3
    assert b"not those that were registered" in hello and b"failed" in hello
    assert not proof.exists()
