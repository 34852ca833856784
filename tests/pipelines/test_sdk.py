"""What users import: tracing, durations, values, and the digest that decides about the cache."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.client.closure import closure_digest
from noria.client.durations import seconds
from noria.client.environment import capture_code, environment
from noria.client.pipeline import Pipeline
from noria.client.tracing import is_json
from noria.client.values import decode, encode
from noria.kernel.errors import Invalid
from noria.pipelines.model.sources import FromList, FromParam, FromStep, FromValue
from noria.pipelines.model.values import Json, Many, Pickle

HEAD = "import noria\nfrom helper_of_sdk import helped\nLIMIT = 3\n"
CODE = '''
class Kind:
    size = 1
    def grown(self):
        return self.size + 1

def inner(x):
    return x + LIMIT

def unrelated():
    return 1

@noria.step
def work(x):
    """What it does."""
    # a comment
    return inner(x) + helped(x) + Kind().grown()
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))
    for name in ("module_of_sdk", "helper_of_sdk"):
        sys.modules.pop(name, None)


def load(
    folder: Path, text: str, helper: str = "def helped(x):\n    return deeper(x)\ndef deeper(x):\n    return x * 2\n"
) -> Any:
    for name in ("module_of_sdk", "helper_of_sdk"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
    (folder / "module_of_sdk.py").write_text(text)
    (folder / "helper_of_sdk.py").write_text(helper)
    try:
        return importlib.import_module("module_of_sdk")
    finally:
        sys.dont_write_bytecode = kept


def digest(folder: Path, text: str, **more: str) -> str:
    return closure_digest(load(folder, text, **more).work.function)[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# a comment", "# another"),
        ('"""What it does."""', '"""Said otherwise."""'),
        ("    # a comment\n", "\n\n"),
        ("    return 1\n", "    return 2\n"),
    ],
)
def test_what_does_not_matter_keeps_the_digest(folder: Path, before: str, after: str) -> None:
    assert before in CODE
    assert digest(folder, HEAD + CODE) == digest(folder, HEAD + CODE.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("inner(x) + ", "inner(x) - "),
        ("return x + LIMIT", "return x - LIMIT"),
        ("LIMIT = 3", "LIMIT = 4"),
        ("size = 1", "size = 2"),
        ("size + 1", "size + 2"),
    ],
)
def test_what_matters_changes_the_digest(folder: Path, before: str, after: str) -> None:
    assert before in HEAD + CODE
    assert digest(folder, HEAD + CODE) != digest(folder, (HEAD + CODE).replace(before, after))


def test_a_helpers_helper_in_another_file_matters(folder: Path) -> None:
    changed = "def helped(x):\n    return deeper(x)\ndef deeper(x):\n    return x * 3\n"
    assert digest(folder, HEAD + CODE) != digest(folder, HEAD + CODE, helper=changed)


def test_tracing_tells_where_inputs_come_from(folder: Path) -> None:
    module = load(
        folder,
        HEAD
        + '''
@noria.step
def load(rows):
    return rows
@noria.step(retries=2, timeout="10m", cache="7d")
def split(table, share=0.5) -> tuple[int, int]:
    return 1, 2
@noria.step
def join(parts, names=("x",)):
    return parts
@noria.pipeline
def all_of_it(rows: int = 3, unused: str = "a"):
    """Everything."""
    a, b = split(load(rows))
    c = load.after(b)(5)
    return {"joined": join([a, b, c["deep"]]), "rows": rows}
''',
    )
    spec, blobs = module.all_of_it.trace()
    steps = {s.name: s for s in spec.steps}
    assert spec.name == "all-of-it" and spec.description == "Everything." and spec.entry == "module_of_sdk"
    assert steps["load"].inputs == {"rows": FromParam("rows")} and steps["load-2"].after == ["split"]
    assert steps["split"].inputs == {"table": FromStep("load"), "share": FromValue(0.5)}
    assert (steps["split"].retries, steps["split"].timeout_s, steps["split"].cache_s) == (2, 600.0, 604_800.0)
    assert steps["join"].inputs["parts"] == FromList(
        [FromStep("split", [0]), FromStep("split", [1]), FromStep("load-2", ["deep"])]
    )
    assert spec.outputs == {"joined": FromStep("join"), "rows": FromParam("rows")} and spec.fixed == {}
    assert spec.code.archive_digest in blobs and spec.environment_digest in blobs


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if one():\n        one()", "only when it has run"), ("a, b = one()", "is not known"), ("one(1)", "too many"),
        ("return 3", "calls no step"), ("one.after(3)()", "after\\(\\) takes"),
    ],
)  # fmt: skip
def test_what_a_pipeline_cannot_do_is_said(folder: Path, body: str, message: str) -> None:
    module = load(folder, HEAD + f"@noria.step\ndef one():\n    return 1\n@noria.pipeline\ndef p():\n    {body}\n")
    with pytest.raises(Invalid, match=message):
        module.p.trace()


def test_a_parameter_whose_value_is_used_is_fixed(folder: Path) -> None:
    body = "@noria.step\ndef one(i, k):\n    return i\n@noria.pipeline\ndef p(n: int, k: int = 2):\n"
    module = load(folder, HEAD + body + "    for i in range(n):\n        one(i, k)\n")
    spec, _ = module.p.trace({"n": 3})
    assert len(spec.steps) == 3 and spec.fixed == {"n": 3} and spec.steps[0].inputs["k"] == FromParam("k")
    with pytest.raises(Invalid, match="needs the parameter 'n'"):
        module.p.trace()


@pytest.mark.parametrize(
    ("text", "expected"), [("30s", 30.0), ("10m", 600.0), ("2h", 7200.0), ("7d", 604_800.0), (5, 5.0), ("1.5h", 5400.0)]
)
def test_durations(text: str | float, expected: float) -> None:
    assert seconds(text) == expected
    with pytest.raises(Invalid):
        seconds("soon")


JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
LEAVES = JSONS | st.binary(max_size=8) | st.just(float("inf")) | st.frozensets(st.integers(), max_size=3)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(inner, inner) | st.dictionaries(st.text(max_size=5), inner, max_size=3) | st.lists(inner, max_size=3)


VALUES = st.recursive(LEAVES, nested, max_leaves=8)


@given(value=VALUES)
def test_values_come_back_as_they_were(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    back = decode(encode(value, folder), folder, folder)
    assert back == value and type(back) is type(value)


@given(value=JSONS)
def test_json_values_survive_json(value: Any) -> None:
    if is_json(value):
        assert json.loads(json.dumps(value)) == value


def test_parts_of_tuples_are_kept_apart(tmp_path: Path) -> None:
    found = encode(({1, 2}, 3), tmp_path)
    assert isinstance(found, Many) and isinstance(found.items[0], Pickle) and found.items[1] == Json(3)


def test_the_archive_depends_on_contents_only(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name / "noria-home").mkdir(parents=True)
        (tmp_path / name / "flow.py").write_text("x = 1\n")
        (tmp_path / name / "noria-home" / "secret.txt").write_text(name)
        (tmp_path / name / ".env").write_text(name)
        digests.append(capture_code(tmp_path / name / "flow.py").info.archive_digest)
    assert digests[0] == digests[1]


def test_the_environment_is_canonical() -> None:
    digest_, body = environment()
    found = json.loads(body)
    assert len(digest_) == 64 and "msgspec" in found["packages"]
    assert list(found["packages"]) == sorted(found["packages"])


def test_pipelines_and_steps_name_themselves(folder: Path) -> None:
    module = load(
        folder, HEAD + "@noria.step\ndef one():\n    return 1\n@noria.pipeline(name='other')\ndef p():\n    one()\n"
    )
    assert repr(module.p) == "<pipeline other>" and repr(module.one) == "<step one>"
    assert isinstance(module.p, Pipeline) and module.p() is None
