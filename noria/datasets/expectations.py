"""What the data of a dataset must be like; a commit that is not like that is refused.

    tables:
      "*.parquet":                                # every table whose path matches; * crosses folders
        rows_min: 1000
        unique: [origin, key]
        columns:
          delay: {type: numeric, nulls_max: 0.05, min: -120, max: 3000}
          origin: {values: [JFK, LGA, EWR], not_null: true}
        rows: ["arrival >= departure or cancelled"]   # an expression of DuckDB that no row may make false
    files_min: 1

Checked in one pass over each table that is new in the commit, in a closed DuckDB. Like SQL's checks, a rule about a value says
nothing of nulls; `not_null` and `nulls_max` do.
"""

from __future__ import annotations

import fnmatch
import math
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
from blake3 import blake3
from msgspec import Struct

from noria.datasets.model import Value, VersionFile, table_format
from noria.datasets.tables import Table, Unreadable, closed_duckdb, load, plain, reason
from noria.kernel.errors import Invalid

TEXT_BYTES_MAX = 64 << 10
RULES_MAX = 1_000
EXAMPLES = 5
CHECK_S = 120.0  # for one table
_AT_ONCE = threading.BoundedSemaphore(2)  # tables being checked in this process
Severity = Literal["error", "warning"]


class ColumnRule(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a column must be. `type`: numeric, text, time, boolean, other, or the name of an Arrow type such as int64."""

    type: str = ""
    required: bool = True
    not_null: bool = False
    nulls_max: float | None = None
    unique: bool = False
    min: float | int | str | None = None
    max: float | int | str | None = None
    values: list[Value] | None = None
    pattern: str = ""
    mean_min: float | None = None
    mean_max: float | None = None


class TableRule(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a table must be. `unique`: the columns that together name a row. `only`: no other columns than those listed."""

    rows_min: int | None = None
    rows_max: int | None = None
    columns: dict[str, ColumnRule] = {}
    only: bool = False
    unique: list[str] = []
    rows: list[str] = []
    severity: Severity = "error"


class Expectations(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Rules for the tables whose path matches a pattern, and for how many files there are."""

    tables: dict[str, TableRule] = {}
    files_min: int | None = None
    files_max: int | None = None


class Broken(Struct, frozen=True, kw_only=True):
    """A rule that does not hold: where, what was expected and found, and some of the values at fault."""

    path: str
    rule: str
    found: str
    severity: Severity = "error"
    examples: list[Value] = []

    @property
    def text(self) -> str:
        some = f" (such as {', '.join(str(e) for e in self.examples[:3])})" if self.examples else ""
        return f"{self.path or 'the version'}: {self.rule}; found {self.found}{some}"


class Checked(Struct, frozen=True, kw_only=True):
    """What came of a check. It is passed when nothing of severity error is broken."""

    rules_count: int
    tables_count: int
    broken: list[Broken] = []

    @property
    def passed(self) -> bool:
        return not any(b.severity == "error" for b in self.broken)


def parse(text: str) -> Expectations:
    """YAML or JSON as expectations. Raises Invalid naming the field at fault."""
    import yaml

    if len(text.encode("utf-8", "replace")) > TEXT_BYTES_MAX:
        raise Invalid(f"Expectations have at most {TEXT_BYTES_MAX >> 10} KiB.", where="expectations")
    try:
        return check(msgspec.convert(yaml.safe_load(text) or {}, Expectations))
    except (yaml.YAMLError, RecursionError) as cause:
        raise Invalid(f"The expectations are not YAML: {str(cause)[:300]}", where="expectations") from cause
    except msgspec.ValidationError as cause:
        raise Invalid(
            f"The expectations cannot be read: {cause}.", where="expectations", hint="See docs/guides/data.md."
        ) from cause


def check(wanted: Expectations) -> Expectations:
    """`wanted`, if it can be checked at all. Raises Invalid."""
    import re

    count = 0
    for pattern, table in wanted.tables.items():
        count += 1 + len(table.rows) + len(table.columns)
        for name, column in table.columns.items():
            if column.pattern:
                try:
                    re.compile(column.pattern)
                except re.error as cause:
                    raise Invalid(
                        f"The pattern of {name!r} in {pattern!r} cannot be read: {cause}.", where="pattern"
                    ) from cause
            if column.nulls_max is not None and not 0 <= column.nulls_max <= 1:
                raise Invalid(f"nulls_max of {name!r} is a share between 0 and 1.", where="nulls_max")
    if count > RULES_MAX:
        raise Invalid(f"There are at most {RULES_MAX:,} rules; these are {count:,}.", where="expectations")
    return wanted


def encode(wanted: Expectations) -> str:
    """As the repository keeps it."""
    return msgspec.json.encode(wanted).decode()


def decode(text: str) -> Expectations:
    return msgspec.json.decode(text, type=Expectations) if text else Expectations()


def mark_of(text: str) -> str:
    """Tells one set of expectations from another; '' for none."""
    return blake3(text.encode()).hexdigest(length=16) if text else ""


def examine(
    wanted: Expectations, files: Iterable[VersionFile], save: Callable[[VersionFile, Path], Any], *,
    skip: frozenset[str] = frozenset(),
) -> Checked:  # fmt: skip
    """Check files; `save(file, target)` brings one here. Tables whose digest is in `skip` were checked before."""
    listed = list(files)
    broken, rules, tables = list[Broken](), 0, 0
    for least, most in ((wanted.files_min, None), (None, wanted.files_max)):
        if least is not None or most is not None:
            rules += 1
            broken += _between(len(listed), least, most, path="", what="files", severity="error")
    for file in listed:
        kind = table_format(file.path)
        mine = [rule for pattern, rule in wanted.tables.items() if fnmatch.fnmatchcase(file.path, pattern)]
        if kind is None or not mine or file.digest in skip:
            continue
        tables += 1
        with _AT_ONCE, closed_duckdb() as (connection, folder):
            target = folder / f"t.{kind}"
            save(file, target)
            try:
                table = load(connection, target, kind, "t", "c")
            except Unreadable as problem:
                broken.append(Broken(path=file.path, rule=f"is a {kind} table", found=str(problem)))
                continue
            timer = threading.Timer(CHECK_S, connection.interrupt)
            timer.start()
            try:
                for rule in mine:
                    one = _TableCheck(connection, table, file.path, rule)
                    broken += one.run()
                    rules += one.rules
            finally:
                timer.cancel()
    return Checked(rules_count=rules, tables_count=tables, broken=broken)


def require(found: Checked, label: str) -> list[str]:
    """The warnings. Raises Invalid naming the first rules that are broken."""
    if found.passed:
        return [b.text for b in found.broken]
    errors = [b for b in found.broken if b.severity == "error"]
    more = f"\n… and {len(errors) - 10} more." if len(errors) > 10 else ""
    raise Invalid(
        f"{label} is not as expected:\n" + "\n".join(f"- {b.text}" for b in errors[:10]) + more,
        where="expectations", hint="Correct the data, or change what is expected: noria data expect.",
    )  # fmt: skip


class _TableCheck:
    """The rules for one table: counted in one pass, examples looked for only where a rule is broken."""

    def __init__(self, connection: Any, table: Table, path: str, rule: TableRule) -> None:
        self._connection, self._table, self._path, self._rule = connection, table, path, rule
        self._places = {c.name: f"c{i}" for i, c in enumerate(table.columns)}
        self._found: list[Broken] = []
        self._counts: list[tuple[str, list[Any], str, str, str]] = []  # condition, values, rule, column, what is counted
        self.rules = 0

    def run(self) -> list[Broken]:
        rule = self._rule
        for name, column in rule.columns.items():
            self._column(name, column)
        if rule.only:
            self.rules += 1
            others = [name for name in self._places if name not in rule.columns]
            if others:
                self._break("has no other columns", f"{len(others)} others", others)
        rows = self._count()
        if rule.rows_min is not None or rule.rows_max is not None:
            self.rules += 1
            self._found += _between(rows, rule.rows_min, rule.rows_max, path=self._path, what="rows", severity=rule.severity)
        self._means()
        if rule.unique:
            self._unique(rule.unique)
        for name, column in rule.columns.items():
            if column.unique and name in self._places:
                self._unique([name])
        for expression in rule.rows:
            self._expression(expression)
        return self._found

    def _break(self, rule: str, found: str, examples: Iterable[Value] = ()) -> None:
        self._found.append(
            Broken(path=self._path, rule=rule, found=found, severity=self._rule.severity, examples=list(examples)[:EXAMPLES])
        )

    def _column(self, name: str, rule: ColumnRule) -> None:
        self.rules += 1
        place = self._places.get(name)
        if place is None:
            if rule.required:
                self._break(f"has a column {name!r}", "no such column")
            return
        i = int(place[1:])
        if rule.type:
            is_type = rule.type in (self._table.kinds[i], self._table.columns[i].type)
            if not is_type:
                self._break(f"{name} is {rule.type}", f"{self._table.columns[i].type} ({self._table.kinds[i]})")
                return
        if rule.not_null:
            self._counts.append((f"{place} is null", [], f"{name} is not null", "", "nulls"))
        if rule.min is not None:
            self._counts.append((f"{place} < ?", [rule.min], f"{name} ≥ {rule.min}", place, "below"))
        if rule.max is not None:  # NaN is above everything
            self._counts.append((f"{place} > ?", [rule.max], f"{name} ≤ {rule.max}", place, "above"))
        if rule.values is not None:
            marks = ", ".join("?" for _ in rule.values) or "null"
            known = ", ".join(str(v) for v in rule.values[:8])
            self._counts.append(
                (f"{place} not in ({marks})", list(rule.values), f"{name} is one of {known}", place, "others")
            )
        if rule.pattern:
            self._counts.append(
                (
                    f"not regexp_full_match({place}::varchar, ?)",
                    [rule.pattern],
                    f"{name} matches {rule.pattern}",
                    place,
                    "others",
                )
            )
        if rule.nulls_max is not None:
            self._share(name, place, rule.nulls_max)

    def _share(self, name: str, place: str, most: float) -> None:
        nulls, rows = self._one(f"select count(*) filter (where {place} is null), count(*) from t", [], name)
        if rows and nulls / rows > most:
            self._break(f"at most {most:.1%} of {name} are null", f"{nulls / rows:.1%}")

    def _means(self) -> None:
        for name, rule in self._rule.columns.items():
            place = self._places.get(name)
            if place is None or (rule.mean_min is None and rule.mean_max is None):
                continue
            self.rules += 1
            if self._table.kinds[int(place[1:])] != "numeric":
                self._break(f"{name} has a mean", "it is not numeric")
                continue
            mean = self._one(f"select avg({place}) from t", [], name)[0]
            self._found += _between(
                mean, rule.mean_min, rule.mean_max, path=self._path, what=f"mean of {name}", severity=self._rule.severity
            )

    def _count(self) -> int:
        """Rows, and how many break each rule."""
        parts = ["count(*)", *(f"count(*) filter (where {condition})" for condition, *_ in self._counts)]
        values = [value for _, given, *_ in self._counts for value in given]
        try:
            found = self._connection.execute(f"select {', '.join(parts)} from t", values).fetchone()
        except Exception as error:
            self._fail(error, "the rules of its columns can be checked")
            return int(self._one("select count(*) from t", [], "rows")[0])
        for (condition, given, rule, place, what), count in zip(self._counts, found[1:], strict=True):
            if count:
                examples = self._examples(place, condition, given) if place else []
                self._break(rule, f"{count:,} {what}", examples)
        return int(found[0])

    def _examples(self, place: str, condition: str, given: list[Any]) -> list[Value]:
        rows = self._connection.execute(
            f"select distinct {place} from t where {condition} limit {EXAMPLES}", given
        ).fetchall()
        return [plain(row[0]) for row in rows]

    def _unique(self, names: list[str]) -> None:
        self.rules += 1
        missing = [name for name in names if name not in self._places]
        if missing:
            self._break(f"{', '.join(names)} name a row", f"no column {missing[0]!r}")
            return
        places = ", ".join(self._places[name] for name in names)
        many = f"select {places}, count(*) from t group by {places} having count(*) > 1"
        count = self._one(f"select count(*) from ({many})", [], places)[0]
        if count:
            examples = self._connection.execute(f"{many} limit {EXAMPLES}").fetchall()
            shown = [", ".join(str(plain(v)) for v in row[:-1]) for row in examples]
            self._break(f"{', '.join(names)} name a row", f"{count:,} values more than once", shown)

    def _expression(self, expression: str) -> None:
        """Columns have their own names in it. It is one expression: a statement cannot follow, since only one is prepared."""
        self.rules += 1
        named = ", ".join(f"{place} as {_quoted(name)}" for name, place in self._places.items())
        try:
            if len(self._connection.extract_statements(f"select ({expression}\n)")) != 1:
                raise ValueError("it is more than one expression")
            count = self._connection.execute(
                f"select count(*) from (select {named} from t) as t where not ({expression}\n)"
            ).fetchone()[0]
        except Exception as error:
            self._fail(error, f"every row has {expression}")
            return
        if count:
            self._break(f"every row has {expression}", f"{count:,} rows that do not")

    def _one(self, sql: str, values: list[Any], what: str) -> Any:
        try:
            return self._connection.execute(sql, values).fetchone()
        except Exception as error:
            self._fail(error, f"{what} can be checked")
            return (0, 0)

    def _fail(self, error: Exception, rule: str) -> None:
        import duckdb

        if isinstance(error, duckdb.OutOfMemoryException):
            raise error
        if not isinstance(error, duckdb.Error | ValueError):
            raise error
        self._break(rule, reason(error))


def _between(
    value: float | None, least: float | None, most: float | None, *, path: str, what: str, severity: Severity
) -> list[Broken]:
    if value is not None and (least is None or value >= least) and (most is None or value <= most):
        return []
    limits = [f"{word} {_number(v)}" for word, v in (("at least", least), ("at most", most)) if v is not None]
    found = "none" if value is None else _number(value)
    return [Broken(path=path, rule=f"{' and '.join(limits)} {what}", found=found, severity=severity)]


def _number(value: float) -> str:
    return f"{value:,}" if not math.isfinite(value) or value != int(value) else f"{int(value):,}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
