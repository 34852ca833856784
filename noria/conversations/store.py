"""The rows of comments, reactions, follows and notifications."""

from __future__ import annotations

from msgspec import Struct

from noria.conversations.model import Comment, Reason
from noria.kernel.db import Read, Write

_COMMENT = "id, subject, thread, author, author_id, body, place, created_at_ms, edited_at_ms, removed_at_ms"


class Told(Struct, frozen=True, kw_only=True):
    """A row of what somebody is told."""

    id: str
    seq: int
    at_ms: int
    reason: Reason
    subject: str
    comment_id: str
    read_at_ms: int | None


class _Reacted(Struct, frozen=True):
    comment_id: str
    reaction: str
    author: str


# --- comments --------------------------------------------------------------------------------------------------------


def add(tx: Write, comment: Comment, workspace: str, number: int) -> None:
    """`number`: which one about its thing it is; two of one moment stay in order."""
    tx.run(
        f"""insert into comment ({_COMMENT}, workspace, number)
            values (:id, :subject, :thread, :author, :author_id, :body, :place, :created, null, null, :workspace, :number)""",
        id=comment.id, subject=comment.subject, thread=comment.thread, author=comment.author, author_id=comment.author_id,
        body=comment.body, place=comment.place, created=comment.created_at_ms, workspace=workspace, number=number,
    )  # fmt: skip


def comment(tx: Read, comment_id: str, workspace: str) -> Comment | None:
    return tx.one(
        Comment,
        f"select {_COMMENT} from comment where id = :id and workspace = :workspace",
        id=comment_id,
        workspace=workspace,
    )


def about(tx: Read, subject: str, workspace: str, *, limit: int) -> list[Comment]:
    """What was said about a thing, oldest first, without reactions."""
    return tx.all(
        Comment,
        f"select {_COMMENT} from comment where subject = :subject and workspace = :workspace order by number, id limit :limit",
        subject=subject, workspace=workspace, limit=limit,
    )  # fmt: skip


def count_about(tx: Read, subject: str, workspace: str) -> int:
    return int(
        tx.scalar(
            "select count(*) from comment where subject = :subject and workspace = :workspace",
            subject=subject,
            workspace=workspace,
        )
    )


def edit(tx: Write, comment_id: str, body: str, at_ms: int) -> None:
    tx.run("update comment set body = :body, edited_at_ms = :at where id = :id", body=body, at=at_ms, id=comment_id)


def remove(tx: Write, comment_id: str, at_ms: int) -> None:
    """The words and the reactions go; the place in the thread stays."""
    tx.run("update comment set body = '', removed_at_ms = :at where id = :id", at=at_ms, id=comment_id)
    tx.run("delete from comment_reaction where comment_id = :id", id=comment_id)


def authors_of(tx: Read, thread: str) -> list[str]:
    """Who spoke in a thread, by principal."""
    found = tx.column(
        "select distinct author_id from comment where thread = :thread and removed_at_ms is null", thread=thread
    )
    return [str(f) for f in found]


# --- reactions -------------------------------------------------------------------------------------------------------


def reactions(tx: Read, subject: str) -> dict[str, dict[str, list[str]]]:
    """Of every comment about a thing: reaction → who, by time."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in tx.all(
        _Reacted,
        """select r.comment_id, r.reaction, r.author from comment_reaction r join comment c on c.id = r.comment_id
            where c.subject = :subject order by r.at_ms, r.author_id limit 50000""",
        subject=subject,
    ):
        found.setdefault(row.comment_id, {}).setdefault(row.reaction, []).append(row.author)
    return found


def react(tx: Write, comment_id: str, author_id: str, author: str, reaction: str, at_ms: int) -> None:
    tx.run(
        """insert into comment_reaction (comment_id, author_id, reaction, author, at_ms)
           values (:comment, :author_id, :reaction, :author, :at) on conflict (comment_id, author_id, reaction) do nothing""",
        comment=comment_id, author_id=author_id, reaction=reaction, author=author, at=at_ms,
    )  # fmt: skip


def unreact(tx: Write, comment_id: str, author_id: str, reaction: str) -> None:
    tx.run(
        "delete from comment_reaction where comment_id = :comment and author_id = :author_id and reaction = :reaction",
        comment=comment_id, author_id=author_id, reaction=reaction,
    )  # fmt: skip


# --- follows ---------------------------------------------------------------------------------------------------------


def follow(tx: Write, principal_id: str, subject: str, workspace: str, *, on: bool, at_ms: int, by_hand: bool) -> None:
    """Follow or stop; what somebody decided by hand is not undone by taking part in a thread."""
    again = "update set is_on = excluded.is_on, at_ms = excluded.at_ms" if by_hand else "nothing"
    tx.run(
        f"""insert into follow (principal_id, subject, workspace, is_on, at_ms)
            values (:principal, :subject, :workspace, :is_on, :at)
            on conflict (principal_id, subject) do {again}""",
        principal=principal_id, subject=subject, workspace=workspace, is_on=on, at=at_ms,
    )  # fmt: skip


def follows(tx: Read, principal_id: str, subject: str) -> bool | None:
    """None: nothing was said about it."""
    found = tx.column(
        "select is_on from follow where principal_id = :principal and subject = :subject",
        principal=principal_id,
        subject=subject,
    )
    return bool(found[0]) if found else None


def followers(tx: Read, subjects: list[str]) -> list[str]:
    """Who follows any of these things."""
    found = tx.column(
        "select distinct principal_id from follow where subject in :subjects and is_on limit 1000", subjects=subjects
    )
    return [str(f) for f in found]


def silent(tx: Read, subject: str) -> set[str]:
    """Who asked not to be told of this thing."""
    return {
        str(f) for f in tx.column("select principal_id from follow where subject = :subject and not is_on", subject=subject)
    }


# --- notifications ---------------------------------------------------------------------------------------------------


def tell(tx: Write, told: Told, principal_id: str, workspace: str) -> bool:
    """False when this person was told of this fact already."""
    added = tx.run(
        """insert into notification (id, principal_id, workspace, seq, at_ms, reason, subject, comment_id)
           values (:id, :principal, :workspace, :seq, :at, :reason, :subject, :comment)
           on conflict (principal_id, seq) do nothing""",
        id=told.id, principal=principal_id, workspace=workspace, seq=told.seq, at=told.at_ms, reason=told.reason,
        subject=told.subject, comment=told.comment_id,
    )  # fmt: skip
    return added == 1


def told(tx: Read, principal_id: str, *, unread: bool, before: str, limit: int) -> list[Told]:
    """Newest first."""
    clauses = ["principal_id = :principal"]
    clauses += ["read_at_ms is null"] if unread else []
    clauses += ["id < :before"] if before else []
    return tx.all(
        Told,
        f"""select id, seq, at_ms, reason, subject, comment_id, read_at_ms from notification
             where {" and ".join(clauses)} order by id desc limit :limit""",
        principal=principal_id, limit=limit, **({"before": before} if before else {}),
    )  # fmt: skip


def mark_read(tx: Write, principal_id: str, *, ids: list[str], up_to: str, at_ms: int) -> int:
    wanted = "id <= :up_to" if up_to else "id in :ids"
    return tx.run(
        f"update notification set read_at_ms = :at where principal_id = :principal and read_at_ms is null and {wanted}",
        at=at_ms, principal=principal_id, **({"up_to": up_to} if up_to else {"ids": ids}),
    )  # fmt: skip


def forget_old(tx: Write, principal_id: str, keep: int) -> None:
    """Of one person only the newest `keep` stay."""
    tx.run(
        """delete from notification where principal_id = :principal and id <= (
             select id from notification where principal_id = :principal order by id desc limit 1 offset :keep)""",
        principal=principal_id, keep=keep,
    )  # fmt: skip
