"""What real clients of the inference protocols see; run by the interpreter of .venv/clients/inference, printed as JSON.

python inference_calls.py CLIENT HTTP_HOST:PORT GRPC_HOST:PORT ENDPOINT [TOKEN] < rows.json
"""

import asyncio
import json
import sys

import numpy as np


def triton_http(http, grpc, endpoint, rows, token):
    import tritonclient.http as triton

    headers = {"authorization": f"Bearer {token}"} if token else None
    client = triton.InferenceServerClient(http)
    found = {
        "live": client.is_server_live(), "ready": client.is_server_ready(), "server": client.get_server_metadata(),
        "model_ready": client.is_model_ready(endpoint, headers=headers),
        "model": client.get_model_metadata(endpoint, headers=headers),
    }  # fmt: skip
    found["answers"] = {}
    for name, binary in (("json", False), ("binary", True)):
        inputs = _columns(triton, rows, binary)
        outputs = [triton.InferRequestedOutput(n, binary_data=binary) for n in ("predict", "probability")]
        answer = client.infer(endpoint, inputs, outputs=outputs, request_id="call-7", headers=headers)
        found["answers"][name] = _answer(answer.as_numpy)
        found["id"] = answer.get_response()["id"]
    tensor = triton.InferInput("x", list(_matrix(rows).shape), "FP32")
    tensor.set_data_from_numpy(_matrix(rows).astype(np.float32))
    for algorithm in ("gzip", "deflate"):
        answer = client.infer(endpoint, [tensor], request_compression_algorithm=algorithm, headers=headers)
        found["answers"][algorithm] = _answer(answer.as_numpy)
    answer = client.infer(endpoint, [tensor], model_version="1", headers=headers)
    found["answers"]["version"] = _answer(answer.as_numpy)
    found["refused"] = _refusal(lambda: client.infer(endpoint, _columns(triton, rows, True)[1:], headers=headers), triton)
    found["nowhere"] = _refusal(lambda: client.infer("nowhere", [tensor], headers=headers), triton)
    return found


def triton_grpc(http, grpc, endpoint, rows, token):
    import tritonclient.grpc as triton

    headers = {"authorization": f"Bearer {token}"} if token else None
    client = triton.InferenceServerClient(grpc)
    found = {
        "live": client.is_server_live(), "ready": client.is_server_ready(), "server": client.get_server_metadata(as_json=True),
        "model_ready": client.is_model_ready(endpoint, headers=headers),
        "model": client.get_model_metadata(endpoint, headers=headers, as_json=True),
    }  # fmt: skip
    outputs = [triton.InferRequestedOutput(n) for n in ("predict", "probability")]
    answer = client.infer(endpoint, _columns(triton, rows, None), outputs=outputs, request_id="call-7", headers=headers)
    found["answers"] = {"columns": _answer(answer.as_numpy)}
    found["id"] = answer.get_response().id
    tensor = triton.InferInput("x", list(_matrix(rows).shape), "FP32")
    tensor.set_data_from_numpy(_matrix(rows).astype(np.float32))
    answer = client.infer(endpoint, [tensor], model_version="1", client_timeout=30, headers=headers)
    found["answers"]["tensor"] = _answer(answer.as_numpy)
    found["refused"] = _refusal(lambda: client.infer(endpoint, _columns(triton, rows, None)[1:], headers=headers), triton)
    found["nowhere"] = _refusal(lambda: client.infer("nowhere", [tensor], headers=headers), triton)
    found["anonymous"] = _refusal(lambda: client.infer(endpoint, [tensor]), triton)
    return found


def kserve(http, grpc, endpoint, rows, token):
    return asyncio.run(_kserve(http, grpc, endpoint, rows))


async def _kserve(http, grpc, endpoint, rows):
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

    found = {"answers": {}}
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    url = f"http://{http}"
    found["live"], found["ready"] = await rest.is_server_live(url), await rest.is_server_ready(url)
    found["model_ready"] = await rest.is_model_ready(url, endpoint)
    stub = InferenceGRPCClient(grpc)
    found["grpc"] = [await stub.is_server_live(), await stub.is_server_ready(), await stub.is_model_ready(endpoint)]
    for name, binary in (("json", False), ("binary", True)):
        inputs = []
        for column, values in rows.items():
            made = InferInput(name=column, shape=[len(values)], datatype="FP64")
            made.set_data_from_numpy(np.array(values), binary_data=binary)
            inputs.append(made)
        request = InferRequest(model_name=endpoint, infer_inputs=inputs)
        answer = await rest.infer(url, request, model_name=endpoint)
        found["answers"][name] = {o.name: o.as_numpy().tolist() for o in answer.outputs}
        answer = await stub.infer(request)
        found["answers"][f"grpc {name}"] = {o.name: o.as_numpy().tolist() for o in answer.outputs}
    return found


def mlflow(http, grpc, endpoint, rows, token):
    import pandas as pd
    from mlflow.deployments import get_deploy_client
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    table = pd.DataFrame(rows)
    host, port = http.split(":")
    client = ScoringServerClient(host, int(port))
    client.url_prefix += f"/endpoints/{endpoint}"
    client.wait_server_ready(timeout=20)
    deployed = get_deploy_client(f"http://{http}")
    return {
        "version": client.get_version(),
        "answers": {
            "table": client.invoke(table).get_predictions()[0].tolist(),
            "matrix": client.invoke(table.to_numpy()).get_predictions()[0].tolist(),
            "deployments": deployed.predict(endpoint=endpoint, inputs={"dataframe_split": table.to_dict("split")})[
                "predictions"
            ],
        },
    }


def _columns(triton, rows, binary):
    made = []
    for name, values in rows.items():
        tensor = triton.InferInput(name, [len(values)], "FP64")
        array = np.array(values)
        tensor.set_data_from_numpy(array) if binary is None else tensor.set_data_from_numpy(array, binary_data=binary)
        made.append(tensor)
    return made


def _matrix(rows):
    return np.array(list(rows.values())).T


def _answer(as_numpy):
    return {name: as_numpy(name).tolist() for name in ("predict", "probability")}


def _refusal(call, triton):
    from tritonclient.utils import InferenceServerException

    try:
        call()
    except InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    return None


if __name__ == "__main__":
    client, http, grpc, endpoint, *token = sys.argv[1:]
    print(json.dumps(globals()[client](http, grpc, endpoint, json.load(sys.stdin), *(token or [""]))))
