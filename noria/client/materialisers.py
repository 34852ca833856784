"""How a value that is no plain JSON is kept between steps: in files, by the materialiser of its type; else it is pickled.

@noria.materialiser(Mesh)
class MeshAsPly:
    version = 1

    def save(self, mesh, folder):
        mesh.write(folder / "mesh.ply")

    def load(self, folder):
        return Mesh.read(folder / "mesh.ply")

The most specific class of a value decides; where two are registered for one class, the user's comes before Noria's (`materials.py`).
What was chosen is recorded with the value by name and version, and only that one reads it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from noria.kernel.errors import Invalid

NAME_LENGTH_MAX = 200
OURS = "noria."
PLAIN = (object, type(None), bool, int, float, str, list, dict, tuple)  # kept as JSON, or by their parts


class Unfit(Exception):
    """This value cannot be given back exactly; it is pickled instead."""


class Materialiser(Protocol):
    """Saves values of a type into an empty folder, and loads them from it."""

    def save(self, value: Any, folder: Path) -> None:
        """Write `value` into `folder`: one file or many."""
        ...

    def load(self, folder: Path) -> Any:
        """What was saved there."""
        ...


class Registered:
    """A materialiser with the name and version that are recorded with each value."""

    def __init__(self, maker: type[Any]) -> None:
        self.maker = maker
        self.name: str = getattr(maker, "name", "") or maker.__qualname__.rpartition(".")[2]
        self.version: int = getattr(maker, "version", 1)
        self.reads = frozenset(getattr(maker, "reads", ())) | {self.version}
        self.needs: str = getattr(maker, "needs", "")
        self.made: Materialiser = maker()

    @property
    def is_ours(self) -> bool:
        """Is it one of Noria's?"""
        return self.name.startswith(OURS)

    def takes(self, value: Any) -> bool:
        """Is this value one for it? Those of a type may differ."""
        takes: Callable[[Any], bool] | None = getattr(self.made, "takes", None)
        return takes is None or bool(takes(value))


_by_type: dict[type, Registered] = {}
_by_name: dict[str, Registered] = {}

Class = TypeVar("Class", bound=type[Any])


def materialiser(*types: type) -> Callable[[Class], Class]:
    """Registers a class with `save(value, folder)` and `load(folder)` for values of `types` and of their subclasses.

    It may say `name` (its own unless it does), `version` (1), the earlier versions that it `reads` too, and with `takes(value)` for
    which values it is. Register at the top of the pipeline's file, or of a module that it imports: then every step knows it.
    """
    for each in types:
        if not isinstance(each, type):
            raise Invalid(f"noria.materialiser takes classes; {each!r} is none.", hint="@noria.materialiser(Mesh)")
        if each in PLAIN:
            raise Invalid(f"{each.__name__} is kept as it is, or by its parts.", hint="Register a class of your own for it.")
    if not types:
        raise Invalid("noria.materialiser says for which types.", hint="@noria.materialiser(Mesh)")

    def register(maker: Class) -> Class:
        found = _checked(maker)
        _by_name[found.name] = found
        for each in types:
            _by_type[each] = found
        return maker

    return register


def _checked(maker: type[Any]) -> Registered:
    missing = [name for name in ("save", "load") if not callable(getattr(maker, name, None))]
    if not isinstance(maker, type) or missing:
        raise Invalid(
            f"A materialiser is a class with save(value, folder) and load(folder); {maker!r} has no {' and no '.join(missing)}."
        )
    found = Registered(maker)
    if type(found.version) is not int or found.version < 1:
        raise Invalid(f"The version of {found.name} is a number from 1 on, not {found.version!r}.")
    if not found.name.isprintable() or len(found.name) > NAME_LENGTH_MAX or found.name.startswith(OURS):
        raise Invalid(
            f"{found.name!r} is no name for a materialiser.",
            hint=f"At most {NAME_LENGTH_MAX} characters; names that begin with {OURS} are Noria's own.",
        )
    before = _by_name.get(found.name)
    if before and (before.maker.__module__, before.maker.__qualname__) != (maker.__module__, maker.__qualname__):
        raise Invalid(
            f"Two materialisers are called {found.name}: {before.maker.__module__}.{before.maker.__qualname__} and "
            f"{maker.__module__}.{maker.__qualname__}.",
            hint='Give one of them another: name = "mesh-as-stl".',
        )
    return found


def chosen(value: Any) -> Registered | None:
    """The materialiser for `value`; None when there is none, and it is pickled."""
    from noria.client import materials

    for cls in type(value).__mro__:
        for found in (_by_type.get(cls), materials.of(cls)):
            if found and found.takes(value):
                return found
    return None


def named(name: str, version: int, kind: str) -> Registered:
    """The materialiser that saved a value. Raises Invalid when it is not here, or reads no such version."""
    from noria.client import materials

    found = materials.named(name) if name.startswith(OURS) else _by_name.get(name)
    saved_by = f"A value of type {kind or 'unknown'} was saved by the materialiser {name}, version {version}"
    if found is None:
        raise Invalid(
            f"{saved_by}, which is not registered here"
            + (": this Noria is older than the one that saved it." if name.startswith(OURS) else f" ({_known()}). {_WHERE}")
        )
    if version not in found.reads:
        raise Invalid(
            f"{saved_by}; the one here is version {found.version} and reads {_listed(found.reads)}. Let it read that too "
            f"(reads = ({version},)), or make the value again: noria pipeline resume RUN --from STEP."
        )
    return found


_WHERE = "Register it at the top of the pipeline's file or of a module that it imports."


def _known() -> str:
    return "registered: " + ", ".join(sorted(_by_name)) if _by_name else "no materialiser is registered"


def _listed(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions)))
