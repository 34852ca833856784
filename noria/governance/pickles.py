"""What a pickle would import and call, found by walking its opcodes. Nothing is imported, nothing is called.

The walk keeps the unpickler's stack and memo with symbols instead of objects, so that `STACK_GLOBAL`, names out of the memo, and
doubled or popped values are resolved as the unpickler would. Invariant: default deny. An import that is not on the list of
`allowed.py`, a name that is computed, a call of a value, attributes set on an import, and a stream that cannot be followed to
its end are findings, with the opcode and its place. Values are counted, never built: a pickle that would take all memory does
not take it here.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from noria.governance.allowed import is_allowed, may_be_called

STRING_KEPT = 512  # longer ones are no names
FINDINGS_MAX = 50
_SIMPLE_DTYPE = re.compile(r"[<>|=]?([biufcSUVmM?])(\d*)\Z")


class ScanFinding(Struct, frozen=True, kw_only=True):
    """Something a clean file does not hold. `at` is the byte in the (unpacked) stream, `name` what would be imported."""

    file: str
    reason: str
    opcode: str = ""
    name: str = ""
    at: int | None = None


class Reader(Protocol):
    """A file held in memory or mapped: asking for more than there is costs nothing."""

    def read(self, n: int = -1, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...
    def seek(self, offset: int, whence: int = 0, /) -> Any: ...


class Broken(Exception):
    """The stream cannot be followed further."""


class OutOfBudget(Exception):
    """The walk took more steps than it was given."""


class _Import:
    """A global: `module name`."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    @property
    def label(self) -> str:
        return f"{self.module}.{self.name}"


class _Made:
    """What an import gave when it was called or instantiated; `state` is what BUILD put in."""

    def __init__(self, of: str, args: Any) -> None:
        self.of = of
        self.args: Any = args
        self.state: Any = None


_OPAQUE = object()
_MARK = object()
_OPCODES = {ord(op.code): op for op in pickletools.opcodes}
_TEXT = {
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
_INTS = {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4"}
_LONG_BYTES = {  # opcodes with a counted argument: (bytes of the count)
    "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8, "BINUNICODE": 4, "BINUNICODE8": 8, "BINSTRING": 4,
}  # fmt: skip


class Walk:
    """One walk over one stream; `findings` and `imports` fill as it goes."""

    def __init__(
        self, file: str, stream: Reader, size: int, *, steps: int, is_torch: bool = False,
        reads_plainly: bool = False,
    ) -> None:  # fmt: skip
        self.file, self.stream, self.size = file, stream, size
        self.steps = steps
        self.is_torch = is_torch  # persistent ids name its storages
        self.reads_plainly = reads_plainly  # as pickle does, to which the bytes of joblib's arrays are opcodes
        self.arrays_count = 0
        self.findings: list[ScanFinding] = []
        self.imports: set[str] = set()
        self.first_value: Any = None
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._at, self._op = 0, ""

    def run(self) -> None:
        """Walk to STOP, or as far as it goes; a stream that breaks is a finding. Raises OutOfBudget."""
        try:
            self._run()
        except Broken as cause:
            self.find(f"the stream is broken: {cause}")

    def find(self, reason: str, name: str = "") -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(ScanFinding(file=self.file, reason=reason, opcode=self._op, name=name, at=self._at))

    def _run(self) -> None:
        stack: list[Any] = []
        self._stack, self._memo = stack, {}
        while True:
            self.steps -= 1
            if self.steps < 0:
                raise OutOfBudget
            self._at = self.stream.tell()
            code = self.stream.read(1)
            if not code:
                raise Broken("it ends before STOP")
            op = _OPCODES.get(code[0])
            if op is None:
                self._op = f"0x{code[0]:02x}"
                raise Broken("no such opcode")
            self._op = op.name
            arg = self._argument(op)
            if op.name == "STOP":
                self.first_value = self._pop()
                return
            handler = _HANDLERS.get(op.name)
            if handler is not None:
                handler(self, arg)
            elif op.name in _TEXT:
                stack.append(arg if isinstance(arg, str) and len(arg) <= STRING_KEPT else _OPAQUE)
            elif op.name in _INTS:
                stack.append(arg if isinstance(arg, int) and -(1 << 63) <= arg < 1 << 63 else _OPAQUE)
            else:
                self._generic(op)

    def _argument(self, op: Any) -> Any:
        if op.arg is None:
            return None
        if (width := _LONG_BYTES.get(op.name)) is not None:
            count = int.from_bytes(self._exactly(width), "little")
            at = self.stream.tell()
            if count > self.size - at:
                raise Broken("it says that it is longer than it is")
            if count > STRING_KEPT:
                self.stream.seek(at + count)
                return None
            data = self._exactly(count)
            if "BYTE" in op.name:
                return data
            return data.decode("utf-8" if "UNICODE" in op.name else "latin-1", "replace")
        try:
            return op.arg.reader(self.stream)
        except (ValueError, OverflowError, MemoryError) as cause:
            raise Broken("its argument cannot be read") from cause

    def _exactly(self, count: int) -> bytes:
        data = self.stream.read(count)
        if len(data) != count:
            raise Broken("it ends within an argument")
        return data

    # --- the stack --------------------------------------------------------------------------------------------------

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise Broken("its stack is empty")
        return self._stack.pop()

    def _to_mark(self) -> list[Any]:
        for i in range(len(self._stack) - 1, -1, -1):
            if self._stack[i] is _MARK:
                taken = self._stack[i + 1 :]
                del self._stack[i:]
                return taken
        raise Broken("there is no mark")

    def _generic(self, op: Any) -> None:
        """An opcode that only moves values."""
        if any(kind is pickletools.markobject for kind in op.stack_before):
            self._to_mark()
            below = op.stack_before.index(pickletools.markobject)
        else:
            below = len(op.stack_before)
        for _ in range(below):
            self._pop()
        self._stack += [_OPAQUE] * len(op.stack_after)

    # --- imports and calls ------------------------------------------------------------------------------------------

    def _import(self, module: Any, name: Any) -> _Import:
        if not isinstance(module, str) or not isinstance(name, str):
            if any(value is None or isinstance(value, int | tuple | dict | bytes) for value in (module, name)):
                raise Broken("the name of an import is no text")
            if self.reads_plainly and any(_is_described(value) for value in (module, name)):
                raise Broken("the name of an import is no text")
            self.find("imports a name that is computed", "?")
            return _Import("?", "?")
        self.imports.add(f"{module}.{name}")
        if not is_allowed(module, name):
            self.find(f"imports {module}.{name}, which is not on the list of what a model may import", f"{module}.{name}")
        return _Import(module, name)

    def _call(self, callee: Any, args: Any, *, is_new: bool = False) -> _Made:
        if not isinstance(callee, _Import):
            self.find("calls a value that is no import")
            return _Made("?", args)
        if not is_new and not may_be_called(callee.module, callee.name):
            self.find(f"calls {callee.label}, whose constructor opens what it is given", callee.label)
        return _Made(callee.label, args)

    def _changed(self, target: Any, what: str) -> None:
        if isinstance(target, _Import):
            self.find(f"{what} {target.label} itself", target.label)

    def _build(self, _: Any) -> None:
        state, target = self._pop(), self._pop()
        self._changed(target, "sets attributes of")
        if isinstance(target, _Made):
            target.state = state
            if target.of == "joblib.numpy_pickle.NumpyArrayWrapper":
                self._array(state)
        self._stack.append(target)

    # --- joblib's arrays, which lie between the opcodes -----------------------------------------------------------------

    def _array(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise Broken("an array's description is computed")
        self.arrays_count += 1
        if self.reads_plainly:
            return
        is_object, itemsize = _dtype(state.get("dtype"))
        if is_object:
            inner = Walk(self.file, self.stream, self.size, steps=self.steps)
            inner._run()
            self.steps = inner.steps
            self.findings += inner.findings[: FINDINGS_MAX - len(self.findings)]
            self.imports |= inner.imports
            return
        shape, count = state.get("shape"), 1
        if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise Broken("an array's shape is computed")
        for n in shape:
            count *= n
        if state.get("numpy_array_alignment_bytes") is not None:
            self._skip(self._exactly(1)[0])
        self._skip(count * itemsize)

    def _skip(self, count: int) -> None:
        at = self.stream.tell()
        if count > self.size - at:
            raise Broken("an array says that it is longer than the file")
        self.stream.seek(at + count)


def _dtype(made: Any) -> tuple[bool, int]:
    """Does it hold objects, and how many bytes is one? Raises Broken when that cannot be told."""
    if not isinstance(made, _Made) or made.of != "numpy.dtype" or not isinstance(made.args, tuple) or not made.args:
        raise Broken("an array's dtype is computed")
    text, state = made.args[0], made.state
    if isinstance(text, str) and text in ("O8", "O4", "O", "|O"):
        return True, 0
    match = _SIMPLE_DTYPE.match(text) if isinstance(text, str) else None
    if match is None:
        raise Broken("an array has a dtype of an unknown kind")
    fields = state[4] if isinstance(state, tuple) and len(state) >= 5 else None
    has_objects = False
    if fields is not None:
        if not isinstance(fields, dict):
            raise Broken("an array's fields are computed")
        for field in fields.values():
            if not isinstance(field, tuple) or not field:
                raise Broken("an array's fields are computed")
            has_objects |= _dtype(field[0])[0]
    if isinstance(state, tuple) and len(state) >= 4 and isinstance(state[2], tuple):
        has_objects |= _dtype(state[2][0])[0] if state[2] else True  # an array within each element
    width = int(match[2] or 1) * (4 if match[1] == "U" else 1)
    is_flexible = match[1] in "SUV"
    if is_flexible and isinstance(state, tuple) and (len(state) < 6 or state[5] != width):
        raise Broken("an array's dtype says two widths")  # numpy believes the second
    return has_objects, width


def _is_described(value: Any) -> bool:
    """An estimator, an array, or what describes one: no text, for certain."""
    return isinstance(value, _Made) and value.of.startswith(("joblib.", "numpy.dtype", "numpy.ndarray", "sklearn."))


Handler = Callable[[Walk, Any], None]


def _push(value: Any) -> Handler:
    return lambda w, _: w._stack.append(value)


def _global(w: Walk, arg: str) -> None:
    parts = arg.split(" ")
    if len(parts) != 2:
        raise Broken("the name of an import holds spaces")
    w._stack.append(w._import(*parts))


def _stack_global(w: Walk, _: Any) -> None:
    name, module = w._pop(), w._pop()
    w._stack.append(w._import(module, name))


def _inst(w: Walk, arg: str) -> None:
    args = tuple(w._to_mark())
    parts = arg.split(" ")
    if len(parts) != 2:
        raise Broken("the name of an import holds spaces")
    w._stack.append(w._call(w._import(*parts), args))


def _obj(w: Walk, _: Any) -> None:
    taken = w._to_mark()
    if not taken:
        raise Broken("OBJ names no class")
    w._stack.append(w._call(taken[0], tuple(taken[1:])))


def _reduce(w: Walk, _: Any) -> None:
    args, callee = w._pop(), w._pop()
    is_new = isinstance(callee, _Import) and callee.label.startswith(("copyreg.", "copy_reg."))
    w._stack.append(w._call(callee, args, is_new=is_new))


def _newobj(w: Walk, _: Any) -> None:
    args, cls = w._pop(), w._pop()
    w._stack.append(w._call(cls, args, is_new=True))


def _newobj_ex(w: Walk, _: Any) -> None:
    w._pop()
    _newobj(w, None)


def _extension(w: Walk, arg: Any) -> None:
    w.find("uses copyreg's registry of extensions, which can stand for any import")
    w._stack.append(_OPAQUE)


def _persistent(w: Walk, value: Any) -> None:
    is_storage = isinstance(value, tuple) and len(value) >= 4 and value[0] == "storage"
    if not (w.is_torch and is_storage):
        w.find("asks its reader for an object by a persistent id")
    w._stack.append(_OPAQUE)


def _pop(w: Walk, _: Any) -> None:
    if not w._stack:
        raise Broken("its stack is empty")
    w._stack.pop()  # also a mark


def _pop_mark(w: Walk, _: Any) -> None:
    w._to_mark()


def _dup(w: Walk, _: Any) -> None:
    value = w._pop()
    w._stack += [value, value]


def _put(w: Walk, arg: Any) -> None:
    value = w._pop()
    w._stack.append(value)
    w._memo[int(arg)] = value


def _memoize(w: Walk, _: Any) -> None:
    _put(w, len(w._memo))


def _get(w: Walk, arg: Any) -> None:
    if int(arg) not in w._memo:
        raise Broken("it takes from the memo what is not there")
    w._stack.append(w._memo[int(arg)])


def _tuple_of(count: int) -> Handler:
    def handle(w: Walk, _: Any) -> None:
        w._stack.append(tuple([w._pop() for _ in range(count)][::-1]))

    return handle


def _tuple(w: Walk, _: Any) -> None:
    w._stack.append(tuple(w._to_mark()))


def _dict(w: Walk, _: Any) -> None:
    w._stack.append(_filled({}, w._to_mark()))


def _setitem(w: Walk, _: Any) -> None:
    value, key = w._pop(), w._pop()
    _setitems_on(w, [key, value])


def _setitems(w: Walk, _: Any) -> None:
    _setitems_on(w, w._to_mark())


def _setitems_on(w: Walk, items: list[Any]) -> None:
    target = w._pop()
    w._changed(target, "sets items of")
    w._stack.append(_filled(target, items) if isinstance(target, dict) else target)


def _filled(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    for key, value in zip(items[::2], items[1::2], strict=False):
        if isinstance(key, str) and len(target) < 1_000:  # what describes an array is small
            target[key] = value
    return target


def _appends(w: Walk, _: Any) -> None:
    w._to_mark()
    w._changed(w._stack[-1] if w._stack else None, "appends to")


def _append(w: Walk, _: Any) -> None:
    w._pop()
    w._changed(w._stack[-1] if w._stack else None, "appends to")


_HANDLERS: dict[str, Handler] = {
    "PROTO": lambda w, _: None, "FRAME": lambda w, _: None, "READONLY_BUFFER": lambda w, _: None,
    "MARK": _push(_MARK), "NONE": _push(None), "NEWTRUE": _push(True), "NEWFALSE": _push(False), "EMPTY_TUPLE": _push(()),
    "EMPTY_DICT": lambda w, _: w._stack.append({}),
    "GLOBAL": _global, "STACK_GLOBAL": _stack_global, "INST": _inst, "OBJ": _obj, "REDUCE": _reduce, "NEWOBJ": _newobj,
    "NEWOBJ_EX": _newobj_ex, "BUILD": Walk._build, "EXT1": _extension, "EXT2": _extension, "EXT4": _extension,
    "PERSID": _persistent, "BINPERSID": lambda w, _: _persistent(w, w._pop()),
    "POP": _pop, "POP_MARK": _pop_mark, "DUP": _dup,
    "PUT": _put, "BINPUT": _put, "LONG_BINPUT": _put, "MEMOIZE": _memoize,
    "GET": _get, "BINGET": _get, "LONG_BINGET": _get,
    "TUPLE": _tuple, "TUPLE1": _tuple_of(1), "TUPLE2": _tuple_of(2), "TUPLE3": _tuple_of(3),
    "DICT": _dict, "SETITEM": _setitem, "SETITEMS": _setitems, "APPEND": _append, "APPENDS": _appends, "ADDITEMS": _appends,
}  # fmt: skip
