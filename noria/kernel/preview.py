"""What a file of a run looks like, without letting it do anything: text as text, tables as their first rows, notes as sanitised HTML.

A file belongs to whoever logged it. Nothing of it is ever served as HTML, SVG or script from our origin: the browser gets this module's
JSON and draws it itself; pictures it fetches as bytes, checks and shows from memory. Every reader here is bounded.
"""

from __future__ import annotations

import csv
import json
import tempfile
from typing import Any, Literal

import nh3
from markdown_it import MarkdownIt
from msgspec import Struct

TEXT_BYTES_MAX = 262_144
JSON_BYTES_MAX = 1_048_576
TABLE_BYTES_MAX = 64 << 20  # a Parquet file has its index at the end, so the whole of it is read
SPOOL_BYTES = 8 << 20
ROW_GROUP_BYTES_MAX = 512 << 20  # of a Parquet file, unpacked
ROWS_MAX, COLUMNS_MAX, CELL_LENGTH_MAX = 200, 100, 500
IMAGES = {
    "png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "gif": b"GIF8", "webp": b"RIFF", "bmp": b"BM",
}  # fmt: skip
_TAGS = {
    "a", "abbr", "b", "blockquote", "br", "code", "dd", "del", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "kbd",
    "li", "ol", "p", "pre", "s", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip

Kind = Literal["text", "json", "table", "markdown", "image", "binary"]


class Preview(Struct, frozen=True, kw_only=True):
    """A file as it can be shown. `is_cut`: there is more of it than this. `why`: the reason nothing is shown."""

    path: str
    size_bytes: int
    digest: str
    kind: Kind
    media_type: str = ""
    text: str = ""
    html: str = ""  # of a note: sanitised
    columns: list[str] = []
    rows: list[list[str | None]] = []
    rows_count: int | None = None
    is_cut: bool = False
    why: str = ""


class Note(Struct, frozen=True, kw_only=True):
    """What people wrote of a run, as Markdown and as HTML that does nothing."""

    text: str
    html: str


class File(Struct, frozen=True, kw_only=True):
    """What a preview is made of: where a file is and how to read a part of it."""

    path: str
    size_bytes: int
    digest: str
    read: Any  # (start, end) → chunks of bytes


def preview(file: File) -> Preview:
    """The file as it can be shown; never raises for what is in it."""
    base: dict[str, Any] = {"path": file.path, "size_bytes": file.size_bytes, "digest": file.digest}
    suffix = file.path.rsplit(".", 1)[-1].lower() if "." in file.path.rsplit("/", 1)[-1] else ""
    head = b"".join(file.read(0, min(file.size_bytes, TEXT_BYTES_MAX)))
    for kind, magic in IMAGES.items():
        if head.startswith(magic) and (kind != "webp" or head[8:12] == b"WEBP"):
            return Preview(kind="image", media_type=f"image/{kind}", **base)
    if head.startswith(b"PAR1"):
        return _parquet(file, base)
    text = _text(head, is_cut=file.size_bytes > len(head))
    if text is None:
        return Preview(kind="binary", why="These bytes are neither text, a picture nor a table that is known here.", **base)
    is_cut = file.size_bytes > len(head)
    if suffix in ("csv", "tsv"):
        return _csv(text, "\t" if suffix == "tsv" else ",", is_cut, base)
    if suffix in ("md", "markdown"):
        return Preview(kind="markdown", text=text, html=render_markdown(text), is_cut=is_cut, **base)
    if suffix in ("json", "geojson") and file.size_bytes <= JSON_BYTES_MAX:
        whole = _text(b"".join(file.read(0, file.size_bytes)), is_cut=False)
        if whole is not None and _is_json(whole):
            return Preview(kind="json", text=whole, **base)
    return Preview(kind="text", text=text, is_cut=is_cut, **base)


def render_markdown(text: str) -> str:
    """Markdown as HTML of a closed list of tags: no script, style, picture, form or handler; links go to http and mailto only."""
    html = MarkdownIt("commonmark", {"html": False, "maxNesting": 40}).enable(["table", "strikethrough"]).render(text)
    return nh3.clean(
        html, tags=_TAGS, attributes={"a": {"href", "title"}, "code": {"class"}}, url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )  # fmt: skip


def _text(data: bytes, *, is_cut: bool) -> str | None:
    """The bytes as UTF-8, forgiving a character that was cut in two at the end; None when they are no text."""
    if b"\0" in data:
        return None
    for spare in range(4 if is_cut else 1):
        try:
            return data[: len(data) - spare].decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
    return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _csv(text: str, delimiter: str, is_cut: bool, base: dict[str, Any]) -> Preview:
    lines = text.splitlines(keepends=True)
    if is_cut and len(lines) > 1:
        lines.pop()  # half a line
    found: list[list[str]] = []
    try:
        for row in csv.reader(lines, delimiter=delimiter):
            found.append(row[:COLUMNS_MAX])
            if len(found) > ROWS_MAX:
                break
    except csv.Error:  # a field larger than the reader's own limit, a stray NUL
        return Preview(kind="text", text=text, is_cut=is_cut, **base)
    head, rows = (found[0], found[1 : ROWS_MAX + 1]) if found else ([], [])
    return Preview(
        kind="table", columns=[_cell(c) or "" for c in head], rows=[[_cell(c) for c in row] for row in rows],
        rows_count=None if is_cut else max(0, len(lines) - 1), is_cut=is_cut or len(lines) - 1 > len(rows), **base,
    )  # fmt: skip


def _parquet(file: File, base: dict[str, Any]) -> Preview:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.size_bytes > TABLE_BYTES_MAX:
        return Preview(
            kind="binary", why=f"A Parquet file of more than {TABLE_BYTES_MAX >> 20} MiB is not opened here.", **base
        )
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        for chunk in file.read(0, file.size_bytes):
            spool.write(chunk)
        spool.seek(0)
        try:
            table = pq.ParquetFile(spool)
            if table.num_row_groups and table.metadata.row_group(0).total_byte_size > ROW_GROUP_BYTES_MAX:
                return Preview(kind="binary", why="Its first row group is too large to be opened here.", **base)
            names = table.schema_arrow.names[:COLUMNS_MAX]
            batch = next(table.iter_batches(batch_size=ROWS_MAX, columns=names), None)
            rows = [] if batch is None else [[_cell(row.get(n)) for n in names] for row in batch.to_pylist()]
        except (pa.ArrowException, OSError, ValueError) as cause:
            return Preview(kind="binary", why=f"It looks like Parquet and cannot be read: {str(cause)[:200]}", **base)
        return Preview(
            kind="table", columns=names, rows=rows, rows_count=table.metadata.num_rows,
            is_cut=table.metadata.num_rows > len(rows) or len(table.schema_arrow.names) > len(names), **base,
        )  # fmt: skip


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= CELL_LENGTH_MAX else text[:CELL_LENGTH_MAX] + "…"
