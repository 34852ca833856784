"""VAL: was it measured, by whom, and was it good enough?"""

from __future__ import annotations

from noria.compliance.look import Evaluated, Look, Version, names_in
from noria.compliance.measures.base import NOTHING_LIVE, Measured, each, measure, unmeasurable
from noria.compliance.model import DAY_MS, EvidenceReport, Item, Threshold

TRAINING = ("train", "training", "fit")


@measure("VAL-1")
def held_out(look: Look) -> Measured:
    return each(
        [_held_out(look, v) for v in look.versions],
        none=NOTHING_LIVE,
        good="every version was evaluated on data it never read",
    )


def _held_out(look: Look, version: Version) -> Item:
    evaluations, trained = look.evaluations[version.id], {d.id for d in look.trained_on[version.id]}
    other = [e for e in evaluations if e.dataset_version not in trained and e.split.lower() not in TRAINING]
    split = [e for e in evaluations if e.dataset_version in trained and e.split.lower() not in TRAINING]
    values = {"evaluations": [[e.dataset_version, e.split, e.seq] for e in evaluations], "trained_on": sorted(trained)}
    if not evaluations:
        return Item(subject=version.ref, ok=False, says=f"no evaluation of {version.label} is on record")
    if not trained:
        return Item(
            subject=version.ref, ok=None, says=f"what {version.label} was trained on is not on record", values=values
        )
    if other:
        says = f"{version.label} was evaluated on {other[0].dataset_version[:8]}, which its training did not read"
        return Item(subject=version.ref, ok=True, says=says, values=values)
    if split:
        says = f"{version.label} was evaluated on the {split[0].split} of data that its training read; that it left it out is not on record"
        return Item(subject=version.ref, ok=None, says=says, values=values)
    return Item(
        subject=version.ref, ok=False, says=f"{version.label} was evaluated on its training data only", values=values
    )


@measure("VAL-2")
def good_enough(look: Look) -> Measured:
    if look.versions and not look.spec.thresholds:
        return unmeasurable("no threshold is declared for this system")
    items = [
        item
        for version in look.versions
        for threshold in look.spec.thresholds
        for item in _holds(version, look.evaluations[version.id], threshold)
    ]
    return each(items, none=NOTHING_LIVE, good="every threshold holds, on the whole and on every slice")


def _holds(version: Version, evaluations: list[Evaluated], threshold: Threshold) -> list[Item]:
    items = []
    for evaluation in evaluations:
        if evaluation.split.lower() in TRAINING:
            continue
        parts = {"": evaluation.metrics, **(evaluation.slices if threshold.slices else {})}
        for part, metrics in parts.items():
            if threshold.metric not in metrics:
                continue
            value = metrics[threshold.metric]
            holds = value >= threshold.value if threshold.op == ">=" else value <= threshold.value
            where = f" where {part}" if part else ""
            says = f"{threshold.metric} of {version.label}{where} is {value:.4g}, to be {threshold.op} {threshold.value:g}"
            values = {
                "dataset_version": evaluation.dataset_version,
                "split": evaluation.split,
                "slice": part,
                "value": value,
                "at_ms": evaluation.at_ms,
            }
            items.append(Item(subject=version.ref, ok=holds, says=says, values=values))
    return items or [Item(subject=version.ref, ok=False, says=f"{threshold.metric} of {version.label} was never measured")]


@measure("VAL-3")
def fair(look: Look) -> Measured:
    if look.versions and not look.spec.fairness:
        return unmeasurable("no limit of fairness is declared for this system")
    items = list[Item]()
    for version in look.versions:
        for limit in look.spec.fairness:
            before = len(items)
            for evaluation in look.evaluations[version.id]:
                values = {
                    part: metrics[limit.metric]
                    for part, metrics in evaluation.slices.items()
                    if part.partition("=")[0] == limit.group and limit.metric in metrics
                }
                if len(values) >= 2:
                    gap = max(values.values()) - min(values.values())
                    says = f"{limit.metric} of {version.label} is up to {gap:.4g} apart between {limit.group}, of {limit.limit:g}"
                    items.append(
                        Item(subject=version.ref, ok=gap <= limit.limit, says=says, values={"gap": gap, "groups": values})
                    )
            if len(items) == before:
                says = f"{limit.metric} of {version.label} was not measured per {limit.group}"
                items.append(Item(subject=version.ref, ok=False, says=says))
    return each(items, none=NOTHING_LIVE, good="the groups are within the declared limits")


def dated(look: Look, kind: str, what: str, days: float) -> Measured:
    """Is a report of a kind attached that is not too old?"""
    found: list[EvidenceReport] = [r for r in look.reports if r.kind == kind]
    if not found:
        return Measured(state="fail", reason=f"no report on {what} is attached")
    newest = found[0]
    age = (look.now_ms - newest.dated_at_ms) / DAY_MS
    item = Item(
        subject=f"system:{newest.system}", ok=age <= days, says=f"{newest.title}, {age:.0f} days old, of {days:g}",
        values={"report": newest.id, "uri": newest.uri, "digest": newest.digest, "dated_at_ms": newest.dated_at_ms,
                "numbers": newest.numbers},
    )  # fmt: skip
    return each([item], none="", good=item.says)


@measure("VAL-4")
def robust(look: Look) -> Measured:
    return dated(look, "robustness", "robustness", look.limit("days"))


@measure("VAL-5")
def other_eyes(look: Look) -> Measured:
    items = []
    for version in look.versions:
        run = look.runs.get(version.run_id)
        makers = names_in(version.actor)
        if run is not None:
            makers |= names_in(run.actor) | names_in(run.user_name) | names_in(f"user:{run.user_name}")
        given = [v for v in look.votes.get(version.digest, []) if v.decision == "approve"]
        others = sorted({v.actor for v in given if not (names_in(v.actor) | {v.principal_id}) & (makers | set(v.authors))})
        says = f"{version.label} was " + (
            f"approved by {', '.join(others)}"
            if others
            else "approved by nobody but its makers"
            if given
            else "approved by nobody"
        )
        values = {"makers": sorted(makers), "approved": sorted({v.actor for v in given})}
        items.append(Item(subject=version.ref, ok=bool(others), says=says, values=values))
    return each(items, none=NOTHING_LIVE, good="somebody else approved every version")
