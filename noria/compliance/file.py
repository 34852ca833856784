"""The technical file of a system: the nine sections of Annex IV of the EU AI Act, each with what people wrote and what is on record.

People write prose; the record is read when the file is asked for, so it cannot be out of date. A text is *stale* when a version went into
production after it was written. The score counts a current section as one, a stale one as half, an empty one as nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from noria.compliance import store
from noria.compliance.look import Look, Version
from noria.compliance.model import CheckFinding, Section, System, TechnicalFile

# number → (title, the question it answers), after Annex IV of Regulation (EU) 2024/1689
SECTIONS: dict[int, tuple[str, str]] = {
    1: ("General description", "What is it for, who provides it, what does it interact with, in which forms is it put into service?"),
    2: ("Elements and development", "How was it developed: methods, choices, data, oversight, pre-determined changes, tests, security?"),
    3: ("Monitoring, functioning and control", "What can it do and what not, for whom is it worse, what may go wrong, who oversees it?"),
    4: ("Performance metrics", "Why are these metrics the right ones for this system?"),
    5: ("Risk management", "Which risks were found, and what is done about each (Article 9)?"),
    6: ("Changes", "What did the provider change through its life?"),
    7: ("Standards", "Which harmonised standards are applied, and what is done where none is?"),
    8: ("Declaration of conformity", "Where is the EU declaration of conformity?"),
    9: ("Post-market monitoring", "How is its performance evaluated after it went into service (Article 72)?"),
}  # fmt: skip
CHANGES_SHOWN = 50


def technical_file(look: Look, findings: list[CheckFinding]) -> TechnicalFile:
    """The file of the look's system as it is now."""
    system, since = look.system, look.production_ms
    assert system is not None
    written, recorded = store.sections(look.tx, system.name), _recorded(look, system, findings)
    sections = [_section(number, written.get(number), recorded.get(number, []), since) for number in SECTIONS]
    warnings = [f"Section {s.number}, {s.title}, is not written." for s in sections if not s.content.strip()]
    warnings += [
        f"Section {s.number}, {s.title}, was written on {_day(s.at_ms)}; a version went into production on {_day(since)}."
        for s in sections
        if s.is_stale
    ]
    score = sum(0.0 if not s.content.strip() else 0.5 if s.is_stale else 1.0 for s in sections) / len(sections)
    return TechnicalFile(
        system=system, at_ms=look.now_ms, production_at_ms=since, score=round(score, 3), warnings=warnings, sections=sections
    )


def _section(number: int, row: store.SectionRow | None, recorded: list[str], since_ms: int | None) -> Section:
    title, question = SECTIONS[number]
    if row is None:
        return Section(number=number, title=title, question=question, recorded=recorded)
    return Section(
        number=number, title=title, question=question, content=row.content, edit=row.edit, actor=row.actor, at_ms=row.at_ms,
        is_stale=bool(row.content.strip()) and since_ms is not None and row.at_ms < since_ms, recorded=recorded,
    )  # fmt: skip


# --- from the record --------------------------------------------------------------------------------------------------


def _recorded(look: Look, system: System, findings: list[CheckFinding]) -> dict[int, list[str]]:
    spec = system.spec
    return {
        1: [
            *_table(("", ""), [
                ("System", spec.title or system.name), ("Owner", spec.owner), ("Intended purpose", spec.purpose), ("Users", spec.users),
                ("Risk class", f"{spec.risk}" + (f": {spec.risk_reason}" if spec.risk_reason else "")),
                ("Personal data", spec.personal_data), ("Health data", spec.health_data), ("Sector", spec.sector),
            ]),
            *_table(("Version in production", "Since", "Where", "Content digest"), [
                (v.label, _day(v.since_ms), ", ".join(v.where), v.digest) for v in look.versions
            ]),
        ],
        2: [line for v in look.versions for line in _development(look, v)],
        3: [
            *_table(("Section of the card", "Version", "Text"), [
                (name.replace("_", " "), v.label, text[:2_000]) for v in look.versions
                for name, text in sorted(look.proofs.card(v.id).items()) if text.strip()
            ]),
        ],
        4: [
            *_table(("Threshold", "To be", "On slices"), [
                (t.metric, f"{t.op} {t.value:g}", "yes" if t.slices else "no") for t in spec.thresholds
            ]),
            *_table(("Fairness", "Between", "At most apart"), [(f.metric, f.group, f"{f.limit:g}") for f in spec.fairness]),
            *_table(("Version", "Data", "Slice", "Metric", "Value"), [
                (v.label, f"{e.dataset_version[:8]} {e.split}", part or "all", metric, f"{value:.6g}")
                for v in look.versions for e in look.evaluations[v.id]
                for part, metrics in {"": e.metrics, **e.slices}.items() for metric, value in sorted(metrics.items())
            ][:500]),
        ],
        5: _table(("Check", "State", "Why", "Since"), [
            (f.check, f.state, f.reason, _day(f.since_ms)) for f in findings if f.state in ("fail", "waived", "unmeasurable")
        ]),
        6: _table(("When", "What", "Who"), _changes(look, system)),
        7: _table(("Check", "State", "Mapped to"), [(f.check, f.state, maps) for f in findings if (maps := _maps(f.check))]),
        9: _table(("Monitor", "Endpoint", "Metric"), [
            (r["name"], r["endpoint"], r["metric"]) for r in _monitors(look)
        ]),
    }  # fmt: skip


def _development(look: Look, version: Version) -> list[str]:
    run = look.runs.get(version.run_id)
    evaluations = look.evaluations[version.id]
    commit = run.source_commit if run else ""
    code = f"commit {commit}" + (" with changes" if run and run.source_dirty else "") if commit else "not known"
    rows: list[tuple[str, str]] = [
        ("Run", version.run_id or "none on record"),
        ("Code", code),
        ("Registered by", f"{version.actor} on {_day(version.created_at_ms)}"),
        ("Environment", version.environment_digest or ", ".join(version.packages[:30]) or "not known"),
        ("Evaluations", f"{len(evaluations)}, {sum(len(e.slices) for e in evaluations)} slices"),
        ("Approved by", ", ".join(sorted({v.actor for v in look.votes.get(version.digest, []) if v.decision == "approve"})) or "nobody"),
    ]  # fmt: skip
    tags = look.tags(version)
    if tags.get("base_model"):
        rows.append(("Rests on", f"{tags['base_model']} ({tags.get('base_model.licence', 'licence not said')})"))
    data = []
    for d in look.trained_on[version.id]:
        sheet = store.spec_of(look.sheets.get(d.dataset))
        data.append((d.label, d.root_digest, sheet.licence or "not said", sheet.source or "not said",
                     f"{sheet.collected_from or '?'} to {sheet.collected_to or '?'}"))  # fmt: skip
    title = f"**{_text(version.label)}**"
    return [title, "", *_table(("", ""), rows), *_table(("Trained on", "Digest", "Licence", "Source", "Collected"), data)]


def _changes(look: Look, system: System) -> list[tuple[str, str, str]]:
    found = [
        (f["at_ms"], f"the system was described anew (edit {f['data']['edit']})", f["actor"])
        for f in look.facts("system.saved", subject=str(system.ref), limit=CHANGES_SHOWN)
    ]
    for endpoint in look.endpoints:
        for f in look.facts("endpoint.split_changed", subject=f"endpoint:{endpoint.name}", limit=CHANGES_SHOWN):
            to = ", ".join(f"version {r['model_version']} {r['weight']} %" for r in f["data"]["routes"] if r.get("weight"))
            found.append((f["at_ms"], f"{endpoint.name}: {to or 'no traffic'} ({f['data']['reason']})", f["actor"]))
    return [(_day(at), what, who) for at, what, who in sorted(found, reverse=True)[:CHANGES_SHOWN]]


def _monitors(look: Look) -> list[dict[str, Any]]:
    import msgspec

    rows = look.tx.rows(
        "select name, endpoint, spec from monitor where is_active and endpoint in :names order by name limit 500",
        names=[e.name for e in look.endpoints],
    )
    return [{**r, "metric": msgspec.json.decode(r["spec"])["metric"]} for r in rows]


def _maps(check_id: str) -> str:
    from noria.compliance.catalogue import catalogue

    titles = {f.id: f.title for f in catalogue().frameworks}
    for found in catalogue().checks:
        if found.id == check_id:
            return "; ".join(f"{titles[k]} {v}" for k, v in found.maps.items())
    return ""


# --- as a page --------------------------------------------------------------------------------------------------------


def to_markdown(file: TechnicalFile) -> str:
    """The file as Markdown: what people wrote, then the record, section by section. Recorded values are literal text."""
    name = file.system.spec.title or file.system.name
    lines = [
        f"# Technical file: {_text(name)}",
        "",
        f"{file.score:.0%} complete on {_day(file.at_ms)}. After Annex IV of the EU AI Act.",
        "",
    ]
    lines += [f"- {_text(w)}" for w in file.warnings]
    for section in file.sections:
        lines += ["", f"## {section.number}. {section.title}", ""]
        lines += [section.content.strip() or f"*Not written. {section.question}*"]
        if section.edit:
            stale = ", before what is in production" if section.is_stale else ""
            lines += ["", f"*{_text(section.actor)}, {_day(section.at_ms)}, edit {section.edit}{stale}*"]
        if section.recorded:
            lines += ["", "### On record", "", *section.recorded]
    return "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    if not rows:
        return []
    cells = [" | ".join(_text(c) if c not in (None, "") else "not said" for c in row) for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *(f"| {c} |" for c in cells), ""]


_SPECIAL = str.maketrans({c: "\\" + c for c in "\\`*_{}[]<>()#+-.!|~&"} | {"\n": " ", "\r": " "})


def _text(value: Any) -> str:
    """A recorded value as literal text in Markdown."""
    return str(value)[:2_000].translate(_SPECIAL)


def _day(at_ms: int | None) -> str:
    return "" if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
