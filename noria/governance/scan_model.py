"""The nouns of scans: what the files of a model version are, and who accepted what they would do."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from noria.governance.pickles import ScanFinding
from noria.kernel.facts import Fact, fact

FINDINGS_PER_FACT = 20
REASON_LENGTH_MIN, REASON_LENGTH_MAX = 10, 2_000
Status = Literal["clean", "suspicious", "unscanned"]


class Scan(Struct, frozen=True, kw_only=True):
    """What was found in the files of one digest. `rules` is the version of the list it was held against.

    `is_pending`: it was not looked at yet, which is being done. `accepted_by`: an administrator looked at the findings and takes
    them; that holds for these bytes only.
    """

    digest: str
    status: Status
    rules: int = 0
    formats: dict[str, str] = {}
    findings: list[ScanFinding] = []
    why: str = ""
    at_ms: int | None = None
    took_ms: int = 0
    is_pending: bool = False
    is_safe: bool = False  # clean, and no format in it can run code
    accepted_by: str = ""
    accepted_reason: str = ""
    accepted_at_ms: int | None = None


class Acceptance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why findings are taken as they are."""

    reason: str


@fact("model_version.scanned")
class ModelVersionScanned(Fact):
    """The files of a version were looked through; the first findings are in the record."""

    model: str
    number: int
    digest: str
    status: str
    findings: list[str] = []
    formats: list[str] = []
    why: str = ""


@fact("model_version.scan_accepted", personal=("reason",))
class ModelVersionScanAccepted(Fact):
    """An administrator takes what was found in these bytes, and said why."""

    model: str
    number: int
    digest: str
    reason: str
    findings: list[str] = []
