"""`noria apply`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from noria.cli.main import main
from noria.client.api import Api
from noria.client.declare import apply_file
from noria.declare.model import KINDS, compare, parse
from noria.kernel.errors import Invalid
from tests.conftest import Noria

POLICY = """
kind: Policy
name: four-eyes
spec:
  action: endpoint.deploy
  conditions:
    - {type: min_approvals, count: 1}
    - {type: approver_not_author}
"""
HOOK = """
kind: Webhook
name: chat
spec:
  url: https://chat.example.com/hook
  kinds: ["alert.*", approval.requested]
"""
MONITOR = """
kind: Monitor
name: flights-calibration
spec: {endpoint: flights, metric: calibration_gap, limit: 0.1, window_s: 604800}
"""


class KeptOpen(Api):
    """A command closes its connection at its end; here the next command uses it again."""

    def close(self) -> None:
        return


@pytest.fixture
def api(noria: Noria) -> Api:
    return KeptOpen(noria.client(), url=noria.config.control_url)


@pytest.fixture
def cli(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr("noria.client.api.connect", lambda: api)
    return lambda *args: CliRunner().invoke(main, [str(a) for a in args])


def test_a_plan_an_apply_and_nothing_the_second_time(noria: Noria, cli: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "noria.yaml"
    file.write_text(POLICY)
    planned = cli("apply", "-f", file, "--dry-run")
    assert planned.output == "+ Policy four-eyes\n1 of 1 would change.\n", planned.output
    assert noria.http.get("/api/v1/policies").json()["items"] == []
    assert cli("apply", "-f", file).output == "+ Policy four-eyes\n1 of 1 changed.\n"
    assert cli("apply", "-f", file).output == "= Policy four-eyes\n0 of 1 changed.\n"
    assert cli("apply", "-f", file, "--check").exit_code == 0
    file.write_text(POLICY.replace("count: 1", "count: 2") + "  mode: warn\n")
    checked = cli("apply", "-f", file, "--check")
    assert checked.exit_code == 1 and 'mode: "enforce" → "warn"' in checked.output, checked.output
    assert json.loads(cli("apply", "-f", file, "--json").output)[0]["verb"] == "update"
    assert noria.http.get("/api/v1/policies/four-eyes").json()["version"] == 2


def test_a_folder_is_applied_in_order(noria: Noria, cli: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(POLICY)
    (tmp_path / "a.yaml").write_text(HOOK + "---" + POLICY.replace("four-eyes", "other"))
    done = cli("apply", "-f", tmp_path)
    assert done.output.splitlines() == ["+ Policy other", "+ Policy four-eyes", "+ Webhook chat", "3 of 3 changed."], (
        done.output
    )
    assert "0 of 3 changed." in cli("apply", "-f", tmp_path).output


def test_a_monitor_is_replaced(noria: Noria, api: Api, tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(MONITOR)
    assert [c.verb for c in apply_file(api, file)] == ["create"]
    assert [c.verb for c in apply_file(api, file)] == ["same"]
    file.write_text(MONITOR.replace("0.1", "0.2"))
    (change,) = apply_file(api, file)
    assert change.verb == "replace" and [(d.path, d.was, d.now) for d in change.differences] == [("limit", 0.1, 0.2)]
    assert api.get("/monitors/flights-calibration")["spec"]["limit"] == 0.2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "between 1 and"),
        ("kind: [", "not YAML"),
        ("just text", "Document 1 cannot be read"),
        ("kind: Policy\nname: x\nspec: {}\nextra: 1", "unknown field"),
        ("kind: Cat\nname: x\nspec: {}", "unknown kind 'Cat'"),
        ("kind: Policy\nname: a/b\nspec: {}", "cannot be the name"),
        ("kind: Policy\nname: x\nspec: {action: a}", "missing required field `conditions`"),
        ("kind: Policy\nname: x\nspec: {action: a, conditions: [], nonsense: 1}", "nonsense"),
        ("kind: Policy\nname: x\nspec: {name: y, action: a, conditions: []}", "another name"),
        (POLICY + "---" + POLICY, "declared twice"),
        ("kind: Policy\nname: x\nspec: !!python/object/apply:os.system ['true']", "not YAML"),
        ("a: " + "[" * 5000, "not YAML"),
    ],
)
def test_a_wrong_file_is_refused_whole(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse(text)


def test_every_kind_has_its_struct() -> None:
    from noria.declare.model import _struct

    assert all(_struct(kind).__struct_fields__ for kind in KINDS)


def test_fields_may_stand_beside_or_under_spec() -> None:
    flat = POLICY.replace("spec:\n", "").replace("\n  ", "\n")
    assert parse(flat) == parse(POLICY)


@pytest.mark.parametrize("file", sorted(Path("examples").rglob("*.yaml")), ids=str)
def test_the_examples_can_be_read(file: Path) -> None:
    assert parse(file.read_text())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_a_thing_does_not_differ_from_itself(value: object) -> None:
    assert compare(value, value) == []
