"""What is printed becomes a log: every character of text, and of progress bars what stood there last."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.client.console import PROGRESS_EVERY_S, Console, Lines, Tee, overwritten
from noria.kernel.errors import TooMuch

_PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r\x1b"), max_size=200)


@given(_PLAIN, st.integers(1, 9), st.booleans())
def test_plain_text_is_kept_to_the_letter(text: str, size: int, ticks: bool) -> None:
    lines, out = Lines(), ""
    for start in range(0, len(text), size):
        out += lines.feed(text[start : start + size])
        out += lines.standing(0.0) if ticks else ""
    assert (out + lines.close()).rstrip("\n") == text.rstrip("\n")


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30), st.integers(1, 7))
def test_a_progress_bar_leaves_its_last_state(states: list[int], size: int) -> None:
    text = "".join(f"\r{s:3d}%|{'#' * (s // 10):10}|" for s in states) + "\ndone\n"
    lines = Lines()
    out = "".join(lines.feed(text[start : start + size]) for start in range(0, len(text), size)) + lines.close()
    assert out == f"{states[-1]:3d}%|{'#' * (states[-1] // 10):10}|\ndone\n"


@pytest.mark.parametrize(
    ("line", "left"),
    [("a\rb", "b"), ("abc\rX", "Xbc"), ("abc\r\x1b[KX", "X"), ("\x1b[32mgreen\x1b[0m", "\x1b[32mgreen\x1b[0m"), ("a\r", "a"),
     ("\x1b[Anested", "nested"), ("", "")],
)  # fmt: skip
def test_a_terminal_would_show_this(line: str, left: str) -> None:
    assert overwritten(line) == left


def test_windows_line_ends_are_line_ends() -> None:
    lines = Lines()
    assert lines.feed("one\r") + lines.standing(99.0) == ""
    assert lines.feed("\ntwo\r\n") == "one\ntwo\n"


def test_a_long_bar_is_seen_from_time_to_time() -> None:
    lines = Lines()
    lines.feed("\r 1%")
    assert lines.standing(PROGRESS_EVERY_S) == " 1%\n"
    lines.feed("\r 2%")
    assert lines.standing(PROGRESS_EVERY_S + 1) == ""
    assert lines.standing(2 * PROGRESS_EVERY_S) == " 2%\n"
    assert lines.feed("\r 3%\n") == " 3%\n"


def test_a_line_that_becomes_a_bar_is_not_lost() -> None:
    lines = Lines()
    assert lines.feed("Loading") == "" and lines.standing(0.0) == "Loading"
    out = lines.feed("\rLoading 10%") + lines.feed("\rLoading 99%\n")
    assert out == "\nLoading 99%\n"


def test_the_log_is_bounded_and_says_so() -> None:
    kept: list[tuple[int, str]] = []
    console = Console(lambda offset, text: kept.append((offset, text)), limit_bytes=100)
    for _ in range(50):
        console.write("out", "ünï\n")
    assert console.lost and "not kept" in kept[-1][1]
    text = "".join(part for _, part in kept)
    assert len(text.encode()) < 250
    assert all(text.encode()[offset:].startswith(part.encode()) for offset, part in kept), "offsets are bytes"


def test_whoever_prints_never_sees_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(offset: int, text: str) -> None:
        raise TooMuch("full")

    console = Console(refuse)
    tee = Tee(console)
    print("hello")
    tee.close()
    assert console.lost == "full" and capsys.readouterr().out == "hello\n"


def test_a_handler_that_holds_the_stream_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    import logging
    import sys

    kept: list[str] = []
    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stderr", stream)
    handler = logging.StreamHandler(stream)  # made before anybody listens
    tee = Tee(Console(lambda _, text: kept.append(text)))
    handler.emit(logging.makeLogRecord({"msg": "epoch 1"}))
    tee.close()
    handler.emit(logging.makeLogRecord({"msg": "after"}))
    assert kept == ["epoch 1\n"]
