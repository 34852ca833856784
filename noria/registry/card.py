"""The card of a model version: what was recorded, and what people wrote, as one document.

The recorded half is the passport and what happened since: approvals, endpoints. It cannot be edited. The written half is a closed
list of sections in Markdown, each edit kept with its author. What is missing is named, so that a card is never quietly thin.
Sections after Mitchell et al., Model Cards for Model Reporting (2019), and Annex IV of the EU AI Act.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.pages import html_of, page_of

CONTENT_LENGTH_MAX = 50_000
# name → (title, the question it answers)
SECTIONS: dict[str, tuple[str, str]] = {
    "intended_use": ("Intended use", "What is it for, and who is to use it?"),
    "out_of_scope": ("Out of scope", "What must it not be used for?"),
    "limitations": ("Limitations", "When is it wrong, and how would one notice?"),
    "ethical_considerations": ("Ethical considerations", "Who may be harmed, and what is done about it?"),
    "human_oversight": ("Human oversight", "Who watches it, and how is it stopped?"),
}
# name → what fills it; these come from the record and cannot be written
RECORDED: dict[str, str] = {
    "run": "train it in a tracked run",
    "code": "record the commit: noria run, or a git checkout",
    "datasets": "log the data the run read as an input",
    "params": "log the run's params",
    "evaluations": "record an evaluation",
    "slices": "record an evaluation with slices",
    "signature": "log the model with a signature",
    "environment": "log the model with its requirements",
    "approvers": "ask for an approval",
}


class CardSection(Struct, frozen=True, kw_only=True):
    """What people wrote in one section; `edit` counts from 1, 0: nothing yet."""

    section: str
    title: str
    question: str
    content: str = ""
    edit: int = 0
    actor: str = ""
    at_ms: int | None = None


class CardEdit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new text of one section. `expect` is the edit last seen (0: empty); None: whatever it is."""

    content: str
    expect: int | None = None


class Completeness(Struct, frozen=True, kw_only=True):
    """How much of a card is there: `score` from 0 to 1, what is missing with what would fill it, and what is stale with why.

    A section is stale when the version was evaluated after it was written; then it counts as half.
    """

    score: float
    missing: dict[str, str]
    stale: dict[str, str] = {}


class Card(Struct, frozen=True, kw_only=True):
    """A card: `recorded` comes from facts, `sections` from people."""

    model: str
    version: int
    recorded: dict[str, Any]
    sections: list[CardSection]
    completeness: Completeness


@fact("model_version.card_edited")
class ModelVersionCardEdited(Fact):
    """Somebody wrote a section of a version's card; every edit is kept."""

    model: str
    number: int
    section: str
    edit: int


def check_section(section: str) -> str:
    if section not in SECTIONS:
        raise Invalid(
            f"A card has no section {section[:80]!r}.", where="section", hint=f"It is one of {', '.join(SECTIONS)}."
        )
    return section


def check_content(content: str) -> str:
    if len(content) > CONTENT_LENGTH_MAX:
        raise Invalid(f"A section has at most {CONTENT_LENGTH_MAX} characters, not {len(content)}.", where="content")
    return content


def card_of(passport: dict[str, Any], since: dict[str, Any], written: list[CardSection]) -> Card:
    """The card from the passport, from what happened `since` (approvals, endpoints), and from the latest edit of each section."""
    latest = {s.section: s for s in written}
    sections = [latest.get(name, _empty(name)) for name in SECTIONS]
    recorded = {**passport, **since}
    return Card(
        model=passport["model"], version=passport["version"], recorded=recorded, sections=sections,
        completeness=_completeness(recorded, sections),
    )  # fmt: skip


def _empty(name: str) -> CardSection:
    title, question = SECTIONS[name]
    return CardSection(section=name, title=title, question=question)


def _completeness(recorded: dict[str, Any], sections: list[CardSection]) -> Completeness:
    run = recorded["run"] or {}
    has = {
        "run": bool(run.get("is_visible")),
        "code": bool(recorded["code"] and recorded["code"]["commit"]),
        "datasets": bool(recorded["datasets"]),
        "params": bool(run.get("params")),
        "evaluations": bool(recorded["evaluations"]),
        "slices": any(e["slices"] for e in recorded["evaluations"]),
        "signature": recorded["signature"] is not None,
        "environment": bool(recorded["environment"]["digest"] or recorded["environment"]["packages"]),
        "approvers": bool(recorded["approvals"]),
    }
    missing = {name: RECORDED[name] for name, there in has.items() if not there}
    missing |= {s.section: f"write it: {s.question}" for s in sections if not s.content.strip()}
    measured_ms = max((e["at_ms"] for e in recorded["evaluations"]), default=0)
    stale = {
        s.section: f"written {_date(s.at_ms)}, and the version was evaluated {_date(measured_ms)}: read it again"
        for s in sections
        if s.content.strip() and s.at_ms is not None and s.at_ms < measured_ms
    }
    whole = len(has) + len(sections)
    return Completeness(score=round((whole - len(missing) - len(stale) / 2) / whole, 3), missing=missing, stale=stale)


# --- as a page ----------------------------------------------------------------------------------------------------------


def to_markdown(card: Card) -> str:
    """The card as Markdown: what people wrote first, then the record. Names and values of the record are escaped."""
    r = card.recorded
    lines = [f"# {_text(card.model)} version {card.version}", ""]
    lines += [f"{card.completeness.score:.0%} complete." + (" Missing: " if card.completeness.missing else ""), ""]
    lines += [f"- {name.replace('_', ' ')}: {_text(how)}" for name, how in card.completeness.missing.items()]
    lines += [f"- {name.replace('_', ' ')} is stale: {_text(why)}" for name, why in card.completeness.stale.items()]
    for section in card.sections:
        lines += ["", f"## {section.title}", "", section.content.strip() or f"*Not written. {section.question}*"]
        if section.edit:
            lines += ["", f"*{_text(section.actor)}, {_date(section.at_ms)}, edit {section.edit}*"]
    lines += ["", "## Evaluation", "", *_evaluations(r["evaluations"])]
    lines += ["", "## Provenance", "", *_table([(k, v) for k, v in _provenance(r)])]
    lines += ["", "## Parameters", "", *_table(sorted(((r["run"] or {}).get("params") or {}).items()))]
    lines += ["", "## Signature", "", *_signature(r["signature"])]
    lines += [
        "",
        "## Approvals",
        "",
        *_table([(", ".join(a["approvers"]), f"{a['action']}, {_date(a['at_ms'])}") for a in r["approvals"]]),
    ]
    lines += [
        "",
        "## Endpoints",
        "",
        *_table([(e["endpoint"], f"{e['role']} since {_date(e['at_ms'])}") for e in r["endpoints"]]),
    ]
    return "\n".join(lines) + "\n"


def to_html(card: Card) -> str:
    """The same as HTML that may be shown: no script, no style, no remote image survives."""
    return html_of(to_markdown(card))


def to_page(card: Card) -> str:
    """The same as a page of its own, for the screen and for paper."""
    return page_of(f"{card.model} version {card.version}", to_markdown(card))


def _provenance(r: dict[str, Any]) -> list[tuple[str, Any]]:
    run, code = r["run"] or {}, r["code"] or {}
    data = [f"{d['name']}@{d['number']}" if d["name"] else d["id"] for d in r["datasets"]]
    return [
        ("Content digest", r["digest"]), ("Registered", f"{_date(r['created_at_ms'])} by {r['created_by']}"),
        ("Aliases", ", ".join(r["aliases"])), ("Loads as", ", ".join(r["flavors"])),
        ("Run", f"{run.get('name') or ''} {run.get('id') or ''}".strip()), ("Experiment", run.get("experiment")),
        ("Code", (code.get("commit") or "") + (" with changes that were not committed" if code.get("is_dirty") else "")),
        ("Data", ", ".join(data)), ("Environment", r["environment"]["digest"] or ", ".join(r["environment"]["packages"][:20])),
    ]  # fmt: skip


def _evaluations(evaluations: list[dict[str, Any]]) -> list[str]:
    rows = []
    for e in evaluations:
        data = e["dataset"]
        on = f"{data['name']}@{data['number']}" if data["name"] else e["dataset_version"]
        for name, metrics in [("all", e["metrics"]), *sorted(e["slices"].items())]:
            rows += [(f"{on} {e['split']}", name, metric, f"{value:.6g}") for metric, value in sorted(metrics.items())]
    if not rows:
        return ["None recorded."]
    return [
        "| Data | Slice | Metric | Value |",
        "|---|---|---|---|",
        *("| " + " | ".join(map(_text, row)) + " |" for row in rows),
    ]


def _signature(signature: dict[str, Any] | None) -> list[str]:
    rows = []
    for side in ("inputs", "outputs", "params"):
        for column in (signature or {}).get(side) or []:
            named = column if isinstance(column, dict) else {}
            rows.append((side, f"{named.get('name', '')} {named.get('type', '')}".strip()))
    return _table(rows)


def _table(rows: list[tuple[Any, Any]]) -> list[str]:
    if not rows:
        return ["None recorded."]
    return ["| | |", "|---|---|", *(f"| {_text(k)} | {_text(v) if v not in (None, '') else 'not known'} |" for k, v in rows)]


_SPECIAL = str.maketrans({c: "\\" + c for c in "\\`*_{}[]<>()#+-.!|~&"} | {"\n": " ", "\r": " "})


def _text(value: Any) -> str:
    """A recorded value as literal text in Markdown."""
    return str(value)[:2_000].translate(_SPECIAL)


def _date(at_ms: int | None) -> str:
    return "" if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
