"""What people say to each other about things: comments in threads, reactions, who follows what, and what they were told."""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct, field

from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref

BODY_LENGTH_MAX = 20_000
COMMENTS_PER_SUBJECT = 5_000
MENTIONS_MAX = 50  # in one comment
NOTIFICATIONS_KEPT = 1_000  # of each person; older ones go
PLACE_LENGTH_MAX = 200
UNREAD_COUNTED_MAX = 100  # each is looked at with the rights of whoever asks, so that a count tells of nothing hidden

Reaction = Literal["thumbs_up", "thumbs_down", "party", "heart", "eyes", "rocket", "confused"]
REACTIONS: tuple[str, ...] = ("thumbs_up", "thumbs_down", "party", "heart", "eyes", "rocket", "confused")
Reason = Literal["mention", "reply", "yours", "follow"]

_MENTION = re.compile(r"(?<![\w@/.`])@([A-Za-z0-9][\w.+-]{0,99})")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


class Subject(Struct, frozen=True, kw_only=True):
    """A thing that is talked about. `on` is what rights on it are asked of (a run: its experiment); `title` names it to people."""

    ref: Ref
    on: Ref
    title: str


class Comment(Struct, frozen=True, kw_only=True):
    """What somebody said. `thread` is the comment it answers, or its own id; `place` says where in the thing (`metric:loss@120`).

    A comment that was removed keeps its place in the thread, without words.
    """

    id: str
    subject: str
    thread: str
    author: str
    author_id: str
    body: str
    place: str
    created_at_ms: int
    edited_at_ms: int | None = None
    removed_at_ms: int | None = None
    reactions: dict[str, list[str]] = {}  # reaction → who
    html: str = ""  # the body, sanitised


class NewComment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to say something. `thread`: the comment that is answered. `@name` tells somebody."""

    subject: str
    body: str
    thread: str = ""
    place: str = ""


class CommentEdit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other words."""

    body: str


class Posted(Struct, frozen=True, kw_only=True):
    """A comment, and the names in it of people who were not told, since they may not see the thing or do not exist."""

    comment: Comment
    not_told: list[str] = []


class Talk(Struct, frozen=True, kw_only=True):
    """All that was said about one thing, oldest first, and whether the caller follows it."""

    subject: str
    title: str
    comments: list[Comment]
    follows: bool
    may_write: bool


class Notification(Struct, frozen=True, kw_only=True):
    """Something that somebody is told: the fact, why it concerns them, and for a comment its first words."""

    id: str
    at_ms: int
    reason: Reason
    kind: str
    subject: str
    title: str
    actor: str
    excerpt: str = ""
    comment: str = ""
    read_at_ms: int | None = None


class Inbox(Struct, frozen=True, kw_only=True):
    """A page of notifications, newest first, and how many are unread: counted up to UNREAD_COUNTED_MAX."""

    items: list[Notification]
    unread: int
    next: str | None = None


class ReadWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which notifications were read: these, or all up to the newest one seen."""

    ids: list[str] = []
    up_to: str = ""


class NewAddress(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where somebody wants to be told. `url` is Apprise's, such as mailtos://…; left out, the one that is there stays."""

    url: str = ""
    reasons: list[Reason] = field(default_factory=lambda: ["mention", "reply", "yours", "follow"])
    enabled: bool = True


class Address(Struct, frozen=True, kw_only=True):
    """Where somebody is told. The address is written and never read back; `shown` is what is left of it without its secrets."""

    id: str
    name: str
    service: str
    shown: str
    reasons: list[Reason]
    enabled: bool
    created_at_ms: int
    updated_at_ms: int


class AddressTest(Struct, frozen=True, kw_only=True):
    """What became of a test message."""

    delivered: bool
    error: str


class AddressMessage(Struct, frozen=True, kw_only=True):
    """One notification on its way to one address. `dropped`: too many waited; `skipped`: it was read, or is theirs to see no more."""

    id: str
    notification_id: str
    state: Literal["queued", "delivered", "failed", "dropped", "skipped"]
    attempts: int
    error: str
    created_at_ms: int
    done_at_ms: int | None


@fact("address.saved")
class AddressSaved(Fact):
    """Somebody says where they want to be told; the address itself is not part of the record."""

    name: str
    service: str
    reasons: list[str]
    enabled: bool


@fact("address.deleted")
class AddressDeleted(Fact):
    """Somebody is told at one address less."""

    name: str


@fact("comment.added")
class CommentAdded(Fact):
    """Somebody said something about a thing. The words are not part of the record, so that they can be removed."""

    about: str
    thread: str
    mentions: list[str] = []


@fact("comment.edited")
class CommentEdited(Fact):
    """A comment has other words."""

    about: str


@fact("comment.removed")
class CommentRemoved(Fact):
    """A comment's words are gone."""

    about: str


def check_body(body: str) -> str:
    """`body` without space around it. Raises Invalid."""
    body = body.strip()
    if not body:
        raise Invalid("A comment needs words.", where="body")
    if len(body) > BODY_LENGTH_MAX:
        raise Invalid(
            f"A comment has at most {BODY_LENGTH_MAX:,} characters, not {len(body):,}.",
            where="body",
            hint="Attach long texts to the run, and say where they are.",
        )
    return body


def check_place(place: str) -> str:
    if len(place) > PLACE_LENGTH_MAX or any(c < " " for c in place):
        raise Invalid(f"A place has at most {PLACE_LENGTH_MAX} characters, on one line.", where="place")
    return place


def mentioned(body: str) -> list[str]:
    """The names that `body` speaks to, in order, once each; what stands in code is not read. Raises Invalid for too many."""
    found = list(dict.fromkeys(name.rstrip(".-+") for name in _MENTION.findall(_CODE.sub(" ", body))))
    if len(found) > MENTIONS_MAX:
        raise Invalid(f"A comment may speak to {MENTIONS_MAX} people, not {len(found)}.", where="body")
    return found


def excerpt(body: str, length: int = 140) -> str:
    """The first words, on one line."""
    words = " ".join(body.split())
    return words if len(words) <= length else words[: length - 1].rstrip() + "…"
