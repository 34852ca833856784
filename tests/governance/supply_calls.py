"""What the official tools say of what Noria wrote; run by the interpreter of .venv/clients/supply, printed as JSON.

FOLDER holds `model/`, `model.sig`, `signatures.pub`, `bom.json` and `croissant.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def signature(folder: Path) -> dict[str, Any]:
    """`model_signing verify key`, on the model as it was signed and after each of three changes."""
    import model_signing

    verifying = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=folder / "signatures.pub")
    found = {}
    model = folder / "model"
    for name, change in (
        ("as signed", lambda: None),
        ("one more file", lambda: (model / "extra.py").write_text("import os")),
        ("changed", lambda: ((model / "extra.py").unlink(), (model / "model.pkl").write_bytes(b"other"))),
        ("missing", lambda: (model / "model.pkl").unlink()),
    ):
        change()
        try:
            verifying.verify(model, folder / "model.sig")
            found[name] = "verified"
        except ValueError as error:
            found[name] = f"refused: {error}"
    return found


def bom(folder: Path) -> dict[str, Any]:
    """The strict JSON validator of the official library; and what its model reads."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (folder / "bom.json").read_text()
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    broken = text.replace('"machine-learning-model"', '"a-model"', 1)
    read = Bom.from_json(json.loads(text))  # type: ignore[attr-defined]
    return {
        "fault": None if fault is None else str(fault),
        "broken": JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None,
        "purls": sorted(str(c.purl) for c in read.components if c.purl),
    }


def croissant(folder: Path) -> dict[str, Any]:
    """Errors and warnings of mlcroissant; files and columns as it reads them; the first row, from a file on this disk."""
    import mlcroissant

    dataset = mlcroissant.Dataset(str(folder / "croissant.json"))
    metadata = dataset.metadata
    return {
        "errors": sorted(metadata.ctx.issues.errors),
        "files": {f.name: f.sha256 for f in metadata.distribution},
        "columns": {r.name: [(f.name, [str(t) for t in f.data_types]) for f in r.fields] for r in metadata.record_sets},
        "row": next(iter(dataset.records("table-1"))) if metadata.record_sets else None,
    }


if __name__ == "__main__":
    place = Path(sys.argv[1])
    said = {call.__name__: call(place) for call in (bom, croissant, signature)}
    print(json.dumps(said, default=str))
