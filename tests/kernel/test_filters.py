"""Filters: everything MLflow's users type is read; everything else is refused with its place."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.kernel.errors import Invalid
from noria.kernel.filters import Comparison, OrderBy, parse_filter, parse_order


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metrics.loss < 0.3", Comparison("metrics", "loss", "<", 0.3)),
        ("metrics.`val loss` >= -1e-3", Comparison("metrics", "val loss", ">=", -0.001)),
        ("params.model = 'forest'", Comparison("params", "model", "=", "forest")),
        ('params.model = "forest"', Comparison("params", "model", "=", "forest")),
        ("tags.mlflow.user = 'ada'", Comparison("tags", "mlflow.user", "=", "ada")),
        ("tags.`mlflow.user` ILIKE 'a%'", Comparison("tags", "mlflow.user", "ilike", "a%")),
        ("attributes.status IN ('RUNNING', 'FAILED')", Comparison("attributes", "status", "in", ["RUNNING", "FAILED"])),
        ("run_id NOT IN ('a')", Comparison("", "run_id", "not in", ["a"])),
        ("name != 'x''y'", Comparison("", "name", "!=", "x'y")),
        ("start_time > 1664067852747", Comparison("", "start_time", ">", 1664067852747)),
        ("tags.a IS NOT NULL", Comparison("tags", "a", "is not null", None)),
        ("name LIKE '%and%'", Comparison("", "name", "like", "%and%")),
    ],
)
def test_one_condition_is_read(text: str, expected: Comparison) -> None:
    assert parse_filter(text) == [expected]


def test_conditions_are_joined_by_and_only() -> None:
    assert len(parse_filter("metrics.a > 1 and metrics.b < 2 AND params.c = 'd'")) == 3
    with pytest.raises(Invalid, match="character 15"):
        parse_filter("metrics.a > 1 or metrics.b < 2")


def test_no_filter_is_no_condition() -> None:
    assert parse_filter("") == parse_filter("  ") == parse_filter(None) == []


def test_sort_keys_are_read() -> None:
    assert parse_order(["metrics.`a b` DESC", "start_time", "params.x asc"]) == [
        OrderBy("metrics", "a b", False),
        OrderBy("", "start_time", True),
        OrderBy("params", "x", True),
    ]


@pytest.mark.parametrize(
    "text", ["metrics.a >", "= 1", "a = 'x", "a == == 1", "a in ()", "a = 1;drop table run", "(" * 500, "a = " + "9" * 200]
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_filter(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Invalid):
        parse_filter(text)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\\"), max_size=50))
def test_a_quoted_value_comes_back(value: str) -> None:
    quoted = value.replace("'", "''")
    assert parse_filter(f"params.a = '{quoted}'") == [Comparison("params", "a", "=", value)]
