"""Files over HTTP: paths as they were sent, and who may knock at all."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote_to_bytes

from litestar import Request

from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.tracking.model import check_path


def knock(op: Op, action: str) -> None:
    """Refuse, before anything is read, an actor who may do `action` nowhere. Raises Unauthenticated, Forbidden."""
    if op.visible(action) == []:
        op.require(action)


def artifact_path_of(request: Request[Any, Any, Any], mark: str) -> str:
    """What follows `mark` in the address as it was sent, decoded once. Raises Invalid.

    From the raw path: the router drops doubled and trailing slashes from the other one.
    """
    sent = unquote_to_bytes(request.scope.get("raw_path") or quote(str(request.scope["path"])))
    try:
        path = sent.decode()
    except UnicodeDecodeError as cause:
        raise Invalid("The path is not valid UTF-8.", where="path") from cause
    return check_path(path[path.index(mark) + len(mark) :])
