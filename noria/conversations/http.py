"""The routes of conversations."""

from __future__ import annotations

from noria.conversations.inbox import Inboxes
from noria.conversations.model import Comment, CommentEdit, Inbox, NewComment, Posted, ReadWish, Talk
from noria.conversations.service import Conversations
from noria.http.route import Routes, delete, get, patch, post, put
from noria.kernel.op import Op


def routes(conversations: Conversations, inboxes: Inboxes) -> Routes:
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

    return [
        list_comments, add_comment, edit_comment, remove_comment, add_reaction, remove_reaction, follow, unfollow, read_inbox,
        mark_read,
    ]  # fmt: skip
