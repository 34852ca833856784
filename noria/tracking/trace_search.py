"""From MLflow's filters for traces to bound SQL: what search.py knows of attributes and tags, and what only traces have.

    status = 'ERROR' and execution_time_ms > 500 and tags.team = 'a' and metadata.`mlflow.modelId` = 'm-…'
    and feedback.correct = 'true' and feedback.score > 0.5 and span.name like 'llm%' and span.attributes.model = 'x'
    and text ilike '%refund%'

Conditions on spans hold together for one and the same span, as in MLflow.
"""

from __future__ import annotations

from typing import Any

from msgspec import structs

from noria.kernel.db import js
from noria.kernel.errors import Invalid
from noria.kernel.filters import Comparison, OrderBy
from noria.tracking import search
from noria.tracking.search import Condition, Order, Shape
from noria.tracking.trace_model import LINKED_PROMPTS, NAME_TAG, RUN_METADATA

_ENTITIES = {
    "": "attribute", "attribute": "attribute", "attributes": "attribute", "trace": "attribute", "tag": "tag", "tags": "tag",
    "metadata": "param", "request_metadata": "param", "span": "span", "feedback": "feedback", "expectation": "expectation",
    "assessment": "assessment", "assessments": "assessment",
}  # fmt: skip
TRACES = Shape(
    what="traces",
    texts={
        "request_id": "r.id", "trace_id": "r.id", "status": "r.state", "state": "r.state", "name": "r.name",
        "client_request_id": "coalesce(r.client_request_id, '')", "experiment_id": "r.experiment_id",
        "request": "coalesce(r.request_preview, '')", "response": "coalesce(r.response_preview, '')",
    },
    numbers={
        "timestamp_ms": "r.at_ms", "timestamp": "r.at_ms", "request_time": "r.at_ms",
        "execution_time_ms": "r.duration_ms", "execution_time": "r.duration_ms", "execution_duration": "r.duration_ms",
        "end_time": "(r.at_ms + coalesce(r.duration_ms, 0))", "end_time_ms": "(r.at_ms + coalesce(r.duration_ms, 0))",
    },
    tables={"tag": ("trace_tag", "trace_id"), "param": ("trace_metadata", "trace_id")},
    at="r.at_ms",
)  # fmt: skip
_SPAN_TEXTS = {"name": "s.name", "type": "s.kind", "status": "s.status", "content": "s.body"}
_HINT = (
    "Search by attributes (status, timestamp_ms, execution_time_ms, name, trace_id, run_id, prompt, text), tags., metadata., \
span., feedback. or expectation.; put names with dots in `quotes`."
)


def reads_contents(comparisons: list[Comparison]) -> bool:
    """Does a filter look into spans? That takes the right to read contents, not only descriptions."""
    return any(_entity(c) in ("span", "text") for c in comparisons)


def compile_filter(comparisons: list[Comparison], dialect: str) -> Condition:
    """All comparisons as one SQL condition on `r`. Raises Invalid."""
    parts, spans, params = ["1 = 1"], list[str](), dict[str, Any]()
    for i, comparison in enumerate(comparisons):
        name, entity = f"f{i}", _entity(comparison)
        if entity in ("span", "text"):
            spans.append(_span(comparison, entity, name, params, dialect))
        elif entity in ("feedback", "expectation", "assessment"):
            parts.append(_assessment(comparison, entity, name, params, dialect))
        elif entity == "run":
            parts.append(_linked(comparison, "trace_run", "x.run_id", name, params, dialect))
        elif entity == "prompt":
            parts.append(_linked(comparison, "trace_prompt", "x.prompt", name, params, dialect))
        else:
            plain = structs.replace(comparison, entity=entity, key=_attribute(comparison, entity))
            parts.append(search.compile_comparison(plain, name, params, dialect, TRACES))
    if spans:
        parts.append(f"r.id in (select s.trace_id from span s where {' and '.join(spans)})")
    return Condition(" and ".join(parts), params)


def compile_order(orders: list[OrderBy]) -> Order:
    """Sort keys: what was asked for, then latest first. Raises Invalid."""
    plain = []
    for order in orders:
        comparison = Comparison(order.entity, order.key, "=")
        entity = _entity(comparison)
        key = RUN_METADATA if entity == "run" else _attribute(comparison, entity)
        if entity not in ("attribute", "tag", "param", "run"):
            raise Invalid(f"Traces cannot be sorted by {order.entity!r}.", where="order_by")
        plain.append(OrderBy("param" if entity == "run" else entity, key, order.ascending))
    return search.compile_order(plain, TRACES)


def _entity(c: Comparison) -> str:
    entity = _ENTITIES.get(c.entity)
    if entity is None:
        raise Invalid(f"{c.entity!r} is not something traces are searched by.", where="filter", hint=_HINT)
    if entity == "tag" and c.key == NAME_TAG:
        return "attribute"
    if (entity == "tag" and c.key == LINKED_PROMPTS) or (entity == "attribute" and c.key == "prompt"):
        return "prompt"
    if (entity == "param" and c.key == RUN_METADATA) or (entity == "attribute" and c.key == "run_id"):
        return "run"
    return "text" if entity == "attribute" and c.key == "text" else entity


def _attribute(c: Comparison, entity: str) -> str:
    return "name" if entity == "attribute" and c.key == NAME_TAG else c.key


def _linked(c: Comparison, table: str, column: str, name: str, params: dict[str, Any], dialect: str) -> str:
    if c.op in ("is null", "is not null"):
        return f"r.id {'not in' if c.op == 'is null' else 'in'} (select x.trace_id from {table} x)"
    if c.op not in ("=", "!=", "in"):
        raise Invalid(f"{c.key!r} is compared with = or in.", where="filter")
    found = search.compare(
        structs.replace(c, op="=" if c.op == "!=" else c.op), column, name, params, dialect, numeric=False
    )
    return f"r.id {'not in' if c.op == '!=' else 'in'} (select x.trace_id from {table} x where {found})"


def _assessment(c: Comparison, entity: str, name: str, params: dict[str, Any], dialect: str) -> str:
    if not c.key:
        raise Invalid("An assessment is searched by its name, as in feedback.correct = 'true'.", where="filter")
    params[f"{name}k"] = c.key
    kind = "" if entity == "assessment" else f"and a.kind = '{entity}'"
    of_name = f"select a.trace_id from assessment a where a.name = :{name}k and a.is_valid = true {kind}"
    if c.op in ("is null", "is not null"):
        return f"r.id {'not in' if c.op == 'is null' else 'in'} ({of_name})"
    if c.op in ("<", "<=", ">", ">="):
        number = c.value
        if isinstance(number, str):
            try:
                number = float(number)
            except ValueError as cause:
                raise Invalid(f"{c.key!r} is compared with a number.", where="filter") from cause
        value = search.compare(structs.replace(c, value=number), "a.number", name, params, dialect, numeric=True)
    elif c.op in ("=", "!="):
        # Values are JSON: text has quotes there, numbers and truths have none. MLflow writes all three in quotes.
        text = c.value if isinstance(c.value, str) else js(c.value)
        params |= {f"{name}v": text, f"{name}j": js(text)}
        value = f"{'not' if c.op == '!=' else ''} (a.value = :{name}v or a.value = :{name}j)"
    else:
        value = search.compare(c, "a.value", name, params, dialect, numeric=False)
    return f"r.id in ({of_name} and {value})"


def _span(c: Comparison, entity: str, name: str, params: dict[str, Any], dialect: str) -> str:
    key = "content" if entity == "text" else c.key
    if c.op in ("is null", "is not null"):
        raise Invalid("What lies in spans cannot be compared with null.", where="filter")
    if key == "content" and c.op not in ("like", "ilike"):
        raise Invalid("The text of spans is searched with like or ilike.", where="filter")
    if key in _SPAN_TEXTS:
        return search.compare(c, _SPAN_TEXTS[key], name, params, dialect, numeric=False)
    if not key.startswith("attributes.") or key == "attributes.":
        raise Invalid(
            f"Spans have no {key!r} to search by.", where="filter", hint="Known: name, type, status, content, attributes.…"
        )
    params[f"{name}k"] = key.removeprefix("attributes.")
    value = search.compare(c, _ATTRIBUTE_TEXT[dialect], name, params, dialect, numeric=False)
    each = "json_each(s.body, '$.attributes') a" if dialect == "sqlite" else _EACH_OF_POSTGRES
    is_key = "json_extract(a.value, '$.key')" if dialect == "sqlite" else "a.value ->> 'key'"
    return f"exists (select 1 from {each} where {is_key} = :{name}k and {value})"


# An attribute as text: what is written, whatever its type; a list or a map as JSON.
_EACH_OF_POSTGRES = "json_array_elements(cast(s.body as json) -> 'attributes') as a(value)"
_ATTRIBUTE_TEXT = {
    "sqlite": """coalesce(json_extract(a.value, '$.value.string_value'), cast(coalesce(
                 json_extract(a.value, '$.value.int_value'), json_extract(a.value, '$.value.double_value')) as text),
                 case json_extract(a.value, '$.value.bool_value') when 1 then 'true' when 0 then 'false' end,
                 json_extract(a.value, '$.value'))""",
    "postgresql": """coalesce(a.value -> 'value' ->> 'string_value', a.value -> 'value' ->> 'int_value',
                     a.value -> 'value' ->> 'double_value', a.value -> 'value' ->> 'bool_value', a.value ->> 'value')""",
}  # fmt: skip
