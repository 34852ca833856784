"""The messages of Open Inference Protocol V2 over gRPC, as the protocol's own definition has them.

Built from this table instead of generated code, which only fits the protobuf it was generated with; in a pool of their own, so that
a client library in the same process may bring its own.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"

# Message: (field, number, type). `*` before a type: repeated; `{}`: a map from text; `|`: one of the message's one-of.
_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "ServerLiveRequest": [],
    "ServerLiveResponse": [("live", 1, "bool")],
    "ServerReadyRequest": [],
    "ServerReadyResponse": [("ready", 1, "bool")],
    "ModelReadyRequest": [("name", 1, "string"), ("version", 2, "string")],
    "ModelReadyResponse": [("ready", 1, "bool")],
    "ServerMetadataRequest": [],
    "ServerMetadataResponse": [("name", 1, "string"), ("version", 2, "string"), ("extensions", 3, "*string")],
    "ModelMetadataRequest": [("name", 1, "string"), ("version", 2, "string")],
    "ModelMetadataResponse": [
        ("name", 1, "string"), ("versions", 2, "*string"), ("platform", 3, "string"),
        ("inputs", 4, "*ModelMetadataResponse.TensorMetadata"), ("outputs", 5, "*ModelMetadataResponse.TensorMetadata"),
    ],
    "ModelMetadataResponse.TensorMetadata": [("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "*int64")],
    "InferParameter": [
        ("bool_param", 1, "|bool"), ("int64_param", 2, "|int64"), ("string_param", 3, "|string"), ("double_param", 4, "|double"),
        ("uint64_param", 5, "|uint64"),
    ],
    "InferTensorContents": [
        ("bool_contents", 1, "*bool"), ("int_contents", 2, "*int32"), ("int64_contents", 3, "*int64"),
        ("uint_contents", 4, "*uint32"), ("uint64_contents", 5, "*uint64"), ("fp32_contents", 6, "*float"),
        ("fp64_contents", 7, "*double"), ("bytes_contents", 8, "*bytes"),
    ],
    "ModelInferRequest": [
        ("model_name", 1, "string"), ("model_version", 2, "string"), ("id", 3, "string"), ("parameters", 4, "{}InferParameter"),
        ("inputs", 5, "*ModelInferRequest.InferInputTensor"), ("outputs", 6, "*ModelInferRequest.InferRequestedOutputTensor"),
        ("raw_input_contents", 7, "*bytes"),
    ],
    "ModelInferRequest.InferInputTensor": [
        ("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "*int64"), ("parameters", 4, "{}InferParameter"),
        ("contents", 5, "InferTensorContents"),
    ],
    "ModelInferRequest.InferRequestedOutputTensor": [("name", 1, "string"), ("parameters", 2, "{}InferParameter")],
    "ModelInferResponse": [
        ("model_name", 1, "string"), ("model_version", 2, "string"), ("id", 3, "string"), ("parameters", 4, "{}InferParameter"),
        ("outputs", 5, "*ModelInferResponse.InferOutputTensor"), ("raw_output_contents", 6, "*bytes"),
    ],
    "ModelInferResponse.InferOutputTensor": [
        ("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "*int64"), ("parameters", 4, "{}InferParameter"),
        ("contents", 5, "InferTensorContents"),
    ],
}  # fmt: skip
_Field = descriptor_pb2.FieldDescriptorProto


def _build() -> dict[str, Any]:
    """Each message's class by its name."""
    file = descriptor_pb2.FileDescriptorProto(name="noria/open_inference.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, Any] = {}
    for name, fields in _MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        message = made[name] = (made[outer].nested_type if outer else file.message_type).add(name=inner)
        if any(kind.startswith("|") for *_, kind in fields):
            message.oneof_decl.add(name="parameter_choice")
        for field, number, kind in fields:
            _add_field(message, name, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _MESSAGES}


def _add_field(message: Any, owner: str, field: str, number: int, kind: str) -> None:
    if kind.startswith("{}"):
        entry = message.nested_type.add(name="".join(p.title() for p in field.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "", "key", 1, "string")
        _add_field(entry, "", "value", 2, kind[2:])
        kind = f"*{owner}.{entry.name}"
    label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
    made = message.field.add(name=field, number=number, label=label)
    if kind.startswith("|"):
        made.oneof_index = 0
    plain = kind.lstrip("*|")
    scalar = f"TYPE_{plain.upper()}"
    if scalar in _Field.Type.keys():  # noqa: SIM118 - an enumeration of protobuf's, which is no mapping
        made.type = _Field.Type.Value(scalar)
    else:
        made.type, made.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{plain}"


MESSAGES = _build()
