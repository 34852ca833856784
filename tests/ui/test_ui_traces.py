"""The pages of traces in a real browser: both open without an error, pass axe in both themes, and show what was sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.tracking.test_traces import CHILD, ROOT, T1, export, span
from tests.ui.conftest import CHROMIUM, built, complaints, opened, serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here"),
]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[str]:
    """A server with a trace of three spans and an assessment, one trace that failed, and an experiment without any."""
    with serving(built(tmp_path_factory.mktemp("home"), sqlite_template)) as url:
        send(url)
        yield url


@pytest.fixture
def page(chromium: Any, traced: str) -> Iterator[Any]:
    page = opened(chromium, traced)
    yield page
    page.context.close()


def send(server: str) -> None:
    usage = {"kvlistValue": {"values": [{"key": "input_tokens", "value": {"intValue": "5"}}]}}
    spans = [
        span(name="answer", **{"mlflow.spanInputs": "Can I return this?", "mlflow.spanOutputs": "Within 30 days."}),
        span(CHILD, ROOT, name="retrieve", start=1_050, end=1_200, **{"mlflow.spanType": "RETRIEVER"}),
        span("3" * 16, ROOT, name="llm", start=1_200, end=1_480, **{"model": "m-1", "mlflow.chat.tokenUsage": usage}),
        span("4" * 16, trace="d" * 32, name="broken", status=2, start=2_000, end=2_004),
    ]  # fmt: skip
    headers = {"content-type": "application/json", "x-mlflow-experiment-id": "0"}
    with httpx.Client(base_url=server, timeout=30) as http:
        http.post("/v1/traces", content=json.dumps(export(*spans)), headers=headers).raise_for_status()
        said = {"assessment_name": "correct", "feedback": {"value": True}, "rationale": "as the terms say",
                "source": {"source_type": "HUMAN", "source_id": "ada"}}  # fmt: skip
        http.post(f"/api/3.0/mlflow/traces/tr-{T1}/assessments", json={"assessment": said}).raise_for_status()
        http.post("/api/2.0/mlflow/experiments/create", json={"name": "bare"}).raise_for_status()


def passes(page: Any, place: str) -> list[str]:
    page.wait_for_selector("[role=progressbar]", state="detached")
    return complaints(page, place)


def test_traces_are_listed_opened_and_read(page: Any, traced: str) -> None:
    from playwright.sync_api import expect

    page.goto("/traces?experiment=0")
    page.wait_for_selector("table[aria-label=Traces] tbody tr")
    assert page.locator("table[aria-label=Traces] tbody tr").count() == 2
    assert "Within 30 days." in page.inner_text("table[aria-label=Traces]")
    found = passes(page, "traces")
    page.goto("/traces?experiment=0&q=status%20%3D%20%27ERROR%27")
    expect(page.locator("table[aria-label=Traces] tbody tr")).to_have_count(1)
    page.goto("/traces?experiment=0&q=loss%20%3C%201")
    page.wait_for_selector("text=There is no attribute 'loss'")
    page.goto("/traces?experiment=0")
    page.click("text=answer")
    page.wait_for_selector(".gantt button.gantt-row")
    rows = [text.strip() for text in page.locator(".gantt button.gantt-row .truncate").all_inner_texts()]
    assert rows == ["answer", "retrieve", "llm"]
    assert "Can I return this?" in page.inner_text("#content") and "as the terms say" in page.inner_text("#content")
    page.click(".gantt button.gantt-row:has-text('llm')")
    page.wait_for_selector("text=m-1")
    assert f"/traces/tr-{T1}" in page.url and "span=" in page.url
    assert not found + passes(page, "trace")


def test_an_experiment_without_traces_says_how_to_send_them(page: Any, traced: str) -> None:
    experiment = httpx.get(f"{traced}/api/v1/experiments", timeout=30).json()["items"]
    seeded = next(e["id"] for e in experiment if e["name"] == "bare")
    page.goto(f"/traces?experiment={seeded}")
    page.wait_for_selector("text=No traces yet.")
    assert not passes(page, "empty")
