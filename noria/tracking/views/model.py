"""The noun of saved views: which columns, filter, order and grouping of a list somebody gave a name, to come back to and to share."""

from __future__ import annotations

import re
from typing import Literal

import msgspec
from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref

NAME_LENGTH_MAX = 120
SPEC_BYTES_MAX = 32_768  # an address bar holds less
VIEWS_PER_OWNER = 500

Page = Literal["runs", "compare"]
_KEY = re.compile(r"[a-z_]{1,32}")


class View(Struct, frozen=True, kw_only=True):
    """A saved view. `spec` is the query of the page's address, by name; `scope` the experiment it is of, '' for all."""

    id: str
    page: Page
    name: str
    scope: str
    owner: str
    owner_id: str
    is_shared: bool
    spec: dict[str, str]
    created_at_ms: int
    updated_at_ms: int
    generation: int  # compare-and-set; starts at 1, +1 per change

    @property
    def ref(self) -> Ref:
        return Ref("view", self.id)


class NewView(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to save a view. `is_shared`: whoever may read the runs of `scope` may see it; else its owner alone."""

    name: str
    page: Page = "runs"
    scope: str = ""
    is_shared: bool = True
    spec: dict[str, str] = {}


class ViewChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a view; None leaves it. `expect` is the generation last seen."""

    name: str | None = None
    is_shared: bool | None = None
    spec: dict[str, str] | None = None
    expect: int | None = None


@fact("view.created")
class ViewCreated(Fact):
    """A view was saved."""

    name: str
    scope: str
    is_shared: bool


@fact("view.changed")
class ViewChanged(Fact):
    """A view has another name, spec or audience."""

    name: str
    is_shared: bool
    generation: int


@fact("view.deleted")
class ViewDeleted(Fact):
    """A view is gone."""

    name: str


def check_name(name: str) -> str:
    """`name` without spaces around it. Raises Invalid."""
    name = name.strip()
    if not name or len(name) > NAME_LENGTH_MAX:
        raise Invalid(f"The name of a view has 1 to {NAME_LENGTH_MAX} characters, not {len(name)}.", where="name")
    if any(c < " " or c == "\x7f" for c in name):
        raise Invalid("The name of a view cannot contain control characters.", where="name")
    return name


def check_spec(spec: dict[str, str]) -> dict[str, str]:
    """`spec` if it can be a query. Raises Invalid."""
    for key in spec:
        if not _KEY.fullmatch(key):
            raise Invalid(
                f"{key[:40]!r} is not a part of a view.", where="spec", hint="Use the names of the page's address."
            )
    size = len(msgspec.json.encode(spec))
    if size > SPEC_BYTES_MAX:
        raise Invalid(f"The view takes {size} bytes; at most {SPEC_BYTES_MAX} are kept.", where="spec")
    return spec
