"""Cards of model versions: read by whoever may read the model, written by whoever may tag it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noria.kernel.db import Database
from noria.kernel.errors import Conflict
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.registry import card_store, store
from noria.registry.card import SECTIONS, Card, CardEdit, CardSection, card_of, check_content, check_section

if TYPE_CHECKING:
    from noria.registry.service import Registry


class Cards:
    """Part of the registry service."""

    def __init__(self, db: Database, registry: Registry) -> None:
        self._db, self._registry = db, registry

    def read(self, op: Op, version: str) -> Card:
        """The card of `flights@7`, `flights@champion`. Raises NotFound, Forbidden."""
        found = self._registry.version(op, version)
        passport = self._registry.passport_of_version(op, found)
        with self._db.read() as tx:
            since = {
                "approvals": card_store.approvals(tx, found.ref),
                "endpoints": card_store.endpoints(tx, found.model, found.number),
            }
            return card_of(passport, since, [_titled(s) for s in card_store.sections(tx, found.id)])

    def write(self, op: Op, version: str, section: str, edit: CardEdit) -> Card:
        """Write a section anew; the texts before it are kept. Raises NotFound, Invalid, Conflict (somebody else wrote), Forbidden."""
        found = self._registry.version(op, version)
        op.require("model.tag", Ref("model", found.model))
        check_section(section)
        check_content(edit.content)
        with self._db.write(op) as tx:
            store.touch_version(tx, found.id, at_ms=op.at_ms)  # takes the row: two writers come one after the other
            last = card_store.last_edit(tx, found.id, section)
            if edit.expect is not None and edit.expect != last:
                raise Conflict(
                    f"The section {section!r} of {found.label} was written since you read it.", ref=found.ref,
                    hint=f"It is now at edit {last}; read it again.",
                )  # fmt: skip
            card_store.add_edit(tx, found.id, section, last + 1, edit.content, actor=op.actor.label, at_ms=op.at_ms)
            tx.emit(
                "model_version.card_edited",
                found.ref,
                model=found.model,
                number=found.number,
                section=section,
                edit=last + 1,
            )
        return self.read(op, f"model_version:{found.id}")

    def history(self, op: Op, version: str, section: str) -> list[CardSection]:
        """Every text a section ever had, newest first. Raises NotFound, Invalid."""
        found = self._registry.version(op, version)
        check_section(section)
        with self._db.read() as tx:
            return [_titled(s) for s in card_store.edits(tx, found.id, section)]


def _titled(row: card_store.EditRow) -> CardSection:
    title, question = SECTIONS[row.section]
    return CardSection(
        section=row.section,
        title=title,
        question=question,
        content=row.content,
        edit=row.edit,
        actor=row.actor,
        at_ms=row.at_ms,
    )
