"""DOC: is what has to be written there, current, and kept?"""

from __future__ import annotations

from noria.compliance import store
from noria.compliance.file import SECTIONS
from noria.compliance.holds import rule
from noria.compliance.look import Look
from noria.compliance.measures.base import NO_DATA, NOTHING_LIVE, Measured, each, measure
from noria.compliance.model import Item
from noria.compliance.sheets import missing_in


@measure("DOC-1")
def technical_file(look: Look) -> Measured:
    assert look.system is not None
    written, since = store.sections(look.tx, look.system.name), look.production_ms
    items = []
    for number, (title, _) in SECTIONS.items():
        row = written.get(number)
        is_there = row is not None and bool(row.content.strip())
        is_stale = row is not None and since is not None and row.at_ms < since
        says = f"section {number}, {title}, is " + (
            "not written" if not is_there else "older than what is in production" if is_stale else "written"
        )
        items.append(
            Item(
                subject=f"system:{look.system.name}",
                ok=is_there and not is_stale,
                says=says,
                values={
                    "section": number,
                    "edit": row.edit if row else 0,
                    "at_ms": row.at_ms if row else None,
                    "production_at_ms": since,
                },
            )
        )
    return each(items, none="", good="all nine sections are written and current")


@measure("DOC-2")
def model_cards(look: Look) -> Measured:
    items = []
    for version in look.versions:
        card = look.proofs.card(version.id)
        missing = [name.replace("_", " ") for name in ("intended_use", "limitations") if not card.get(name, "").strip()]
        slices = sum(len(e.slices) for e in look.evaluations[version.id])
        if not slices:
            missing.append("metrics per slice")
        says = f"the card of {version.label} " + (f"lacks {', '.join(missing)}" if missing else "is there")
        items.append(
            Item(subject=version.ref, ok=not missing, says=says, values={"written": sorted(card), "slices": slices})
        )
    return each(items, none=NOTHING_LIVE, good="every version in production has its card")


@measure("DOC-3")
def data_sheets(look: Look) -> Measured:
    items = []
    for name in look.datasets:
        row = look.sheets.get(name)
        missing = missing_in(store.spec_of(row))
        says = (
            f"{name} has no data sheet"
            if row is None
            else f"the data sheet of {name} " + (f"lacks {', '.join(missing)}" if missing else "is whole")
        )
        values = {"edit": row.edit if row else 0, "missing": missing}
        items.append(Item(subject=f"dataset:{name}", ok=row is not None and not missing, says=says, values=values))
    return each(items, none=NO_DATA if look.versions else NOTHING_LIVE, good="every training dataset has its data sheet")


@measure("DOC-4")
def kept(look: Look) -> Measured:
    assert look.system is not None
    retention, years = rule(look.tx), look.limit("years")
    system = f"system:{look.system.name}"
    says = f"evidence is kept for {retention.evidence_days} days after it was last in production"
    is_long = retention.evidence_days >= years * 365
    items = [
        Item(
            subject=system,
            ok=is_long,
            says=says,
            values={"days": retention.evidence_days, "set_at_ms": retention.updated_at_ms},
        )
    ]
    kept_refs = look.tx.column(
        "select ref from kept_evidence where system = :s order by ref limit 20000", s=look.system.name
    )
    protected = set(look.tx.column("select dst from edge where src = :src and kind = 'keeps' and protects", src=system))
    for ref in map(str, kept_refs):
        if ref not in protected:
            items.append(Item(subject=ref, ok=False, says=f"nothing protects {ref} from being removed"))
    gone = look.facts("run.purged") + look.facts("model_version.deleted") + look.facts("dataset_version.deleted")
    for fact in gone:
        if fact["subject"] in kept_refs:
            items.append(
                Item(subject=fact["subject"], ok=False, says=f"{fact['subject']} was removed", values={"seq": fact["seq"]})
            )
    return each(items, none="", good=f"{says}; {len(kept_refs)} things are protected by it")
