"""The routes of the supply chain: scans of model versions, what is signed about them, and documents that others' tools read."""

from __future__ import annotations

import msgspec
from litestar import Response

from noria.governance.descriptions import Descriptions
from noria.governance.provenance import ModelSignature, Provenance, Provenances
from noria.governance.scan_model import Acceptance, Scan
from noria.governance.scans import Scans
from noria.http.route import Routes, get, post
from noria.kernel.op import Op

VERSION = "/api/v1/models/{name:str}/versions/{selector:str}"


def routes(scans: Scans, provenances: Provenances, descriptions: Descriptions) -> Routes:
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

    @get(f"{VERSION}/signature", action="model.read")
    def read_model_signature(op: Op, name: str, selector: str) -> ModelSignature:
        """The signed files of a version: a sigstore bundle that OpenSSF's model signing verifies, and the public key as PEM."""
        return provenances.signature(op, f"{name}@{selector}")

    @get(f"{VERSION}/bom", action="model.read", media_type="application/vnd.cyclonedx+json")
    def read_bom(op: Op, name: str, selector: str) -> Response[bytes]:
        """What a version is made of, as a CycloneDX 1.6 document: files, packages, data, base models, numbers."""
        made = msgspec.json.encode(descriptions.bom(op, f"{name}@{selector}"))
        return Response(made, media_type="application/vnd.cyclonedx+json; version=1.6")

    @get(
        "/api/v1/datasets/{name:str}/versions/{selector:str}/croissant",
        action="dataset.read",
        media_type="application/ld+json",
    )
    def read_croissant(op: Op, name: str, selector: str) -> Response[bytes]:
        """A version of data as a Croissant 1.0 document: files with SHA-256, tables with columns."""
        made = msgspec.json.encode(descriptions.croissant(op, f"{name}@{selector}"))
        return Response(made, media_type="application/ld+json")

    return [read_scan, scan_again, accept_scan, read_provenance, read_model_signature, read_bom, read_croissant]
