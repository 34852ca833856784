"""Conversations: comments on anything that one may read, with answers, reactions, and people who are spoken to by name.

Reading and writing ask for the right to read the thing itself; what is hidden from somebody is hidden with all that was said about
it. Whoever is spoken to is told only of what they may see. The words are no part of the record of facts: their author, or an
administrator, may remove them.
"""

from __future__ import annotations

from msgspec import structs

from noria.access.service import Access
from noria.conversations import store
from noria.conversations.model import (
    COMMENTS_PER_SUBJECT,
    REACTIONS,
    Comment,
    CommentEdit,
    NewComment,
    Posted,
    Subject,
    Talk,
    check_body,
    check_place,
    mentioned,
)
from noria.conversations.subjects import Subjects
from noria.kernel.db import Database, Read
from noria.kernel.errors import Forbidden, Invalid, NotFound, TooMuch
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op, Ops
from noria.kernel.preview import render_markdown


class Conversations:
    """The service of comments."""

    def __init__(self, db: Database, ops: Ops, access: Access, subjects: Subjects) -> None:
        self._db, self._ops, self._access, self._subjects = db, ops, access, subjects

    # --- reading -----------------------------------------------------------------------------------------------------

    def talk(self, op: Op, subject: str) -> Talk:
        """All that was said about a thing. Raises Invalid, NotFound."""
        found = self._find(op, subject, "comment.read")
        with self._db.read() as tx:
            comments = store.about(tx, str(found.ref), op.workspace, limit=COMMENTS_PER_SUBJECT)
            reactions = store.reactions(tx, str(found.ref))
            follows = bool(store.follows(tx, owner_id(op), str(found.ref)))
        return Talk(
            subject=str(found.ref), title=found.title, follows=follows, may_write=op.can("comment.write", found.on),
            comments=[_shown(c, reactions.get(c.id, {})) for c in comments],
        )  # fmt: skip

    # --- speaking ----------------------------------------------------------------------------------------------------

    def say(self, op: Op, new: NewComment) -> Posted:
        """Say something about a thing, or answer a comment. Raises Invalid, NotFound, Forbidden, TooMuch."""
        subject = self._find(op, new.subject, "comment.write")
        body, comment_id = check_body(new.body), new_id(op.at_ms)
        spoken_to, not_told = self._people(op, subject, mentioned(body))
        comment = Comment(
            id=comment_id, subject=str(subject.ref), thread=new.thread or comment_id, author=op.actor.label,
            author_id=owner_id(op), body=body, place=check_place(new.place), created_at_ms=op.at_ms,
        )  # fmt: skip
        with self._db.write(op) as tx:
            if new.thread:
                first = store.comment(tx, new.thread, op.workspace)
                if first is None or first.subject != comment.subject or first.thread != first.id:
                    raise Invalid(
                        "This is not a comment that can be answered here.",
                        where="thread",
                        hint="Answer the first of a thread.",
                    )
            count = store.count_about(tx, comment.subject, op.workspace)
            if count >= COMMENTS_PER_SUBJECT:
                raise TooMuch(f"{COMMENTS_PER_SUBJECT:,} comments were made about this, which is the most.")
            store.add(tx, comment, op.workspace, count + 1)
            store.follow(tx, comment.author_id, comment.subject, op.workspace, on=True, at_ms=op.at_ms, by_hand=False)
            tx.emit(
                "comment.added", Ref("comment", comment.id), about=comment.subject, thread=comment.thread, mentions=spoken_to
            )
        return Posted(comment=_shown(comment, {}), not_told=not_told)

    def edit(self, op: Op, comment_id: str, wish: CommentEdit) -> Comment:
        """Other words for what one said. Raises NotFound, Forbidden, Invalid."""
        was = self._own(op, comment_id)
        comment = structs.replace(was, body=check_body(wish.body), edited_at_ms=op.at_ms)
        with self._db.write(op) as tx:
            store.edit(tx, comment.id, comment.body, op.at_ms)
            tx.emit("comment.edited", Ref("comment", comment.id), about=comment.subject)
        return self._read(op, comment.id)

    def remove(self, op: Op, comment_id: str) -> None:
        """Take one's words away; an administrator may those of others. Raises NotFound, Forbidden."""
        comment = self._own(op, comment_id)
        with self._db.write(op) as tx:
            store.remove(tx, comment.id, op.at_ms)
            tx.emit("comment.removed", Ref("comment", comment.id), about=comment.subject)

    def react(self, op: Op, comment_id: str, reaction: str, *, on: bool) -> Comment:
        """Put a reaction on a comment, or take one's own away. Raises NotFound, Invalid, Forbidden."""
        if reaction not in REACTIONS:
            raise Invalid(
                f"There is no reaction {reaction[:40]!r}.", where="reaction", hint=f"One of {', '.join(REACTIONS)}."
            )
        comment = self._seen(op, comment_id, "comment.write")
        if comment.removed_at_ms is not None:
            raise Invalid("The comment was removed.", where="comment")
        with self._db.write(op) as tx:
            if on:
                store.react(tx, comment.id, owner_id(op), op.actor.label, reaction, op.at_ms)
            else:
                store.unreact(tx, comment.id, owner_id(op), reaction)
        return self._read(op, comment.id)

    def follow(self, op: Op, subject: str, *, on: bool) -> None:
        """Be told of what happens to a thing, or not. Raises Invalid, NotFound."""
        found = self._find(op, subject, "comment.read")
        with self._db.write(op) as tx:
            store.follow(tx, owner_id(op), str(found.ref), op.workspace, on=on, at_ms=op.at_ms, by_hand=True)

    # --- who ---------------------------------------------------------------------------------------------------------

    def eyes_of(self, principal_id: str) -> Op | None:
        """An operation of this person, to see with their eyes; None when there is nobody of this id any more."""
        actor = self._access.actor_of(principal_id)
        return None if actor is None else self._ops.mint(actor)

    def may_see(self, eyes: Op | None, subject: str) -> Subject | None:
        """The thing as these eyes see it; None when they may not, or when it is nothing that is talked about."""
        if eyes is None:
            return None
        try:
            return self._subjects.find(eyes, subject)
        except (NotFound, Forbidden, Invalid):
            return None

    def _people(self, op: Op, subject: Subject, names: list[str]) -> tuple[list[str], list[str]]:
        """Of the names in a comment: the ids of those who are told, and the names of those who are not."""
        known = {p.name: p for p in self._access.people(names)}
        told: list[str] = []
        not_told: list[str] = []
        for name in names:
            person = known.get(name)
            if person is not None and (person.id == owner_id(op) or self.may_see(self.eyes_of(person.id), str(subject.ref))):
                told.append(person.id)
            else:
                not_told.append(name)
        return told, not_told

    def _find(self, op: Op, subject: str, action: str) -> Subject:
        op.asked.add(action)
        found = self._subjects.find(op, subject)
        op.require(action, found.on)
        return found

    def _seen(self, op: Op, comment_id: str, action: str) -> Comment:
        op.asked.add(action)
        with self._db.read() as tx:
            comment = store.comment(tx, comment_id, op.workspace)
        if comment is None:
            raise _absent(comment_id)
        try:
            self._find(op, comment.subject, action)
        except NotFound as hidden:
            raise _absent(comment_id) from hidden
        return comment

    def _own(self, op: Op, comment_id: str) -> Comment:
        comment = self._seen(op, comment_id, "comment.write")
        if comment.removed_at_ms is not None:
            raise _absent(comment_id)
        if comment.author_id != owner_id(op) and not op.can("system.admin"):
            raise Forbidden("The comment is somebody else's.", ref=Ref("comment", comment_id), hint="Answer it instead.")
        return comment

    def _read(self, op: Op, comment_id: str) -> Comment:
        with self._db.read() as tx:
            comment = _must(tx, comment_id, op.workspace)
            reactions = store.reactions(tx, comment.subject).get(comment_id, {})
        return _shown(comment, reactions)


def owner_id(op: Op) -> str:
    """Whose words they are: a trigger speaks for its owner."""
    return op.actor.on_behalf_of or op.actor.id


def _must(tx: Read, comment_id: str, workspace: str) -> Comment:
    found = store.comment(tx, comment_id, workspace)
    if found is None:
        raise _absent(comment_id)
    return found


def _absent(comment_id: str) -> NotFound:
    return NotFound(
        f"There is no comment {comment_id[:80]!r}.", hint="It was removed, or it is about something you may not see."
    )


def _shown(comment: Comment, reactions: dict[str, list[str]]) -> Comment:
    return structs.replace(comment, reactions=reactions, html=render_markdown(comment.body) if comment.body else "")
