"""One search over everything that has a name, and over the manual."""

from __future__ import annotations

from noria.http.manual import Manual
from noria.http.route import Routes, get
from noria.kernel.db import Database
from noria.kernel.errors import Invalid
from noria.kernel.naming import TEXT_LENGTH_MAX, Found, find, nouns
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit

EACH = 6  # of a kind, unless told otherwise
EACH_MAX = 50
MANUAL = "manual"


def routes(db: Database, manual: Manual) -> Routes:
    @get("/api/v1/search", action="search.read")
    def search(op: Op, q: str, kind: str = "", limit: int | None = None) -> Page[Found]:
        """What the caller may read whose name, or words about it, hold every word of `q`: at most `limit` of each kind.

        Runs are found by /api/v1/runs, whose filter says more.
        """
        size = check_limit(limit, default=EACH, most=EACH_MAX)
        kinds = [noun.kind for noun in nouns()]
        if len(q) > TEXT_LENGTH_MAX:
            raise Invalid(f"What is searched for has at most {TEXT_LENGTH_MAX} characters.", where="q")
        if kind and kind not in (*kinds, MANUAL):
            raise Invalid(
                f"There is no searching for a {kind[:40]!r}.", where="kind", hint=f"Kinds: {', '.join(kinds)}, {MANUAL}."
            )
        if op.visible("search.read") == []:
            op.require("search.read")
        with db.read() as tx:
            found = find(tx, op, q, limit=size, kind=kind)
        return Page(found + (_in_manual(manual, q, size) if kind in ("", MANUAL) else []))

    return [search]


def _in_manual(manual: Manual, text: str, limit: int) -> list[Found]:
    """Pages of the manual and their parts by their titles."""
    words = text.lower().split()
    found = [h for h in manual.headings if words and all(w in h.title.lower() for w in words)]
    found.sort(key=lambda h: (not h.title.lower().startswith(words[0]), "#" in h.location, len(h.title)))
    return [
        Found(
            kind=MANUAL, ref="", label=h.title, detail=" › ".join(p for p in h.path if p != h.title)[:120],
            href=f"/docs/{h.location}",
        )
        for h in found[:limit]
    ]  # fmt: skip
