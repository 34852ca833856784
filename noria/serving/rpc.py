"""Open Inference Protocol V2 over gRPC: the same requests, checks and workers as over HTTP.

A request becomes the JSON head and the bytes of V2's binary extension, so that workers know one form and need no protobuf; tensors
that come as `raw_input_contents` are passed on untouched. Who calls is in the metadata, under the names of the HTTP headers.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
import grpc.aio
import msgspec

from noria import __version__
from noria.kernel.errors import Invalid, NoriaError
from noria.serving.gateway import EXTENSIONS, Answered, Gateway, Place
from noria.serving.rpc_messages import MESSAGES, SERVICE

log = logging.getLogger("noria.gateway")

MESSAGE_EXTRA_BYTES = 1 << 20  # what a message may hold beyond the limit of a body: names, shapes, framing
_HEADERS = ("authorization", "x-noria-key", "x-noria-event-at-ms", "x-noria-timeout-ms")
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND, 413: grpc.StatusCode.RESOURCE_EXHAUSTED, 429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE, 504: grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip
# Where the protocol keeps the values of each datatype, and how they are written as bytes.
_CONTENTS = {
    "BOOL": ("bool_contents", "?"), "INT8": ("int_contents", "b"), "INT16": ("int_contents", "h"), "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"), "UINT8": ("uint_contents", "B"), "UINT16": ("uint_contents", "H"),
    "UINT32": ("uint_contents", "I"), "UINT64": ("uint64_contents", "Q"), "FP32": ("fp32_contents", "f"),
    "FP64": ("fp64_contents", "d"),
}  # fmt: skip

_json = msgspec.json.Encoder().encode


class Rpc:
    """The gRPC door of a gateway."""

    def __init__(self, gateway: Gateway, host: str, port: int, body_bytes_max: int) -> None:
        self._gateway = gateway
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._bytes_max = body_bytes_max
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises RuntimeError when the address is taken."""
        size = self._bytes_max + MESSAGE_EXTRA_BYTES
        # Without SO_REUSEPORT, so that a second server on the port is an error and not half of the calls.
        options = [
            ("grpc.max_receive_message_length", size), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0),
        ]  # fmt: skip
        server = self._server = grpc.aio.server(options=options)
        methods: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
            "ServerLive": self._live, "ServerReady": self._ready, "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready, "ModelMetadata": self._model_metadata, "ModelInfer": self._infer,
        }  # fmt: skip
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                _answering(call), request_deserializer=MESSAGES[f"{name}Request"].FromString,
                response_serializer=MESSAGES[f"{name}Response"].SerializeToString,
            )
            for name, call in methods.items()
        }  # fmt: skip
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        server.add_insecure_port(self._address)
        await server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=2.0)

    async def _live(self, request: Any, context: Any) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, request: Any, context: Any) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=self._gateway.is_synced)

    async def _server_metadata(self, request: Any, context: Any) -> Any:
        return MESSAGES["ServerMetadataResponse"](name="noria", version=__version__, extensions=EXTENSIONS)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        self._gateway.check_caller(_headers(context), request.name)
        place = _place("ready", request.name, request.version)
        return MESSAGES["ModelReadyResponse"](ready=self._gateway.is_model_ready(place))

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        self._gateway.check_caller(_headers(context), request.name)
        place = _place("metadata", request.name, request.version)
        return MESSAGES["ModelMetadataResponse"](**self._gateway.model_metadata(place))

    async def _infer(self, request: Any, context: Any) -> Any:
        headers = _headers(context)
        caller = self._gateway.check_caller(headers, request.model_name)
        place = _place("infer", request.model_name, request.model_version)
        head, body = as_body(request)
        headers[b"inference-header-content-length"] = b"%d" % head
        left_s = context.time_remaining()
        if left_s is not None and b"x-noria-timeout-ms" not in headers:
            headers[b"x-noria-timeout-ms"] = b"%d" % min(600_000, max(1, int(left_s * 1000)))
        found = await self._gateway.ask(place, headers, body, caller)
        if found.status != 200:
            raise Refused(found.status, msgspec.json.decode(found.body, type=_Error).error)
        context.set_trailing_metadata((("x-noria-prediction-id", found.prediction_id), *_about(found)))
        return as_response(found)


def _place(verb: str, name: str, version: str) -> Place:
    """What is asked for. Raises Invalid."""
    if version and not (version.isdigit() and len(version) < 19):
        raise Invalid(f"{version!r} is no version.", hint="Versions are whole numbers; leave it out to follow the split.")
    return Place(verb, "v2", name, int(version) if version else None)


class Refused(Exception):
    """The worker's own refusal, on its way out."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Error(msgspec.Struct):
    error: str


def _answering(call: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """`call` with its refusals as gRPC statuses."""

    async def answer(request: Any, context: Any) -> Any:
        try:
            return await call(request, context)
        except NoriaError as error:
            text = error.message + (f" {error.hint}" if error.hint else "")
            if error.retry_after_s:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", str(int(error.retry_after_s * 1000))),))
            await context.abort(_CODES.get(error.status, grpc.StatusCode.INTERNAL), text)
        except Refused as refused:
            await context.abort(_CODES.get(refused.status, grpc.StatusCode.INTERNAL), str(refused))

    return answer


def _headers(context: Any) -> dict[bytes, bytes]:
    """The metadata that means something here, under the names of HTTP headers."""
    found: dict[bytes, bytes] = {}
    for name, value in context.invocation_metadata() or ():
        if name in _HEADERS:
            found[name.encode()] = value if isinstance(value, bytes) else value.encode("utf-8")
    return found


def _about(found: Answered) -> Iterable[tuple[str, str]]:
    return ((name.decode(), value.decode()) for name, value in found.lane.headers)


# --- messages -----------------------------------------------------------------------------------------------------------


def as_body(request: Any) -> tuple[int, bytes]:
    """A ModelInferRequest as the size of its JSON, and the JSON with the tensors' bytes behind it. Raises Invalid."""
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise Invalid(
            f"There are {len(request.inputs)} inputs and {len(raw)} raw_input_contents.", where="raw_input_contents"
        )
    parts: list[bytes] = []
    inputs: list[dict[str, Any]] = []
    for i, tensor in enumerate(request.inputs):
        data = raw[i] if raw else _packed(tensor)
        parts.append(data)
        parameters = {**_parameters(tensor.parameters), "binary_data_size": len(data)}
        inputs.append({
            "name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "parameters": parameters,
        })  # fmt: skip
    head = _json({
        "id": request.id, "inputs": inputs, "parameters": {**_parameters(request.parameters), "binary_data_output": True},
        "outputs": [{"name": o.name} for o in request.outputs],
    })  # fmt: skip
    return len(head), b"".join((head, *parts))


def _packed(tensor: Any) -> bytes:
    """The typed values of a tensor as bytes. Raises Invalid for a datatype without any, or a value it does not hold."""
    if tensor.datatype == "BYTES":
        elements = tensor.contents.bytes_contents
        return b"".join(part for e in elements for part in (struct.pack("<I", len(e)), e))
    if tensor.datatype not in _CONTENTS:
        raise Invalid(
            f"{tensor.name!r} of the datatype {tensor.datatype!r} has no raw contents.", where=tensor.name,
            hint="V2 knows BYTES, " + ", ".join(_CONTENTS) + ", and FP16 as raw_input_contents.",
        )  # fmt: skip
    field, form = _CONTENTS[tensor.datatype]
    values = getattr(tensor.contents, field)
    try:
        return struct.pack(f"<{len(values)}{form}", *values)
    except struct.error as cause:
        raise Invalid(
            f"{tensor.name!r} has the datatype {tensor.datatype}, which does not hold all of its values.", where=tensor.name
        ) from cause


def _parameters(given: Any) -> dict[str, Any]:
    return {name: getattr(p, p.WhichOneof("parameter_choice") or "string_param") for name, p in given.items()}


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int]


class _Said(msgspec.Struct):
    model_name: str
    model_version: str
    id: str
    outputs: list[_Output]


_said = msgspec.json.Decoder(_Said).decode


def as_response(found: Answered) -> Any:
    """A worker's answer with its tensors as bytes, as a ModelInferResponse."""
    said = _said(memoryview(found.body)[: found.json_size])
    response = MESSAGES["ModelInferResponse"](model_name=said.model_name, model_version=said.model_version, id=said.id)
    at = found.json_size
    for output in said.outputs:
        response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        size = output.parameters["binary_data_size"]
        response.raw_output_contents.append(found.body[at : at + size])
        at += size
    response.parameters["prediction_id"].string_param = found.prediction_id
    return response
