"""Signing in with the unmodified client: name and password, a token, wrong ones, and roles that may only read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.access.model import NewPrincipal, TokenRequest
from tests.protocol.test_mlflow_tracking import Server

mlflow = pytest.importorskip("mlflow")
pytestmark = [pytest.mark.protocol, pytest.mark.filterwarnings("ignore")]
PASSWORDS = {"ada": "correct horse battery", "rita": "a reader's secret"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with accounts: `ada` may everything, `rita` may look."""
    made = Server(tmp_path_factory.mktemp("home"))
    for name, role in (("ada", "admin"), ("rita", "viewer")):
        new = NewPrincipal(name=name, kind="user", password=PASSWORDS[name], roles=[role])
        made.app.access.create_principal(made.app.ops.system("test"), new)
    yield made
    made.stop()


@pytest.fixture(params=["password", "token", "token as a password"])
def sign_in(server: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the client's variables for somebody."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)

    def sign_in(name: str, *, wrong: bool = False) -> Any:
        ask = TokenRequest(name=f"{name} {request.node.name}"[:60] + str(wrong), principal=name)
        token = server.app.access.create_token(server.app.ops.system("test"), ask).secret
        if wrong:
            token = token[:20] + ("a" if token[20] != "a" else "b") + token[21:]
        secret = {"password": PASSWORDS[name] + "x" * wrong}.get(request.param, token)
        if request.param == "token":
            monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", secret)
        else:
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", secret)
        return mlflow.MlflowClient()

    return sign_in


def test_who_may_does_everything(sign_in: Any, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "500000")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "300000")
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
    client = sign_in("ada")
    run = client.create_run(client.create_experiment(request.node.name))
    client.log_metric(run.info.run_id, "loss", 0.5)
    (tmp_path / "big.bin").write_bytes(b"x" * 1_000_000)
    client.log_artifact(run.info.run_id, str(tmp_path / "big.bin"))  # parts go without credentials, by a secret of their own
    (tmp_path / "down").mkdir()
    found = client.download_artifacts(run.info.run_id, "big.bin", str(tmp_path / "down"))
    assert Path(found).stat().st_size == 1_000_000
    assert client.get_run(run.info.run_id).data.metrics == {"loss": 0.5}
    assert client.create_registered_model(f"m {request.node.name}"[:60]).name


def test_wrong_credentials_are_refused_and_say_so(sign_in: Any) -> None:
    client = sign_in("ada", wrong=True)
    for call in (
        lambda: client.search_experiments(),
        lambda: client.create_experiment("x"),
        lambda: client.get_run("f" * 32),
    ):
        with pytest.raises(mlflow.MlflowException) as error:
            call()
        assert error.value.error_code == "UNAUTHENTICATED"


def test_who_may_look_looks_and_no_more(server: Server, sign_in: Any, request: pytest.FixtureRequest) -> None:
    op = server.app.ops.system("test")
    experiment = server.app.tracking.experiment_by_name(op, "shared", create=True)
    run = server.app.tracking.create_run(op, experiment.id).id
    client = sign_in("rita")
    assert client.get_experiment_by_name("shared").experiment_id == experiment.id
    assert client.get_run(run).info.run_id == run and client.list_artifacts(run) == []
    for call in (
        lambda: client.create_experiment("mine"), lambda: client.log_metric(run, "loss", 1), lambda: client.set_tag(run, "a", "b"),
        lambda: client.delete_run(run), lambda: client.create_registered_model("mine"), lambda: client.log_text(run, "a", "a.txt"),
        lambda: client.create_webhook("mine", "https://x.example", ["prompt.created"]),
    ):  # fmt: skip
        with pytest.raises(Exception, match=r"PERMISSION_DENIED|403") as error:
            call()
        assert getattr(error.value, "error_code", "PERMISSION_DENIED") == "PERMISSION_DENIED"


def test_without_credentials_nothing_is_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(server.url)
    with pytest.raises(mlflow.MlflowException) as error:
        mlflow.MlflowClient().search_experiments()
    assert error.value.error_code == "UNAUTHENTICATED"


def test_a_token_that_is_revoked_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    op = server.app.ops.system("test")
    made = server.app.access.create_token(op, TokenRequest(name="short-lived", principal="ada"))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", made.secret)
    mlflow.set_tracking_uri(server.url)
    assert mlflow.MlflowClient().search_experiments()
    server.app.access.revoke_token(op, made.token.id)
    with pytest.raises(mlflow.MlflowException) as error:
        mlflow.MlflowClient().search_experiments()
    assert error.value.error_code == "UNAUTHENTICATED"
