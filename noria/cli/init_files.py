"""The two files that `noria init` writes: `noria.toml` and an example pipeline around the script that was found."""

from __future__ import annotations

from keyword import iskeyword
from pathlib import Path

from noria.cli.data_group import size
from noria.cli.init_scan import Data, Found, Script, name_of


def toml(found: Found, *, url: str) -> str:
    """The project's file, with a comment to each line."""
    lines = ["# What the commands of Noria in this folder know. Commit it; it holds no secret.", ""]
    if url:
        lines += [f'url = "{url}"  # the server; sign in once with: noria login', ""]
    else:
        lines += [
            "# The server for everybody who works here. While this is commented out, a server started in this folder is used.",
            '# url = "https://noria.example.org"',
            "",
        ]
    lines += ["[data]  # data sets, and where their files lie: noria data commit NAME takes it from here"]
    lines += [f'{d.name} = "{d.path}"  # {count(d)}' for d in found.data] or ['# customers = "data/customers/"']
    return "\n".join(lines) + "\n"


def pipeline(root: Path, found: Found, *, has_mlflow: bool) -> str:
    """An example pipeline: the script as it is, on a version of the data that it reads; without a script, the data's rows."""
    script = found.scripts[0] if found.scripts else None
    data = _read_by(script, found.data) if script else found.data[:1]
    name = name_of(root.name)
    return _around(script, data, name, has_mlflow) if script else _without(data, name)


def _read_by(script: Script, data: tuple[Data, ...]) -> tuple[Data, ...]:
    """The data whose place stands in the script; else the largest, which is likely."""
    texts = [t.removeprefix("./") for t in script.texts]
    named = tuple(d for d in data if any(t == d.path.rstrip("/") or t.startswith(d.path) for t in texts))
    return named or data[:1]


def _around(script: Script, data: tuple[Data, ...], name: str, has_mlflow: bool) -> str:
    names = ["dataset"] if len(data) == 1 else [f"{_word(d.name)}_data" for d in data]
    lines = [
        f'"""{script.path} as a pipeline. Run it: noria pipeline run pipeline.py"""',
        "",
        "import runpy",
        "import sys",
        "",
        "import noria",
        "",
        "",
        "@noria.step(retries=1, timeout=\"2h\")",
        f"def train({', '.join(f'{n}: str' for n in names)}) -> dict:",
        f'    """Put the data where {script.path} looks for it, and run the script as it is. What it logs to MLflow comes here."""',
    ]  # fmt: skip
    for d, n in zip(data, names, strict=True):
        place = d.path.rstrip("/") if d.path.endswith("/") else "."
        lines += [f"    {n}_version = noria.resolve({n})", f'    {n}_version.checkout("{place}", overwrite=True)']
    lines += [
        f'    sys.argv = ["{script.path}"]  # arguments of the script go here',
        *_run(script, name, has_mlflow),
        "    return {" + ", ".join(f'"{d.name}": {n}_version.handle' for d, n in zip(data, names, strict=True)) + "}",
        "",
        "",
        f'@noria.pipeline(name="{name}")',
        f"def {_function(name, names)}({', '.join(f'{n}: str = {_quoted(d)}' for d, n in zip(data, names, strict=True))}):",
        '    """Train on a version of the data. Next: a step that evaluates, and noria pipeline trigger, so that new data starts it."""',
        f'    return {{"trained_on": train({", ".join(names)})}}',
    ]
    return "\n".join(lines) + "\n"


def _run(script: Script, name: str, has_mlflow: bool) -> list[str]:
    """The lines that run the script; one that does not log becomes a run all the same."""
    run = f'runpy.run_path("{script.path}", run_name="__main__")'
    if script.logs:
        return [f"    {run}"]
    if not script.can_autolog:
        hint = 'a run; in its loop: noria.log({"loss": float(loss)}, step=epoch)'
        return [f'    with noria.init("{name}"):  # {hint}', f"        {run}"]
    if has_mlflow:
        what = "the script does not log: parameters, metrics and model are recorded"
        return ["    import mlflow", "", f"    mlflow.autolog()  # {what}", f"    {run}"]
    return [
        "    # pip install mlflow-skinny, then record parameters, metrics and the model: import mlflow; mlflow.autolog()",
        f"    {run}",
    ]


def _without(data: tuple[Data, ...], name: str) -> str:
    first = data[0] if data else None
    given = f"dataset: str = {_quoted(first)}" if first else "rows: int = 10"
    body = (
        ['    version = noria.resolve(dataset)', '    return [file.path for file in version.files(limit=100)]']
        if first
        else ["    return [str(number) for number in range(rows)]"]
    )  # fmt: skip
    parameter = "dataset" if first else "rows"
    return "\n".join(
        [
            '"""An example pipeline; put what you do in its steps. Run it: noria pipeline run pipeline.py"""',
            "",
            "import noria",
            "",
            "",
            "@noria.step",
            f"def load({given.split(' =')[0]}) -> list:",
            '    """What there is to train on."""',
            *body,
            "",
            "",
            "@noria.step(retries=1, timeout=\"1h\")",
            "def train(items: list) -> dict:",
            '    """Train on it; each step is a process of its own, so what it prints is its log."""',
            '    print("training on", len(items), "items")',
            '    return {"items": len(items)}',
            "",
            "",
            f'@noria.pipeline(name="{name}")',
            f"def {_word(name)}({given}):",
            '    """Load, then train."""',
            f'    return {{"metrics": train(load({parameter}))}}',
        ]
    ) + "\n"  # fmt: skip


def _word(name: str) -> str:
    """A name as Python writes it."""
    word = name.replace("-", "_")
    return word if word.isidentifier() and not iskeyword(word) else f"data_{word}"


def _function(name: str, parameters: list[str]) -> str:
    word = _word(name)
    return f"{word}_pipeline" if word in (*parameters, "train", "noria", "runpy", "sys") else word


def _quoted(data: Data) -> str:
    return f'"{data.name}@latest"'


def count(data: Data) -> str:
    """How much there is, in words."""
    return size(data.size_bytes) if data.files == 1 else f"{data.files:,} files, {size(data.size_bytes)}"
