"""The page of a dataset in a real browser: the graph of its versions, pictures, what is expected, who uses it, rows that differ."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from noria.app import App
from noria.client.api import Api
from noria.client.datasets import Dataset
from noria.kernel.ids import Ref
from tests.ui.conftest import CHROMIUM, built, complaints, opened, serving, shot

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here"),
]


def png(shade: int) -> bytes:
    """A grey square of 8 × 8."""
    raw = b"".join(b"\x00" + bytes([shade]) * 8 for _ in range(8))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def frame(rows: int, shift: int = 0) -> pd.DataFrame:
    origins = ["JFK", "LGA", "EWR"]
    return pd.DataFrame(
        {
            "key": range(rows),
            "delay": [i % 40 - 5 + shift for i in range(rows)],
            "origin": [origins[i % 3] for i in range(rows)],
        }
    )


class Filled:
    """A server with one dataset: a branch that was merged, one that was not, pictures, expectations, users."""

    def __init__(self, app: App, url: str) -> None:
        self.app, self.url = app, url
        api = Api(httpx.Client(base_url=url, timeout=60), url=url)
        data = self.data = Dataset("flights", api)
        pictures = {f"images/{i:02d}.png": png(i * 8) for i in range(26)}
        data.commit({"t.parquet": frame(100), "b.csv": b"x\n1\n", **pictures}, message="January")
        data.branch("trial", 1)
        data.commit({"t.parquet": frame(100), "b.csv": b"x\n2\n", **pictures}, message="Another b", branch="trial")
        data.commit({"t.parquet": frame(120, 1), "b.csv": b"x\n1\n", **pictures}, message="February", alias="train")
        data.merge("trial", message="With b")
        data.branch("open", "latest")
        evil = {"images/evil.png": b"<svg onload='window.pwned=1'>"}
        data.commit({"t.parquet": frame(120, 1), **pictures, **evil}, message="Without b", branch="open")
        data.tag("paper", 1)
        data.expect({"tables": {"*.parquet": {"rows_min": 10, "columns": {"delay": {"type": "numeric", "max": 30}}}}})
        train = data.version("train")
        with app.db.write(app.ops.system("test")) as tx:
            for i in range(3):
                tx.link(Ref("run", f"r{i}"), "read", Ref("dataset_version", train.id))
            tx.link(Ref("model_version", "m1"), "built_by", Ref("run", "r1"))
            tx.link(Ref("revision", "v1"), "serves", Ref("model_version", "m1"))
            tx.link(Ref("endpoint", "shop"), "has", Ref("revision", "v1"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Filled]:
    app = built(tmp_path_factory.mktemp("home"), sqlite_template)
    with serving(app) as url:
        yield Filled(app, url)


@pytest.fixture
def page(chromium: Any, filled: Filled) -> Iterator[Any]:
    page = opened(chromium, filled.url)
    yield page
    assert not page.problems
    page.context.close()


def test_versions_are_a_graph_with_their_names(page: Any, filled: Filled) -> None:
    page.goto("/datasets/flights/train")
    page.wait_for_selector("ol[aria-label=Versions] li >> text=January")
    listed = [li.inner_text() for li in page.locator("ol[aria-label=Versions] li").all()]
    assert [text.split()[0] for text in listed] == ["@5", "@4", "@3", "@2", "@1"]
    assert "open" in listed[0] and "trial" in listed[3] and "paper" in listed[4] and "train" in listed[2]
    lanes = [float(c.get_attribute("cx")) for c in page.locator(".version-graph circle").all()]
    assert len(set(lanes)) > 1 and page.locator(".version-graph circle.here").count() == 1
    story = page.locator(".story").inner_text()
    assert "3 runs" in story and "1 model version" in story and "1 live endpoint" in story
    page.wait_for_selector("text=For it alone")
    shot(page, "dataset")
    page.locator("ol[aria-label=Versions] li a", has_text="@1").click()
    page.wait_for_url("**/datasets/flights/1")
    assert complaints(page) == []


def test_pictures_are_shown_by_what_they_are(page: Any) -> None:
    page.goto("/datasets/flights/5?tab=pictures")
    page.wait_for_selector(".pictures img")
    page.locator(".pictures img").nth(23).wait_for()
    assert page.evaluate("Array.from(document.querySelectorAll('.pictures img')).every(i => i.naturalWidth === 8)")
    page.get_by_role("button", name="After").click()
    page.wait_for_selector("text=These bytes are not a picture")
    assert page.locator(".pictures img").count() == 2 and page.evaluate("window.pwned") is None
    shot(page, "pictures")
    page.goto("/datasets/flights/5?tab=pictures")
    page.wait_for_selector(".pictures img")
    assert complaints(page) == []


def test_what_is_expected_is_told_and_checked(page: Any, filled: Filled) -> None:
    page.goto("/datasets/flights/train?tab=expected")
    page.wait_for_selector("table[aria-label='Rules for *.parquet'] >> text=≤ 30")
    page.get_by_role("button", name="Check @3").click()
    page.wait_for_selector("text=1 rule broken")
    assert "delay ≤ 30; found" in page.locator("main").inner_text()
    shot(page, "expected")
    assert complaints(page) == []
    filled.data.expect({})
    page.wait_for_selector("text=Nothing is expected of this dataset.")  # by itself: the event says so


def test_rows_that_differ_by_a_key(page: Any) -> None:
    page.goto("/datasets/flights/3?tab=diff&against=1")
    page.get_by_label("Compare rows too").click()  # the address says so a moment later
    page.get_by_label("Key columns").fill("key")
    page.get_by_label("Key columns").press("Enter")
    page.wait_for_selector("text=Rows by key")
    text = page.locator("main").inner_text()
    assert "+20" in text and "~100" in text
    shot(page, "rows")
    assert complaints(page) == []


def test_a_dataset_without_tables_pictures_or_users(page: Any, filled: Filled) -> None:
    Dataset("notes", filled.data._api).commit({"a.txt": b"hello"})
    page.goto("/datasets/notes")
    page.wait_for_selector("text=Nothing recorded that it read this version.")
    for tab, said in (("pictures", "No pictures in this version."), ("expected", "Nothing is expected of this dataset.")):
        page.goto(f"/datasets/notes?tab={tab}")
        page.wait_for_selector(f"text={said}")
    assert complaints(page) == []


def test_a_frame_committed_as_a_table_is_one_file_of_rows(chromium: Any, filled: Filled) -> None:
    rows = Dataset("rows", filled.data._api)
    rows.commit(frame(500), key="key", message="All of them")
    changed = frame(500).drop(index=9)
    changed.loc[[5, 70], "delay"] = [99, 98]
    rows.commit(pd.concat([changed, frame(501).tail(1)]), message="Three rows differ")
    page = opened(chromium, filled.url)
    page.goto(f"/datasets/{rows.name}")
    page.get_by_text("Three rows differ").first.wait_for()
    for tab, said in (("columns", "delay"), ("sample", "JFK"), ("files", "data.parquet")):
        page.goto(f"/datasets/{rows.name}?tab={tab}")
        page.locator("main").get_by_text(said).first.wait_for()
        shot(page, f"table-{tab}")
        assert "_table.json" not in page.locator("main").inner_text(), "how it is stored is nobody's business"
    page.goto(f"/datasets/{rows.name}/2?tab=diff&against=1")
    page.get_by_label("Compare rows too").click()  # the address says so a moment later
    page.wait_for_selector("text=Rows by key")
    text = page.locator("main").inner_text()
    assert "+1" in text and "−1" in text and "~2" in text
    shot(page, "table-diff")
    assert complaints(page) == [] and not page.problems
    page.context.close()
