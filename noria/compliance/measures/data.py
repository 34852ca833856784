"""DAT: what is on record about the data that versions in production were trained on."""

from __future__ import annotations

import msgspec

from noria.compliance import store
from noria.compliance.look import Data, Look
from noria.compliance.measures.base import NO_DATA, NOTHING_LIVE, Measured, each, measure, unmeasurable
from noria.compliance.model import DAY_MS, Item
from noria.compliance.sheets import looks_personal

SAID = ("licence", "source", "collected_from", "collected_to")


def _none(look: Look) -> str:
    return NO_DATA if look.versions else NOTHING_LIVE


@measure("DAT-1")
def where_from(look: Look) -> Measured:
    items = []
    for name in look.datasets:
        spec = store.spec_of(look.sheets.get(name))
        missing = [field.replace("_", " ") for field in SAID if not getattr(spec, field).strip()]
        says = f"{name}: " + (f"{', '.join(missing)} not said" if missing else f"{spec.licence}, from {spec.source}")
        values = {field: getattr(spec, field) for field in SAID}
        items.append(Item(subject=f"dataset:{name}", ok=not missing, says=says[:500], values=values))
    return each(items, none=_none(look), good="licence, source and time of collection of all training data are written")


@measure("DAT-2")
def as_expected(look: Look) -> Measured:
    """A commit that is not as expected is refused, so a version that was committed while rules were in force kept to them."""
    items = [_expected(look, data) for data in look.data]
    return each(items, none=_none(look), good="all training data was held against expectations when it was committed")


def _expected(look: Look, data: Data) -> Item:
    made = look.facts("dataset_version.committed", subject=data.ref, limit=1)
    if not made:
        return Item(subject=data.ref, ok=None, says=f"the commit of {data.label} is not on record here")
    before = [f for f in look.facts("dataset.expected", subject=f"dataset:{data.dataset}") if f["seq"] < made[0]["seq"]]
    wanted = before[0]["data"] if before and before[0]["data"]["text"] else None
    says = f"{data.label} " + (
        "was committed when nothing was expected of it" if wanted is None
        else f"kept to what was expected when it was committed ({wanted['rules']} rules on tables)"
    )  # fmt: skip
    values = {"commit": made[0]["seq"], "expected": before[0]["seq"] if before else None}
    return Item(subject=data.ref, ok=wanted is not None, says=says, values=values)


@measure("DAT-3")
def no_overlap(look: Look) -> Measured:
    items = []
    for version in look.versions:
        trained = {d.id for d in look.trained_on[version.id]}
        for evaluation in look.evaluations[version.id]:
            on = f"{version.label} was evaluated on the {evaluation.split} of {evaluation.dataset_version[:8]}"
            is_same = evaluation.dataset_version in trained
            is_train = is_same and evaluation.split.lower() in ("train", "training")
            items.append(Item(
                subject=version.ref, ok=False if is_train else None,
                says=f"{on}, which it was trained on" if is_train else f"{on}; rows of splits and other versions are not compared",
                values={"dataset_version": evaluation.dataset_version, "split": evaluation.split, "trained_on": sorted(trained)},
            ))  # fmt: skip
    if look.versions and not items:
        return unmeasurable("no evaluation of what is in production is on record")
    return each(items, none=NOTHING_LIVE, good="")


@measure("DAT-4")
def personal_data_declared(look: Look) -> Measured:
    items = []
    for data in look.data:
        if not data.dataset or data.deleted_at_ms:
            items.append(Item(subject=data.ref, ok=None, says=f"{data.label} is gone, so its columns cannot be looked at"))
            continue
        declared = set(store.spec_of(look.sheets.get(data.dataset)).personal_columns)
        columns = look.proofs.columns(data.id)
        if columns is None:
            items.append(
                Item(subject=data.ref, ok=None, says=f"the tables of {data.label} are not read yet, or it has none")
            )
            continue
        found = {name: why for name, values in columns if (why := looks_personal(name, values))}
        undeclared = sorted(found.keys() - declared)
        says = (
            f"{data.label}: {len(declared)} personal columns declared, no other looks like one, by name and frequent values"
        )
        if undeclared:
            more = f", and {len(undeclared) - 1} more" if undeclared[1:] else ""
            says = f"{data.label}: {undeclared[0]} looks personal ({found[undeclared[0]]}) and is not declared{more}"
        values = {"declared": sorted(declared), "found": found, "columns": len(columns)}
        items.append(Item(subject=data.ref, ok=not undeclared, says=says, values=values))
    return each(items, none=_none(look), good="what looks like personal data is declared")


@measure("DAT-5")
def erased_in_time(look: Look) -> Measured:
    """Requests that name a dataset of the system, or for the installation all of them."""
    rows = look.tx.rows(
        "select id, reference, datasets, due_at_ms, state, outcome, closed_at_ms from erasure order by due_at_ms, id limit 10000"
    )
    mine, items = set(look.datasets), []
    for row in rows:
        named = set(msgspec.json.decode(row["datasets"]))
        if look.system is not None and not named & mine:
            continue
        outcome = msgspec.json.decode(row["outcome"])
        left = sorted(named - {o["dataset"] for o in outcome}) if row["state"] == "open" else []
        end = row["closed_at_ms"] if row["state"] == "closed" else look.now_ms
        is_late = end > row["due_at_ms"]
        says = f"request {row['reference']} " + (
            ("was closed late" if is_late else "was closed in time") if row["state"] == "closed"
            else f"is {'overdue' if is_late else 'open'}" + (f", {', '.join(left)} not done" if left else "")
        )  # fmt: skip
        values = {"due_at_ms": row["due_at_ms"], "state": row["state"], "closed_at_ms": row["closed_at_ms"],
                  "affected": sorted({a for o in outcome for a in o["affected"]})}  # fmt: skip
        items.append(Item(subject=f"erasure:{row['id']}", ok=not is_late, says=says, values=values))
    if not items:
        return Measured(state="pass", reason="no request for erasure is on record")
    return each(items, none="", good=f"{len(items)} requests, none late")


@measure("DAT-6")
def not_too_old(look: Look) -> Measured:
    items = []
    for data in look.data:
        if not data.dataset:
            continue
        limit = store.spec_of(look.sheets.get(data.dataset)).retention_days
        if limit is None:
            items.append(
                Item(subject=f"dataset:{data.dataset}", ok=False, says=f"how long {data.dataset} may be kept is not said")
            )
            continue
        days = (look.now_ms - data.created_at_ms) // DAY_MS
        is_kept = data.deleted_at_ms is None
        says = f"{data.label} is {days} days old, of {limit}" + ("" if is_kept else "; it was deleted")
        items.append(
            Item(
                subject=data.ref,
                ok=not is_kept or days <= limit,
                says=says,
                values={"created_at_ms": data.created_at_ms, "limit": limit, "is_kept": is_kept},
            )
        )
    return each(items, none=_none(look), good="no training data is older than it may be")
