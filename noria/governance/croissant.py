"""A dataset version described as Croissant 1.0 (MLCommons), JSON-LD that search engines and data loaders read. Pure.

Every file is a FileObject with its SHA-256; every table that was read is a RecordSet with its columns. Written by hand since the
official library brings hundreds of megabytes; a test validates with it.
"""

from __future__ import annotations

import mimetypes
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from noria.datasets.model import DatasetVersion, TableProfile, VersionFile

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
_FORMATS = {".parquet": "application/x-parquet", ".csv": "text/csv", ".tsv": "text/tab-separated-values"}
_WHOLE = ("INT", "HUGEINT")  # parts of the names of DuckDB's and Arrow's types


def croissant(
    version: DatasetVersion, files: list[VersionFile], sha256: dict[str, str], tables: list[TableProfile], *, url: str
) -> dict[str, Any]:
    """The document. `sha256`: by the file's own digest; `url`: where this Noria is."""
    page = f"{url}/datasets/{quote(version.dataset)}/versions/{version.number}"
    content = f"{url}/api/v1/datasets/{quote(version.dataset)}/versions/{version.number}/content"
    ids = {file.path: f"file-{i}" for i, file in enumerate(files, 1)}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": version.dataset,
        "conformsTo": CONFORMS_TO,
        "description": version.message or f"Version {version.number} of {version.dataset}.",
        "url": page,
        "version": f"{version.number}.0.0",
        "datePublished": datetime.fromtimestamp(version.created_at_ms / 1000, UTC).strftime("%Y-%m-%d"),
        "creator": {"@type": "sc:Person", "name": version.actor},
        "identifier": [f"dataset_version:{version.id}", f"blake3:{version.root_digest}"],
        "distribution": [
            {
                "@type": "cr:FileObject", "@id": ids[file.path], "name": file.path, "contentSize": f"{file.size_bytes} B",
                "contentUrl": f"{content}?path={quote(file.path, safe='')}", "encodingFormat": _format(file.path),
                "sha256": sha256[file.digest],
            }
            for file in files
        ],
        "recordSet": [
            _record_set(f"table-{i}", table, ids[table.path])
            for i, table in enumerate((t for t in tables if t.columns and t.path in ids), 1)
        ],
    }  # fmt: skip


def _record_set(name: str, table: TableProfile, file: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet", "@id": name, "name": name, "description": f"The rows of {table.path}.",
        "field": [
            {
                "@type": "cr:Field", "@id": f"{name}/{i}", "name": column.name, "description": column.type,
                "dataType": _type(column.kind, column.type),
                "source": {"fileObject": {"@id": file}, "extract": {"column": column.name}},
            }
            for i, column in enumerate(table.columns)
        ],
    }  # fmt: skip


def _format(path: str) -> str:
    suffix = path[path.rfind(".") :].lower() if "." in path else ""
    return _FORMATS.get(suffix) or mimetypes.guess_type(path, strict=False)[0] or "application/octet-stream"


def _type(kind: str, type_: str) -> str:
    if kind == "numeric":
        return "sc:Integer" if any(part in type_.upper() for part in _WHOLE) else "sc:Float"
    return {"boolean": "sc:Boolean", "time": "sc:Date"}.get(kind, "sc:Text")
