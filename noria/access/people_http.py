"""The routes of groups, roles, projects, labels and explanations."""

from __future__ import annotations

from typing import Annotated

from litestar.params import QueryParameter

from noria.access.model import (
    Clearance,
    Explanation,
    Group,
    Holding,
    Label,
    LabelWish,
    NewGroup,
    Project,
    ProjectPage,
    ProjectWish,
    ReadmeWish,
    Role,
    RoleWish,
)
from noria.access.service import Access
from noria.http.route import Routes, delete, get, post, put
from noria.kernel.events import Event
from noria.kernel.op import Op
from noria.kernel.paging import Page


def routes(access: Access) -> Routes:
    @get("/api/v1/groups", action="access.read")
    def list_groups(op: Op) -> Page[Group]:
        """Groups with their members."""
        return Page(access.groups.groups(op))

    @post("/api/v1/groups", action="access.write")
    def create_group(op: Op, data: NewGroup) -> Group:
        """Make a group."""
        return access.groups.create(op, data)

    @get("/api/v1/groups/{name:str}", action="access.read")
    def read_group(op: Op, name: str) -> Group:
        """One group."""
        return access.groups.group(op, name)

    @delete("/api/v1/groups/{name:str}", action="access.write")
    def delete_group(op: Op, name: str) -> None:
        """Remove a group with its grants."""
        access.groups.delete(op, name)

    @put("/api/v1/groups/{name:str}/members/{member:str}", action="access.write", status_code=204)
    def add_member(op: Op, name: str, member: str) -> None:
        """Put somebody, or a group, into a group."""
        access.groups.add_member(op, name, member)

    @delete("/api/v1/groups/{name:str}/members/{member:str}", action="access.write")
    def remove_member(op: Op, name: str, member: str) -> None:
        """Take somebody out of a group."""
        access.groups.remove_member(op, name, member)

    @get("/api/v1/roles", action="access.read")
    def list_roles(op: Op) -> Page[Role]:
        """The built-in roles, and those of one's own."""
        return Page(access.groups.roles(op))

    @put("/api/v1/roles/{name:str}", action="access.write")
    def set_role(op: Op, name: str, data: RoleWish) -> Role:
        """Make or change a role of one's own."""
        return access.groups.set_role(op, name, data)

    @delete("/api/v1/roles/{name:str}", action="access.write")
    def delete_role(op: Op, name: str) -> None:
        """Remove a role of one's own, with every grant of it."""
        access.groups.delete_role(op, name)

    @get("/api/v1/grants", action="access.read")
    def list_grants(
        op: Op, principal: str = "", on: Annotated[str | None, QueryParameter(name="scope")] = None
    ) -> Page[Holding]:
        """Who has which role on what."""
        return Page(access.groups.grants(op, principal=principal, scope=on))

    @get("/api/v1/projects", action="project.read")
    def list_projects(op: Op) -> Page[Project]:
        """Projects that the caller may read, with what lies in them."""
        return Page(access.scopes.projects(op))

    @get("/api/v1/projects/{name:str}", action="project.read")
    def read_project(op: Op, name: str) -> ProjectPage:
        """One project: its readme, and everything in it that the caller may read."""
        return access.scopes.page(op, name)

    @put("/api/v1/projects/{name:str}/readme", action="project.write")
    def set_readme(op: Op, name: str, data: ReadmeWish) -> ProjectPage:
        """What a project says of itself, in Markdown."""
        return access.scopes.set_readme(op, name, data)

    @get("/api/v1/projects/{name:str}/activity", action="project.read")
    def list_activity(op: Op, name: str, limit: int | None = None) -> Page[Event]:
        """The newest facts about a project and what lies in it."""
        return Page(access.scopes.activity(op, name, limit=limit))

    @put("/api/v1/projects/{name:str}", action="access.write")
    def set_project(op: Op, name: str, data: ProjectWish) -> Project:
        """Make, describe or move a project."""
        return access.scopes.set_project(op, name, data)

    @delete("/api/v1/projects/{name:str}", action="access.write")
    def delete_project(op: Op, name: str) -> None:
        """Remove an empty project."""
        access.scopes.delete_project(op, name)

    @put("/api/v1/projects/{name:str}/things/{ref:str}", action="access.write", status_code=204)
    def place_thing(op: Op, name: str, ref: str) -> None:
        """Put a thing into a project; it lies in one at most."""
        access.scopes.place(op, name, ref)

    @delete("/api/v1/projects/{name:str}/things/{ref:str}", action="access.write")
    def take_thing(op: Op, name: str, ref: str) -> None:
        """Take a thing out of a project."""
        access.scopes.take(op, name, ref)

    @get("/api/v1/labels", action="access.read")
    def list_labels(op: Op) -> Page[Label]:
        """Labels, what carries them and who is cleared for them."""
        return Page(access.scopes.labels(op))

    @put("/api/v1/labels/{name:str}", action="access.write")
    def set_label(op: Op, name: str, data: LabelWish) -> Label:
        """Make or change a label."""
        return access.scopes.set_label(op, name, data)

    @delete("/api/v1/labels/{name:str}", action="access.write")
    def delete_label(op: Op, name: str) -> None:
        """Remove a label from everything, with its clearances."""
        access.scopes.delete_label(op, name)

    @put("/api/v1/labels/{name:str}/things/{ref:str}", action="access.write", status_code=204)
    def put_label(op: Op, name: str, ref: str) -> None:
        """Put a label on a thing or a project."""
        access.scopes.put_label(op, name, ref)

    @delete("/api/v1/labels/{name:str}/things/{ref:str}", action="access.write")
    def take_label(op: Op, name: str, ref: str) -> None:
        """Take a label off."""
        access.scopes.take_label(op, name, ref)

    @put("/api/v1/labels/{name:str}/clearances/{principal:str}", action="access.write", status_code=204)
    def add_clearance(op: Op, name: str, principal: str, data: Clearance) -> None:
        """Let somebody, or a group, see what carries a label."""
        access.scopes.clear(op, name, principal, data)

    @delete("/api/v1/labels/{name:str}/clearances/{principal:str}", action="access.write")
    def remove_clearance(op: Op, name: str, principal: str) -> None:
        """End a clearance."""
        access.scopes.unclear(op, name, principal)

    @get("/api/v1/access/explain", action="access.read")
    def explain_access(op: Op, principal: str, action: str, on: str = "") -> Explanation:
        """Why somebody may do something, or why not."""
        return access.explaining.explain(op, principal, action, on)

    return [
        list_groups, create_group, read_group, delete_group, add_member, remove_member, list_roles, set_role, delete_role, list_grants,
        list_projects, read_project,
        set_readme, list_activity, set_project, delete_project, place_thing, take_thing, list_labels, set_label, delete_label, put_label,
        take_label, add_clearance, remove_clearance, explain_access,
    ]  # fmt: skip
