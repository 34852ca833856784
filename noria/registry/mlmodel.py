"""What an MLflow model directory says of itself: flavours, signature, input example, environment. Read only, never loaded.

Nothing here imports, unpickles or runs what the directory holds: YAML through the safe loader, JSON through msgspec, each
with a limit on its size and on how many values it may expand to (a few lines of YAML anchors can stand for billions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.registry.model import ModelFile, digest_of

DESCRIPTION_FILE = "MLmodel"
ENVIRONMENT_FILES = ("conda.yaml", "python_env.yaml", "requirements.txt")
TEXT_BYTES_MAX = 1 << 20
VALUES_MAX = 100_000
DEPTH_MAX = 64


class Described(Struct, frozen=True, kw_only=True):
    """What was read; empty where the directory says nothing."""

    flavors: dict[str, Any] = {}
    signature: dict[str, Any] | None = None
    input_example: Any = None
    environment_digest: str = ""
    packages: list[str] = []


def describe(files: list[ModelFile], read: Callable[[ModelFile], bytes]) -> Described:
    """Read the description of a model directory. Raises Invalid, naming the file, when one cannot be read."""
    by_path = {file.path: file for file in files}
    environment = [by_path[name] for name in ENVIRONMENT_FILES if name in by_path]
    packages = _packages(_text(by_path["requirements.txt"], read)) if "requirements.txt" in by_path else []
    described = by_path.get(DESCRIPTION_FILE)
    content = _yaml(_text(described, read), where=DESCRIPTION_FILE) if described else {}
    flavors = content.get("flavors")
    return Described(
        flavors={k: v for k, v in flavors.items() if isinstance(v, dict)} if isinstance(flavors, dict) else {},
        signature=_signature(content.get("signature")),
        input_example=_example(content.get("saved_input_example_info"), by_path, read),
        environment_digest=digest_of(environment) if environment else "",
        packages=packages,
    )


def _text(file: ModelFile, read: Callable[[ModelFile], bytes]) -> str:
    if file.size_bytes > TEXT_BYTES_MAX:
        raise Invalid(f"{file.path} has {file.size_bytes} bytes; at most {TEXT_BYTES_MAX} are read.", where=file.path)
    try:
        return read(file).decode()
    except UnicodeDecodeError as cause:
        raise Invalid(f"{file.path} is not UTF-8 text.", where=file.path) from cause


def _yaml(text: str, *, where: str) -> dict[str, Any]:
    import yaml  # by the first model that is registered, not by every start

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        loaded = yaml.load(text, Loader=loader)  # noqa: S506  # both are safe loaders; libyaml's takes a tenth of the time
    except (yaml.YAMLError, RecursionError, ValueError) as cause:
        raise Invalid(f"{where} is not YAML that can be read safely.", where=where) from cause
    plain = _Plain(where).value(loaded, 0)
    if not isinstance(plain, dict):
        raise Invalid(f"{where} does not describe a model.", where=where)
    return plain


class _Plain:
    """Copies loaded YAML into plain JSON values, counting them."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._count = 0

    def value(self, value: Any, depth: int) -> Any:
        self._count += 1
        if self._count > VALUES_MAX or depth > DEPTH_MAX:
            raise Invalid(f"{self._where} expands to too many values.", where=self._where)
        if isinstance(value, dict):
            return {str(k): self.value(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple | set):
            return [self.value(v, depth + 1) for v in value]
        if isinstance(value, int) and not isinstance(value, bool) and not -(1 << 63) <= value < 1 << 63:
            return str(value)
        return value if isinstance(value, str | int | float | bool | type(None)) else str(value)


def _signature(found: Any) -> dict[str, Any] | None:
    """MLflow keeps the parts of a signature as JSON texts inside the YAML."""
    if not isinstance(found, dict):
        return None
    parts: dict[str, Any] = {}
    for name in ("inputs", "outputs", "params"):
        value = found.get(name)
        if isinstance(value, str):
            try:
                value = msgspec.json.decode(value)
            except (msgspec.DecodeError, RecursionError) as cause:
                raise Invalid(f"The {name} of the signature are not JSON.", where="signature") from cause
        parts[name] = value if isinstance(value, list) else []
    return parts


def _example(info: Any, by_path: dict[str, ModelFile], read: Callable[[ModelFile], bytes]) -> Any:
    """The saved input example as one would send it to an endpoint; None when there is none, or it is large."""
    if not isinstance(info, dict):
        return None
    for key in ("serving_input_path", "artifact_path"):
        file = by_path.get(str(info.get(key, "")))
        if file and file.path.endswith(".json") and file.size_bytes <= TEXT_BYTES_MAX:
            try:
                return msgspec.json.decode(read(file))
            except (msgspec.DecodeError, RecursionError) as cause:
                raise Invalid(f"{file.path} is not JSON.", where=file.path) from cause
    return None


def _packages(text: str) -> list[str]:
    """The requirement lines, without comments and options."""
    lines = (line.split(" #", 1)[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]
