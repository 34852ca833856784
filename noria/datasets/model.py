"""The nouns of datasets: a dataset, its numbered versions, the files in them, aliases, profiles and diffs.

A version is a manifest and a number. Its root digest is the hash of its content alone: the same files give the same root,
whoever commits them, whenever, and however they were cut into chunks.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal
from urllib.parse import unquote

from msgspec import Struct, field

from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import DatasetVersionId

SMALL_FILE_BYTES = 256 << 10  # up to here a file is one blob; a bigger one is cut into chunks
FILES_PER_VERSION = 1_000_000
DIGESTS_PER_QUESTION = 10_000  # in one "which of these are missing?"
PACK_BYTES = 4 << 20  # small blobs are sent together, up to this much
MANIFEST_INLINE_BYTES = 4 << 20  # a longer list of files is uploaded as a blob first
PATH_BYTES_MAX = 1024
SEGMENT_BYTES_MAX = 255  # what common file systems allow
MESSAGE_LENGTH_MAX = 4_000
FILE_MODE, EXECUTABLE_MODE = 0o644, 0o755  # the only two, as in Git: umasks do not make versions differ

TableFormat = Literal["parquet", "csv"]
ColumnKind = Literal["numeric", "boolean", "text", "time", "other"]
Value = str | int | float | bool | None


class Chunk(Struct, frozen=True, array_like=True):
    """A piece of a big file; written as `[digest, size]`."""

    digest: str
    size_bytes: int


class FileEntry(Struct, frozen=True, kw_only=True):
    """One file of a version. `digest` is the BLAKE3-256 of its bytes, so `b3sum` can check it.

    `chunks` lists the blobs that make it up, in order; empty means that the file is one blob, named by `digest`.
    """

    path: str
    size_bytes: int
    digest: str
    chunks: list[Chunk] = []
    mode: int = FILE_MODE


class VersionFile(Struct, frozen=True, kw_only=True, gc=False):
    """One file as a version lists it: what the root digest covers, and nothing else."""

    path: str
    size_bytes: int
    digest: str
    mode: int = FILE_MODE


class TableFile(VersionFile, frozen=True, kw_only=True, gc=True):
    """A table of a version: read as one Parquet file at `path`, stored as `parts`, whose first one names the others.

    `size_bytes` is that of the parts, and `digest` that of the first. What its Parquet file has is known when it is written.
    """

    parts: list[VersionFile]


class Column(Struct, frozen=True, kw_only=True):
    """A column of a table, with the type its file gives it."""

    name: str
    type: str


class DatasetVersion(Struct, frozen=True, kw_only=True):
    """A manifest and a number. Never changes; `rows_count` and `schema` are read from its tables, None while unknown."""

    id: DatasetVersionId
    dataset: str
    number: int
    root_digest: str
    created_at_ms: int
    actor: str
    message: str
    parents: list[DatasetVersionId] = []
    files_count: int = 0
    size_bytes: int = 0
    rows_count: int | None = None
    schema: list[Column] | None = None
    branch: str = "main"
    aliases: list[str] = []
    link: str = ""  # where its files stay, if they do; told of one version, not in lists
    table: str = ""  # and what table they are, such as delta@12


class Alias(Struct, frozen=True, kw_only=True):
    """A movable name of a version. `generation` grows by one with every move, for compare-and-set."""

    name: str
    version_id: DatasetVersionId
    number: int
    generation: int
    moved_at_ms: int
    actor: str


class Dataset(Struct, frozen=True, kw_only=True):
    """A name and its history. The counts are those of its latest version; `latest` is None when every version is deleted."""

    id: str
    name: str
    created_at_ms: int
    updated_at_ms: int
    actor: str
    versions_count: int
    latest: int | None = None
    latest_id: DatasetVersionId | None = None
    files_count: int = 0
    size_bytes: int = 0
    rows_count: int | None = None
    aliases: list[Alias] = []


class NewVersion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to commit, once the bytes are stored.

    `files` or, for a long list, `manifest`: the digest of a blob that holds the same list as JSON. `parent` is the id of the
    version the caller started from: the commit is refused when the dataset has moved on since.
    """

    files: list[FileEntry] = []
    manifest: str = ""
    message: str = ""
    alias: str = ""
    branch: str = "main"
    parent: DatasetVersionId | None = None


class RemoteRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another store: s3://bucket/prefix, gs://, az://, file://; one of NORIA_REMOTES."""

    remote: str


class RemoteDataset(Struct, frozen=True, kw_only=True):
    """What another store has."""

    name: str
    versions_count: int


class LinkRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files below `uri`, to be a version without being copied."""

    uri: str
    message: str = ""
    alias: str = ""
    as_files: bool = False
    at: str = ""


class SubjectRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rows whose `column`, read as text, is `value`; in versions with a number beyond `after`."""

    column: str
    value: str
    after: int = 0


class SubjectIn(Struct, frozen=True, kw_only=True):
    """A table of a version that has rows of the subject."""

    id: DatasetVersionId
    number: int
    path: str
    rows: int


class SubjectFound(Struct, frozen=True, kw_only=True):
    """Where a subject's rows are. `dependents`: runs, models and endpoints that rest on those versions; `unread`: what could not
    be looked into; `next`: the version to go on after, 0 when all were read."""

    versions: list[SubjectIn]
    dependents: list[str]
    unread: list[str] = []
    next: int = 0


class Kept(Struct, frozen=True, kw_only=True):
    """A version that was not deleted, and what needs it."""

    number: int
    why: str


class Erased(Struct, frozen=True, kw_only=True):
    """What erasing did: versions made without the rows, versions deleted, and versions that still have them. `subject`: a hash."""

    made: list[int]
    deleted: list[int]
    kept: list[Kept]
    rows: int
    subject: str


class Committed(Struct, frozen=True, kw_only=True):
    """The answer to a commit. `is_new` is False when the latest version already had exactly this content."""

    version: DatasetVersion
    is_new: bool
    warnings: list[str] = []


class Digests(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question: which of these are missing?"""

    digests: list[str]


class Missing(Struct, frozen=True, kw_only=True):
    """The answer: these."""

    missing: list[str]


class Stored(Struct, frozen=True, kw_only=True):
    """The blobs of a pack, in its order."""

    digests: list[str]


class AliasMove(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an alias shall point. `expect` is the generation last seen: 0 for a new alias, None for whatever it is now."""

    selector: str
    expect: int | None = None


class Name(Struct, frozen=True, kw_only=True):
    """What a version is called: the head of a branch, a tag that never moves, or an alias that does."""

    name: str
    kind: Literal["branch", "tag", "alias"]
    version_id: DatasetVersionId
    number: int


class NameAt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version that a new branch or tag names."""

    selector: str = "latest"


class MergeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bring the version `theirs` into a branch; `strategy` decides files that both sides changed."""

    theirs: str
    into: str = "main"
    message: str = ""
    strategy: Literal["", "ours", "theirs"] = ""


class Merged(Struct, frozen=True, kw_only=True):
    """The head of the branch after a merge, and what the merge came to."""

    version: DatasetVersion
    outcome: Literal["nothing", "fast-forward", "merged"]


class Histogram(Struct, frozen=True, kw_only=True):
    """Counts between equally spaced edges; one edge more than counts."""

    edges: list[float]
    counts: list[int]


class ValueCount(Struct, frozen=True, kw_only=True):
    """A value and how often it occurs."""

    value: Value
    count: int


class ColumnProfile(Struct, frozen=True, kw_only=True):
    """One column of one file. Times are described as milliseconds since 1970, except `min` and `max`, which are ISO text.

    `nans` (which counts infinities too) and `nulls` are left out of everything else. `quantiles` are the values at equally
    spaced shares from 0 to 1, both ends included. `top` holds the most frequent values, all of them when `top_is_complete`.
    """

    name: str
    type: str
    kind: ColumnKind
    rows: int
    nulls: int
    nans: int = 0
    distinct: int | None = None
    distinct_is_exact: bool = True
    min: Value = None
    max: Value = None
    mean: float | None = None
    std: float | None = None
    quantiles: list[float] = []
    histogram: Histogram | None = None
    top: list[ValueCount] = []
    top_is_complete: bool = False


class TableProfile(Struct, frozen=True, kw_only=True):
    """One Parquet or CSV file of a version. `unreadable` says why in `reason`; its bytes are kept all the same."""

    path: str
    format: TableFormat
    state: Literal["ready", "pending", "unreadable", "skipped"]
    reason: str = ""
    rows_count: int | None = None
    columns: list[ColumnProfile] = []


class SketchedColumn(ColumnProfile, frozen=True, kw_only=True):
    """A column of one fragment of a table, with what counts distinct values over several."""

    sketch: str = ""


class FragmentProfile(TableProfile, frozen=True, kw_only=True):
    """One fragment of a table, as it is kept to be merged with others; never told to anybody."""

    columns: list[SketchedColumn] = []  # type: ignore[assignment]


class Profile(Struct, frozen=True, kw_only=True):
    """What is in a version's tables; `pending` until the background job has read them all."""

    version: DatasetVersionId
    dataset: str
    number: int
    state: Literal["ready", "pending"]
    tables: list[TableProfile]


class Sample(Struct, frozen=True, kw_only=True):
    """The beginning of one file: rows of a table, lines of a text, or only what it is."""

    path: str
    kind: Literal["table", "text", "binary"]
    size_bytes: int
    columns: list[Column] = []
    rows: list[list[Value]] = []
    text: str = ""
    is_truncated: bool = False


class FileChange(Struct, frozen=True, kw_only=True):
    """A file on the two sides of a diff; None where it does not exist."""

    path: str
    before: VersionFile | None
    after: VersionFile | None


class Retyped(Struct, frozen=True, kw_only=True):
    """A column whose type changed."""

    name: str
    before: str
    after: str


class SchemaDiff(Struct, frozen=True, kw_only=True):
    """Columns that came, went or changed their type."""

    added: list[Column] = []
    removed: list[Column] = []
    retyped: list[Retyped] = []


class ColumnDiff(Struct, frozen=True, kw_only=True):
    """How the values of one column moved. `psi`: population stability index over bins of `a`; None without meaning."""

    name: str
    kind: ColumnKind
    psi: float | None
    null_share_before: float
    null_share_after: float
    mean_before: float | None = None
    mean_after: float | None = None
    distinct_before: int | None = None
    distinct_after: int | None = None


class RowChange(Struct, frozen=True, kw_only=True):
    """One row with the same key and other values: `{column: [old, new]}`."""

    key: dict[str, Value]
    changes: dict[str, list[Value]]


class RowsDiff(Struct, frozen=True, kw_only=True):
    """Rows compared by key, or whole when there is none (then nothing is `changed`). Counts are exact, samples bounded."""

    key: list[str]
    added_count: int
    removed_count: int
    changed_count: int
    unchanged_count: int
    added: list[dict[str, Value]] = []
    removed: list[dict[str, Value]] = []
    changed: list[RowChange] = []


class TableDiff(Struct, frozen=True, kw_only=True):
    """A table in both versions. `pending`: a profile is still being computed; `unreadable`: one cannot be read."""

    path: str
    path_before: str
    state: Literal["ready", "pending", "unreadable", "skipped"]
    reason: str = ""
    rows_before: int | None = None
    rows_after: int | None = None
    schema: SchemaDiff = field(default_factory=SchemaDiff)
    columns: list[ColumnDiff] = []
    rows: RowsDiff | None = None


class Diff(Struct, frozen=True, kw_only=True):
    """From version `a` to version `b`. Counts are exact; the lists hold the first thousand by path."""

    a: DatasetVersion
    b: DatasetVersion
    added_count: int
    removed_count: int
    changed_count: int
    added: list[FileChange]
    removed: list[FileChange]
    changed: list[FileChange]
    tables: list[TableDiff] = []


class Damage(Struct, frozen=True, kw_only=True):
    """A file whose bytes are missing or no longer match their digest."""

    path: str
    problem: str


class Verified(Struct, frozen=True, kw_only=True):
    """A part of a version was read again and hashed; `next` is where the next part begins."""

    files_count: int
    size_bytes: int
    damaged: list[Damage]
    next: str | None = None


@fact("dataset.created")
class DatasetCreated(Fact):
    """A dataset got its first version."""


@fact("dataset_version.committed")
class DatasetVersionCommitted(Fact):
    """A new version exists; its bytes are stored and checked."""

    dataset: str
    number: int
    root_digest: str = ""
    message: str = ""


@fact("dataset_version.deleted")
class DatasetVersionDeleted(Fact):
    """A version is gone from its dataset's history; its number is never used again."""

    dataset: str
    number: int


@fact("dataset_branch.moved")
class DatasetBranchMoved(Fact):
    """A branch other than main points at another version; `number` is None when the branch is gone."""

    dataset: str
    branch: str
    number: int | None


@fact("dataset_tag.set")
class DatasetTagSet(Fact):
    """A version got a name that never moves, or lost it (`number` is None)."""

    dataset: str
    tag: str
    number: int | None


@fact("dataset.pushed")
class DatasetPushed(Fact):
    """Another store has what is here by now; `moved` are its branches, tags and aliases that moved."""

    remote: str
    versions: int
    sent_bytes: int
    moved: list[str] = []


@fact("dataset.pulled")
class DatasetPulled(Fact):
    """What another store has is here by now."""

    remote: str
    versions: int
    sent_bytes: int
    moved: list[str] = []


@fact("subject.erased")
class SubjectErased(Fact):
    """Rows of a subject, named by a hash, were taken out of a dataset; `kept` are versions that still have them."""

    subject: str
    column: str
    made: list[int]
    deleted: list[int]
    kept: list[int] = []


@fact("dataset.expected")
class DatasetExpected(Fact):
    """What a commit must be like was changed; `text` is all of it as JSON, '' for nothing."""

    rules: int
    text: str = ""


@fact("dataset_commit.refused")
class DatasetCommitRefused(Fact):
    """A commit was not as expected; `broken` are the first rules that do not hold."""

    branch: str
    broken: list[str] = []


@fact("dataset_alias.moved")
class DatasetAliasMoved(Fact):
    """An alias points at another version; `was` is the number it left, None when it is new."""

    dataset: str
    alias: str
    number: int
    was: int | None = None


@fact("dataset_alias.removed")
class DatasetAliasRemoved(Fact):
    """An alias is gone."""

    dataset: str
    alias: str
    was: int


def table_format(path: str) -> TableFormat | None:
    """How a file is read as a table, judged by its name; None when it is none."""
    lower = path.lower()
    if lower.endswith((".parquet", ".pq")):
        return "parquet"
    if lower.endswith((".csv", ".tsv")):
        return "csv"
    return None


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_\-.]*(?:/[A-Za-z0-9_\-][A-Za-z0-9_\-.]*)*")
_DRIVE = re.compile(r"^[A-Za-z]:")


def check_path(path: str) -> str:
    """`path` if it is a plain relative path with '/' between its parts. Raises Invalid.

    Ways out of the folder are refused in every spelling a reader further on could decode: dots, backslashes, drive letters,
    percent escapes (also repeated), and the Unicode characters that normalise to any of them.
    """
    if isinstance(path, str) and len(path) <= SEGMENT_BYTES_MAX and _PLAIN.fullmatch(path):
        return path  # the usual case, at a tenth of the cost
    problem = _problem(path)
    spelled = path
    while not problem:
        decoded = unicodedata.normalize("NFKC", unquote(spelled))
        if decoded == spelled:
            return path
        spelled, problem = decoded, _way_out(decoded)
    raise Invalid(
        f"The path {path[:200]!r} {problem}.",
        where="path",
        hint="Paths are relative, with '/' between their parts and without '.' or '..', for instance train/part-1.parquet.",
    )


def _problem(path: str) -> str:
    if not isinstance(path, str) or not path:
        return "is empty"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if len(encoded) > PATH_BYTES_MAX:
        return f"is longer than {PATH_BYTES_MAX} bytes"
    if any(len(part.encode()) > SEGMENT_BYTES_MAX for part in path.split("/")):
        return f"has a part longer than {SEGMENT_BYTES_MAX} bytes"
    return _way_out(path)


def _way_out(path: str) -> str:
    if _CONTROL.search(path):
        return "contains a control character"
    if "\\" in path:
        return "contains a backslash"
    if path.startswith(("/", "~/")) or path == "~" or _DRIVE.match(path):
        return "is absolute"
    for part in path.split("/"):
        if not part:
            return "has an empty part"
        if not part.strip(". "):  # '.', '..', and what some systems shorten to them: '.. ', '...', ' '
            return f"has the part {part!r}, which could leave the folder"
    return ""
