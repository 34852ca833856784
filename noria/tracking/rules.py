"""What names, values, times and batches of tracking must be. Raises Invalid."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from noria.kernel.errors import Invalid
from noria.tracking.model import (
    ARGV_TAG,
    COMMIT_TAG,
    DIFF_TAG,
    DIRTY_TAG,
    ENTITIES_PER_BATCH,
    ENVIRONMENT_TAG,
    NAME_LENGTH_MAX,
    PARAMS_PER_BATCH,
    POINTS_PER_BATCH,
    STATUSES,
    TAGS_PER_BATCH,
    DatasetInput,
    Point,
    check_count,
    check_key,
    check_value,
)

INT64 = 1 << 63


def wire_value(value: Any) -> Any:
    """A number as JSON can hold it: NaN and the infinities become MLflow's words for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")
    return value


def check_experiment_name(name: str) -> str:
    if not name.strip():
        raise Invalid("An experiment needs a name.", where="name")
    if len(name) > NAME_LENGTH_MAX:
        raise Invalid(f"The name has {len(name)} characters; at most {NAME_LENGTH_MAX} are allowed.", where="name")
    if any(c < " " or c == "\x7f" for c in name):
        raise Invalid("The name of an experiment cannot contain control characters.", where="name")
    return name


def check_tags(tags: dict[str, str]) -> dict[str, str]:
    check_count(tags, "tag")
    for key, value in tags.items():
        check_value(check_key(key, "tag"), value, "tag")
    return tags


def check_params(params: dict[str, str]) -> dict[str, str]:
    for key, value in params.items():
        check_value(check_key(key, "param"), value, "param")
    return params


def check_points(points: list[Point]) -> None:
    """Names, times and steps that both databases can hold exactly. Raises Invalid."""
    for key in {p.key for p in points}:
        check_key(key, "metric")
    steps, times = [p.step for p in points], [p.at_ms for p in points]
    if not points or (min(steps) >= -INT64 and max(steps) < INT64 and min(times) >= 0 and max(times) < INT64):
        return  # as nearly always, and quicker asked of all at once
    for point in points:
        if not (-INT64 <= point.step < INT64 and 0 <= point.at_ms < INT64):
            raise Invalid(
                f"The step of {point.key!r} must be an integer of 64 bits, its time milliseconds since 1970 within 64 bits.",
                where="step" if 0 <= point.at_ms < INT64 else "timestamp",
            )


def check_batch(points: int, params: int, tags: int) -> None:
    for count, most, what in (
        (points, POINTS_PER_BATCH, "metrics"), (params, PARAMS_PER_BATCH, "params"), (tags, TAGS_PER_BATCH, "tags"),
        (points + params + tags, ENTITIES_PER_BATCH, "metrics, params, and tags"),
    ):  # fmt: skip
        if count > most:
            raise Invalid(
                f"A batch logging request can contain at most {most} {what}. Got {count}.", where=what.split(",")[0],
                hint="Send it in several requests.",
            )  # fmt: skip


def check_input(item: DatasetInput) -> None:
    if not item.name or len(item.name) > NAME_LENGTH_MAX:
        raise Invalid(f"The name of a dataset has 1 to {NAME_LENGTH_MAX} characters.", where="datasets.name")
    if not item.digest or len(item.digest) > 128:
        raise Invalid("The digest of a dataset has 1 to 128 characters.", where="datasets.digest")
    for text, most, what in (
        (item.schema, 1 << 20, "schema"),
        (item.source, 1 << 16, "source"),
        (item.profile, 1 << 24, "profile"),
    ):
        if len(text) > most:
            raise Invalid(f"The {what} of a dataset has at most {most} characters.", where=f"datasets.{what}")
    for key, value in item.tags.items():
        if len(key) > 255 or len(value) > 500:
            raise Invalid("A tag of an input has at most 255 characters of key and 500 of value.", where="datasets.tags")


def status_of(status: str) -> Any:
    if status not in STATUSES:
        raise Invalid(f"{status[:80]!r} is not the status of a run.", where="status", hint=f"Known: {', '.join(STATUSES)}.")
    return status


def at_ms_of(at_ms: int) -> int:
    if not 0 <= at_ms < INT64:
        raise Invalid("A time is milliseconds since 1970 within 64 bits.", where="time")
    return at_ms


def context_of(tags: dict[str, str]) -> dict[str, Any]:
    """What tags say of a run's source, as columns."""
    columns: dict[str, Any] = {
        "source_commit": tags.get(COMMIT_TAG), "source_diff_digest": tags.get(DIFF_TAG), "argv": tags.get(ARGV_TAG),
        "environment_digest": tags.get(ENVIRONMENT_TAG),
        "source_dirty": tags[DIRTY_TAG].lower() in ("true", "1", "yes") if DIRTY_TAG in tags else None,
    }  # fmt: skip
    return {name: value for name, value in columns.items() if value is not None}


def noria_handle(text: str) -> str:
    """The handle in `noria://flights@3`, also inside a source written as JSON (`{"url": "noria://…"}`); '' if none."""
    if text.startswith("noria://"):
        return text
    if "noria://" not in text or not text.startswith("{"):
        return ""
    try:
        fields = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return ""
    return next((v for v in fields.values() if isinstance(v, str) and v.startswith("noria://")), "")
