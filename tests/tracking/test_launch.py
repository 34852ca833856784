"""`noria run`: what is recorded of a command, and what is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from noria.cli.run import _whole_characters, _without_secrets


def test_secrets_in_arguments_are_left_out() -> None:
    command = [
        "train.py",
        "--api-key",
        "abc",
        "--depth",
        "3",
        "--DB_PASSWORD=x",
        "TOKEN=y",
        "nrk_0123abc",
        "--token",
        "--fast",
    ]
    assert _without_secrets(command) == [
        "train.py", "--api-key", "[left out]", "--depth", "3", "--DB_PASSWORD=[left out]", "TOKEN=[left out]",
        "nrk_[left out]", "--token", "--fast",
    ]  # fmt: skip


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), st.integers(1, 7))
def test_a_log_cut_anywhere_is_put_together_again(text: str, size: int) -> None:
    data, waiting, out = text.encode(), b"", ""
    for start in range(0, len(data), size):
        waiting += data[start : start + size]
        part, used = _whole_characters(waiting, final=False)
        out, waiting = out + part, waiting[used:]
    assert out + _whole_characters(waiting, final=True)[0] == text
