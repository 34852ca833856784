"""The queries of cards. Approvals and endpoints belong to higher slices: they are read from the facts those left."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from noria.kernel.db import Read, Write, js
from noria.kernel.ids import Ref

EDITS_MAX = 500
FACTS_MAX = 1_000  # the newest are looked through; a card names who approved lately, the audit log names all


class EditRow(Struct, frozen=True, kw_only=True):
    """One text of one section."""

    section: str
    edit: int
    content: str
    actor: str
    at_ms: int


def sections(tx: Read, version_id: str) -> list[EditRow]:
    """The latest text of each section."""
    return tx.all(
        EditRow,
        """select section, edit, content, actor, at_ms from card_section c
            where version_id = :id
              and edit = (select max(edit) from card_section n where n.version_id = c.version_id and n.section = c.section)
            order by section limit 100""",
        id=version_id,
    )


def edits(tx: Read, version_id: str, section: str) -> list[EditRow]:
    return tx.all(
        EditRow,
        """select section, edit, content, actor, at_ms from card_section
            where version_id = :id and section = :section order by edit desc limit :limit""",
        id=version_id, section=section, limit=EDITS_MAX,
    )  # fmt: skip


def last_edit(tx: Read, version_id: str, section: str) -> int:
    found = tx.scalar(
        "select max(edit) from card_section where version_id = :id and section = :section", id=version_id, section=section
    )
    return int(found or 0)


def add_edit(tx: Write, version_id: str, section: str, edit: int, content: str, *, actor: str, at_ms: int) -> None:
    tx.run(
        """insert into card_section (version_id, section, edit, content, actor, at_ms)
           values (:id, :section, :edit, :content, :actor, :at_ms)""",
        id=version_id, section=section, edit=edit, content=content, actor=actor, at_ms=at_ms,
    )  # fmt: skip


def remove(tx: Write, version_id: str) -> None:
    tx.run("delete from card_section where version_id = :id", id=version_id)


def approvals(tx: Read, version: Ref) -> list[dict[str, Any]]:
    """Who approved what of a version, newest first."""
    found = _facts(tx, "approval.granted", {"about": str(version)})
    return [{"approvers": d["approvers"], "action": d["action"], "at_ms": at} for d, at in found]


def endpoints(tx: Read, model: str, number: int) -> list[dict[str, Any]]:
    """The endpoints that were told to serve a version, newest first, each once."""
    found: dict[str, dict[str, Any]] = {}
    for data, at in _facts(tx, "revision.created", {"model": model}):
        if data["version"] == number:
            found.setdefault(data["endpoint"], {"endpoint": data["endpoint"], "role": data["role"], "at_ms": at})
    return list(found.values())


def _facts(tx: Read, kind: str, having: dict[str, str]) -> list[tuple[dict[str, Any], int]]:
    """Facts of a kind whose data has these values, newest first. The text is looked for first, then the value is compared."""
    part = js(having)[1:-1]
    rows = tx.rows(
        f"""select data, at_ms from event where kind = :kind and {"instr" if tx.dialect == "sqlite" else "strpos"}(data, :part) > 0
            order by seq desc limit :limit""",
        kind=kind, part=part, limit=FACTS_MAX,
    )  # fmt: skip
    decoded = [(msgspec.json.decode(row["data"]), int(row["at_ms"])) for row in rows]
    return [(data, at) for data, at in decoded if all(data.get(k) == v for k, v in having.items())]
