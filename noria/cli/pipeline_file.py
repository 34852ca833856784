"""What the commands of `noria pipeline` share: the pipeline in a file, parameters, ids."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from noria.kernel.errors import Invalid


def parse_params(params: tuple[str, ...]) -> dict[str, Any]:
    """`a=1` as {"a": 1}; what is not JSON is a text. Raises Invalid."""
    found: dict[str, Any] = {}
    for text in params:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise Invalid(f"{text!r} is not key=value.", where="param")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def load(file: Path, name: str) -> Any:
    """The pipeline in a file. Its folder comes first on the path, as when Python runs it."""
    from noria.client.pipeline import Pipeline

    if not file.is_file():
        raise Invalid(f"There is no file {file}.")
    root, parts = file.resolve().parent, [file.stem]
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    sys.path.insert(0, str(root))
    module = importlib.import_module(".".join(parts))
    found = {
        p.name: p for p in vars(module).values() if isinstance(p, Pipeline) and p.function.__module__ == module.__name__
    }
    if name:
        if name not in found:
            raise Invalid(f"{file} has no pipeline {name!r}.", hint="It has: " + (", ".join(found) or "none") + ".")
        return found[name]
    if len(found) != 1:
        has = "no pipeline" if not found else "several pipelines: " + ", ".join(found)
        raise Invalid(
            f"{file} has {has}.", hint="Decorate one with @noria.pipeline." if not found else "Pick one with --name."
        )
    return next(iter(found.values()))


def is_id(text: str) -> bool:
    """Is this the id of a run, and no name?"""
    return len(text) == 32 and all(c in "0123456789abcdef" for c in text)
