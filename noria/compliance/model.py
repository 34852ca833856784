"""The nouns of compliance: systems, checks and what they found, waivers, sheets of data, reports, sections of the technical file.

A *system* is what laws speak of: some models and endpoints with one purpose, one owner and one class of risk. A *check* is data
(`catalogue/checks.toml`); a *finding* is what one check measured of one system, from what is on record. A finding says that evidence
is there or is not; it never says that somebody is compliant.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref, check_name

INSTALLATION = "installation"  # stands where a system's name does, for checks of the whole
MEMBERS_MAX = 200
TEXT_LENGTH_MAX = 20_000
SECTION_LENGTH_MAX = 100_000
REASON_LENGTH_MIN, REASON_LENGTH_MAX = 10, 2_000
WAIVER_DAYS_MAX = 366
DAY_MS = 86_400_000
ITEMS_KEPT = 200  # evidence of one finding; beyond it the rest is counted

Risk = Literal["unclassified", "minimal", "limited", "high", "prohibited"]
Answer = Literal["unknown", "no", "yes"]
State = Literal["pass", "fail", "unmeasurable", "not_applicable", "waived"]
ReportKind = Literal["robustness", "stop_test", "vulnerabilities", "validation", "other"]
_DIGEST = re.compile(r"^[0-9a-f]{64}\Z")


class Threshold(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number that evaluations must reach, on the whole and, unless said otherwise, on every slice."""

    metric: str
    op: Literal[">=", "<="]
    value: float
    slices: bool = True


class FairnessLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far apart a metric may be between the groups of `group`, a name of slices such as `sex` in `sex=f`."""

    group: str
    metric: str
    limit: float


class SystemSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of a system. `members`: refs such as `model:flights`, `endpoint:flights`."""

    title: str = ""
    owner: str = ""  # the name of an account
    purpose: str = ""
    users: str = ""  # who uses it, and on whom
    risk: Risk = "unclassified"
    risk_reason: str = ""  # why this class
    personal_data: Answer = "unknown"
    health_data: Answer = "unknown"
    sector: str = ""
    members: list[str] = []
    thresholds: list[Threshold] = []
    fairness: list[FairnessLimit] = []
    approvals: int = 1  # how many a change of production needs


class System(Struct, frozen=True, kw_only=True):
    """A registered system. `edit` counts from 1."""

    name: str
    spec: SystemSpec
    edit: int
    created_at_ms: int
    updated_at_ms: int
    actor: str
    is_retired: bool = False

    @property
    def ref(self) -> Ref:
        return Ref("system", self.name)


class Framework(Struct, frozen=True, kw_only=True):
    """A law or a standard that checks are mapped to."""

    id: str
    title: str
    edition: str


class Check(Struct, frozen=True, kw_only=True):
    """One check, from the catalogue. `applies`: profiles it is for; empty: all."""

    id: str
    title: str
    asks: str
    passes: str
    scope: list[Literal["installation", "system"]]
    applies: list[dict[str, str]] = []
    limits: dict[str, float] = {}
    maps: dict[str, str] = {}


class Catalogue(Struct, frozen=True, kw_only=True):
    """Every check, with the version and the date of the mapping."""

    version: str
    date: str
    frameworks: list[Framework]
    checks: list[Check]


class Item(Struct, frozen=True, kw_only=True):
    """One piece of evidence: what was looked at, what was found, and the values it rests on. `ok` null: it cannot be told."""

    subject: str
    ok: bool | None
    says: str
    values: dict[str, Any] = {}


class CheckFinding(Struct, frozen=True, kw_only=True):
    """What a check found of a system. `measured` is before waivers; `inputs_digest` names the values it rests on."""

    system: str
    check: str
    state: State
    measured: State
    reason: str
    items: list[Item] = []
    items_count: int = 0
    inputs_digest: str = ""
    catalogue: str = ""
    at_ms: int = 0
    since_ms: int = 0  # since when the state is this one
    waiver: str = ""


class Waiver(Struct, frozen=True, kw_only=True):
    """A check that somebody lets a system miss, until a time."""

    id: str
    system: str
    check: str
    reason: str
    actor: str
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int | None = None
    revoked_by: str = ""


class NewWaiver(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a check may be missed, and for how long."""

    check: str
    reason: str
    days: int = 30


class SystemRow(Struct, frozen=True, kw_only=True):
    """A row of the matrix: a system (or the installation, whose `system` is null) and the state of each check."""

    name: str
    system: System | None
    states: dict[str, State]
    counts: dict[str, int]
    at_ms: int | None


class Matrix(Struct, frozen=True, kw_only=True):
    """Systems × checks."""

    rows: list[SystemRow]
    catalogue: str


class SystemAssessment(Struct, frozen=True, kw_only=True):
    """Everything that was found of one system, with its waivers in force."""

    name: str
    system: System | None
    findings: list[CheckFinding]
    waivers: list[Waiver]


class EvidenceReport(Struct, frozen=True, kw_only=True):
    """A document from elsewhere that is evidence. `numbers`: what is counted of it, such as `critical` of vulnerabilities."""

    id: str
    system: str
    kind: ReportKind
    title: str
    uri: str
    digest: str
    dated_at_ms: int
    numbers: dict[str, float] = {}
    subject: str = ""
    actor: str = ""
    at_ms: int = 0


class NewReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document to attach: where it is, its SHA-256 or BLAKE3 when known, when it was made (null: today)."""

    kind: ReportKind
    title: str
    uri: str
    dated_at_ms: int | None = None
    digest: str = ""
    numbers: dict[str, float] = {}
    subject: str = ""


class DataSheetSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people say of a dataset. Dates as YYYY-MM-DD; `personal_columns`: those that hold personal data."""

    description: str = ""
    licence: str = ""
    source: str = ""
    collected_from: str = ""
    collected_to: str = ""
    personal_columns: list[str] = []
    retention_days: int | None = None
    biases: str = ""


class DataSheet(Struct, frozen=True, kw_only=True):
    """The data sheet of a dataset, and what it lacks."""

    dataset: str
    spec: DataSheetSpec
    edit: int = 0
    actor: str = ""
    updated_at_ms: int | None = None
    missing: list[str] = []


class SectionEdit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new text of a section. `expect` is the edit last seen (0: empty); None: whatever it is."""

    content: str
    expect: int | None = None


class Section(Struct, frozen=True, kw_only=True):
    """One section of the technical file: what people wrote, and what is on record."""

    number: int
    title: str
    question: str
    content: str = ""
    edit: int = 0
    actor: str = ""
    at_ms: int | None = None
    is_stale: bool = False  # written before the last version went into production
    recorded: list[str] = []  # lines of Markdown, from the record


class TechnicalFile(Struct, frozen=True, kw_only=True):
    """Annex IV of a system. `score` from 0 to 1: how much is written and current; `warnings` say what is not."""

    system: System
    at_ms: int
    production_at_ms: int | None
    score: float
    warnings: list[str]
    sections: list[Section]


@fact("system.saved")
class SystemSaved(Fact):
    """A system was registered or changed; all that is said of it is in the record."""

    edit: int
    spec: dict[str, Any]


@fact("system.retired")
class SystemRetired(Fact):
    """A system is no longer used; what was found of it stays."""

    reason: str


@fact("compliance.changed")
class ComplianceChanged(Fact):
    """A check of a system is in another state; `inputs_digest` names what it rests on."""

    check: str
    was: str
    now: str
    reason: str
    inputs_digest: str
    catalogue: str


@fact("waiver.granted")
class WaiverGranted(Fact):
    """Somebody lets a system miss a check, until a time."""

    system: str
    check: str
    reason: str
    expires_at_ms: int


@fact("waiver.revoked")
class WaiverRevoked(Fact):
    """A waiver no longer counts."""

    system: str
    check: str


@fact("system.section_written")
class SystemSectionWritten(Fact):
    """Somebody wrote a section of a technical file; every edit is kept."""

    section: int
    edit: int


@fact("system.report_attached")
class SystemReportAttached(Fact):
    """A document from elsewhere was attached as evidence."""

    report: str
    report_kind: str
    title: str
    uri: str
    digest: str
    dated_at_ms: int


@fact("data_sheet.saved")
class DataSheetSaved(Fact):
    """What people say of a dataset was written; all of it is in the record."""

    edit: int
    spec: dict[str, Any]


def check_spec(name: str, spec: SystemSpec) -> SystemSpec:
    """`spec` if it can be that of a system. Raises Invalid."""
    check_name(name, what="system")
    if name == INSTALLATION:
        raise Invalid(f"{INSTALLATION!r} means the whole installation, so no system can be called so.", where="name")
    for field in ("title", "owner", "purpose", "users", "risk_reason", "sector"):
        if len(getattr(spec, field)) > TEXT_LENGTH_MAX:
            raise Invalid(f"{field} has at most {TEXT_LENGTH_MAX} characters.", where=field)
    if len(spec.members) > MEMBERS_MAX:
        raise Invalid(f"A system has at most {MEMBERS_MAX} members.", where="members")
    for member in spec.members:
        if Ref.parse(member).kind not in ("model", "endpoint"):
            raise Invalid(
                f"{member[:200]!r} cannot belong to a system.", where="members",
                hint="Members are model:name and endpoint:name.",
            )  # fmt: skip
    if not 1 <= spec.approvals <= 10:
        raise Invalid("approvals is between 1 and 10.", where="approvals")
    return spec


def check_reason(reason: str) -> str:
    """A reason that says something. Raises Invalid."""
    reason = reason.strip()
    if not REASON_LENGTH_MIN <= len(reason) <= REASON_LENGTH_MAX:
        raise Invalid(
            f"The reason has between {REASON_LENGTH_MIN} and {REASON_LENGTH_MAX} characters.", where="reason",
            hint="Say why, and where that was decided.",
        )  # fmt: skip
    return reason


def check_report(report: NewReport) -> NewReport:
    """Raises Invalid for one that names no document."""
    if not report.title.strip() or not report.uri.strip() or max(len(report.title), len(report.uri)) > 2_000:
        raise Invalid("A report has a title and an address, of at most 2000 characters.", where="uri")
    if report.digest and not _DIGEST.match(report.digest):
        raise Invalid("The digest is 64 hexadecimal digits, of SHA-256 or BLAKE3.", where="digest")
    if report.subject:
        Ref.parse(report.subject)
    if len(report.numbers) > 100:
        raise Invalid("A report has at most 100 numbers.", where="numbers")
    if report.kind == "vulnerabilities" and "critical" not in report.numbers:
        raise Invalid(
            "A report on vulnerabilities says how many critical ones are open for longer than allowed.", where="numbers",
            hint='numbers: {"critical": 0}',
        )  # fmt: skip
    return report
