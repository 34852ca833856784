"""Writes river.json: where river's detectors see changes in the streams of test_streams.py. Run with river installed."""

from __future__ import annotations

import json
from pathlib import Path

import river
from river.drift import ADWIN, PageHinkley

from tests.monitoring.test_streams import STREAMS

found = {}
for name, make in STREAMS.items():
    for label, detector in (
        ("adwin", ADWIN(delta=0.002)),
        ("page_hinkley", PageHinkley(threshold=10.0)),
    ):
        at = []
        for i, x in enumerate(make().tolist()):
            detector.update(x)
            if detector.drift_detected:
                at.append(i)
        found[f"{name}/{label}"] = at
Path(__file__).with_name("river.json").write_text(
    json.dumps({"river": river.__version__, "changes": found}, indent=1) + "\n"
)
