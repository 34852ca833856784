"""What a pipeline's code declares: when it is to be started."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class Condition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A test of one field of a fact: `subject`, or `data.<name>`. `like` takes `*` for anything."""

    field: str
    op: Literal["=", "!=", ">", ">=", "<", "<=", "like"] = "="
    value: Any


class Files(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files to look for: in a folder or store, those whose path below it matches `pattern` (`*` for anything, also `/`)."""

    url: str
    pattern: str = "*"


CatchUp = Literal["latest", "all", "none"]


class OnTime(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="time", tag_field="on"):
    """A schedule that the pipeline's code declares."""

    cron: str
    time_zone: str = "UTC"
    params: dict[str, Any] = {}
    catch_up: CatchUp = "latest"
    name: str = ""


class OnFact(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fact", tag_field="on"):
    """A trigger that the pipeline's code declares: for facts, new files, or signed messages."""

    kinds: list[str] = []
    filter: list[Condition] = []
    params: dict[str, Any] = {}
    cooldown_s: float = 0.0
    files: Files | None = None
    is_hook: bool = False
    name: str = ""

    @property
    def word(self) -> str:
        """What it is called when its author did not name it."""
        return (
            "files" if self.files else "hook" if self.is_hook else self.kinds[0].partition(".")[0] if self.kinds else "event"
        )


Start = OnTime | OnFact


class Switch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Turn a schedule or a trigger on or off."""

    is_enabled: bool
