"""What a file of a run looks like: shown safely, bounded, never run."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Noria


class Tags(HTMLParser):
    """The elements and attributes there are, as a browser would read them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= set(attrs)


def put(noria: Noria, path: str, data: bytes) -> dict[str, Any]:
    """The preview of a file with these bytes."""
    run = noria.http.post("/api/v1/runs", json={"experiment": "flights"}).json()["id"]
    noria.app.tracking.put_artifact(noria.op(), run, path, data)
    answer = noria.http.get(f"/api/v1/runs/{run}/artifacts/preview", params={"path": path})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json", answer.text
    return dict(answer.json())


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_tables_show_their_first_rows(noria: Noria) -> None:
    shown = put(noria, "a.csv", b'id,word\n1,"a, b"\n2,\n' + b"".join(f"{i},w\n".encode() for i in range(500)))
    assert (
        shown["kind"] == "table" and shown["columns"] == ["id", "word"] and shown["rows"][:2] == [["1", "a, b"], ["2", ""]]
    )
    assert (len(shown["rows"]), shown["rows_count"], shown["is_cut"]) == (200, 502, True)
    table = pa.table(
        {"x": list(range(1000)), "when": pa.array([None] * 1000, pa.timestamp("ms")), "long": ["y" * 9000] * 1000}
    )
    shown = put(noria, "t.parquet", parquet(table))
    assert (
        shown["columns"] == ["x", "when", "long"] and shown["rows"][3][:2] == ["3", None] and len(shown["rows"][0][2]) == 501
    )
    assert (len(shown["rows"]), shown["rows_count"], shown["is_cut"]) == (200, 1000, True)
    assert put(noria, "none.csv", b"")["rows"] == []
    assert put(noria, "t.tsv", b"a\tb\n1\t2\n")["rows"] == [["1", "2"]]


def test_a_note_is_html_that_can_do_nothing(noria: Noria) -> None:
    note = """# Title
<script>alert(1)</script> <img src=x onerror=alert(1)> [bad](javascript:alert(1)) [data](data:text/html,x)
[good](https://example.org "t") ![pixel](https://tracker.example/p.png) <iframe src=//x></iframe>

| a | b |
|---|---|
| 1 | `<b>` |
"""
    html = put(noria, "card.md", note.encode())["html"]
    found = Tags()
    found.feed(html)
    assert found.tags <= {"h1", "p", "a", "table", "thead", "tbody", "tr", "th", "td", "code"}, html
    assert found.attributes == {("href", "https://example.org"), ("title", "t"), ("rel", "noopener noreferrer nofollow")}, (
        html
    )
    assert '<a href="https://example.org" title="t" rel="noopener noreferrer nofollow">good</a>' in html
    assert "<table>" in html and "<h1>Title</h1>" in html
    deep = put(noria, "deep.md", b">" * 50_000 + b" x")
    assert deep["kind"] == "markdown"


@pytest.mark.parametrize(
    ("path", "data", "kind"),
    [
        ("a.json", b'{"a": [1, NaN]}', "json"), ("bad.json", b'{"a": ', "text"), ("deep.json", b"[" * 100_000, "text"),
        ("a.svg", b"<svg onload='alert(1)'/>", "text"), ("a.html", b"<script>alert(1)</script>", "text"),
        ("a.png", b"\x89PNG\r\n\x1a\nrest", "image"), ("lies.png", b"<script>alert(1)</script>", "text"),
        ("a.webp", b"RIFF1234WEBPVP8 ", "image"), ("a.wav", b"RIFF1234WAVE\0", "binary"), ("a.bin", b"\0\1\2", "binary"),
        ("latin.txt", "é".encode("latin-1"), "binary"), ("empty", b"", "text"), ("torn.parquet", b"PAR1 and no more PAR1", "binary"),
        ("quote.csv", b'a,b\n"never closed,1\n', "table"), ("nul.csv", b"a\0b,c", "binary"),
    ],
)  # fmt: skip
def test_a_file_is_what_its_bytes_are(noria: Noria, path: str, data: bytes, kind: str) -> None:
    shown = put(noria, path, data)
    assert shown["kind"] == kind, shown
    assert shown["size_bytes"] == len(data)
    assert kind != "binary" or shown["why"]


def test_what_is_large_is_cut_and_says_so(noria: Noria) -> None:
    shown = put(noria, "a.log", "é".encode() * 200_000)
    assert shown["kind"] == "text" and shown["is_cut"] and len(shown["text"].encode()) in (262_143, 262_144)
    assert put(noria, "a.json", json.dumps(["x" * 2_000_000]).encode())["kind"] == "text"


def test_a_preview_asks_for_the_right_to_read_bytes(noria: Noria) -> None:
    run = noria.http.post("/api/v1/runs", json={"experiment": "flights"}).json()["id"]
    noria.app.tracking.put_artifact(noria.op(), run, "a.txt", b"secret")
    noria.as_("root", "admin", kind="user")
    address = f"/api/v1/runs/{run}/artifacts/preview"
    assert noria.as_("auditor", "auditor").get(address, params={"path": "a.txt"}).status_code == 403
    viewer = noria.as_("viewer", "viewer")
    assert viewer.get(address, params={"path": "a.txt"}).json()["text"] == "secret"
    assert viewer.get(address, params={"path": "b.txt"}).status_code == 404
    for path in ("../etc/passwd", "%2e%2e/x", "/etc/passwd", ""):
        assert viewer.get(address, params={"path": path}).status_code in (400, 404), path


def test_the_note_of_a_run_is_rendered_and_does_nothing(noria: Noria) -> None:
    text = "# Depth 3\n\n**better** <script>alert(1)</script> ![x](http://evil/x.png) [y](javascript:alert(1))"
    tags = {"mlflow.note.content": text}
    run = noria.http.post("/api/v1/runs", json={"experiment": "flights", "tags": tags}).json()["id"]
    note = noria.http.get(f"/api/v1/runs/{run}/note").json()
    assert note["text"] == text and "<strong>better</strong>" in note["html"] and "<h1>Depth 3</h1>" in note["html"]
    assert not [word for word in ("<script", "<img", 'href="javascript') if word in note["html"]]
    bare = noria.http.post("/api/v1/runs", json={"experiment": "flights"}).json()["id"]
    assert noria.http.get(f"/api/v1/runs/{bare}/note").json() == {"text": "", "html": ""}
    assert noria.http.get("/api/v1/runs/nobody/note").status_code == 404
