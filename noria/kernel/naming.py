"""What can be found by its name: each slice says beside its tables how its nouns are called; one search asks them all.

A noun's query gives `scope` (the ref that rights on it are asked of; '' for the workspace), `ref`, `label`, `detail` and `at_ms`. A noun
that nobody but its owner sees gives `owner` too. What the caller may not read is left out by the query, not afterwards, except by a
noun's own `check`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from noria.kernel.db import Read
from noria.kernel.op import Op

TEXT_LENGTH_MAX = 200
CHECKED_MAX = 1_000  # rows of a noun with a check of its own that are looked at


class Noun(Struct, frozen=True, kw_only=True):
    """A kind of thing that has names. `scopes`: the columns of `query` that name what rights are asked of, any of which will do."""

    kind: str
    action: str
    query: str
    scopes: tuple[str, ...] = ("scope",)
    is_owned: bool = False  # found by its `owner`, and by others where `is_shared`
    check: Callable[[Op, dict[str, Any]], bool] | None = None


class Found(Struct, frozen=True, kw_only=True):
    """A thing whose name, or the words about it, hold what was typed."""

    kind: str
    ref: str
    label: str
    detail: str = ""
    href: str = ""  # for what has no ref: a page of the manual


_NOUNS: dict[str, Noun] = {}


def findable(noun: Noun) -> None:
    """Declare how things of a kind are found."""
    assert _NOUNS.get(noun.kind, noun).query == noun.query, f"{noun.kind} is declared twice"
    _NOUNS[noun.kind] = noun


def nouns() -> list[Noun]:
    """All that were declared, by kind."""
    return [_NOUNS[kind] for kind in sorted(_NOUNS)]


def find(tx: Read, op: Op, text: str, *, limit: int, kind: str = "") -> list[Found]:
    """What the caller may read whose name holds every word of `text`: at most `limit` of each kind, best first."""
    words = text.lower().split()
    found: list[tuple[tuple[int, int, str], Found]] = []
    for noun in nouns():
        if not kind or noun.kind == kind:
            found += [(_rank(words, row["label"]), _found(noun, row)) for row in _rows(tx, op, noun, words, limit)]
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _rows(tx: Read, op: Op, noun: Noun, words: list[str], limit: int) -> list[dict[str, Any]]:
    visible = op.visible(noun.action)
    if visible == []:
        return []
    where, args = ["1 = 1"], dict[str, Any](workspace=op.workspace)
    for i, word in enumerate(words):
        where.append(f"(lower(f.label) like :word{i} escape '!' or lower(f.detail) like :word{i} escape '!')")
        args[f"word{i}"] = f"%{_escaped(word)}%"
    if visible is not None:
        anywhere = ["f.scope = ''"] if noun.is_owned else []
        where.append("(" + " or ".join([*(f"f.{column} in :visible" for column in noun.scopes), *anywhere]) + ")")
        args["visible"] = visible
    if noun.is_owned:
        where.append("(f.owner = :me or f.is_shared)")
        args["me"] = op.actor.on_behalf_of or op.actor.id
    args |= {"first": f"{_escaped(words[0])}%" if words else "%", "limit": CHECKED_MAX if noun.check else limit}
    rows = tx.rows(
        f"""select f.* from ({noun.query}) f
             where {" and ".join(where)}
             order by case when lower(f.label) like :first escape '!' then 0 else 1 end, f.at_ms desc, f.label
             limit :limit""",
        **args,
    )
    return [row for row in rows if noun.check is None or noun.check(op, row)][:limit]


def _found(noun: Noun, row: dict[str, Any]) -> Found:
    return Found(kind=noun.kind, ref=row["ref"], label=row["label"], detail=" ".join((row["detail"] or "").split())[:120])


def _escaped(word: str) -> str:
    return word.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _rank(words: list[str], label: str) -> tuple[int, int, str]:
    """The name itself, then names that begin with it, then those that hold it; short ones first."""
    name, text = label.lower(), " ".join(words)
    place = 0 if name == text else 1 if name.startswith(text) else 2 if text in name else 3
    return place, len(name), name
