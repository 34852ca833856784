"""PRV: where versions in production come from, and whether that can be shown."""

from __future__ import annotations

import math

from noria.compliance.look import Look, Version
from noria.compliance.measures.base import NOTHING_LIVE, Measured, each, measure
from noria.compliance.model import Item

METRICS_COMPARED = 500


@measure("PRV-1")
def signed(look: Look) -> Measured:
    items = []
    for version in look.versions:
        statement, wrong = look.proofs.provenance(version.id)
        says = f"the provenance of {version.label} " + (wrong or "is signed, and the signature verifies")
        values = {"signed": statement is not None, "digest": version.digest}
        items.append(Item(subject=version.ref, ok=not wrong, says=says, values=values))
    return each(items, none=NOTHING_LIVE, good="every version in production has signed provenance that verifies")


@measure("PRV-2")
def data_resolves(look: Look) -> Measured:
    items = []
    for version in look.versions:
        statement, wrong = look.proofs.provenance(version.id)
        if statement is None:
            items.append(Item(subject=version.ref, ok=False, says=f"the provenance of {version.label} {wrong}"))
            continue
        named = [
            d for d in statement["predicate"]["buildDefinition"].get("resolvedDependencies", [])
            if str(d.get("uri", "")).startswith("dataset_version:")
        ]  # fmt: skip
        if not named:
            items.append(Item(subject=version.ref, ok=False, says=f"the provenance of {version.label} names no data"))
        known = {d.id: d for d in look.data_versions([d["uri"].partition(":")[2] for d in named])}
        for entry in named:
            data = known[entry["uri"].partition(":")[2]]
            signed_digest = entry.get("digest", {}).get("blake3", "")
            why = (
                "is gone" if not data.dataset or data.deleted_at_ms else "was named without a digest" if not signed_digest
                else "has another digest than was signed" if signed_digest != data.root_digest else ""
            )  # fmt: skip
            items.append(
                Item(
                    subject=data.ref,
                    ok=not why,
                    says=f"{data.label}, which {version.label} was trained on, {why or 'resolves'}",
                    values={"signed": signed_digest, "found": data.root_digest},
                )
            )
    return each(items, none=NOTHING_LIVE, good="all data that the provenance names resolves")


@measure("PRV-3")
def code_known(look: Look) -> Measured:
    items = []
    for version in look.versions:
        run = look.runs.get(version.run_id)
        if run is None:
            says = f"{version.label} was made by no run on record"
            items.append(Item(subject=version.ref, ok=False, says=says))
            continue
        dirty_and_lost = run.source_dirty and not run.source_diff_digest
        says = f"{version.label}: " + (
            "no commit is on record" if not run.source_commit
            else f"commit {run.source_commit[:12]} with changes that were not kept" if dirty_and_lost
            else f"commit {run.source_commit[:12]}" + (" and the changes to it" if run.source_dirty else "")
        )  # fmt: skip
        items.append(
            Item(
                subject=f"run:{run.id}",
                ok=bool(run.source_commit) and not dirty_and_lost,
                says=says,
                values={"commit": run.source_commit, "dirty": run.source_dirty, "changes": run.source_diff_digest},
            )
        )
    return each(items, none=NOTHING_LIVE, good="the code of every version is known")


@measure("PRV-4")
def made_again(look: Look) -> Measured:
    """One reproduction of a run of the system is asked for, as a sample."""
    items = [item for version in look.versions if version.run_id for item in _again(look, version)]
    if not look.versions:
        return Measured(state="not_applicable", reason=NOTHING_LIVE)
    if not items:
        return Measured(
            state="fail", reason=f"no run was made again in the last {look.limit('days'):g} days: noria run reproduce"
        )
    good = [i for i in items if i.ok]
    if good:
        return Measured(state="pass", reason=good[0].says, items=items)
    return each(items, none="", good="")


def _again(look: Look, version: Version) -> list[Item]:
    """The runs that were made to be the same as the version's, lately."""
    ids = look.tx.column(
        """select t.run_id from tag t join run r on r.id = t.run_id
            where t.key = 'noria.reproduces' and t.value = :run and r.status = 'FINISHED' and r.ended_at_ms >= :since
            order by t.run_id desc limit 20""",
        run=version.run_id, since=look.days_ago_ms(),
    )  # fmt: skip
    if not ids:
        return []
    rows = look.tx.rows(
        "select run_id, key, value, is_nan from series where run_id in :ids order by run_id, key limit :limit",
        ids=[version.run_id, *map(str, ids)], limit=METRICS_COMPARED * (len(ids) + 1),
    )  # fmt: skip
    numbers: dict[str, dict[str, float]] = {}
    for row in rows:
        if not row["key"].startswith("system/"):
            numbers.setdefault(row["run_id"], {})[row["key"]] = math.nan if row["is_nan"] else float(row["value"])
    was, band = numbers.get(version.run_id, {}), look.limit("relative")
    return [_compare(str(i), version, was, numbers.get(str(i), {}), band) for i in ids]


def _compare(run_id: str, version: Version, was: dict[str, float], now: dict[str, float], band: float) -> Item:
    shared = sorted(was.keys() & now.keys())
    apart = [k for k in shared if not math.isclose(was[k], now[k], rel_tol=band, abs_tol=1e-12)]
    says = f"run {run_id[:8]} made {version.label} again: " + (
        "it logged none of the same numbers" if not shared
        else f"{', '.join(apart[:3])} further apart than {band:.0%}" if apart else f"{len(shared)} numbers within {band:.0%}"
    )  # fmt: skip
    values = {"numbers": {k: [was[k], now[k]] for k in shared[:20] if math.isfinite(was[k]) and math.isfinite(now[k])}}
    return Item(subject=f"run:{run_id}", ok=bool(shared) and not apart, says=says, values=values)
