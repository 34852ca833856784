"""The routes of the supply chain: scans of model versions."""

from __future__ import annotations

from noria.governance.scan_model import Acceptance, Scan
from noria.governance.scans import Scans
from noria.http.route import Routes, get, post
from noria.kernel.op import Op

VERSION = "/api/v1/models/{name:str}/versions/{selector:str}"


def routes(scans: Scans) -> Routes:
    @get(f"{VERSION}/scan", action="model.read")
    def read_scan(op: Op, name: str, selector: str) -> Scan:
        """What the files of a version would do when they are read."""
        return scans.scan(op, f"{name}@{selector}")

    @post(f"{VERSION}/scan", action="model.tag")
    def scan_again(op: Op, name: str, selector: str) -> Scan:
        """Look through the files of a version anew, at once or as soon as there is time."""
        return scans.rescan(op, f"{name}@{selector}")

    @post(f"{VERSION}/scan/accept", action="policy.write")
    def accept_scan(op: Op, name: str, selector: str, data: Acceptance) -> Scan:
        """Take the findings in these bytes as they are, with a reason."""
        return scans.accept(op, f"{name}@{selector}", data)

    return [read_scan, scan_again, accept_scan]
