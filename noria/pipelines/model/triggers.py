"""Triggers: runs for facts, new files and signed messages."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from noria.pipelines.model.starts import Condition, Files


class NewTrigger(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to make a trigger. A parameter may name a part of the fact: `${data.number}`, `${subject}`, `${seq}`.

    It answers to facts of `kinds`; or to files that arrive (`files`: `${data.path}`, `${data.url}`); or to signed messages to
    /api/v1/hooks/<name> (`is_hook`: `${data.body.<name>}`).
    """

    name: str
    pipeline: str
    kinds: list[str] = []
    filter: list[Condition] = []
    params: dict[str, Any] = {}
    cooldown_s: float = 0.0
    files: Files | None = None
    is_hook: bool = False
    is_enabled: bool = True


class Trigger(Struct, frozen=True, kw_only=True):
    """Runs a pipeline when a fact matches; at most once per fact, and not within the cool-down of its last run."""

    id: str
    name: str
    pipeline: str
    kinds: list[str]
    filter: list[Condition]
    params: dict[str, Any]
    cooldown_s: float
    is_enabled: bool
    owner: str
    created_at_ms: int
    last_at_ms: int | None = None
    last_run_id: str = ""
    skipped: int = 0
    error: str = ""
    files: Files | None = None
    is_hook: bool = False
    is_declared: bool = False  # by the pipeline's code
    secret: str | UnsetType = UNSET  # of a hook, only in the answer that made it


class Received(Struct, frozen=True, kw_only=True):
    """A message was taken; `is_new` is false for one that came before."""

    is_new: bool
