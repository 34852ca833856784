"""What lies in a folder that somebody works in: scripts that train, notebooks, data, MLflow models. Reads; runs nothing."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

FRAMEWORKS = {
    "sklearn": "scikit-learn", "torch": "PyTorch", "lightning": "Lightning", "pytorch_lightning": "Lightning",
    "tensorflow": "TensorFlow", "keras": "Keras", "xgboost": "XGBoost", "lightgbm": "LightGBM", "catboost": "CatBoost",
    "transformers": "Transformers", "statsmodels": "statsmodels", "prophet": "Prophet", "jax": "JAX", "spacy": "spaCy",
}  # fmt: skip
AUTOLOGGED = {
    "scikit-learn",
    "Lightning",
    "TensorFlow",
    "Keras",
    "XGBoost",
    "LightGBM",
    "Transformers",
    "statsmodels",
}  # by mlflow.autolog(); a loop of one's own in PyTorch or JAX is not
DATA_KINDS = {
    ".csv", ".tsv", ".parquet", ".feather", ".arrow", ".jsonl", ".ndjson", ".npy", ".npz", ".h5", ".hdf5",
    ".png", ".jpg", ".jpeg", ".wav", ".mp3",
}  # fmt: skip
TRAINING_CALLS = {"fit", "fit_generator", "backward", "train", "train_on_batch", "fit_transform"}
FILES_MAX = 20_000  # a folder with more is looked at up to here, and this is said
SCRIPT_BYTES_MAX = 1 << 20
_SKIPPED = {"node_modules", "__pycache__", "site-packages", "mlruns", "noria-home", "build", "dist", "tests", "test"}


class Script(Struct, frozen=True):
    """A Python file that trains: what with, whether it logs to MLflow, and the texts in it that may be paths."""

    path: str
    frameworks: tuple[str, ...]
    logs: bool
    texts: frozenset[str]

    @property
    def can_autolog(self) -> bool:
        """Whether MLflow's autologging would record it as it is."""
        return not AUTOLOGGED.isdisjoint(self.frameworks)


class Data(Struct, frozen=True):
    """A file of data, or a folder of them."""

    path: str
    name: str
    files: int
    size_bytes: int


class Found(Struct, frozen=True):
    """What was found, each by path; `is_whole` is False when there was more than FILES_MAX files."""

    scripts: tuple[Script, ...]
    data: tuple[Data, ...]
    notebooks: tuple[str, ...]
    models: tuple[str, ...]
    unread: tuple[str, ...]
    is_whole: bool


def scan(root: Path) -> Found:
    """Look through `root`."""
    scripts: list[Script] = []
    notebooks: list[str] = []
    models: list[str] = []
    unread: list[str] = []
    data: dict[str, list[int]] = {}
    is_whole = True
    for count, path in enumerate(_files(root)):
        if count >= FILES_MAX:
            is_whole = False
            break
        at = path.relative_to(root).as_posix()
        if path.name == "MLmodel":
            models.append(path.parent.relative_to(root).as_posix())
        elif path.suffix == ".ipynb":
            notebooks.append(at)
        elif path.suffix == ".py":
            try:
                script = _script(path, at)
            except (SyntaxError, ValueError, OSError) as error:
                unread.append(f"{at}: {error}")
            else:
                scripts += [script] if script else []
        elif path.suffix.lower() in DATA_KINDS:
            top = at.split("/")[0] if "/" in at else at
            data.setdefault(top, []).append(path.stat().st_size)
    inside = tuple(f"{m}/" for m in models)
    return Found(
        scripts=tuple(
            sorted((s for s in scripts if not s.path.startswith(inside)), key=lambda s: (s.path.count("/"), s.path))
        ),
        data=tuple(_data(root, data)),
        notebooks=tuple(sorted(notebooks)),
        models=tuple(sorted(models)),
        unread=tuple(sorted(unread)),
        is_whole=is_whole,
    )


def name_of(text: str, default: str = "project") -> str:
    """A name that data sets, pipelines and models may have."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or default


def _files(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        here = Path(folder)
        names[:] = sorted(n for n in names if not n.startswith(".") and n not in _SKIPPED and not _is_foreign(here / n))
        yield from (here / n for n in sorted(files) if not n.startswith(".") and not (here / n).is_symlink())


def _is_foreign(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in ("pyvenv.cfg", "noria.db", "server.json"))


def _script(path: Path, at: str) -> Script | None:
    if path.stat().st_size > SCRIPT_BYTES_MAX:
        return None
    tree = ast.parse(path.read_bytes())
    modules = {name.split(".")[0] for node in ast.walk(tree) for name in _imported(node)}
    called = {n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
    frameworks = tuple(sorted({FRAMEWORKS[m] for m in modules if m in FRAMEWORKS}))
    if "noria" in modules or not frameworks or not called & TRAINING_CALLS:
        return None
    texts = frozenset(n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return Script(path=at, frameworks=frameworks, logs="mlflow" in modules, texts=texts)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []


def _data(root: Path, found: dict[str, list[int]]) -> Iterator[Data]:
    taken: set[str] = set()
    for at, sizes in sorted(found.items(), key=lambda item: -sum(item[1])):
        is_folder = (root / at).is_dir()
        word = at if is_folder else Path(at).stem
        name = name_of(root.name if word.lower() in ("data", "dataset", "datasets", "input", "inputs") else word, "data")
        while name in taken:
            name += "-data"
        taken.add(name)
        yield Data(path=at + ("/" if is_folder else ""), name=name, files=len(sizes), size_bytes=sum(sizes))
