"""One list of requests to MLflow's own scoring server and to Noria: the same answers, but for the differences named here."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from scripts.mlflow_clients import python_of
from tests.serving.conftest import COLUMNS, Plane, features, free_port

pytestmark = [pytest.mark.protocol, pytest.mark.slow]

TYPED = {
    "d": 1.5, "f": 0.1, "i": 3, "l": 1 << 40, "s": "a", "b": True, "t": "2026-11-27T21:40:00", "o": 2.5,
}  # fmt: skip


def save_models(folder: Path) -> dict[str, Path]:
    """Models that show what reached them, saved as MLflow saves them."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import Array

    class Shows(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        """Each row's values and the types of the table, as text."""

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            import pandas

            shown = pandas.DataFrame({c: model_input[c].map(repr) for c in model_input.columns})
            shown["types"] = ", ".join(f"{c} {t}" for c, t in model_input.dtypes.items())
            return shown

    class Answers(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        """An answer in the form that the param asks for."""

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            import numpy
            import pandas

            values = model_input["x"]
            forms = {
                "series": lambda: values * 2, "array": lambda: values.to_numpy() * 2, "list": lambda: [{"x": v} for v in values],
                "dict": lambda: {"x": values.to_numpy(), "twice": (values * 2).to_numpy()}, "scalar": lambda: float(values.sum()),
                "table": lambda: pandas.DataFrame({"x": values, "at": pandas.Timestamp("2026-11-27")}),
                "matrix": lambda: numpy.outer(values, [1.0, params["by"]]), "mixed": lambda: [1, "a", None][: len(values)],
                "text": lambda: "said", "raises": lambda: 1 / 0,
            }  # fmt: skip
            return forms[params["form"]]()

    class Sums(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        """Of each tensor, with its type."""

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            tensors = model_input if isinstance(model_input, dict) else {"": model_input}
            return {k: [str(v.dtype), list(v.shape), float(v.sum())] for k, v in tensors.items()}

    class Repeats(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        """Whatever it was given, as text."""

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return [type(model_input).__name__, str(model_input)]

    double, kinds = DataType.double, DataType
    columns = [
        ColSpec(double, "d"), ColSpec(kinds.float, "f"), ColSpec(kinds.integer, "i"), ColSpec(kinds.long, "l"),
        ColSpec(kinds.string, "s"), ColSpec(kinds.boolean, "b"), ColSpec(kinds.datetime, "t"), ColSpec(double, "o", required=False),
    ]  # fmt: skip
    params = ParamSchema([ParamSpec("form", kinds.string, "array"), ParamSpec("by", double, 3.0)])
    saved: dict[str, tuple[Any, ModelSignature | None]] = {
        "typed": (Shows(), ModelSignature(Schema(columns))),
        "answers": (Answers(), ModelSignature(Schema([ColSpec(double, "x")]), params=params)),
        "tensor": (Sums(), ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, 2, 2))]))),
        "narrow": (Sums(), ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, 3))]))),
        "tensors": (
            Sums(),
            ModelSignature(
                Schema([TensorSpec(np.dtype("int64"), (-1, 2), "a"), TensorSpec(np.dtype("float64"), (-1,), "b")])
            ),
        ),
        "nested": (Repeats(), ModelSignature(Schema([ColSpec(Array(double), "v"), ColSpec(kinds.string, "s")]))),
        "free": (Repeats(), None),
    }  # fmt: skip
    made = {}
    for name, (model, signature) in saved.items():
        made[name] = folder / name
        mlflow.pyfunc.save_model(str(made[name]), python_model=model, signature=signature, pip_requirements=["mlflow"])
    made["packed"] = _save_packed(folder)
    return made


def _save_packed(folder: Path) -> Path:
    """A model that brings code of its own and a file."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    class Looks(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        """Looks values up in its file, by the code that travels with it."""

        def load_context(self, context):  # type: ignore[no-untyped-def]
            from looking import read

            self.table = read(context.artifacts["table"])

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return [self.table.get(v, 0.0) for v in model_input["origin"]]

    (folder / "code").mkdir()
    (folder / "code" / "looking.py").write_text(
        "import json\n\n\ndef read(path):\n    with open(path) as file:\n        return json.load(file)\n"
    )
    (folder / "table.json").write_text('{"JFK": 1.5, "EWR": 2.5}')
    mlflow.pyfunc.save_model(
        str(folder / "packed"), python_model=Looks(), artifacts={"table": str(folder / "table.json")},
        code_paths=[str(folder / "code" / "looking.py")], pip_requirements=["mlflow"],
        signature=ModelSignature(Schema([ColSpec(DataType.string, "origin")])),
    )  # fmt: skip
    return folder / "packed"


class Both:
    """MLflow's scoring server and Noria, serving the same models."""

    def __init__(self, plane: Plane, folders: dict[str, Path]) -> None:
        self._plane = plane
        self._ports = {name: free_port() for name in folders}
        script = Path(__file__).parent / "mlflow_scoring.py"
        pairs = [f"{folders[n]}={p}" for n, p in self._ports.items()]
        self._mlflow = subprocess.Popen([str(python_of("server")), str(script), *pairs])
        for name, folder in folders.items():
            plane.registry.add(name, folder)
            plane.deploy(name, f"{name}@1")
        for port in self._ports.values():
            plane.until(lambda port=port: self._answers(port), "MLflow's server")

    def _answers(self, port: int) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/ping").status_code == 200
        except httpx.HTTPError:
            return False

    def ask(self, model: str, content: bytes, kind: str = "application/json") -> tuple[httpx.Response, httpx.Response]:
        """What MLflow says, and what Noria says."""
        headers = {"content-type": kind}
        url = f"http://127.0.0.1:{self._ports[model]}/invocations"
        theirs = httpx.post(url, content=content, headers=headers, timeout=60)
        return theirs, self._plane.http.post(f"/endpoints/{model}/invocations", content=content, headers=headers)

    def close(self) -> None:
        self._mlflow.terminate()
        try:
            self._mlflow.wait(5)
        except subprocess.TimeoutExpired:
            self._mlflow.kill()
            self._mlflow.wait()


@pytest.fixture(scope="module")
def both(plane: Plane, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folders = save_models(tmp_path_factory.mktemp("saved")) | {"flights": models["one"], "mixed": models["mixed"]}
    made = Both(plane, folders)
    yield made
    made.close()


def typed(**changes: Any) -> dict[str, Any]:
    row = {**TYPED, **changes}
    return {"dataframe_records": [{k: v for k, v in row.items() if v is not ...}]}


def split(rows: list[list[Any]], columns: list[str]) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": rows}}


GIVEN = features(3, seed=5)
NAMES = list(TYPED)
MIXED = {"origin": "JFK", "hour": 7, "late": True}

SAME: dict[str, tuple[str, Any]] = {
    "split": ("flights", {"dataframe_split": GIVEN.to_dict("split")}),
    "records": ("flights", {"dataframe_records": GIVEN.to_dict("records")}),
    "records in another order": ("flights", {"dataframe_records": GIVEN[COLUMNS[::-1]].to_dict("records")}),
    "inputs by column": ("flights", {"inputs": GIVEN.to_dict("list")}),
    "instances as records": ("flights", {"instances": GIVEN.to_dict("records")}),
    "instances by column": ("flights", {"instances": GIVEN.to_dict("list")}),
    "an extra column": ("flights", {"dataframe_records": [{**r, "more": 1} for r in GIVEN.to_dict("records")]}),
    "whole numbers for numbers": ("flights", {"dataframe_records": [dict.fromkeys(COLUMNS, 1)]}),
    "a missing column": ("flights", {"dataframe_records": [dict.fromkeys(COLUMNS[1:], 1.0)]}),
    "text for a number": ("flights", {"dataframe_records": [{**dict.fromkeys(COLUMNS, 1.0), "temp": "warm"}]}),
    "two forms at once": ("flights", {"inputs": [[1]], "instances": [[1]]}),
    "no form": ("flights", {"rows": [[1]]}),
    "no object": ("flights", [[1]]),
    "text, integers, flags": ("mixed", {"dataframe_records": [MIXED, MIXED]}),
    "every type": ("typed", typed()),
    "every type, split": ("typed", split([list(TYPED.values())] * 2, NAMES)),
    "an optional column left out": ("typed", typed(o=...)),
    "an optional number missing": ("typed", typed(o=None)),
    "a number missing": ("typed", typed(d=None)),
    "a text missing": ("typed", typed(s=None)),
    "an integer missing": ("typed", typed(i=None)),
    "an integer widened to a number": ("typed", typed(d=7)),
    "a long beyond a float's integers": ("typed", typed(l=(1 << 53) + 1)),
    "text for an integer": ("typed", typed(i="three")),
    "text for a time": ("typed", typed(t="yesterday evening")),
    "a time with a fraction": ("typed", typed(t="2026-11-27T21:40:00.123456")),
    "an array": ("answers", {"dataframe_split": {"columns": ["x"], "data": [[1.0], [2.0]]}}),
    "a single column as a list": ("answers", {"inputs": [1.0, 2.0]}),
    "a param of the wrong type": ("answers", {**split([[1.0]], ["x"]), "params": {"by": "three"}}),
    "an unknown param": ("answers", {**split([[1.0]], ["x"]), "params": {"nope": 1}}),
    "a tensor": ("tensor", {"inputs": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]}),
    "a tensor as instances": ("tensor", {"instances": [[[1, 2], [3, 4]]]}),
    "a tensor of the wrong shape": ("tensor", {"inputs": [[1, 2, 3]]}),
    "rows of 32 bits": ("narrow", {"inputs": [[0.1, 0.2, 0.3], [1, 2, 3]]}),
    "several tensors": ("tensors", {"inputs": {"a": [[1, 2], [3, 4]], "b": [0.5, 0.25]}}),
    "several tensors as instances": ("tensors", {"instances": [{"a": [1, 2], "b": 0.5}, {"a": [3, 4], "b": 0.25}]}),
    "lists in a column": ("nested", {"dataframe_records": [{"v": [1.0, 2.0], "s": "a"}]}),
    "lists of the wrong type": ("nested", {"dataframe_records": [{"v": "no", "s": "a"}]}),
    "code and a file of its own": ("packed", {"dataframe_records": [{"origin": "JFK"}, {"origin": "EWR"}, {"origin": "LGA"}]}),
    "free, records": ("free", {"dataframe_records": [{"a": 1, "b": "x"}]}),
    "free, inputs": ("free", {"inputs": [1, 2, 3]}),
    "free, columns": ("free", {"inputs": {"a": [1, 2], "b": [3, 4]}}),
    "free, instances": ("free", {"instances": [{"a": 1}, {"a": 2}]}),
    "free, a chat": ("free", {"messages": [{"role": "user", "content": "hello"}]}),
}  # fmt: skip
for form in ("series", "array", "list", "dict", "scalar", "table", "matrix", "mixed", "text"):
    SAME[f"answers: {form}"] = ("answers", {**split([[1.0], [2.0], [3.0]], ["x"]), "params": {"form": form}})

# What MLflow refuses and Noria takes: rows without names, in the order of the signature.
TAKEN: dict[str, tuple[str, Any]] = {
    "split without columns": ("flights", {"dataframe_split": {"data": GIVEN.to_numpy().tolist()}}),
    "inputs as rows": ("flights", {"inputs": GIVEN.to_numpy().tolist()}),
    "instances as rows": ("flights", {"instances": GIVEN.to_numpy().tolist()}),
}

# What MLflow takes and Noria refuses with 400, because MLflow changes the value without a word.
REFUSED: dict[str, tuple[str, Any, str]] = {
    "a fraction for an integer becomes another number": ("typed", typed(i=3.9), "'i' is an integer; it was sent 3.9"),
    "an integer of 64 bits for 32 becomes another number": ("typed", typed(i=1 << 40), "'i' is an integer of 32 bits"),
    "any text is true": ("typed", typed(b="no"), "'b' is a boolean; it was sent 'no', text"),
    "a number in quotes": ("typed", typed(d="1.5"), "'d' is a number; it was sent '1.5', text"),
    "a flag becomes one": ("typed", typed(d=True), "'d' is a number; it was sent true"),
    "a number for text reaches the model as a number": ("typed", typed(s=5), "'s' is a text; it was sent 5"),
}


@pytest.mark.parametrize("name", SAME)
def test_noria_answers_as_mlflow_does(both: Both, name: str) -> None:
    model, body = SAME[name]
    theirs, ours = both.ask(model, json.dumps(body).encode())
    assert ours.status_code == theirs.status_code, (theirs.text, ours.text)
    if theirs.status_code == 200:
        assert ours.json() == json.loads(theirs.text.replace("NaN", "null"))
    else:
        assert ours.json()["error_code"] == "BAD_REQUEST"
        assert theirs.json()["error_code"] in ("BAD_REQUEST", "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("name", TAKEN)
def test_noria_takes_rows_in_the_order_of_the_signature(both: Both, name: str) -> None:
    model, body = TAKEN[name]
    theirs, ours = both.ask(model, json.dumps(body).encode())
    named = both.ask(model, json.dumps({"dataframe_records": GIVEN.to_dict("records")}).encode())[0]
    assert (theirs.status_code, ours.status_code, ours.json()) == (400, 200, named.json())


@pytest.mark.parametrize("name", REFUSED)
def test_noria_refuses_what_mlflow_changes(both: Both, name: str) -> None:
    model, body, words = REFUSED[name]
    theirs, ours = both.ask(model, json.dumps(body).encode())
    assert theirs.status_code == 200  # once this fails, MLflow refuses too, and the case belongs above
    assert ours.status_code == 400 and words in ours.json()["message"], ours.text


@pytest.mark.parametrize("model", ["flights", "mixed", "typed", "free"])
def test_csv(both: Both, model: str) -> None:
    import pandas as pd

    tables = {
        "flights": GIVEN,
        "mixed": pd.DataFrame([MIXED, {**MIXED, "origin": "N/A"}]),
        "free": pd.DataFrame({"a": [1, 2]}),
    }
    table = tables.get(model, pd.DataFrame([{k: v for k, v in TYPED.items() if k != "t"}]))
    theirs, ours = both.ask(model, table.to_csv(index=False).encode(), "text/csv")
    assert ours.status_code == theirs.status_code, (theirs.text, ours.text)
    assert model == "typed" or ours.json() == theirs.json()  # MLflow cannot read times from a CSV either: both refuse


def test_parquet_and_other_types(both: Both) -> None:
    into = io.BytesIO()
    GIVEN.to_parquet(into)
    theirs, ours = both.ask("flights", into.getvalue(), "application/vnd.apache.parquet")
    assert ours.json() == theirs.json() and ours.status_code == 200
    for kind in ("text/plain", "application/json; charset=latin-1"):
        theirs, ours = both.ask("flights", b"{}", kind)
        assert (theirs.status_code, ours.status_code) == (415, 415), kind


def test_a_model_that_raises(both: Both) -> None:
    """MLflow calls the caller's request bad; Noria says that the model raised, and what."""
    body = {**split([[1.0]], ["x"]), "params": {"form": "raises"}}
    theirs, ours = both.ask("answers", json.dumps(body).encode())
    assert (theirs.status_code, ours.status_code) == (400, 500)
    assert "ZeroDivisionError: division by zero" in ours.json()["message"]


def test_ping_health_and_version(both: Both, plane: Plane) -> None:
    for path in ("ping", "health", "version"):
        theirs = httpx.get(f"http://127.0.0.1:{both._ports['typed']}/{path}")
        ours = plane.http.get(f"/endpoints/typed/{path}")
        assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text), path


def test_params_over_v2(both: Both, plane: Plane) -> None:
    """Parameters of the request that the signature names go to the model."""
    column = {"name": "x", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]}
    asked = {"inputs": [column], "parameters": {"form": "matrix", "by": 2.0, "nope": 1}}
    output = plane.http.post("/v2/models/answers/infer", json=asked).json()["outputs"][0]
    assert (output["name"], output["shape"], output["data"]) == ("predict", [2, 2], [1.0, 2.0, 2.0, 4.0])
    wrong = plane.http.post("/v2/models/answers/infer", json={**asked, "parameters": {"by": "three"}})
    assert wrong.status_code == 400 and "by" in wrong.json()["error"]
