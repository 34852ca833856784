"""Large files through the unmodified client: in parts, by links and as they are, on a disk and in a bucket, in flat memory."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from noria.config import Config, load_config
from noria.kernel.blobs import open_blobs
from noria.migrations import open_db
from tests.conftest import furnish
from tests.kernel.test_blobs import s3
from tests.protocol.test_demo import free_port
from tests.tracking.test_durable import start, wait_ready

mlflow = pytest.importorskip("mlflow")
__all__ = ["s3"]
pytestmark = [pytest.mark.protocol, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]
MIB = 1 << 20
SIZE_MIB = 256
GROWTH_MIB_MAX = 120  # of the server's memory while one file passes, whatever its size
GROWTH_IN_PARTS_MIB_MAX = 200  # while the client's threads send and fetch many parts at a time


class Process:
    """A control process of its own, whose memory can be looked at."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._seen = set[str]()
        self._warm_mib = 0.0
        self._process: Popen[bytes] = start(config)
        wait_ready(self._process, config.control_url)

    def growth_mib(self) -> float:
        """How far its memory rose in this test, above what it had before the first: what one test leaves hides no other's."""
        return self._peak_mib() - self._warm_mib

    def _peak_mib(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024

    def begin(self) -> None:
        """Forget the transfers and the peak of memory of the tests before."""
        self._seen = {row["id"] for row in self._rows()}
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")
        self._warm_mib = self._warm_mib or self._peak_mib()

    def transfers(self) -> list[dict[str, Any]]:
        """Those that this test began, or what is left of them."""
        return [{k: v for k, v in row.items() if k != "id"} for row in self._rows() if row["id"] not in self._seen]

    def _rows(self) -> list[dict[str, Any]]:
        db = open_db(self.config.database_url)
        with db.read() as tx:
            found = tx.rows("select id, kind, state, parts from transfer order by id")
        db.close()
        return found

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


STORES = ["disk", "bucket", "bucket, direct"]


@pytest.fixture(scope="module", params=STORES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    settings: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.param != "disk":
            for name, value in {
                "ENDPOINT_URL": request.getfixturevalue("s3"), "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "any",
                "SECRET_ACCESS_KEY": "any", "REGION": "us-east-1",
            }.items():  # fmt: skip
                monkeypatch.setenv(f"AWS_{name}", value)
            settings = {"blobs": f"s3://noria/l{time.time_ns()}", "direct_transfers": "direct" in request.param}
        ports = {"port": free_port(), "gateway_port": free_port()}
        made = Process(load_config({}, home=str(furnish(tmp_path_factory.mktemp("home"))), **ports, **settings))
        yield made
        made.stop()


@pytest.fixture
def client(server: Process, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {
        "HTTP_REQUEST_MAX_RETRIES": "0", "ENABLE_PROXY_MULTIPART_UPLOAD": "true", "MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1000000",
        "ENABLE_PROXY_MULTIPART_DOWNLOAD": "true", "MULTIPART_DOWNLOAD_CHUNK_SIZE": str(20 * MIB),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"MLFLOW_{name}", value)
    mlflow.set_tracking_uri(server.config.control_url)
    made = mlflow.MlflowClient()
    made.log_text(made.create_run("0").info.run_id, "warm", "a.txt")
    server.begin()
    return made


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Path, str]]:
    """A file of so many MiB that cannot be guessed or packed, and its SHA-256."""

    @cache
    def make(size_mib: int) -> tuple[Path, str]:
        path = tmp_path_factory.mktemp("noise") / f"noise-{size_mib}.bin"
        source, hasher = random.Random(size_mib), hashlib.sha256()
        with path.open("wb") as file:
            for _ in range(size_mib):
                chunk = source.randbytes(MIB)
                hasher.update(chunk)
                file.write(chunk)
        return path, hasher.hexdigest()

    return make


def sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_file_through_the_proxy_needs_no_memory(
    server: Process, client: Any, noise: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    run = client.create_run("0").info.run_id
    path, digest = noise(SIZE_MIB)
    client.log_artifact(run, str(path))
    assert sha256(client.download_artifacts(run, path.name, str(tmp_path))) == digest
    assert server.growth_mib() < GROWTH_MIB_MAX
    assert server.transfers() == []


def test_a_file_goes_up_in_parts_and_comes_down_in_ranges(server: Process, client: Any, noise: Any, tmp_path: Path) -> None:
    path, digest = noise(SIZE_MIB)
    run = client.create_run("0").info.run_id
    client.log_artifact(run, str(path), "models")
    assert [(f.path, f.file_size) for f in client.list_artifacts(run, "models")] == [(f"models/{path.name}", SIZE_MIB * MIB)]
    assert sha256(client.download_artifacts(run, f"models/{path.name}", str(tmp_path))) == digest
    upload, *links = server.transfers()
    assert upload == {"kind": "upload", "state": "done", "parts": 26}
    assert bool(links) is not server.config.direct_transfers, "a link of the store's own needs no row"
    assert list(open_blobs(server.config.blobs_url).keys("uploads")) == []
    assert server.growth_mib() < GROWTH_IN_PARTS_MIB_MAX


def test_a_failed_part_aborts_the_upload_and_nothing_is_left(
    server: Process, client: Any, noise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    path, _ = noise(25)
    run, send = client.create_run("0").info.run_id, HttpArtifactRepository._upload_part

    def fail_second(credential: Any, **how: Any) -> Any:
        if credential.part_number == 2:
            raise OSError("the network is gone")
        return send(credential, **how)

    monkeypatch.setattr(HttpArtifactRepository, "_upload_part", staticmethod(fail_second))
    with pytest.raises(Exception, match="Failed to upload at least one part"):
        client.log_artifact(run, str(path))
    assert server.transfers() == [] and client.list_artifacts(run) == []
    assert list(open_blobs(server.config.blobs_url).keys("uploads")) == []


@pytest.mark.parametrize("server", STORES[2:], indirect=True)
def test_a_client_that_sets_nothing_takes_what_the_server_offers(
    server: Process, client: Any, noise: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD")
    monkeypatch.delenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD")
    run = client.create_run("0").info.run_id
    path, digest = noise(25)
    client.log_artifact(run, str(path))
    for small in ("hello", ""):
        client.log_text(run, small, f"small/{len(small)}.txt")
    down = tmp_path / "down"
    down.mkdir()
    assert sha256(client.download_artifacts(run, path.name, str(down))) == digest
    found = Path(client.download_artifacts(run, "small", str(down)))
    assert {file.name: file.read_text() for file in found.iterdir()} == {"5.txt": "hello", "0.txt": ""}
    assert [t["state"] for t in server.transfers()] == ["done"], "the large one went in parts, straight to the bucket"
