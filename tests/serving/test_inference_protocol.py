"""Open Inference Protocol V2 and MLflow's protocol with clients that others wrote: Triton's, KServe's, MLflow's, curl."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from noria.serving.rpc_messages import MESSAGES, SERVICE
from scripts.mlflow_clients import python_of
from tests.serving.conftest import COLUMNS, Plane, features, fitted, v2

pytestmark = pytest.mark.protocol

GIVEN = features(5, seed=3)


@pytest.fixture(scope="module", autouse=True)
def deployed(plane: Plane, models: dict[str, Path]) -> None:
    plane.registry.add("flights", models["one"])
    plane.registry.add("mixed", models["mixed"])
    plane.deploy("flights", "flights@1")
    plane.deploy("mixed", "mixed@1")


def said_by(plane: Plane, client: str, endpoint: str = "flights", token: str = "") -> Any:
    """What the real client saw."""
    config = plane.config
    called = subprocess.run(
        [str(python_of("server" if client == "mlflow" else "inference")), str(Path(__file__).parent / "inference_calls.py"), client,
         f"127.0.0.1:{config.gateway_port}", config.grpc_address, endpoint, *([token] if token else [])],
        input=json.dumps(GIVEN.to_dict("list")), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    return json.loads(called.stdout)


def is_right(answer: dict[str, Any], *, rel: float = 1e-12) -> bool:
    model = fitted(0)
    probability = np.array(answer["probability"]).reshape(len(GIVEN), -1)
    return bool(
        np.ravel(answer["predict"]).tolist() == model.predict(GIVEN).tolist()
        and np.allclose(probability, model.predict_proba(GIVEN), rtol=rel, atol=0)
    )


def test_tritons_http_client(plane: Plane) -> None:
    said = said_by(plane, "triton_http")
    assert (said["live"], said["ready"], said["model_ready"]) == (True, True, True)
    assert said["server"]["name"] == "noria" and "binary_tensor_data" in said["server"]["extensions"]
    assert [i["name"] for i in said["model"]["inputs"]] == COLUMNS
    assert said["id"] == "call-7"
    for name, answer in said["answers"].items():
        assert is_right(answer, rel=1e-12 if name in ("json", "binary") else 1e-5), name  # the others sent FP32
    assert said["refused"][0] == "400" and "'hour' is missing" in said["refused"][1]
    assert said["nowhere"][0] == "404" and "no endpoint 'nowhere'" in said["nowhere"][1]


def test_tritons_grpc_client(plane: Plane) -> None:
    said = said_by(plane, "triton_grpc")
    assert (said["live"], said["ready"], said["model_ready"]) == (True, True, True)
    assert said["server"]["name"] == "noria"
    assert [(i["name"], i["datatype"], i["shape"]) for i in said["model"]["inputs"]] == [
        (c, "FP64", ["-1"]) for c in COLUMNS
    ]
    assert said["id"] == "call-7"
    assert is_right(said["answers"]["columns"]) and is_right(said["answers"]["tensor"], rel=1e-5)
    assert said["refused"][0] == "StatusCode.INVALID_ARGUMENT" and "'hour' is missing" in said["refused"][1]
    assert said["nowhere"][0] == "StatusCode.NOT_FOUND"


def test_kserves_client(plane: Plane) -> None:
    said = said_by(plane, "kserve")
    assert (said["live"], said["ready"], said["model_ready"], said["grpc"]) == (True, True, True, [True, True, True])
    assert set(said["answers"]) == {"json", "binary", "grpc json", "grpc binary"}
    for name, answer in said["answers"].items():
        assert is_right(answer), name


def test_mlflows_scoring_and_deployment_clients(plane: Plane) -> None:
    said = said_by(plane, "mlflow")
    assert said["version"].split(".")[0].isdigit()
    for name, answer in said["answers"].items():
        assert answer == fitted(0).predict(GIVEN).tolist(), name


def test_curl_sends_and_gets_tensors_as_bytes(plane: Plane, tmp_path: Path) -> None:
    head = json.dumps({
        "inputs": [{"name": "x", "shape": [5, 7], "datatype": "FP64", "parameters": {"binary_data_size": 280}}],
        "outputs": [{"name": "probability", "parameters": {"binary_data": True}}, {"name": "predict"}],
    }).encode()  # fmt: skip
    (tmp_path / "body").write_bytes(head + GIVEN.to_numpy().astype("<f8").tobytes())
    url = f"{plane.config.gateway_url}/v2/models/flights/infer"
    subprocess.run(
        ["curl", "-sS", "-o", str(tmp_path / "answer"), "-D", str(tmp_path / "headers"), "--data-binary", f"@{tmp_path / 'body'}",
         "-H", f"Inference-Header-Content-Length: {len(head)}", "-H", "content-type: application/octet-stream", url],
        check=True, timeout=60,
    )  # fmt: skip
    headers = dict(line.split(": ", 1) for line in (tmp_path / "headers").read_text().lower().splitlines() if ": " in line)
    size, body = int(headers["inference-header-content-length"]), (tmp_path / "answer").read_bytes()
    assert headers["content-type"] == "application/octet-stream"
    said = json.loads(body[:size])
    assert [o["name"] for o in said["outputs"]] == ["probability", "predict"]
    assert said["outputs"][0]["parameters"] == {"binary_data_size": 80} and "data" not in said["outputs"][0]
    assert np.allclose(np.frombuffer(body[size:], "<f8").reshape(5, 2), fitted(0).predict_proba(GIVEN), rtol=1e-12, atol=0)
    assert said["outputs"][1]["data"] == fitted(0).predict(GIVEN).tolist()


def test_texts_and_flags_as_bytes(plane: Plane) -> None:
    """Every column in its own datatype, with the text behind its lengths; the prediction is text too."""
    text = b"".join(struct.pack("<I", len(t)) + t for t in (b"EWR", b"JFK"))
    parts = [("origin", "BYTES", text), ("hour", "INT32", np.array([7, 8], "<i4").tobytes()), ("late", "BOOL", b"\x01\x00")]
    described = [{"name": n, "shape": [2], "datatype": t, "parameters": {"binary_data_size": len(b)}} for n, t, b in parts]
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    answer = plane.http.post(
        "/v2/models/mixed/infer", content=head + b"".join(b for *_, b in parts),
        headers={"inference-header-content-length": str(len(head))},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    size = int(answer.headers["inference-header-content-length"])
    outputs = json.loads(answer.content[:size])["outputs"]
    assert (outputs[0]["name"], outputs[0]["datatype"]) == ("predict", "BYTES")
    data = answer.content[size : size + outputs[0]["parameters"]["binary_data_size"]]
    first = data[4 : 4 + struct.unpack_from("<I", data)[0]].decode()
    asked = {"dataframe_records": [{"origin": "EWR", "hour": 7, "late": True}]}
    assert first == plane.http.post("/endpoints/mixed/invocations", json=asked).json()["predictions"][0]


@pytest.mark.parametrize(
    ("datatype", "form"),
    [("BOOL", "?"), ("UINT8", "u1"), ("UINT16", "<u2"), ("UINT32", "<u4"), ("UINT64", "<u8"), ("INT8", "i1"), ("INT16", "<i2"),
     ("INT32", "<i4"), ("INT64", "<i8"), ("FP16", "<f2"), ("FP32", "<f4"), ("FP64", "<f8")],
)  # fmt: skip
def test_every_datatype_means_the_same_in_each_form(plane: Plane, datatype: str, form: str) -> None:
    """The matrix [[1, 0, …]] as JSON and as bytes, over HTTP and gRPC."""
    row = np.array([[1, 0, 1, 0, 1, 0, 1]]).astype(form)
    column = {"name": "x", "shape": [1, 7], "datatype": datatype}
    head = json.dumps({"inputs": [{**column, "parameters": {"binary_data_size": row.nbytes}}]}).encode()
    as_bytes = plane.http.post(
        "/v2/models/flights/infer", content=head + row.tobytes(), headers={"inference-header-content-length": str(len(head))}
    )
    with grpc.insecure_channel(plane.config.grpc_address) as channel:
        request = MESSAGES["ModelInferRequest"](model_name="flights", raw_input_contents=[row.tobytes()])
        request.inputs.add(name="x", shape=[1, 7], datatype=datatype)
        if datatype == "BOOL":  # a flag is no number of this model's signature, whichever way it is sent
            with pytest.raises(grpc.RpcError, match="'hour' is a number; it was sent true, a boolean"):
                _infer(channel)(request)
            assert as_bytes.status_code == 400 and "'hour' is a number" in as_bytes.json()["error"]
            return
        by_grpc = _infer(channel)(request)
    assert as_bytes.status_code == 200, as_bytes.text
    as_json = plane.http.post("/v2/models/flights/infer", json={"inputs": [{**column, "data": row.ravel().tolist()}]})
    assert as_bytes.json()["outputs"] == as_json.json()["outputs"]
    assert np.frombuffer(by_grpc.raw_output_contents[1], "<f8").tolist() == as_json.json()["outputs"][1]["data"]


def _infer(channel: grpc.Channel) -> Any:
    return channel.unary_unary(
        f"/{SERVICE}/ModelInfer", request_serializer=MESSAGES["ModelInferRequest"].SerializeToString,
        response_deserializer=MESSAGES["ModelInferResponse"].FromString,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda h, b: (h, b[:-1]), "55 are left"),
        (lambda h, b: (h, b + b"x"), "1 bytes of the body belong to no input"),
        (lambda h, b: (h[0]["parameters"].update(binary_data_size=48) or h, b[:-8]), "has 48 bytes"),
        (lambda h, b: (h[0].update(shape=[-1, 7]) or h, b), "cannot be negative"),
        (lambda h, b: (h[0].update(datatype="BYTES") or h, b), "ends within an element"),
        (lambda h, b: (h[0].update(datatype="FP128") or h, b), "does not know"),
        (lambda h, b: (h[0].update(parameters={}) or h, b), "neither data nor"),
        (lambda h, b: (h[0].update(datatype="INT8", parameters={}, data=[300] * 7) or h, b""), "does not hold '300'"),
    ],
)  # fmt: skip
def test_bytes_that_do_not_fit_are_refused(plane: Plane, change: Any, names: str) -> None:
    inputs: list[dict[str, Any]] = [
        {"name": "x", "shape": [1, 7], "datatype": "FP64", "parameters": {"binary_data_size": 56}}
    ]
    inputs, body = change(inputs, np.ones(7).tobytes())
    head = json.dumps({"inputs": inputs}).encode()
    answer = plane.http.post(
        "/v2/models/flights/infer", content=head + body, headers={"inference-header-content-length": str(len(head))}
    )
    assert answer.status_code == 400 and names in answer.json()["error"]


def test_a_header_that_lies_is_refused(plane: Plane) -> None:
    body = json.dumps(v2(GIVEN.iloc[0])).encode()
    for size in ("9999999", "0", "-3", "x"):
        answer = plane.http.post("/v2/models/flights/infer", content=body, headers={"inference-header-content-length": size})
        assert answer.status_code == 400, size
    odd = plane.http.post("/v2/models/flights/infer", content=body, headers={"content-encoding": "br"})
    assert odd.status_code == 415 and "gzip" in odd.json()["error"]
    torn = plane.http.post("/v2/models/flights/infer", content=b"\x1f\x8b\x08", headers={"content-encoding": "gzip"})
    assert torn.status_code == 400


def test_a_small_body_cannot_become_a_large_one(plane: Plane) -> None:
    import gzip

    bomb = gzip.compress(b" " * (64 << 20))
    answer = plane.http.post("/v2/models/flights/infer", content=bomb, headers={"content-encoding": "gzip"})
    assert answer.status_code == 413 and "16 MiB once it is decompressed" in answer.json()["error"]


def test_typed_contents_deadlines_and_refusals_over_grpc(plane: Plane) -> None:
    with grpc.insecure_channel(plane.config.grpc_address) as channel:
        ask = _infer(channel)
        request = MESSAGES["ModelInferRequest"](model_name="flights", id="typed")
        for name in COLUMNS:
            made = request.inputs.add(name=name, shape=[1], datatype="FP64")
            made.contents.fp64_contents.append(float(GIVEN.iloc[0][name]))
        answer, call = ask.with_call(request, metadata=(("x-noria-key", "me"),), timeout=30)
        told = dict(call.trailing_metadata())
        assert answer.id == "typed" and told["x-noria-model"] == "flights@1"
        assert answer.parameters["prediction_id"].string_param == told["x-noria-prediction-id"]
        plane.until(
            lambda: {(r["prediction_id"], r["key"]) for r in plane.rows("flights")} >= {(told["x-noria-prediction-id"], "me")},
            "the record",
        )  # fmt: skip
        request.inputs[0].datatype = "INT8"
        request.inputs[0].contents.int_contents.append(300)
        with pytest.raises(grpc.RpcError) as refused:
            ask(request)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT and "does not hold all" in refused.value.details()
        with pytest.raises(grpc.RpcError) as refused:
            ask(MESSAGES["ModelInferRequest"](model_name="flights", model_version="99", raw_input_contents=[b""]))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # no inputs to the raw contents
        empty = MESSAGES["ModelInferRequest"](model_name="flights", model_version="99")
        with pytest.raises(grpc.RpcError) as refused:
            ask(empty)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        other = channel.unary_unary(f"/{SERVICE}/RepositoryIndex")
        with pytest.raises(grpc.RpcError) as refused:
            other(b"")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_with_accounts_grpc_needs_a_token(plane: Plane) -> None:
    from noria.access.model import Grant, NewPrincipal, TokenRequest

    access, op = plane.app.access, plane.op()
    access.create_principal(op, NewPrincipal(name="root", kind="user", roles=["admin"], password="correct horse battery"))
    access.create_principal(op, NewPrincipal(name="robot", kind="service", roles=[]))
    access.grant(op, Grant(principal="robot", role="predictor", scope="endpoint:flights"))
    secret = access.create_token(op, TokenRequest(name="t", principal="robot")).secret
    signed = {"authorization": f"Bearer {secret}"}
    plane.until(lambda: plane.http.get("/v2/models/flights", headers=signed).status_code == 200, "the key")
    plane.until(lambda: plane.http.get("/v2/models/flights").status_code == 401, "the lock")
    said = said_by(plane, "triton_grpc", token=secret)
    assert is_right(said["answers"]["columns"])
    assert said["anonymous"][0] == "StatusCode.UNAUTHENTICATED"
    assert said["nowhere"][0] == "StatusCode.PERMISSION_DENIED"
