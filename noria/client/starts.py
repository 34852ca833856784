"""What starts a pipeline by itself, declared with its code: `@noria.pipeline(triggers=[noria.cron("0 3 * * 1"), ...])`.

Each may name itself (`name=`) and the parameters of its runs (`params=`), where `${...}` stands for a part of the cause.
"""

from __future__ import annotations

from typing import Any, Literal

from noria.client.durations import seconds
from noria.kernel.errors import Invalid
from noria.pipelines.model.starts import Condition, Files, OnFact, OnTime

_OPERATIONS = ("=", "!=", ">", ">=", "<", "<=", "like")


def cron(
    expression: str, *, tz: str = "UTC", params: dict[str, Any] | None = None,
    catch_up: Literal["latest", "all", "none"] = "latest", name: str = "",
) -> OnTime:  # fmt: skip
    """At the times of five cron fields in a time zone. `params` may hold `${date}` and `${at}`.

    `catch_up`: of the times that pass while no server runs, the latest is run, or all, or none.
    """
    return OnTime(cron=expression, time_zone=tz, params=params or {}, catch_up=catch_up, name=name)


def on_dataset(
    dataset: str, *, params: dict[str, Any] | None = None, cooldown: str | float = 0, name: str = ""
) -> OnFact:  # fmt: skip
    """When a version of a dataset is committed; `${data.number}` is its number."""
    return on_event("dataset_version.committed", f"data.dataset = {dataset}", params=params, cooldown=cooldown, name=name)


def on_drift(
    endpoint: str, *, params: dict[str, Any] | None = None, cooldown: str | float = "1h", name: str = ""
) -> OnFact:  # fmt: skip
    """When a monitor of an endpoint opens an alert; `${data.monitor}`, `${data.metric}` and `${data.value}` say which."""
    return on_event("alert.opened", f"data.endpoint = {endpoint}", params=params, cooldown=cooldown, name=name)


def on_model(
    model: str, *, alias: str = "", params: dict[str, Any] | None = None, cooldown: str | float = 0, name: str = ""
) -> OnFact:  # fmt: skip
    """When an alias of a model (any, or `alias`) is moved to a version; `${data.number}` is its number."""
    where = [f"data.model = {model}", *([f"data.alias = {alias}"] if alias else [])]
    return on_event("model_version.promoted", *where, params=params, cooldown=cooldown, name=name)


def on_event(
    kind: str | list[str], *where: str, params: dict[str, Any] | None = None, cooldown: str | float = 0, name: str = ""
) -> OnFact:  # fmt: skip
    """When a fact of this kind (docs/reference/events.md) satisfies every condition, such as `"data.rows > 100"`."""
    return OnFact(
        kinds=[kind] if isinstance(kind, str) else list(kind), filter=[condition(text) for text in where],
        params=params or {}, cooldown_s=seconds(cooldown), name=name,
    )  # fmt: skip


def on_files(
    url: str, *, pattern: str = "*", params: dict[str, Any] | None = None, cooldown: str | float = 0, name: str = ""
) -> OnFact:  # fmt: skip
    """When a file arrives in a folder or store that the server may watch; `${data.path}` and `${data.url}` say which."""
    return OnFact(
        files=Files(url=url, pattern=pattern), params=params or {}, cooldown_s=seconds(cooldown), name=name
    )  # fmt: skip


def on_hook(
    *where: str, params: dict[str, Any] | None = None, cooldown: str | float = 0, name: str = ""
) -> OnFact:  # fmt: skip
    """When a signed message comes to /api/v1/hooks/<name>; `${data.body.<name>}` is a part of it."""
    return OnFact(
        is_hook=True, filter=[condition(text) for text in where], params=params or {}, cooldown_s=seconds(cooldown), name=name
    )  # fmt: skip


def condition(text: str) -> Condition:
    """`data.value >= 0.2` as its parts; what is not JSON is a text. Raises Invalid."""
    import json

    parts = text.split(None, 2)
    if len(parts) != 3 or parts[1] not in _OPERATIONS:
        raise Invalid(f"{text!r} is not a condition.", where="where", hint='Write it as "data.dataset = flights".')
    try:
        value = json.loads(parts[2])
    except ValueError:
        value = parts[2]
    return Condition(field=parts[0], op=parts[1], value=value)  # type: ignore[arg-type]
