"""Noria's own materialisers: formats that run no code when they are read, and give back exactly what was saved.

Frames, tables and arrays whose every value the format can hold; others are pickled. Nothing is imported that a step did not import.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

from noria.client.materialisers import Registered, Unfit
from noria.kernel.errors import Invalid

NOT_THE_STEPS = (".tmp", ".values", "job.json", "result.json", "reads.txt")  # of a try's folder


class Arrow:
    """Tables and record batches of pyarrow, as Arrow files."""

    name, version, needs = "noria.arrow", 1, "pyarrow"

    def takes(self, value: Any) -> bool:
        arrow = sys.modules["pyarrow"]
        # An extension type is known only where the code that defines it has run; elsewhere it would come back as what it stores.
        return type(value) in (arrow.Table, arrow.RecordBatch) and "extension<" not in str(value.schema)

    def save(self, value: Any, folder: Path) -> None:
        is_table = type(value) is sys.modules["pyarrow"].Table
        _write_arrow(value, folder / ("table.arrow" if is_table else "batch.arrow"))

    def load(self, folder: Path) -> Any:
        from pyarrow import ipc

        path = next(folder.iterdir())
        with ipc.open_file(path) as file:
            return file.read_all() if path.name == "table.arrow" else file.get_batch(0)


class Pandas:
    """Frames and series of pandas, as Arrow files with pandas' own notes."""

    name, version, needs = "noria.pandas", 1, "pandas and pyarrow"

    def takes(self, value: Any) -> bool:
        pandas = sys.modules["pandas"]
        if type(value) not in (pandas.DataFrame, pandas.Series) or value.attrs or not value.flags.allows_duplicate_labels:
            return False
        if type(value) is pandas.Series and not (value.name is None or type(value.name) is str):
            return False
        with contextlib.suppress(ImportError):
            import pyarrow  # noqa: F401

            frame = _as_frame(value)
            return all(map(_is_exact, (*(frame.iloc[:, i] for i in range(frame.shape[1])), *_levels(frame.index))))
        return False

    def save(self, value: Any, folder: Path) -> None:
        import pyarrow

        frame = _as_frame(value)
        try:
            # The types do not depend on the number of rows, so a single one shows whether they come back.
            _require_same(frame.iloc[:1], pyarrow.Table.from_pandas(frame.iloc[:1]).to_pandas())
            table = pyarrow.Table.from_pandas(frame)
        except (pyarrow.ArrowException, ValueError, TypeError, NotImplementedError) as error:
            raise Unfit(str(error)) from error
        is_series = frame is not value
        if is_series and value.name is not None:
            table = table.replace_schema_metadata({**table.schema.metadata, b"noria.name": value.name.encode()})
        _write_arrow(table, folder / ("series.arrow" if is_series else "frame.arrow"))

    def load(self, folder: Path) -> Any:
        import pandas  # noqa: F401
        from pyarrow import ipc

        path = next(folder.iterdir())
        with ipc.open_file(path) as file:
            table = file.read_all()
        frame = table.to_pandas()
        if path.name == "frame.arrow":
            return frame
        name = table.schema.metadata.get(b"noria.name")
        return frame["value"].rename(None if name is None else name.decode())


class Polars:
    """Frames and series of Polars, as Arrow files."""

    name, version, needs = "noria.polars", 1, "polars"

    def takes(self, value: Any) -> bool:
        polars = sys.modules["polars"]
        return type(value) in (polars.DataFrame, polars.Series) and "Object" not in str(
            value.schema if type(value) is polars.DataFrame else value.dtype
        )

    def save(self, value: Any, folder: Path) -> None:
        polars = sys.modules["polars"]
        is_frame = type(value) is polars.DataFrame
        frame = value if is_frame else value.to_frame()
        try:
            frame.write_ipc(folder / ("frame.arrow" if is_frame else "series.arrow"), compression="zstd")
        except (polars.exceptions.PolarsError, TypeError) as error:
            raise Unfit(str(error)) from error

    def load(self, folder: Path) -> Any:
        import polars

        path = next(folder.iterdir())
        frame = polars.read_ipc(path)
        return frame if path.name == "frame.arrow" else frame.to_series()


class Numpy:
    """Arrays of NumPy, as .npy files without pickles."""

    name, version, needs = "noria.numpy", 1, "numpy"

    def takes(self, value: Any) -> bool:
        # Masked arrays, matrices and records are subclasses: they would come back as plain arrays.
        return type(value) is sys.modules["numpy"].ndarray and not value.dtype.hasobject and not value.dtype.metadata

    def save(self, value: Any, folder: Path) -> None:
        try:
            sys.modules["numpy"].save(folder / "array.npy", value, allow_pickle=False)
        except (ValueError, TypeError) as error:
            raise Unfit(str(error)) from error

    def load(self, folder: Path) -> Any:
        import numpy

        return numpy.load(next(folder.iterdir()), allow_pickle=False)


class Torch:
    """Tensors, and the states of modules, as PyTorch saves them; read as weights only, which runs no code."""

    name, version, needs = "noria.torch", 1, "torch"

    def takes(self, value: Any) -> bool:
        torch = sys.modules.get("torch")
        if torch is None:
            return False
        kinds = (torch.Tensor, torch.nn.Parameter)
        if type(value) is OrderedDict:
            return bool(value) and all(type(k) is str and type(v) in kinds for k, v in value.items())
        return type(value) in kinds

    def save(self, value: Any, folder: Path) -> None:
        sys.modules["torch"].save(value, folder / "tensors.pt")

    def load(self, folder: Path) -> Any:
        import torch

        place = None if torch.cuda.is_available() else "cpu"  # what was trained on a GPU can be looked at without one
        return torch.load(next(folder.iterdir()), weights_only=True, map_location=place)


class Files:
    """A file or folder below the working directory of the step, or its TMPDIR: those are removed when the step ends.

    Any other path is a path: what it names is where it is.
    """

    name, version, needs = "noria.files", 1, ""

    def takes(self, value: Any) -> bool:
        home = os.environ.get("NORIA_STEP_DIR")
        if not home or not (value.is_file() or value.is_dir()):
            return False
        top = Path(os.path.realpath(home))
        # As it is named, since captured files are links to elsewhere; and as it is, since folders above may be links.
        places = {Path(os.path.abspath(value)), Path(os.path.realpath(value.parent), value.name)}  # noqa: PTH100
        if places & {top, *(top / name for name in NOT_THE_STEPS)}:
            raise Invalid(
                f"{value} is the step's working directory, or a file of Noria's in it. Write into a folder below it, and return that."
            )
        return any(place.is_relative_to(top) for place in places)

    def save(self, value: Any, folder: Path) -> None:
        target = folder / value.name
        if value.is_dir():
            shutil.copytree(value, target, copy_function=_taken)
        else:
            _taken(str(value), str(target))

    def load(self, folder: Path) -> Any:
        found = next(folder.iterdir())
        if found.is_symlink():  # into what the worker keeps for all steps; this one may write into its own
            source = found.resolve()
            found.unlink()
            shutil.copyfile(source, found)
        return found


_OURS = {each.name: Registered(each) for each in (Arrow, Pandas, Polars, Numpy, Torch, Files)}
_BY_CLASS = {
    ("pyarrow", "Table"): "noria.arrow", ("pyarrow", "RecordBatch"): "noria.arrow",
    ("pandas", "DataFrame"): "noria.pandas", ("pandas", "Series"): "noria.pandas",
    ("polars", "DataFrame"): "noria.polars", ("polars", "Series"): "noria.polars",
    ("numpy", "ndarray"): "noria.numpy", ("torch", "Tensor"): "noria.torch",
    ("collections", "OrderedDict"): "noria.torch", ("pathlib", "Path"): "noria.files",
}  # fmt: skip


def of(cls: type) -> Registered | None:
    """Ours for a class, told by its name: nothing has to be imported for it."""
    name = _BY_CLASS.get((cls.__module__.partition(".")[0], cls.__qualname__))
    return _OURS[name] if name else None


def named(name: str) -> Registered | None:
    """Ours by the name that was recorded."""
    return _OURS.get(name)


def _write_arrow(value: Any, path: Path) -> None:
    import pyarrow

    codec = "zstd" if pyarrow.Codec.is_available("zstd") else None
    try:
        with pyarrow.ipc.new_file(path, value.schema, options=pyarrow.ipc.IpcWriteOptions(compression=codec)) as file:
            file.write(value)
    except pyarrow.ArrowException as error:  # dictionaries that differ from chunk to chunk, say
        raise Unfit(str(error)) from error


def _as_frame(value: Any) -> Any:
    """A series as a frame of one column."""
    return value if value.ndim == 2 else value.to_frame("value")


def _levels(index: Any) -> list[Any]:
    """The labels of rows, as columns."""
    return [index.get_level_values(i).to_series() for i in range(index.nlevels)]


def _is_exact(column: Any) -> bool:
    """Do these values come back as what they are? Of objects only text does, and None where there is none."""
    from pandas.api.types import infer_dtype

    if hasattr(column.dtype, "categories"):
        column = column.dtype.categories.to_series()
    if column.dtype != object:
        return True
    return infer_dtype(column, skipna=True) in ("string", "empty") and all(v is None for v in column[column.isna()])


def _require_same(before: Any, after: Any) -> None:
    """Raises Unfit unless two frames have the same types and labels."""
    is_same = list(before.dtypes) == list(after.dtypes)
    for one, other in ((before.columns, after.columns), (before.index, after.index)):
        is_same &= type(one) is type(other) and list(one.names) == list(other.names)
        is_same &= [each.dtype for each in _levels(one)] == [each.dtype for each in _levels(other)]
        is_same &= one.equals(other) and getattr(one, "freq", None) == getattr(other, "freq", None)
    if not is_same:
        raise Unfit("Its types or labels would change.")


def _taken(source: str, target: str) -> str:
    """A file of the step's own, without a second copy of its bytes; a captured one, which is a link to it, is copied."""
    if not Path(source).is_symlink():
        with contextlib.suppress(OSError):
            os.link(source, target)
            return target
    return str(shutil.copyfile(source, target))
