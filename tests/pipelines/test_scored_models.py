"""Models that steps of batch scoring keep beside each other: the ones used last stay, those under way are nobody's business."""

from __future__ import annotations

import os
from pathlib import Path

from noria.client.scoring.work import MODELS_KEPT, _forget_old


def test_the_models_used_last_stay_and_those_that_arrive_are_left(tmp_path: Path) -> None:
    for i in range(MODELS_KEPT + 3):
        (tmp_path / f"m{i}").mkdir()
        os.utime(tmp_path / f"m{i}", (1_000 + i, 1_000 + i))
    (tmp_path / "arriving.tmp").mkdir()
    os.utime(tmp_path / "arriving.tmp", (1, 1))
    _forget_old(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"arriving.tmp", *(f"m{i}" for i in range(3, MODELS_KEPT + 3))}


def test_one_that_goes_meanwhile_is_gone(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")  # listed, and not there when it is looked at
    _forget_old(tmp_path)
    assert (tmp_path / "here").is_dir()
