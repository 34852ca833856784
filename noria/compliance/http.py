"""The routes of compliance: systems, what checks found, waivers, technical files, data sheets."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response
from msgspec import Struct

from noria.compliance.catalogue import catalogue
from noria.compliance.erasures import Erasure, ErasureEnd, Erasures, ErasureSubject, NewErasure
from noria.compliance.file import to_markdown
from noria.compliance.holds import Hold, HoldRelease, Holds, NewHold, Retention, RetentionWish
from noria.compliance.incidents import Incident, IncidentEnd, IncidentReport, NewIncident
from noria.compliance.model import (
    Catalogue,
    DataSheet,
    DataSheetSpec,
    EvidenceReport,
    Matrix,
    NewReport,
    NewWaiver,
    Section,
    SectionEdit,
    System,
    SystemAssessment,
    SystemSpec,
    Waiver,
)
from noria.compliance.reviews import AccessReview, NewReview, ReviewDecision, ReviewPage, Reviews
from noria.compliance.service import Compliance
from noria.http.route import Routes, delete, get, post, put
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.kernel.pages import POLICY, html_of, page_of
from noria.kernel.paging import Page

FORMS = {"json": "application/json", "md": "text/markdown; charset=utf-8", "html": "text/html; charset=utf-8",
         "page": "text/html; charset=utf-8"}  # fmt: skip


class Retirement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a system is no longer used."""

    reason: str


def routes(compliance: Compliance) -> Routes:
    return [
        *_findings(compliance), *_systems(compliance), *_documents(compliance), *_incidents(compliance),
        *_reviews(compliance.reviews), *_holds(compliance.holds), *_erasures(compliance.erasures),
    ]  # fmt: skip


def _findings(compliance: Compliance) -> Routes:
    @get("/api/v1/compliance", action="compliance.read")
    def read_compliance(op: Op) -> Matrix:
        """Systems × checks: where each stands."""
        return compliance.matrix(op)

    @get("/api/v1/compliance/checks", action="compliance.read")
    def list_checks(op: Op) -> Catalogue:
        """Every check with what it asks, when it passes, and which law or standard it is mapped to."""
        op.can("compliance.read")
        return catalogue()

    @get("/api/v1/compliance/{system:str}", action="compliance.read")
    def read_assessment(op: Op, system: str) -> SystemAssessment:
        """What was found of a system, with the evidence; `installation` for what concerns all of it."""
        return compliance.assessment(op, system)

    @post("/api/v1/compliance/{system:str}/evaluate", action="compliance.write")
    def evaluate_system(op: Op, system: str) -> SystemAssessment:
        """Measure a system now."""
        return compliance.evaluate(op, system)

    @get("/api/v1/compliance/{system:str}/waivers", action="compliance.read")
    def list_waivers(op: Op, system: str) -> Page[Waiver]:
        """Every waiver of a system, newest first, those that ended too."""
        return Page(compliance.waivers(op, system))

    @post("/api/v1/compliance/{system:str}/waivers", action="compliance.waive", status_code=201)
    def grant_waiver(op: Op, system: str, data: NewWaiver) -> Waiver:
        """Let a system miss a check, with a reason and an end."""
        return compliance.waive(op, system, data)

    @delete("/api/v1/waivers/{waiver_id:str}", action="compliance.waive", status_code=200)
    def revoke_waiver(op: Op, waiver_id: str) -> Waiver:
        """End a waiver."""
        return compliance.revoke_waiver(op, waiver_id)

    return [read_compliance, list_checks, read_assessment, evaluate_system, list_waivers, grant_waiver, revoke_waiver]


def _systems(compliance: Compliance) -> Routes:
    @get("/api/v1/systems", action="compliance.read")
    def list_systems(op: Op) -> Page[System]:
        """Registered systems, retired ones too."""
        op.can("compliance.read")
        return Page(compliance.systems(op))

    @get("/api/v1/systems/{name:str}", action="compliance.read")
    def read_system(op: Op, name: str) -> System:
        """One system."""
        return compliance.system(op, name)

    @put("/api/v1/systems/{name:str}", action="compliance.write")
    def save_system(op: Op, name: str, data: SystemSpec) -> System:
        """Register a system, or describe it anew."""
        return compliance.save_system(op, name, data)

    @post("/api/v1/systems/{name:str}/retire", action="compliance.write")
    def retire_system(op: Op, name: str, data: Retirement) -> System:
        """No longer use a system; what is on record of it stays."""
        return compliance.retire_system(op, name, data.reason)

    @get("/api/v1/systems/{name:str}/reports", action="compliance.read")
    def list_reports(op: Op, name: str) -> Page[EvidenceReport]:
        """Documents from elsewhere that are evidence, newest first."""
        return Page(compliance.reports(op, name))

    @post("/api/v1/systems/{name:str}/reports", action="compliance.write", status_code=201)
    def attach_report(op: Op, name: str, data: NewReport) -> EvidenceReport:
        """Attach a document as evidence; it cannot be taken away again."""
        return compliance.attach(op, name, data)

    return [list_systems, read_system, save_system, retire_system, list_reports, attach_report]


def _documents(compliance: Compliance) -> Routes:
    @get("/api/v1/systems/{name:str}/technical-file", action="compliance.read")
    def read_technical_file(op: Op, name: str, form: str = "json") -> Response[Any]:
        """The technical file after Annex IV: what people wrote and what is on record. `form`: json, md, html, or page to print."""
        if form not in FORMS:
            raise Invalid(f"A technical file has no form {form[:40]!r}.", where="form", hint=f"One of {', '.join(FORMS)}.")
        file = compliance.technical_file(op, name)
        if form == "json":
            return Response(msgspec.json.encode(file), media_type=FORMS[form])
        text = to_markdown(file)
        if form == "html":
            text = html_of(text)
        elif form == "page":
            text = page_of(f"Technical file: {file.system.spec.title or name}", text)
        return Response(text.encode(), media_type=FORMS[form], headers={"content-security-policy": POLICY})

    @put("/api/v1/systems/{name:str}/technical-file/{section:int}", action="compliance.write")
    def write_section(op: Op, name: str, section: int, data: SectionEdit) -> Section:
        """Write a section of the technical file, as Markdown; the texts before it are kept."""
        return compliance.write_section(op, name, section, data)

    @get("/api/v1/systems/{name:str}/technical-file/{section:int}", action="compliance.read")
    def read_section_history(op: Op, name: str, section: int) -> Page[Section]:
        """Every text a section ever had, newest first."""
        return Page(compliance.section_history(op, name, section))

    @get("/api/v1/data-sheets/{dataset:str}", action="dataset.read")
    def read_data_sheet(op: Op, dataset: str) -> DataSheet:
        """What people say of a dataset, and what is missing."""
        return compliance.sheet(op, dataset)

    @put("/api/v1/data-sheets/{dataset:str}", action="dataset.commit")
    def save_data_sheet(op: Op, dataset: str, data: DataSheetSpec) -> DataSheet:
        """Write the data sheet of a dataset."""
        return compliance.save_sheet(op, dataset, data)

    return [read_technical_file, write_section, read_section_history, read_data_sheet, save_data_sheet]


def _incidents(compliance: Compliance) -> Routes:
    @get("/api/v1/systems/{name:str}/incidents", action="compliance.read")
    def list_incidents(op: Op, name: str) -> Page[Incident]:
        """Serious incidents of a system, newest first, with their deadlines."""
        return Page(compliance.incidents_of(op, name))

    @post("/api/v1/systems/{name:str}/incidents", action="compliance.write", status_code=201)
    def open_incident(op: Op, name: str, data: NewIncident) -> Incident:
        """Note an incident; its deadline follows from its severity."""
        return compliance.open_incident(op, name, data)

    @post("/api/v1/incidents/{incident_id:str}/report", action="compliance.write")
    def report_incident(op: Op, incident_id: str, data: IncidentReport) -> Incident:
        """Say that an authority was told."""
        return compliance.incidents.report(op, incident_id, data)

    @post("/api/v1/incidents/{incident_id:str}/close", action="compliance.write")
    def close_incident(op: Op, incident_id: str, data: IncidentEnd) -> Incident:
        """Say what was done about it."""
        return compliance.incidents.close(op, incident_id, data)

    return [list_incidents, open_incident, report_incident, close_incident]


def _reviews(reviews: Reviews) -> Routes:
    @get("/api/v1/access-reviews", action="access.read")
    def list_access_reviews(op: Op) -> Page[AccessReview]:
        """Reviews of who may what, newest first."""
        return Page(reviews.reviews(op))

    @get("/api/v1/access-reviews/{review_id:str}", action="access.read")
    def read_access_review(op: Op, review_id: str) -> ReviewPage:
        """A review with everything in it."""
        return reviews.review(op, review_id)

    @post("/api/v1/access-reviews", action="access.write", status_code=201)
    def start_access_review(op: Op, data: NewReview) -> ReviewPage:
        """Write down who may what now, to be decided one by one."""
        return reviews.start(op, data)

    @post("/api/v1/access-reviews/{review_id:str}/items/{position:int}", action="access.write")
    def decide_access(op: Op, review_id: str, position: int, data: ReviewDecision) -> ReviewPage:
        """Keep one thing, or take it away now."""
        return reviews.decide(op, review_id, position, data)

    return [list_access_reviews, read_access_review, start_access_review, decide_access]


def _holds(holds: Holds) -> Routes:
    @get("/api/v1/legal-holds", action="compliance.read")
    def list_legal_holds(op: Op) -> Page[Hold]:
        """Things that must not be removed, newest first, released ones too."""
        return Page(holds.holds(op))

    @post("/api/v1/legal-holds", action="compliance.waive", status_code=201)
    def place_legal_hold(op: Op, data: NewHold) -> Hold:
        """Forbid the removal of something, whoever asks."""
        return holds.place(op, data)

    @post("/api/v1/legal-holds/{hold_id:str}/release", action="compliance.waive")
    def release_legal_hold(op: Op, hold_id: str, data: HoldRelease) -> Hold:
        """Allow the removal again."""
        return holds.release(op, hold_id, data)

    @get("/api/v1/retention", action="compliance.read")
    def read_retention(op: Op) -> Retention:
        """For how long evidence is kept."""
        return holds.retention(op)

    @put("/api/v1/retention", action="compliance.waive")
    def set_retention(op: Op, data: RetentionWish) -> Retention:
        """Keep evidence for other days."""
        return holds.set_retention(op, data)

    return [list_legal_holds, place_legal_hold, release_legal_hold, read_retention, set_retention]


def _erasures(erasures: Erasures) -> Routes:
    @get("/api/v1/erasures", action="compliance.read")
    def list_erasures(op: Op) -> Page[Erasure]:
        """Requests for erasure, those that are due first, first."""
        return Page(erasures.erasures(op))

    @get("/api/v1/erasures/{erasure_id:str}", action="compliance.read")
    def read_erasure(op: Op, erasure_id: str) -> Erasure:
        """A request with what came of it."""
        return erasures.erasure(op, erasure_id)

    @post("/api/v1/erasures", action="compliance.write", status_code=201)
    def request_erasure(op: Op, data: NewErasure) -> Erasure:
        """Note that somebody is to be forgotten; the value is not kept."""
        return erasures.request(op, data)

    @post("/api/v1/erasures/{erasure_id:str}/datasets/{dataset:str}", action="compliance.write")
    def carry_out_erasure(op: Op, erasure_id: str, dataset: str, data: ErasureSubject) -> Erasure:
        """Erase the subject's rows in one dataset, and note what came of it."""
        return erasures.carry_out(op, erasure_id, dataset, data)

    @post("/api/v1/erasures/{erasure_id:str}/close", action="compliance.write")
    def close_erasure(op: Op, erasure_id: str, data: ErasureEnd) -> Erasure:
        """Say that a request is done with."""
        return erasures.close(op, erasure_id, data)

    return [list_erasures, read_erasure, request_erasure, carry_out_erasure, close_erasure]
