"""Prompts through the unmodified client: `mlflow.genai`, and the client's own calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.protocol.test_mlflow_tracking import Server

mlflow = pytest.importorskip("mlflow")
pytestmark = [pytest.mark.protocol, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    yield made
    made.stop()


@pytest.fixture
def genai(server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    mlflow.set_experiment(request.node.name)
    return mlflow.genai


def test_a_prompt_from_beginning_to_end(genai: Any, server: Server) -> None:
    first = genai.register_prompt("greet", "Hello {{name}}!", commit_message="first", tags={"author": "ada"})
    assert (first.name, first.version, first.template, first.tags) == ("greet", 1, "Hello {{name}}!", {"author": "ada"})
    second = genai.register_prompt("greet", "Good day, {{ name }}.", commit_message="politer")
    assert (second.version, second.commit_message, second.variables) == (2, "politer", {"name"})
    assert genai.load_prompt("greet", version=1).format(name="Ada") == "Hello Ada!"
    assert genai.load_prompt("prompts:/greet/2").template == "Good day, {{ name }}."
    assert genai.load_prompt("prompts:/greet@latest").version == 2
    genai.set_prompt_alias("greet", "production", 1)
    assert genai.load_prompt("prompts:/greet@production").version == 1
    genai.set_prompt_alias("greet", "production", 2)
    assert genai.load_prompt("prompts:/greet@production").aliases == ["production"]
    genai.delete_prompt_alias("greet", "production")
    with pytest.raises(mlflow.MlflowException, match="production"):
        genai.load_prompt("prompts:/greet@production")
    assert genai.load_prompt("prompts:/nobody/1", allow_missing=True) is None
    ours = [server.app.registry.version(server.app.ops.system("test"), f"greet@{n}") for n in (1, 2)]
    assert ours[0].digest != ours[1].digest and [v.files_count for v in ours] == [1, 1]
    file, chunks = server.app.registry.open_file(server.app.ops.system("test"), ours[0], "prompt.txt")
    assert b"".join(chunks) == b"Hello {{name}}!" and file.size_bytes == 15


def test_a_chat_with_its_settings(genai: Any) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{question}}"}]
    shape = {"type": "object", "properties": {"answer": {"type": "string"}}}
    genai.register_prompt("ask", chat, response_format=shape, model_config={"model_name": "m", "temperature": 0.5})
    found = genai.load_prompt("prompts:/ask/1")
    assert found.template == chat and found.response_format == shape and found.model_config["temperature"] == 0.5
    assert found.format(question="Why?")[1] == {"role": "user", "content": "Why?"}


def test_tags_of_prompts_and_of_versions(genai: Any) -> None:
    genai.register_prompt("tagged", "x {{y}}")
    client = mlflow.MlflowClient()
    genai.set_prompt_tag("tagged", "team", "ops") if hasattr(genai, "set_prompt_tag") else client.set_prompt_tag(
        "tagged", "team", "ops"
    )
    client.set_prompt_version_tag("tagged", "1", "reviewed", "yes")
    assert client.get_prompt("tagged").tags["team"] == "ops"
    assert client.get_prompt_version("tagged", "1").tags["reviewed"] == "yes"
    client.delete_prompt_version_tag("tagged", "1", "reviewed")
    client.delete_prompt_tag("tagged", "team")
    assert "team" not in client.get_prompt("tagged").tags and "reviewed" not in client.get_prompt_version("tagged", "1").tags


def test_prompts_are_found_as_prompts_and_models_as_models(genai: Any) -> None:
    client = mlflow.MlflowClient()
    for name in ("find-a", "find-b"):
        genai.register_prompt(name, f"of {name}", tags={"kind": name[-1]})
    client.create_registered_model("find-c")
    assert {p.name for p in genai.search_prompts("name LIKE 'find-%'")} == {"find-a", "find-b"}
    assert [p.name for p in genai.search_prompts(max_results=1)] != []
    assert {m.name for m in client.search_registered_models("name LIKE 'find-%'")} == {"find-c"}
    assert client.search_model_versions("name = 'find-a'") == []
    genai.register_prompt("find-a", "again")
    assert [v.version for v in client.search_prompt_versions("find-a")] == [2, 1]


def test_the_text_of_a_version_does_not_change(genai: Any, server: Server) -> None:
    genai.register_prompt("fixed", "as it was")
    api = f"{server.url}/api/2.0/mlflow/model-versions"
    tag = {"name": "fixed", "version": "1"}
    for key, value in (("mlflow.prompt.text", "changed"), ("mlflow.prompt.is_prompt", "false")):
        answer = httpx.post(f"{api}/set-tag", json={**tag, "key": key, "value": value})
        assert answer.status_code == 400 and "does not change" in answer.json()["message"]
    gone = httpx.request("DELETE", f"{api}/delete-tag", json={**tag, "key": "mlflow.prompt.text"})
    assert (gone.status_code, gone.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert genai.load_prompt("prompts:/fixed/1").template == "as it was"


def test_a_run_and_a_trace_know_the_prompts_they_used(genai: Any) -> None:
    genai.register_prompt("used", "Hello {{name}}!")
    with mlflow.start_run() as run:
        genai.load_prompt("prompts:/used/1")
    assert '"used"' in mlflow.get_run(run.info.run_id).data.tags["mlflow.linkedPrompts"]


def test_what_is_no_prompt_is_refused(genai: Any, server: Server) -> None:
    client = mlflow.MlflowClient()
    client.create_registered_model("plain")
    with pytest.raises(mlflow.MlflowException, match="not a prompt"):
        genai.load_prompt("plain", version=1)
    with pytest.raises(mlflow.MlflowException):
        genai.register_prompt("plain", "text")
    genai.register_prompt("a-prompt", "text")
    tags = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    for sent in ({"source": "file:///etc", "tags": [*tags, {"key": "mlflow.prompt.text", "value": "x"}]},
                 {"source": "prompt-template", "tags": tags}, {"source": "prompt-template"}):  # fmt: skip
        answer = httpx.post(f"{server.url}/api/2.0/mlflow/model-versions/create", json={"name": "a-prompt", **sent})
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_a_prompt_is_removed_with_its_versions(genai: Any) -> None:
    client = mlflow.MlflowClient()
    genai.register_prompt("short", "one")
    genai.register_prompt("short", "two")
    client.delete_prompt_version("short", "1")
    assert [v.version for v in client.search_prompt_versions("short")] == [2]
    client.delete_prompt("short")
    assert genai.load_prompt("short", version=2, allow_missing=True) is None
