"""The routes of datasets. `selector` is what comes after the @ of a handle: a number, an alias, an id or latest."""

from __future__ import annotations

import re
from typing import Annotated, Any

import anyio.to_thread
from litestar import Request, Response
from litestar.params import HeaderParameter
from litestar.response import Stream

from noria.datasets.expectations import Checked, Expectations
from noria.datasets.model import (
    Alias,
    AliasMove,
    Committed,
    Dataset,
    DatasetVersion,
    Diff,
    Digests,
    Erased,
    LinkRequest,
    Merged,
    MergeRequest,
    Missing,
    Name,
    NameAt,
    NewVersion,
    Profile,
    RemoteDataset,
    RemoteRequest,
    Sample,
    Stored,
    SubjectFound,
    SubjectRequest,
    Verified,
    VersionFile,
)
from noria.datasets.service import Datasets
from noria.http.route import Routes, delete, get, post, put
from noria.kernel.op import Op
from noria.kernel.paging import Page
from noria.repository.check import Repaired
from noria.repository.collect import GRACE_S, Collected, Usage
from noria.repository.transfer import Transferred

_RANGE = re.compile(r"^bytes=(\d*)-(\d*)\Z")
_VERSION = "/api/v1/datasets/{name:str}/versions/{selector:str}"


def routes(service: Datasets) -> Routes:
    @get("/api/v1/datasets", action="dataset.read")
    def list_datasets(op: Op, limit: int | None = None, page: str = "") -> Page[Dataset]:
        """Datasets by name, each with its latest version's size."""
        return service.datasets(op, limit=limit, page=page)

    @get("/api/v1/datasets/{name:str}", action="dataset.read")
    def read_dataset(op: Op, name: str) -> Dataset:
        """One dataset with its aliases."""
        return service.dataset(op, name)

    @get("/api/v1/datasets/{name:str}/versions", action="dataset.read")
    def list_dataset_versions(
        op: Op, name: str, limit: int | None = None, page: str = "", branch: str = ""
    ) -> Page[DatasetVersion]:
        """The history, newest first; with `branch`, what that branch came through."""
        return service.versions(op, name, limit=limit, page=page, branch=branch)

    @post("/api/v1/datasets/{name:str}/versions", action="dataset.commit")
    def commit_dataset_version(op: Op, name: str, data: NewVersion) -> Committed:
        """Commit files whose bytes are stored. `parent` makes it fail when the dataset moved on meanwhile."""
        return service.receive(op, name, data)

    @post("/api/v1/datasets/blobs/missing", action="blob.write")
    def list_missing_blobs(op: Op, data: Digests) -> Missing:
        """Which of these blobs have to be uploaded (PUT /api/v1/blobs/{digest}) before a commit."""
        return service.missing(op, data.digests)

    @post("/api/v1/datasets/blobs", action="blob.write")
    async def store_blobs(op: Op, request: Request[Any, Any, Any]) -> Stored:
        """Store many small blobs at once: the body is a row of blobs, each after its length as four bytes, big-endian."""
        await anyio.to_thread.run_sync(op.require, "blob.write")
        data = b"".join([part async for part in request.stream()])  # bounded by the door's limit for ordinary requests
        return await anyio.to_thread.run_sync(service.store_pack, op, data)

    @get(_VERSION, action="dataset.read")
    def read_dataset_version(op: Op, name: str, selector: str) -> DatasetVersion:
        """One version."""
        return service.version(op, f"{name}@{selector}")

    @delete(_VERSION, action="dataset.delete")
    def delete_dataset_version(op: Op, name: str, selector: str) -> None:
        """Take a version out of the history; refused while an alias or anything else needs it."""
        service.delete_version(op, f"{name}@{selector}")

    @get(_VERSION + "/files", action="dataset.read")
    def list_dataset_files(
        op: Op, name: str, selector: str, prefix: str = "", limit: int | None = None, page: str = "", whole: bool = False
    ) -> Page[VersionFile]:
        """The files of a version whose path begins with `prefix`, by path.

        A table is one file with `parts`, which is how it is stored; with `whole`, size and digest are those of its Parquet file.
        """
        return service.files(op, f"{name}@{selector}", prefix=prefix, limit=limit, page=page, whole=whole)

    @get(_VERSION + "/content", action="blob.read")
    def read_dataset_file(
        op: Op, name: str, selector: str, path: str,
        start: int = 0, end: int | None = None, range_: Annotated[str, HeaderParameter(name="range")] = "",
    ) -> Response[Any]:  # fmt: skip
        """The bytes of one file: all, or from `start` to `end` (exclusive), or the part a Range header asks for."""
        version = service.version(op, f"{name}@{selector}")
        size = service.size_bytes(op, version, path)
        wanted = _range(range_, size)
        if wanted == (0, 0):
            return Response(None, status_code=416, headers={"content-range": f"bytes */{size}"})
        low, high = wanted or (start, size if end is None else min(end, size))
        headers = {"accept-ranges": "bytes", "content-length": str(max(high - low, 0)), "x-content-type-options": "nosniff"}
        if wanted:
            headers["content-range"] = f"bytes {low}-{high - 1}/{size}"
        body = service.open(op, version, path, low, high)
        return Stream(body, status_code=206 if wanted else 200, headers=headers, media_type="application/octet-stream")

    @get(_VERSION + "/profile", action="dataset.read")
    def read_dataset_profile(op: Op, name: str, selector: str) -> Profile:
        """What is in the version's tables: types, nulls, quantiles, histograms, frequent values."""
        return service.profile(op, f"{name}@{selector}")

    @get(_VERSION + "/sample", action="blob.read")
    def read_dataset_sample(op: Op, name: str, selector: str, path: str = "", limit: int | None = None) -> Sample:
        """The first rows or lines of a file; without `path`, of the first table."""
        return service.sample(op, f"{name}@{selector}", path, limit=limit)

    @get("/api/v1/datasets/{name:str}/diff", action="dataset.read")
    def read_dataset_diff(
        op: Op, name: str, a: str, b: str = "latest", rows: bool = False, key: str = "", path: str = "",
        limit: int | None = None,
    ) -> Diff:  # fmt: skip
        """What changed from version `a` to `b`: files, columns, and with `rows=1` the rows, by `key` (comma-separated)."""
        keys = [part.strip() for part in key.split(",") if part.strip()]
        return service.diff(op, f"{name}@{a}", f"{name}@{b}", rows, key=keys, path=path, limit=limit)

    @post(_VERSION + "/verify", action="dataset.read")
    def verify_dataset_version(op: Op, name: str, selector: str, after: str = "") -> Verified:
        """Read files again and compare them with their digests; go on with `after` = the answer's `next`."""
        return service.verify(op, f"{name}@{selector}", after=after)

    @get("/api/v1/datasets/{name:str}/expectations", action="dataset.read")
    def read_dataset_expectations(op: Op, name: str) -> Expectations:
        """What a commit to the dataset must be like."""
        return service.expectations(op, name)

    @put("/api/v1/datasets/{name:str}/expectations", action="dataset.expect")
    def set_dataset_expectations(op: Op, name: str, data: Expectations) -> Expectations:
        """Refuse commits that are not like that from now on; an empty object allows everything."""
        return service.expect(op, name, data)

    @post(_VERSION + "/check", action="dataset.read")
    def check_dataset_version(op: Op, name: str, selector: str, data: Expectations | None = None) -> Checked:
        """Is the version as its dataset expects, or as the body says? Reads every table."""
        return service.check_version(op, f"{name}@{selector}", data)

    @put("/api/v1/datasets/{name:str}/aliases/{alias:str}", action="dataset.alias")
    def move_dataset_alias(op: Op, name: str, alias: str, data: AliasMove) -> Alias:
        """Point an alias at a version; `expect` makes it fail when the alias moved meanwhile."""
        return service.move_alias(op, name, alias, data)

    @delete("/api/v1/datasets/{name:str}/aliases/{alias:str}", action="dataset.alias")
    def remove_dataset_alias(op: Op, name: str, alias: str, expect: int | None = None) -> None:
        """Remove an alias."""
        service.remove_alias(op, name, alias, expect=expect)

    @get("/api/v1/datasets/{name:str}/names", action="dataset.read")
    def list_dataset_names(op: Op, name: str) -> list[Name]:
        """What versions are called: branches, tags, aliases."""
        return service.names(op, name)

    @put("/api/v1/datasets/{name:str}/branches/{branch:str}", action="dataset.alias")
    def make_dataset_branch(op: Op, name: str, branch: str, data: NameAt) -> list[Name]:
        """Make a branch at a version."""
        return service.set_branch(op, name, branch, data)

    @delete("/api/v1/datasets/{name:str}/branches/{branch:str}", action="dataset.alias")
    def remove_dataset_branch(op: Op, name: str, branch: str) -> None:
        """Remove a branch; its versions stay."""
        service.remove_branch(op, name, branch)

    @put("/api/v1/datasets/{name:str}/tags/{tag:str}", action="dataset.alias")
    def set_dataset_tag(op: Op, name: str, tag: str, data: NameAt) -> list[Name]:
        """Give a version a name that never moves."""
        return service.set_tag(op, name, tag, data)

    @delete("/api/v1/datasets/{name:str}/tags/{tag:str}", action="dataset.alias")
    def remove_dataset_tag(op: Op, name: str, tag: str) -> None:
        """Remove a tag."""
        service.remove_tag(op, name, tag)

    @post("/api/v1/datasets/{name:str}/merge", action="dataset.commit")
    def merge_dataset(op: Op, name: str, data: MergeRequest) -> Merged:
        """Bring a version into a branch, file by file; refused, naming the paths, where both sides changed a file."""
        return service.merge(op, name, data)

    @post("/api/v1/datasets/blobs/collect", action="dataset.delete")
    def collect_datasets(op: Op, grace_s: float = GRACE_S, dry_run: bool = False) -> Collected:
        """Remove bytes that no version needs and that are older than the grace time."""
        return service.collect(op, grace_s=grace_s, dry_run=dry_run)

    @post("/api/v1/datasets/{name:str}/push", action="dataset.transfer")
    def push_dataset(op: Op, name: str, data: RemoteRequest) -> Transferred:
        """Bring another store, one of NORIA_REMOTES, up to what is here."""
        return service.remotes.push(op, name, data.remote)

    @post("/api/v1/datasets/{name:str}/pull", action="dataset.transfer")
    def pull_dataset(op: Op, name: str, data: RemoteRequest) -> Transferred:
        """Bring the dataset here up to another store, one of NORIA_REMOTES."""
        return service.remotes.pull(op, name, data.remote)

    @post("/api/v1/datasets/{name:str}/link", action="dataset.transfer")
    def link_dataset(op: Op, name: str, data: LinkRequest) -> Committed:
        """Make a version of files that stay where they are."""
        made, is_new = service.remotes.link(op, name, data)
        return Committed(version=service.version(op, f"{name}@{made}"), is_new=is_new)

    @get("/api/v1/datasets/blobs/remote", action="dataset.transfer")
    def list_remote_datasets(op: Op, remote: str) -> list[RemoteDataset]:
        """What another store, one of NORIA_REMOTES, has."""
        return service.remotes.datasets(op, remote)

    @post("/api/v1/datasets/blobs/repair", action="system.admin")
    def repair_datasets(op: Op, data: RemoteRequest) -> Repaired:
        """Put back what is damaged or missing here from another store."""
        return service.remotes.repair(op, data.remote)

    @post("/api/v1/datasets/{name:str}/subject", action="blob.read")
    def find_subject(op: Op, name: str, data: SubjectRequest) -> SubjectFound:
        """Which versions hold a subject's rows, and which runs, models and endpoints rest on them."""
        return service.subjects.find(op, name, data)

    @post("/api/v1/datasets/{name:str}/subject/erase", action="dataset.delete")
    def erase_subject(op: Op, name: str, data: SubjectRequest) -> Erased:
        """Make every branch anew without the rows, and delete the versions that have them where nothing needs them."""
        return service.subjects.erase(op, name, data)

    @get("/api/v1/datasets/blobs/usage", action="dataset.read")
    def read_datasets_usage(op: Op) -> list[Usage]:
        """What each dataset takes: as files, stored, and stored for it alone."""
        return service.usage(op)

    return [
        list_dataset_names, make_dataset_branch, remove_dataset_branch, set_dataset_tag, remove_dataset_tag, merge_dataset,
        find_subject, erase_subject, push_dataset, pull_dataset, link_dataset, list_remote_datasets, repair_datasets,
        collect_datasets, read_datasets_usage, read_dataset_expectations, set_dataset_expectations, check_dataset_version,
        list_datasets, read_dataset, list_dataset_versions, commit_dataset_version, list_missing_blobs, store_blobs, read_dataset_version,
        delete_dataset_version, list_dataset_files, read_dataset_file, verify_dataset_version, move_dataset_alias,
        remove_dataset_alias, read_dataset_profile, read_dataset_sample, read_dataset_diff,
    ]  # fmt: skip


def _range(header: str, size: int) -> tuple[int, int] | None:
    """What a Range header asks for; None to send everything (no header, or an unknown one); (0, 0) when it is outside."""
    found = _RANGE.match(header.strip())
    if not found or not (found[1] or found[2]):
        return None
    if not found[1]:  # the last n bytes
        low, high = max(0, size - int(found[2])), size
    else:
        low, high = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
    return (low, high) if low < high else (0, 0)
