"""Files that run code when they are read, made here: each is proved to be hostile by reading it, where that is harmless."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> Any:
        return self._call


def short(text: str) -> bytes:
    data = text.encode()
    return b"\x8c" + bytes([len(data)]) + data


def by_name(module: str, name: str, arg: bytes = short("id"), *, proto: int = 4) -> bytes:
    """A call of `module.name(arg)` with STACK_GLOBAL."""
    return bytes([0x80, proto]) + short(module) + short(name) + b"\x93" + arg + b"\x85R."


def old(module: str, name: str, arg: str = "id") -> bytes:
    """The same with the first protocol's GLOBAL."""
    return f"c{module}\n{name}\n(S'{arg}'\ntR.".encode()


def zipped(**members: bytes) -> bytes:
    spool = io.BytesIO()
    with zipfile.ZipFile(spool, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return spool.getvalue()


def tarred(name: str, data: bytes, *, kind: bytes = tarfile.REGTYPE) -> bytes:
    spool = io.BytesIO()
    with tarfile.open(fileobj=spool, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size, info.type, info.linkname = (len(data), kind, "/etc/passwd")
        archive.addfile(info, io.BytesIO(data))
    return spool.getvalue()


def npy_of_objects(payload: bytes) -> bytes:
    spool = io.BytesIO()
    np.lib.format.write_array_header_1_0(spool, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    return spool.getvalue() + payload


def joblib_with(tail: bytes) -> bytes:
    """An array as joblib writes it without padding, whose bytes are opcodes to whoever reads the file with pickle."""
    import joblib

    spool = io.BytesIO()
    joblib.dump(np.frombuffer(tail, dtype=np.uint8), spool)
    before, _, after = spool.getvalue().partition(tail)
    before = before.replace(b"numpy_array_alignment_bytes", b"numpy_array_alignment_bytez")
    return before[: before.rindex(b"b") + 1] + tail + after


def legacy_torch(last: bytes) -> bytes:
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    rest = [pickle.dumps(value, 2) for value in (1001, {"little_endian": True})]
    return magic + b"".join(rest) + last + pickle.dumps([], 2) + b"\x00" * 64


SYSTEM = by_name("posix", "system")
NAMES = [  # (module, name): ways to run code that lists of bad names have missed
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen"), ("builtins", "eval"), ("builtins", "exec"),
    ("builtins", "getattr"), ("builtins", "__import__"), ("builtins", "compile"), ("builtins", "open"), ("builtins", "map"),
    ("runpy", "run_path"), ("runpy", "_run_code"), ("timeit", "timeit"), ("timeit", "main"), ("pdb", "run"), ("cProfile", "run"),
    ("code", "interact"), ("codeop", "compile_command"), ("ctypes", "CDLL"), ("importlib", "import_module"),
    ("pkgutil", "resolve_name"), ("operator", "attrgetter"), ("operator", "methodcaller"), ("functools", "partial"),
    ("functools", "reduce"), ("pip", "main"), ("pip._internal.cli.main", "main"), ("webbrowser", "open"), ("socket", "create_connection"),
    ("urllib.request", "urlopen"), ("http.client", "HTTPConnection"), ("ftplib", "FTP"), ("smtplib", "SMTP"), ("shutil", "rmtree"),
    ("pathlib", "Path"), ("sqlite3", "connect"), ("sys", "exit"), ("pty", "spawn"), ("bdb", "Bdb"), ("uuid", "_popen"),
    ("uuid", "_get_command_stdout"), ("_aix_support", "_read_cmd_output"), ("_osx_support", "_read_output"),
    ("idlelib.autocomplete", "AutoComplete"), ("lib2to3.pgen2.grammar", "Grammar.loads"), ("doctest", "debug_script"),
    ("ensurepip", "_run_pip"), ("numpy.testing._private.utils", "runstring"), ("numpy.core", "_ufunc_reconstruct"),
    ("numpy._core", "_ufunc_reconstruct"), ("numpy", "load"), ("numpy.f2py.crackfortran", "getlincoef"), ("torch", "load"),
    ("torch.hub", "load"), ("torch.jit", "load"), ("torch._inductor.codecache", "compile_file"), ("torch.utils.data", "get_worker_info"),
    ("joblib", "load"), ("joblib.numpy_pickle", "load"), ("pandas", "read_pickle"), ("pandas.core.computation.eval", "eval"),
    ("sklearn.utils._testing", "run_python_script"), ("sklearn.externals.array_api_compat", "numpy"), ("sklearn", "os"),
    ("sklearn.utils.parallel", "_FuncWrapper"), ("sklearn.datasets", "fetch_openml"), ("dill._dill", "_create_function"),
    ("cloudpickle.cloudpickle", "_builtin_type"), ("cloudpickle.cloudpickle", "_make_function"), ("types", "FunctionType"),
    ("types", "CodeType"), ("collections", "namedtuple"), ("builtins", "type"), ("multiprocessing.util", "spawnv_passfds"),
    ("asyncio.unix_events", "_UnixSelectorEventLoop"), ("test.support.script_helper", "assert_python_ok"), ("xmlrpc.client", "ServerProxy"),
    ("logging.config", "dictConfig"), ("numpy", "dtype.__class__"), ("builtins", "object.__subclasses__"),
]  # fmt: skip

OPCODES: dict[str, bytes] = {
    "inst": b"(S'id'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'id'\no.",
    "newobj": b"\x80\x02cos\nsystem\nU\x02id\x85\x81.",
    "newobj_ex": b"\x80\x04" + short("os") + short("system") + b"\x93" + short("id") + b"\x85}\x92.",
    "extension": b"\x80\x02\x82\x01.",
    "extension of four": b"\x80\x02\x84\x01\x01\x00\x00.",
    "persistent id": b"Pid\n.",
    "binary persistent id": b"\x80\x02U\x02idQ.",
    "a name out of the memo": b"\x80\x04" + short("posix") + b"\x94" + short("system") + b"\x9400h\x00h\x01\x93"
    + short("id") + b"\x85R.",
    "names put under chosen numbers": b"\x80\x04" + short("system") + b"q\xff0" + short("posix") + b"h\xff\x93"
    + short("id") + b"\x85R.",
    "a name doubled and dropped": b"\x80\x04" + short("posix") + short("system") + b"20\x93" + short("id") + b"\x85R.",
    "a mark dropped by POP": b"\x80\x04" + short("posix") + b"(0" + short("system") + b"\x93" + short("id") + b"\x85R.",
    "a computed name": b"\x80\x04cbuiltins\nstr\n" + short("posix") + b"\x85R" + short("system") + b"\x93"
    + short("id") + b"\x85R.",
    "a call of what a call gave": b"\x80\x04cbuiltins\nstr\n" + short("x") + b"\x85R" + short("y") + b"\x85R.",
    "attributes of a class": b"\x80\x02csklearn.pipeline\nPipeline\nN}U\x08__init__csklearn.pipeline\nPipeline\ns\x86b.",
    "items of an import": b"\x80\x02ccollections\nOrderedDict\nU\x01aU\x01bs.",
    "before a broken end": SYSTEM[:-1] + b"\xff\xff",
    "without an end": SYSTEM[:-1],
    "in a second pickle": pickle.dumps([1, 2]) + SYSTEM,
    "a name with a space": b"cos system\nx\n.",
    "old names": b"\x80\x02c__builtin__\neval\nU\x041+1\x85R.",
    "memo of no end": b"\x80\x02Nr\xff\xff\xff\x7f0cos\nsystem\nU\x02id\x85R.",
    "a length of no end": b"\x80\x04\x8e" + b"\xff" * 8 + b"x.",
    "a dotted name": by_name("collections", "OrderedDict.__class__"),
}  # fmt: skip

FILES: dict[str, bytes] = {
    **{f"opcodes/{name}.pkl": data for name, data in OPCODES.items()},
    "renamed.txt": SYSTEM,
    "renamed.json": SYSTEM,
    "renamed.safetensors": SYSTEM,
    "renamed.onnx": old("os", "system"),
    "renamed.md": old("os", "system"),
    "no_ending": old("os", "system"),
    "looks_like_safetensors.safetensors": struct.pack("<Q", 0x0480) + SYSTEM,
    "gzip.pkl": gzip.compress(SYSTEM),
    "two_members.gz": gzip.compress(pickle.dumps(1)) + gzip.compress(SYSTEM),
    "bz2.pkl": bz2.compress(SYSTEM),
    "xz.pkl": lzma.compress(SYSTEM),
    "lzma.pkl": lzma.compress(SYSTEM, lzma.FORMAT_ALONE),
    "joblib_zlib.joblib": zlib.compress(SYSTEM),
    "gzip_in_gzip.pkl": gzip.compress(gzip.compress(SYSTEM)),
    "broken_gzip.pkl": gzip.compress(SYSTEM * 100)[:-9],
    "torch.pt": zipped(**{"archive/data.pkl": SYSTEM}),
    "torch_other_member.pt": zipped(**{"archive/data.pkl": pickle.dumps({}), "archive/constants.pkl": SYSTEM}),
    "legacy_torch.pt": legacy_torch(SYSTEM),
    "zip_in_zip.zip": zipped(**{"a.zip": zipped(**{"b.pkl": SYSTEM})}),
    "npz.npz": zipped(**{"a.npy": npy_of_objects(SYSTEM)}),
    "objects.npy": npy_of_objects(SYSTEM),
    "tar.tar": tarred("model.pkl", SYSTEM),
    "link.tar": tarred("model.pkl", b"", kind=tarfile.SYMTYPE),
    "path.tar": tarred("../../model.pkl", b"x"),
    "bytes_of_an_array.joblib": joblib_with(b"cos\nsystem\n(S'id'\ntR." + b"\x00" * 32),
    "keras.keras": zipped(**{"config.json": b'{"layers": [{"class_name": "Lambda"}]}', "model.weights.h5": b""}),
    "code/model.py": b"import os\n",
    "skops_with_pickle.skops": zipped(**{"schema.json": b"{}", "1.npy": npy_of_objects(SYSTEM)}),
    "polyglot.bin": pickle.dumps([1]) + zipped(**{"a.pkl": SYSTEM}),
}


def with_a_bad_checksum() -> bytes:
    made = bytearray(zipped(**{"archive/data.pkl": pickle.dumps({"a": list(range(99))})}))
    made[60] ^= 0xFF
    return bytes(made)


def with_two_names() -> bytes:
    """Another name in the central directory than in front of the data."""
    made = zipped(**{"a.pkl": SYSTEM})
    at = made.rindex(b"a.pkl")
    return made[:at] + b"b.txt" + made[at + 5 :]


MADE: dict[str, Callable[[], bytes]] = {"bad_checksum.pt": with_a_bad_checksum, "two_names.zip": with_two_names}
