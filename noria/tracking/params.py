"""The one rule of params: what was logged does not change."""

from __future__ import annotations

from noria.kernel.errors import Invalid


def keep_params(now: dict[str, str], wanted: dict[str, str], whose: str) -> None:
    """`now` is what is stored after adding `wanted`; raises Invalid when a value was there already and is another one."""
    for key, value in wanted.items():
        if now[key] != value:
            raise Invalid(
                f"Changing param values is not allowed. Param with key={key!r} was already logged with "
                f"value={now[key][:200]!r} for {whose}. Attempted logging new value {value[:200]!r}.", where="params",
                hint="Log it under another name, or start another run.",
            )  # fmt: skip
