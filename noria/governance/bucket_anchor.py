"""An anchor in a bucket: each checkpoint an object of its own, `<prefix>/<size>.txt`, never written twice.

The bucket shall lock its objects: S3 with Object Lock and a default retention. Noria does not lock, it says whether that holds: after
each object it looks for the retention that the store put on it, and a bucket that locks nothing is said in the log. Invariant: nothing
here overwrites or deletes.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import httpx

from noria.governance.verify import Note, parse_note
from noria.kernel.errors import Invalid

log = logging.getLogger("noria.audit")

OBJECTS_COMPARED = 1_000
TIMEOUT_S = 5.0
MODE, UNTIL = "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"


class BucketAnchor:
    """See the module. Credentials and endpoint come from the usual variables (AWS_…), as for blobs."""

    def __init__(self, url: str, store: Any = None) -> None:
        self.name, self._store = url, store or _open(url)
        self._has_complained = False

    def say(self, note: str) -> None:
        """Raises OSError when the bucket cannot be reached, or takes nothing."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError

        key = f"{parse_note(note).size:020d}.txt"
        try:
            obstore.put(self._store, key, note.encode(), mode="create")
        except AlreadyExistsError:
            return  # said before; what is there is compared when the log is verified
        except BaseError as cause:
            raise OSError(f"the bucket takes nothing: {cause}") from cause
        if not self.retention(key) and not self._has_complained:
            self._has_complained = True
            log.warning(
                "the anchor %s locks nothing: whoever has its credentials can change what was said. "
                "Give the bucket Object Lock and a default retention.", self.name,
            )  # fmt: skip

    def notes(self) -> list[Note]:
        """The latest it holds. Raises Unreadable, OSError."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            keys = sorted(str(item["path"]) for batch in obstore.list(self._store) for item in batch)
            kept = [k for k in keys if k.endswith(".txt")][-OBJECTS_COMPARED:]
            return [parse_note(bytes(obstore.get(self._store, key).bytes()).decode("utf-8", "replace")) for key in kept]
        except BaseError as cause:
            raise OSError(f"the bucket cannot be read: {cause}") from cause

    def retention(self, key: str) -> str:
        """Until when the store keeps an object whatever happens, as it says itself; empty when it does not."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            address = obstore.sign(self._store, "GET", key, timedelta(seconds=60))
            answer = httpx.get(address, timeout=TIMEOUT_S).raise_for_status()
        except (httpx.HTTPError, BaseError, TypeError, ValueError) as error:  # a folder for tests signs nothing
            raise OSError(f"whether it locks what it has cannot be asked: {error}") from error
        mode, until = answer.headers.get(MODE, ""), answer.headers.get(UNTIL, "")
        return f"{mode} until {until}" if mode and until else ""


def _open(url: str) -> Any:
    from obstore.store import from_url

    try:
        return from_url(url)
    except Exception as cause:
        raise Invalid(f"The bucket {url!r} cannot be opened.", where="anchors", hint="Write s3://bucket/prefix.") from cause
