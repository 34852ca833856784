"""The digest of a function and of all first-party code it uses: what decides whether a cached result still counts.

Follows names the byte code mentions: helpers, their helpers, constants, classes with their methods and attributes. Comments,
docstrings, blank lines and unrelated code do not matter. What cannot be followed is reported as opaque.
"""

from __future__ import annotations

import inspect
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from blake3 import blake3

_STDLIB = Path(sysconfig.get_path("stdlib")).resolve()
_SCALARS = (str, bytes, int, float, bool, complex, type(None), type(Ellipsis))


def closure_digest(function: FunctionType) -> tuple[str, list[str]]:
    """(digest, opaque names) of `function`. The digest also depends on the minor version of Python: byte code does."""
    walk = _Walk()
    walk.function(function, "")
    text = "\n".join([f"python {sys.version_info[0]}.{sys.version_info[1]}", *walk.parts])
    return blake3(text.encode("utf-8", "surrogatepass")).hexdigest(), sorted(walk.opaque)


class _Walk:
    """Collects one line per thing that matters, in the order it is met."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.opaque: set[str] = set()
        self._seen: set[int] = set()

    def function(self, function: FunctionType, where: str) -> None:
        if not self._enter(function):
            return
        self.parts.append(f"function {where} {function.__qualname__}")
        self.code(function.__code__)
        self.value("defaults", (function.__defaults__, function.__kwdefaults__))
        names = _closure(function)
        scope = {**{n: function.__globals__[n] for n in _names(function.__code__) if n in function.__globals__}, **names}
        attributes = {a for code in _codes(function.__code__) for a in code.co_names}
        for name in sorted(scope):
            self.named(name, scope[name], attributes)

    def code(self, code: CodeType) -> None:
        for each in _codes(code):
            constants = [c for c in _constants(each) if isinstance(c, (*_SCALARS, tuple, frozenset))]
            self.parts.append(f"code {each.co_code.hex()} {each.co_names} {each.co_varnames} {each.co_freevars}")
            self.parts.append("constants " + _stable(constants))

    def named(self, name: str, value: Any, attributes: set[str]) -> None:
        """Something a function mentions; `attributes` are the names it may look up on a module."""
        value = inspect.unwrap(value) if callable(value) else value
        if isinstance(value, ModuleType):
            self._module(name, value, attributes)
        elif isinstance(value, FunctionType):
            if _is_first_party(value.__module__):
                self.function(value, name)
            else:
                self.parts.append(f"outside {name} {value.__module__}.{value.__qualname__}")
        elif isinstance(value, type):
            self._class(name, value)
        elif isinstance(value, BuiltinFunctionType):
            self.parts.append(f"outside {name} {value.__module__}.{value.__qualname__}")
        else:
            self.value(name, value)

    def value(self, name: str, value: Any) -> None:
        """A constant; containers are followed as far as they hold plain things."""
        try:
            self.parts.append(f"value {name} {_stable(value)}")
        except TypeError:
            self.parts.append(f"opaque {name} {type(value).__module__}.{type(value).__qualname__}")
            self.opaque.add(name)

    def _module(self, name: str, module: ModuleType, attributes: set[str]) -> None:
        if not _is_first_party(module.__name__):
            self.parts.append(f"module {name} {module.__name__} {_version(module)}")
            return
        if not self._enter((module.__name__, tuple(sorted(attributes)))):
            return
        for attribute in sorted(attributes):
            if attribute in vars(module):
                self.named(f"{name}.{attribute}", vars(module)[attribute], attributes)

    def _class(self, name: str, cls: type) -> None:
        if not _is_first_party(cls.__module__):
            self.parts.append(f"outside {name} {cls.__module__}.{cls.__qualname__}")
            return
        if not self._enter(cls):
            return
        for base in cls.__bases__:
            self.named(f"{name} base", base, set())
        for attribute, value in sorted(vars(cls).items()):
            if attribute in ("__module__", "__doc__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__"):
                continue
            if isinstance(value, staticmethod | classmethod):
                value = value.__func__
            for part in (value.fget, value.fset) if isinstance(value, property) else (value,):
                if part is not None:
                    self.named(f"{name}.{attribute}", part, set())

    def _enter(self, thing: Any) -> bool:
        key = hash(thing) if isinstance(thing, tuple) else id(thing)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code and all code nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _constants(code: CodeType) -> list[Any]:
    """The constants without the docstring, which is the first one of a function that has any."""
    constants = list(code.co_consts)
    if constants and isinstance(constants[0], str) and code.co_name not in ("<lambda>", "<module>"):
        constants = constants[1:] if _has_docstring(code) else constants
    return constants


def _has_docstring(code: CodeType) -> bool:
    """A first constant that the byte code never loads is a docstring."""
    import dis

    return not any(i.opname == "LOAD_CONST" and i.arg == 0 for i in dis.get_instructions(code))


def _names(code: CodeType) -> set[str]:
    return {name for each in _codes(code) for name in each.co_names}


def _closure(function: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not yet assigned
            continue
    return found


def _stable(value: Any) -> str:
    """The same text for equal values in every process. Raises TypeError for what has none."""
    if isinstance(value, _SCALARS) and type(value) in _SCALARS:
        return repr(value)
    if isinstance(value, tuple | list):
        return type(value).__name__ + "(" + ",".join(map(_stable, value)) + ")"
    if isinstance(value, dict):
        return "dict(" + ",".join(sorted(f"{_stable(k)}:{_stable(v)}" for k, v in value.items())) + ")"
    if isinstance(value, set | frozenset):
        return "set(" + ",".join(sorted(map(_stable, value))) + ")"
    if isinstance(value, Path):
        return f"Path({value})"
    raise TypeError(f"{type(value)} has no stable text")


def _is_first_party(module: str | None) -> bool:
    """Written by the user: not the standard library, not installed, not Noria."""
    if not module or module.split(".")[0] in ("noria", "builtins"):
        return False
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None)
    if file is None:
        return module == "__main__"
    return not is_installed(module)


def is_installed(module: str) -> bool:
    """Is it part of Python, or of a package that was installed?"""
    path = Path(getattr(sys.modules.get(module), "__file__", None) or "").resolve()
    return "site-packages" in path.parts or "dist-packages" in path.parts or path.is_relative_to(_STDLIB)


def _version(module: ModuleType) -> str:
    root = sys.modules.get(module.__name__.split(".")[0])
    return str(getattr(root, "__version__", ""))
