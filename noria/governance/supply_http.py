"""The routes of the supply chain: scans of model versions, and their signed provenance."""

from __future__ import annotations

from noria.governance.provenance import Provenance, Provenances
from noria.governance.scan_model import Acceptance, Scan
from noria.governance.scans import Scans
from noria.http.route import Routes, get, post
from noria.kernel.op import Op

VERSION = "/api/v1/models/{name:str}/versions/{selector:str}"


def routes(scans: Scans, provenances: Provenances) -> Routes:
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

    @get(f"{VERSION}/provenance", action="model.read")
    def read_provenance(op: Op, name: str, selector: str) -> Provenance:
        """Where a version comes from, signed: a DSSE envelope with SLSA provenance, and the public key."""
        return provenances.provenance(op, f"{name}@{selector}")

    return [read_scan, scan_again, accept_scan, read_provenance]
