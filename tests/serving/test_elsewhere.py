"""The data plane on other machines: a node that is told one revision, as a pod of KServe's runs it, and Ray Serve.

Both are asked what Noria's own data plane is asked, and must give the same answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from noria.access.model import NewPrincipal, TokenRequest
from noria.config import load_config
from noria.serving.model import Recording
from noria.serving.node import read_desired
from noria.serving.replica import ReplicaNode
from scripts.mlflow_clients import python_of
from tests.serving.conftest import COLUMNS, Plane, features, free_port, v2

pytestmark = [pytest.mark.protocol, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
GIVEN = features(3, seed=5)
JSON = {"content-type": "application/json"}
_ID = re.compile(rb"[0-9a-f]{32}")
Request = tuple[str, str, dict[str, str], bytes]


@pytest.fixture(scope="module", autouse=True)
def deployed(plane: Plane, models: dict[str, Path]) -> None:
    for model in ("one", "two", "one"):
        plane.registry.add("flights", models[model])
    plane.deploy("flights", "flights@1")


@pytest.fixture(scope="module")
def token(plane: Plane) -> str:
    """That of a service account which may be a node and nothing else."""
    op = plane.op()
    plane.app.access.create_principal(op, NewPrincipal(name="elsewhere", kind="service", roles=["node"]))
    return plane.app.access.create_token(op, TokenRequest(name="elsewhere", principal="elsewhere")).secret


def environment(token: str, home: Path) -> dict[str, str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "MLFLOW_"))}
    ours = {"NORIA_TOKEN": token, "NORIA_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return plain | ours | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_prestart_worker_first_driver": "0"}


@contextlib.contextmanager
def running(args: list[str], env: dict[str, str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(args, env=env, text=True, **options) as process:
        try:
            yield process
        finally:
            if process.stdin:
                process.stdin.close()
            else:
                process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def requests() -> list[Request]:
    """What both are asked: every form, and what each must refuse."""
    rows = GIVEN.to_dict("records")
    whole = {"name": "rows", "shape": [3, 7], "datatype": "FP64", "data": GIVEN.to_numpy().tolist()}
    raw = GIVEN.to_numpy().astype("<f8").tobytes()
    head = json.dumps({
        "id": "b", "inputs": [{"name": "rows", "shape": [3, 7], "datatype": "FP64", "parameters": {"binary_data_size": len(raw)}}],
        "outputs": [{"name": "probability", "parameters": {"binary_data": True}}],
    }).encode()  # fmt: skip
    infer, invocations = "/v2/models/flights/infer", "/endpoints/flights/invocations"
    found: list[tuple[str, dict[str, str], Any]] = [
        (infer, JSON, {"id": "one", **v2(GIVEN.iloc[0])}),
        (infer, JSON, {"id": "three", "inputs": [whole]}),
        (infer, JSON, {"id": "some", "inputs": [whole], "outputs": [{"name": "predict"}]}),
        (infer, {"inference-header-content-length": str(len(head))}, head + raw),
        (infer, {"inference-header-content-length": str(len(head))}, head + raw[:-8]),
        (infer, JSON, {"id": "short", "inputs": v2(GIVEN.iloc[0])["inputs"][1:]}),
        (infer, JSON, b"{"),
        (infer, JSON, {"id": "nan", "inputs": [{**whole, "data": [[float("nan")] * 7] * 3}]}),
        ("/v2/models/flights/versions/1/infer", JSON, {"id": "v", **v2(GIVEN.iloc[0])}),
        ("/v2/models/flights/versions/9/infer", JSON, {"id": "v", **v2(GIVEN.iloc[0])}),
        ("/v2/models/nowhere/infer", JSON, {"id": "n", **v2(GIVEN.iloc[0])}),
        (invocations, JSON, {"dataframe_records": rows}),
        (invocations, JSON, {"dataframe_split": GIVEN.to_dict("split")}),
        (invocations, {"content-type": "text/csv"}, GIVEN.to_csv(index=False).encode()),
        (invocations, JSON, {"dataframe_records": [dict.fromkeys(COLUMNS, "x")]}),
        (invocations, {"content-type": "text/plain"}, b"1"),
        ("/endpoints/flights/truth", JSON, {"items": []}),
    ]
    return [
        ("POST", path, headers, body if isinstance(body, bytes) else json.dumps(body).encode())
        for path, headers, body in found
    ] + [
        ("GET", path, {}, b"")
        for path in ("/v2/models/flights", "/v2", "/v2/models/flights/ready", "/endpoints/flights/ping", "/nowhere")
    ]


def told(client: httpx.Client, request: Request) -> tuple[int, str, str | None, bytes]:
    """An answer, but for the ids of its predictions, which are its own."""
    method, path, headers, body = request
    answer = client.request(method, path, headers=headers, content=body)
    return (
        answer.status_code,
        answer.headers["content-type"],
        answer.headers.get("x-noria-model"),
        _ID.sub(b"<id>", answer.content),
    )


def answers_alike(plane: Plane, other: httpx.Client) -> None:
    for request in requests():
        assert told(other, request) == told(plane.http, request), request[1:]


def test_a_node_elsewhere_serves_one_revision_like_a_pod(plane: Plane, token: str, tmp_path: Path) -> None:
    champion = plane.serving.endpoint(plane.op(), "flights").routes[0].revision_id
    env = environment(token, tmp_path / "pod") | {
        "NORIA_URL": plane.config.control_url, "NORIA_GATEWAY_PORT": str(free_port()), "NORIA_GRPC_PORT": "0",
    }  # fmt: skip
    with (
        running([sys.executable, "-m", "noria.cli.main", "endpoint", "serve", "--only", f"flights:{champion}"], env),
        httpx.Client(base_url=f"http://127.0.0.1:{env['NORIA_GATEWAY_PORT']}", timeout=30) as pod,
    ):
        plane.until(lambda: is_up(pod), "the pod")
        answers_alike(plane, pod)
        said = pod.post("/v2/models/flights/infer", json=v2(GIVEN.iloc[0]), headers={"x-noria-key": "in a pod"})
        assert said.status_code == 200
        plane.until(lambda: [r for r in plane.rows("flights") if r["key"] == "in a pod"], "the record from the pod")
        nodes = {r.node for r in plane.serving.detail(plane.op(), "flights").replicas}
        assert len(nodes) == 2 and any(n.endswith(f"/flights:{champion}") for n in nodes)


def is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/v2/models/flights/ready").status_code == 200
    except httpx.HTTPError:
        return False


def test_the_form_on_the_endpoints_page_asks_the_gateway(plane: Plane) -> None:
    def tried(endpoint: str, rows: Any, key: str = "from the form") -> httpx.Response:
        url = f"{plane.config.control_url}/api/v1/endpoints/{endpoint}/try"
        return httpx.post(url, json={"rows": rows, "key": key}, timeout=30)

    answer = tried("flights", GIVEN.to_dict("records")).json()
    said = plane.http.post("/endpoints/flights/invocations", json={"dataframe_records": GIVEN.to_dict("records")}).json()
    assert (answer["predictions"], answer["model"]) == (said["predictions"], "flights@1")
    plane.until(lambda: [r for r in plane.rows("flights") if r["key"] == "from the form"], "the record")
    assert tried("flights", GIVEN.to_dict("records"), "ключ é").status_code == 200
    plane.until(lambda: [r for r in plane.rows("flights") if r["key"] == "ключ é"], "the record")
    for wrong in ("two\nlines", "nul\0", " around "):
        refused = tried("flights", GIVEN.to_dict("records"), wrong)
        assert (refused.status_code, refused.json()["error"]["where"]) == (400, "key"), wrong
    assert tried("flights", GIVEN.to_dict("records"), "k" * 513).status_code == 400
    refused = tried("flights", [{"hour": 1}])
    assert refused.status_code == 400 and "missing" in refused.text
    assert tried("nowhere", [{}]).status_code == 404 and tried("flights", []).status_code == 400


def test_a_node_without_rights_or_server_says_so(plane: Plane, tmp_path: Path) -> None:
    env = environment("", tmp_path / "x")
    args = [sys.executable, "-m", "noria.cli.main", "endpoint", "serve"]
    done = subprocess.run(args, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "Which server?" in done.stderr
    done = subprocess.run(
        [*args, "--url", plane.config.control_url], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0 and "NORIA_TOKEN" in done.stderr


def test_a_replica_keeps_the_policies_that_its_machines_recorder_needs(plane: Plane, token: str, tmp_path: Path) -> None:
    revision = plane.serving.nodes.desired(plane.op()).revisions[0]
    given = {"NORIA_TOKEN": token, "NORIA_URL": plane.config.control_url}
    config = load_config(given, home=str(tmp_path / "ray"), grpc_port=0)

    async def wanted(inputs: str) -> None:
        while True:
            told = await asyncio.to_thread(read_desired, config.home)
            if told and [p.recording.inputs for p in told.recordings if p.endpoint == "flights"] == [inputs]:
                return
            await asyncio.sleep(0.05)

    async def life() -> None:
        plane.serving.recordings.change(plane.op(), "flights", Recording(inputs="none"))
        node = ReplicaNode(config)
        (config.home / "serving").mkdir(parents=True)
        try:
            lane = await node.start_with(revision)
            await asyncio.wait_for(wanted("none"), 1)  # it was there before the worker
            plane.serving.recordings.change(plane.op(), "flights", Recording())
            await asyncio.wait_for(wanted("all"), 10)
            assert lane.is_ready and not lane.is_lost, "what else is wanted is the door's to follow"
        finally:
            await node.stop()

    asyncio.run(life())


@pytest.mark.slow
def test_ray_serve_answers_what_noria_answers_and_follows_the_endpoint(plane: Plane, token: str, tmp_path: Path) -> None:
    exported = httpx.get(
        f"{plane.config.control_url}/api/v1/endpoints/flights/export",
        params={"format": "ray", "url": plane.config.control_url},
    ).json()
    assert {item["field"] for item in exported["left_out"]} == {"token", "stream", "gRPC"}
    home, port = tmp_path / "ray", free_port()
    args = [
        str(python_of("ray")),
        str(ROOT / "tests" / "serving" / "ray_cluster.py"),
        str(port),
        json.dumps(exported["objects"][0]),
    ]
    with (
        running(args, environment(token, home), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cluster,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as ray,
    ):
        assert cluster.stdout and cluster.stdout.readline() == "UP\n"
        plane.until(lambda: is_up(ray), "Ray")
        answers_alike(plane, ray)

        split_alike(plane, ray)

        # A rollback is a pointer here too.
        plane.serving.canaries.rollback(plane.op(), "flights", "enough")
        plane.until(lambda: {model(ray, f"k{i}") for i in range(20)} == {"flights@1"}, "the rollback on Ray", 10)

        # What was recorded there is Noria's.
        rows = plane.until(lambda: recorded(plane, "k59"), "the record from Ray")
        assert len(rows) == 2 and {r["prediction"] for r in rows} <= {0.0, 1.0}

        refuses_changed_files(plane, home)


def model(client: httpx.Client, key: str) -> str:
    answer = client.post("/v2/models/flights/infer", json=v2(GIVEN.iloc[0]), headers={"x-noria-key": key})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-noria-model"]


def split_alike(plane: Plane, ray: httpx.Client) -> None:
    """A canary at 25 %: the same keys go to it on both."""
    plane.serving.canaries.start(plane.op(), "flights", "flights@2", steps=[25, 50])
    metadata = ["1", "2"]
    plane.until(lambda: ray.get("/v2/models/flights").json()["versions"] == metadata, "the canary on Ray")
    here = [model(plane.http, f"k{i}") for i in range(60)]
    assert [model(ray, f"k{i}") for i in range(60)] == here
    assert 5 <= here.count("flights@2") <= 26


def recorded(plane: Plane, key: str) -> list[dict[str, Any]]:
    found = [r for r in plane.rows("flights") if r["key"] == key]
    return found if len(found) == 2 else []


def refuses_changed_files(plane: Plane, home: Path) -> None:
    """Somebody with Ray's disk put a file beside the model: it is not loaded there, and the endpoint's page says why."""
    digest = plane.registry.version(plane.op(), "flights@1").digest
    (home / "serving" / "models" / digest / "extra.py").write_text("print('not registered')")
    made = plane.serving.deploy(plane.op(), "flights", "flights@3")

    def refused() -> str:
        replicas = plane.serving.detail(plane.op(), "flights").replicas
        return next((r.error for r in replicas if r.revision_id == made.id and r.state == "failed"), "")

    assert "not those that were registered" in plane.until(refused, "the refusal on Ray")


def test_the_binary_head_is_what_the_protocol_wants() -> None:
    """The requests above are worth what they ask: the binary one holds 21 numbers."""
    head, raw = next((h, b) for _, _, h, b in requests() if "inference-header-content-length" in h)
    tensors = raw[int(head["inference-header-content-length"]) :]
    assert struct.unpack("<21d", tensors) == tuple(GIVEN.to_numpy().ravel())
