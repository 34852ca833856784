"""Pipelines out of a notebook: the cells' functions, and all they use, become a file that a worker can import.

Mechanism: what a function names is looked up where the notebook holds it. Functions and classes of cells come along as their
source, which IPython keeps; modules and what they define as imports; plain values as they are now. So cells may run in any order,
and a cell that trains a model for an hour is not run again. Invariant: the file needs nothing of the notebook. What cannot be
written down so – a data frame, a model, an open file – is refused, with its name and who uses it.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import inspect
import linecache
import symtable
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

from blake3 import blake3

from noria.client.closure import is_installed
from noria.client.environment import Captured, archive_of, code_info
from noria.client.tracing import NOTEBOOK as ENTRY
from noria.kernel.errors import Invalid

VALUE_LENGTH_MAX = 64 << 10  # of a plain value, written down
_PLAIN = (str, bytes, int, float, bool, complex, type(None), type(Ellipsis))


def is_notebook() -> bool:
    """Is this process an interactive one, whose functions are in no file?"""
    return not getattr(sys.modules["__main__"], "__file__", None)


def capture_notebook(function: types.FunctionType) -> Captured:
    """The code that `function`, a pipeline, needs: one file of the cells' definitions, and the modules beside the notebook.

    Raises Invalid naming what cannot be captured.
    """
    writing = _Writing()
    writing.define(function.__name__, function, "the pipeline")
    text = writing.text()
    here = Path.cwd()
    files = {f"{ENTRY}.py": text.encode(), **_modules_beside(here)}
    body = archive_of(files)
    info, blobs = code_info(body, len(files), here)
    return Captured(info=info, entry=ENTRY, blobs={blake3(body).hexdigest(): body, **blobs})


class _Writing:
    """Collects the statements of the file: imports, then values, then definitions, each after what it needs to be defined."""

    def __init__(self) -> None:
        self._scope = vars(sys.modules["__main__"])
        self._imports: dict[str, None] = {}
        self._values: dict[str, str] = {}
        self._definitions: dict[str, str] = {}
        self._begun: set[str] = set()

    def text(self) -> str:
        parts = [
            "# The cells of a notebook that this pipeline uses.",
            "\n".join(self._imports),
            "\n".join(self._values.values()),
        ]
        return "\n\n\n".join(p for p in [*parts, *self._definitions.values()] if p) + "\n"

    def define(self, name: str, thing: Any, user: str) -> None:
        """A function or class of a cell, after everything that it names."""
        if name in self._begun:
            return
        self._begun.add(name)
        source = _source(name, thing, user)
        tree = ast.parse(source)
        bound = {s.get_name() for s in symtable.symtable(source, "<cell>", "exec").get_symbols() if s.is_assigned()}
        if name not in bound or getattr(inspect.unwrap(thing), "__closure__", None):
            raise Invalid(f"{name}, which {user} uses, is another name for a function, or one that a function made.", where=name,
                          hint=f"Define {name} with def (or @noria.step) in a cell of its own.")  # fmt: skip
        if any(isinstance(n, ast.Name) and n.id == "get_ipython" for n in ast.walk(tree)):
            raise Invalid(f"{name} uses a magic of the notebook (% or !), which a worker does not know.", where=name,
                          hint="Use plain Python in steps: subprocess.run for commands.")  # fmt: skip
        for used in sorted(_names(source)):
            if used != name and used in self._scope:
                self._use(used, self._scope[used], name, tree)
            elif used != name and not hasattr(builtins, used) and not used.startswith("__"):
                raise Invalid(f"{name} uses {used!r}, which the notebook does not know (any more).", where=name,
                              hint=f"Run the cell that defines {used}.")  # fmt: skip
        self._definitions[name] = source

    def _use(self, name: str, value: Any, user: str, tree: ast.Module) -> None:
        plain = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
        if isinstance(value, types.ModuleType):
            self._module(name, value, tree)
        elif isinstance(plain, types.FunctionType | type) and plain.__module__ == "__main__":
            self.define(name, plain, user)
        elif imported := _imported(name, value):
            self._imports[imported] = None
        elif (text := _written(value)) is not None:
            self._values[name] = f"{name} = {text}"
        elif (statement := _assigned(name, value)) is not None:
            self._constructed(name, statement)
        else:
            raise Invalid(
                f"{user} uses {name!r}, a {type(value).__name__} that the notebook holds: a worker does not have it.",
                where=user,
                hint=f"Load it inside a step, let a step return it, or make it a parameter instead of using {name} from outside.",
            )

    def _module(self, name: str, module: types.ModuleType, tree: ast.Module) -> None:
        plain = module.__name__
        self._imports[f"import {plain}" if name == plain else f"import {plain} as {name}"] = None
        for inner in _submodules(name, module, tree):
            self._imports[f"import {inner}"] = None

    def _constructed(self, name: str, statement: str) -> None:
        """A value of Noria's own, such as an environment: the statement that made it."""
        if name not in self._begun:
            self._begun.add(name)
            tree = ast.parse(statement)
            for used in sorted(_names(statement) - {name}):
                if used in self._scope:
                    self._use(used, self._scope[used], name, tree)
            self._definitions[name] = statement


def _source(name: str, thing: Any, user: str) -> str:
    """The source of what a cell defined, with its decorators."""
    try:
        source = _class_source(thing) if isinstance(thing, type) else textwrap.dedent(inspect.getsource(thing))
        ast.parse(source)
    except (OSError, TypeError, SyntaxError, IndentationError) as cause:
        raise Invalid(
            f"The source of {name}, which {user} uses, is not known.", where=name,
            hint="Define it in a cell of a notebook, or in a file; not with exec, and not in a plain console.",
        ) from cause  # fmt: skip
    return source.rstrip()


def _class_source(cls: type) -> str:
    """The source of a class of a cell: `inspect` looks for the module's file, which a notebook has not. Raises OSError."""
    files = {f.__code__.co_filename for f in vars(cls).values() if isinstance(f, types.FunctionType)}
    cells = ["".join(linecache.getlines(file)) for file in sorted(files)]
    for cell in [*cells, *reversed(_cells())]:  # what has no method of a cell, such as a dataclass, is looked for in all
        with contextlib.suppress(SyntaxError):
            for statement in reversed(ast.parse(cell).body):
                if isinstance(statement, ast.ClassDef) and statement.name == cls.__qualname__:
                    first = min([statement.lineno, *(d.lineno for d in statement.decorator_list)])
                    return "\n".join(cell.splitlines()[first - 1 : statement.end_lineno])
    raise OSError("no cell defines it")


def _names(source: str) -> set[str]:
    """The names that the source takes from outside: not its parameters, not its locals."""
    top = symtable.symtable(source, "<cell>", "exec")
    found = {s.get_name() for s in top.get_symbols() if s.is_referenced() and not s.is_assigned()}

    def walk(table: symtable.SymbolTable) -> None:
        for inner in table.get_children():
            found.update(s.get_name() for s in inner.get_symbols() if s.is_global() and s.is_referenced())
            walk(inner)

    walk(top)
    return found


def _imported(name: str, value: Any) -> str:
    """How to import it, when a module defines it under a name; else empty."""
    module, plain = (
        getattr(value, "__module__", None),
        getattr(value, "__qualname__", None) or getattr(value, "__name__", ""),
    )
    if not isinstance(module, str) or module == "__main__" or not isinstance(plain, str) or "." in plain:
        return ""
    if getattr(sys.modules.get(module), plain, None) is not value:
        return ""
    return f"from {module} import {plain}" if name == plain else f"from {module} import {plain} as {name}"


def _written(value: Any) -> str | None:
    """A plain value as Python writes it; None for what is none, or is too long."""
    if isinstance(value, Path):
        return f"__import__('pathlib').Path({str(value)!r})"
    text = repr(value) if _is_plain(value) else ""
    return text if text and len(text) <= VALUE_LENGTH_MAX else None


def _is_plain(value: Any) -> bool:
    if isinstance(value, float) and type(value) is float and (value != value or value in (float("inf"), float("-inf"))):
        return False
    if type(value) in _PLAIN:
        return True
    if type(value) in (list, tuple, set, frozenset):
        return bool(value or type(value) in (list, tuple)) and all(map(_is_plain, value))
    return type(value) is dict and all(_is_plain(k) and _is_plain(v) for k, v in value.items())


def _assigned(name: str, value: Any) -> str | None:
    """The statement by which a cell made a value that is cheap to make again: Noria's own, a pattern, a partial function."""
    kind = type(value).__module__
    if not (kind.startswith("noria.") or kind in ("re", "functools", "typing", "datetime", "decimal", "enum")):
        return None
    for cell in reversed(_cells()):
        try:
            body = ast.parse(cell).body
        except SyntaxError:
            continue
        for statement in reversed(body):
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            if len(targets) == 1 and isinstance(targets[0], ast.Name) and targets[0].id == name:
                return ast.unparse(statement)
    return None


def _cells() -> list[str]:
    """The cells that were run, as Python, oldest first."""
    shell = getattr(builtins, "get_ipython", lambda: None)()
    return list(getattr(getattr(shell, "history_manager", None), "input_hist_parsed", []))


def _submodules(name: str, module: types.ModuleType, tree: ast.Module) -> list[str]:
    """Modules below `module` that the source reaches through it, such as `scipy.stats`: importing the top may not load them."""
    found = []
    for node in ast.walk(tree):
        chain: list[str] = []
        while isinstance(node, ast.Attribute):
            chain.insert(0, node.attr)
            node = node.value
        if chain and isinstance(node, ast.Name) and node.id == name:
            at: Any = module
            for part in chain:
                at = getattr(at, part, None)
                if not isinstance(at, types.ModuleType):
                    break
                if at.__name__ in sys.modules and at.__name__.startswith(f"{module.__name__}."):
                    found.append(at.__name__)
    return sorted(set(found))


def _modules_beside(here: Path) -> dict[str, bytes]:
    """The user's own modules that are loaded: their files, by the place from which they are imported."""
    found: dict[str, bytes] = {}
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or not file.endswith(".py") or name.partition(".")[0] in ("__main__", "noria") or is_installed(name):
            continue
        path, parts = Path(file).resolve(), name.split(".")
        if not path.is_relative_to(here.resolve()) or (
            path.parts[-len(parts) :][:-1] != tuple(parts[:-1]) and path.name != "__init__.py"
        ):
            continue
        place = "/".join(parts) + ("/__init__.py" if path.name == "__init__.py" else ".py")
        if place == f"{ENTRY}.py":
            raise Invalid(f"{path} has the name that the notebook's own code gets.", hint="Rename the file.")
        found[place] = path.read_bytes()
    return found
