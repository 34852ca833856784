"""The noun of reports: a document of blocks – words, and panels that show things as they are now – with every version kept.

A panel names what it shows and holds none of it: it is read anew at each look, with the rights of whoever looks.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref

TITLE_LENGTH_MAX = 200
NAME_LENGTH_MAX = 256  # of what a panel names
FILTER_LENGTH_MAX = 4_000
TEXT_LENGTH_MAX = 100_000
BLOCKS_MAX = 100
DOCUMENT_BYTES_MAX = 524_288
CURVES_RUNS_MAX = 20  # as many as are compared at once
CURVES_METRICS_MAX = 12
ROWS_MAX = 200
COLUMNS_MAX = 30
LINKS_PER_REPORT = 50
LINK_DAYS = 30
LINK_DAYS_MAX = 366

Axis = Literal["step", "elapsed", "time"]
Span = Literal["1h", "6h", "24h", "7d"]
SPANS_S: dict[str, tuple[int, int]] = {"1h": (3_600, 60), "6h": (21_600, 300), "24h": (86_400, 900), "7d": (604_800, 7_200)}
Audience = Literal["members", "public"]
_ID = re.compile(r"[a-z0-9]{1,32}\Z")


class Block(Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """A part of a report. `id` is its own within the report; one is given to a block that comes without."""

    id: str = ""
    title: str = ""


class TextBlock(Block, frozen=True, kw_only=True, tag="text", forbid_unknown_fields=True):
    """Words, in Markdown."""

    text: str = ""


class CurvesBlock(Block, frozen=True, kw_only=True, tag="curves", forbid_unknown_fields=True):
    """Metrics of runs as curves: of `runs`, or of the first `limit` runs of an experiment and filter."""

    metrics: list[str] = []
    runs: list[str] = []
    experiment: str = ""
    filter: str = ""
    order_by: str = ""
    limit: int = 8
    x: Axis = "step"
    log: bool = False
    smooth: float = 0.0


class RunsBlock(Block, frozen=True, kw_only=True, tag="runs", forbid_unknown_fields=True):
    """A table of runs. `columns`: such as status, metrics.auc, params.lr."""

    experiment: str = ""
    filter: str = ""
    order_by: str = ""
    columns: list[str] = []
    limit: int = 20


class ModelBlock(Block, frozen=True, kw_only=True, tag="model", forbid_unknown_fields=True):
    """A version of a model: its numbers, and what people wrote on its card. `version`: 7, champion, latest."""

    model: str
    version: str = "latest"


class DatasetBlock(Block, frozen=True, kw_only=True, tag="dataset", forbid_unknown_fields=True):
    """What is in a version of a dataset, or with `against` what leads from that version to it."""

    dataset: str
    version: str = "latest"
    against: str = ""


class MonitorBlock(Block, frozen=True, kw_only=True, tag="monitor", forbid_unknown_fields=True):
    """How a monitor stands, and its number by window."""

    monitor: str


class EndpointBlock(Block, frozen=True, kw_only=True, tag="endpoint", forbid_unknown_fields=True):
    """What an endpoint answers now: requests, errors, latency, and which versions share its traffic."""

    endpoint: str
    span: Span = "24h"


AnyBlock = TextBlock | CurvesBlock | RunsBlock | ModelBlock | DatasetBlock | MonitorBlock | EndpointBlock


class ReportSummary(Struct, frozen=True, kw_only=True):
    """A report in a list. `latest` is the number of its newest version."""

    id: str
    title: str
    latest: int
    created_at_ms: int
    created_by: str
    updated_at_ms: int
    updated_by: str

    @property
    def ref(self) -> Ref:
        return Ref("report", self.id)


class ReportDocument(Struct, frozen=True, kw_only=True):
    """One version of a report, in full. `html`: the words of text blocks, sanitised, by block."""

    id: str
    title: str
    version: int
    latest: int
    blocks: list[AnyBlock]
    html: dict[str, str]
    saved_at_ms: int
    saved_by: str
    created_at_ms: int
    created_by: str
    may_write: bool = False
    may_share: bool = False
    may_delete: bool = False


class ReportVersion(Struct, frozen=True, kw_only=True):
    """Who saved what when. `restored_from`: the version that it brought back."""

    number: int
    title: str
    message: str
    saved_at_ms: int
    saved_by: str
    blocks_count: int
    restored_from: int | None = None


class ReportDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to begin a report. `project`: where it is to lie; the right to write there is enough."""

    title: str
    blocks: list[AnyBlock] = []
    project: str = ""


class ReportEdit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A report as it is to be. `expect` is the version that was read before; another one meanwhile is a conflict."""

    title: str
    blocks: list[AnyBlock]
    expect: int
    message: str = ""


class Restore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version to bring back, as a new one; `expect` as for an edit."""

    version: int
    expect: int


class Panel(Struct, frozen=True, kw_only=True):
    """What a panel shows at this moment. `data` has the parts that its kind names in docs/guides/reports.md."""

    kind: str
    at_ms: int
    data: dict[str, Any]


# --- links -----------------------------------------------------------------------------------------------------------


class Link(Struct, frozen=True, kw_only=True):
    """A way to one version of a report for whoever has it: `members` must be signed in, `public` need not while the server allows it."""

    id: str
    report: str
    version: int
    name: str
    audience: Audience
    sharer: str
    sharer_id: str
    token_id: str
    created_at_ms: int
    expires_at_ms: int
    used_at_ms: int | None = None


class NewLink(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to share a report. `version`: which one is shown, the latest if not said."""

    name: str = ""
    audience: Audience = "members"
    days: float = LINK_DAYS
    version: int | None = None


class LinkMade(Struct, frozen=True, kw_only=True):
    """A link with its address, which is told this once. What follows the # is the secret: browsers send it to no server."""

    link: Link
    url: str


class LinkChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version a link is to show from now on."""

    version: int


class Links(Struct, frozen=True, kw_only=True):
    """The links of a report that lead somewhere, and whether this server lets any be public."""

    items: list[Link]
    public_allowed: bool


class SharedReport(Struct, frozen=True, kw_only=True):
    """A report as it is seen through a link."""

    title: str
    version: int
    blocks: list[AnyBlock]
    html: dict[str, str]
    saved_at_ms: int
    expires_at_ms: int


# --- facts -----------------------------------------------------------------------------------------------------------


@fact("report.created")
class ReportCreated(Fact):
    """A report was begun; it is at version 1."""

    title: str


@fact("report.saved")
class ReportSaved(Fact):
    """A report has another version; `restored_from` is the one it brought back."""

    title: str
    version: int
    restored_from: int | None = None


@fact("report.deleted")
class ReportDeleted(Fact):
    """A report is gone, with its versions and links."""

    title: str


@fact("report.shared")
class ReportShared(Fact):
    """Somebody made a link that shows a version of a report."""

    title: str
    link: str
    version: int
    audience: str
    expires_at_ms: int


@fact("report.link_moved")
class ReportLinkMoved(Fact):
    """A link shows another version."""

    title: str
    link: str
    version: int


@fact("report.link_revoked")
class ReportLinkRevoked(Fact):
    """A link leads nowhere any more."""

    title: str
    link: str


# --- checks ----------------------------------------------------------------------------------------------------------


def check_title(title: str) -> str:
    """`title` without spaces around it. Raises Invalid."""
    title = title.strip()
    if not title or len(title) > TITLE_LENGTH_MAX:
        raise Invalid(f"The title of a report has 1 to {TITLE_LENGTH_MAX} characters, not {len(title)}.", where="title")
    if any(c < " " or c == "\x7f" for c in title):
        raise Invalid("The title of a report cannot contain control characters.", where="title")
    return title


def check_blocks(blocks: list[AnyBlock], new_id: Any) -> list[AnyBlock]:
    """`blocks`, each with an id of its own. `new_id()` makes one. Raises Invalid."""
    if len(blocks) > BLOCKS_MAX:
        raise Invalid(f"A report has at most {BLOCKS_MAX} blocks, not {len(blocks)}.", where="blocks")
    found: dict[str, AnyBlock] = {}
    for block in blocks:
        named = block if block.id else msgspec.structs.replace(block, id=new_id())
        if not _ID.match(named.id):
            raise Invalid("The id of a block has 1 to 32 lower-case letters and digits.", where="blocks")
        if named.id in found:
            raise Invalid(f"Two blocks have the id {named.id}.", where="blocks", hint="Leave it out; one is given.")
        check_block(named)
        found[named.id] = named
    size = len(msgspec.json.encode(blocks))
    if size > DOCUMENT_BYTES_MAX:
        raise Invalid(
            f"The report takes {size:,} bytes; at most {DOCUMENT_BYTES_MAX:,} are kept.", where="blocks", hint="Split it."
        )
    return list(found.values())


def check_block(block: AnyBlock) -> None:
    """Raises Invalid for what no panel can show."""
    if len(block.title) > TITLE_LENGTH_MAX:
        raise Invalid(f"The title of a block has at most {TITLE_LENGTH_MAX} characters.", where="blocks")
    match block:
        case TextBlock():
            _at_most(len(block.text), TEXT_LENGTH_MAX, "characters of text")
        case CurvesBlock():
            _check_runs(block.experiment, block.filter, block.order_by)
            _between(len(block.metrics), 1, CURVES_METRICS_MAX, "metrics")
            _between(block.limit, 1, CURVES_RUNS_MAX, "runs")
            _at_most(len(block.runs), CURVES_RUNS_MAX, "runs")
            _check_names([*block.metrics, *block.runs])
            if not 0 <= block.smooth < 1:
                raise Invalid("smooth is from 0 to below 1.", where="smooth")
        case RunsBlock():
            _check_runs(block.experiment, block.filter, block.order_by)
            _between(block.limit, 1, ROWS_MAX, "rows")
            _at_most(len(block.columns), COLUMNS_MAX, "columns")
            _check_names(block.columns)
        case ModelBlock():
            _check_names([block.model, block.version])
        case DatasetBlock():
            _check_names([block.dataset, block.version, *([block.against] if block.against else [])])
        case MonitorBlock():
            _check_names([block.monitor])
        case EndpointBlock():
            _check_names([block.endpoint])


def shown_by(block: AnyBlock) -> list[tuple[Ref, str]]:
    """The things that a panel names, each with the action that shows it."""
    match block:
        case ModelBlock():
            return [(Ref("model", block.model), "model.read")]
        case DatasetBlock():
            return [(Ref("dataset", block.dataset), "dataset.read")]
        case MonitorBlock():
            return [(Ref("monitor", block.monitor), "monitor.read")]
        case EndpointBlock():
            return [(Ref("endpoint", block.endpoint), "endpoint.read")]
        case _:
            return []


def _check_runs(experiment: str, filter: str, order_by: str) -> None:
    if max(len(experiment), len(order_by)) > NAME_LENGTH_MAX or len(filter) > FILTER_LENGTH_MAX:
        raise Invalid("The experiment, order or filter of a panel is too long.", where="filter")


def _check_names(names: list[str]) -> None:
    if any(not name.strip() or len(name) > NAME_LENGTH_MAX for name in names):
        raise Invalid(f"What a panel names has 1 to {NAME_LENGTH_MAX} characters.", where="blocks")


def _between(count: int, least: int, most: int, what: str) -> None:
    if not least <= count <= most:
        raise Invalid(f"A panel shows {least} to {most} {what}, not {count}.", where="blocks")


def _at_most(count: int, most: int, what: str) -> None:
    if count > most:
        raise Invalid(f"A block has at most {most:,} {what}, not {count:,}.", where="blocks")
