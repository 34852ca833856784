"""The routes of conversations."""

from __future__ import annotations

from noria.conversations.addresses import Addresses
from noria.conversations.inbox import Inboxes
from noria.conversations.model import (
    Address,
    AddressMessage,
    AddressTest,
    Comment,
    CommentEdit,
    Inbox,
    NewAddress,
    NewComment,
    Posted,
    ReadWish,
    Talk,
)
from noria.conversations.service import Conversations
from noria.http.route import Routes, delete, get, patch, post, put
from noria.kernel.op import Op
from noria.kernel.paging import Page


def routes(conversations: Conversations, inboxes: Inboxes, addresses: Addresses) -> Routes:
    @get("/api/v1/comments", action="comment.read")
    def list_comments(op: Op, subject: str) -> Talk:
        """All that was said about a thing, such as `run:0197…` or `model_version:fraud@7`, oldest first."""
        return conversations.talk(op, subject)

    @post("/api/v1/comments", action="comment.write", status_code=201)
    def add_comment(op: Op, data: NewComment) -> Posted:
        """Say something, or answer a comment; `@name` tells somebody who may see the thing."""
        return conversations.say(op, data)

    @patch("/api/v1/comments/{comment_id:str}", action="comment.write")
    def edit_comment(op: Op, comment_id: str, data: CommentEdit) -> Comment:
        """Other words for what one said."""
        return conversations.edit(op, comment_id, data)

    @delete("/api/v1/comments/{comment_id:str}", action="comment.write")
    def remove_comment(op: Op, comment_id: str) -> None:
        """Take one's words away; an administrator may those of others."""
        conversations.remove(op, comment_id)

    @put("/api/v1/comments/{comment_id:str}/reactions/{reaction:str}", action="comment.write")
    def add_reaction(op: Op, comment_id: str, reaction: str) -> Comment:
        """Put a reaction on a comment; once is enough."""
        return conversations.react(op, comment_id, reaction, on=True)

    @delete("/api/v1/comments/{comment_id:str}/reactions/{reaction:str}", action="comment.write", status_code=200)
    def remove_reaction(op: Op, comment_id: str, reaction: str) -> Comment:
        """Take one's reaction away."""
        return conversations.react(op, comment_id, reaction, on=False)

    @put("/api/v1/follows/{subject:str}", action="comment.read", status_code=204)
    def follow(op: Op, subject: str) -> None:
        """Be told of what happens to a thing."""
        conversations.follow(op, subject, on=True)

    @delete("/api/v1/follows/{subject:str}", action="comment.read")
    def unfollow(op: Op, subject: str) -> None:
        """Not be told of a thing any more, except when spoken to by name."""
        conversations.follow(op, subject, on=False)

    @get("/api/v1/inbox", action="me.read")
    def read_inbox(op: Op, unread: bool = False, limit: int | None = None, page: str = "") -> Inbox:
        """What the caller was told, newest first."""
        return inboxes.inbox(op, unread=unread, limit=limit, page=page)

    @post("/api/v1/inbox/read", action="me.read")
    def mark_read(op: Op, data: ReadWish) -> Inbox:
        """Note that notifications were read."""
        return inboxes.mark_read(op, data)

    @get("/api/v1/me/addresses", action="address.own")
    def list_addresses(op: Op) -> Page[Address]:
        """Where the caller is told of what comes into their inbox."""
        return Page(addresses.addresses(op))

    @put("/api/v1/me/addresses/{name:str}", action="address.own")
    def save_address(op: Op, name: str, data: NewAddress) -> Address:
        """Make an address of one's own or change it; without a url the one that is there stays."""
        return addresses.save(op, name, data)

    @delete("/api/v1/me/addresses/{name:str}", action="address.own")
    def delete_address(op: Op, name: str) -> None:
        """Be told there no more."""
        addresses.delete(op, name)

    @post("/api/v1/me/addresses/{name:str}/test", action="address.own")
    def test_address(op: Op, name: str) -> AddressTest:
        """Send a message there now, and say what became of it."""
        return addresses.test(op, name)

    @get("/api/v1/me/addresses/{name:str}/messages", action="address.own")
    def list_address_messages(op: Op, name: str, limit: int | None = None) -> Page[AddressMessage]:
        """What was sent there, newest first."""
        return Page(addresses.messages(op, name, limit=limit))

    return [
        list_comments, add_comment, edit_comment, remove_comment, add_reaction, remove_reaction, follow, unfollow, read_inbox,
        mark_read, list_addresses, save_address, delete_address, test_address, list_address_messages,
    ]  # fmt: skip
