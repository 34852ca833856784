"""The routes of SCIM 2.0, as identity providers call them."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Response
from litestar.params import QueryParameter

from noria.access.policy import PUBLIC
from noria.access.scim import COUNT_MAX, GROUP, LIST, USER, Resource
from noria.access.service import Access
from noria.http.route import Routes, delete, get, patch, post, put
from noria.kernel.errors import NotFound
from noria.kernel.op import Op

KIND = "application/scim+json"
CONFIG = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
TYPE = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:Schema"


def routes(access: Access) -> Routes:
    scim = access.scim

    @get("/scim/v2/ServiceProviderConfig", action=PUBLIC)
    def read_scim_config() -> Response[Resource]:
        """What of SCIM is served."""
        return _said(service_provider_config())

    @get("/scim/v2/ResourceTypes", action=PUBLIC)
    def list_scim_types() -> Response[Resource]:
        """Users and groups."""
        return _said(_list(resource_types()))

    @get("/scim/v2/ResourceTypes/{name:str}", action=PUBLIC)
    def read_scim_type(name: str) -> Response[Resource]:
        """One type of resource."""
        return _said(_one(resource_types(), name))

    @get("/scim/v2/Schemas", action=PUBLIC)
    def list_scim_schemas() -> Response[Resource]:
        """The attributes that are kept."""
        return _said(_list(schemas()))

    @get("/scim/v2/Schemas/{name:str}", action=PUBLIC)
    def read_scim_schema(name: str) -> Response[Resource]:
        """The attributes of one schema."""
        return _said(_one(schemas(), name))

    @get("/scim/v2/Users", action="access.provision")
    def list_scim_users(
        op: Op, wanted: Annotated[str, QueryParameter(name="filter")] = "",
        start: Annotated[int, QueryParameter(name="startIndex")] = 1, count: int = 100,
    ) -> Response[Resource]:  # fmt: skip
        """Users that were provisioned."""
        return _said(scim.users(op, wanted, start, count))

    @post("/scim/v2/Users", action="access.provision", status_code=201)
    def create_scim_user(op: Op, data: dict[str, Any]) -> Response[Resource]:
        """Make an account."""
        return _made(scim.create_user(op, data))

    @get("/scim/v2/Users/{user_id:str}", action="access.provision")
    def read_scim_user(op: Op, user_id: str) -> Response[Resource]:
        """One user."""
        return _said(scim.user(op, user_id))

    @put("/scim/v2/Users/{user_id:str}", action="access.provision")
    def replace_scim_user(op: Op, user_id: str, data: dict[str, Any]) -> Response[Resource]:
        """Give an account these attributes."""
        return _said(scim.replace_user(op, user_id, data))

    @patch("/scim/v2/Users/{user_id:str}", action="access.provision")
    def patch_scim_user(op: Op, user_id: str, data: dict[str, Any]) -> Response[Resource]:
        """Change some attributes of an account; active: false ends its sessions and tokens."""
        return _said(scim.patch_user(op, user_id, data))

    @delete("/scim/v2/Users/{user_id:str}", action="access.provision")
    def delete_scim_user(op: Op, user_id: str) -> None:
        """End an account."""
        scim.delete_user(op, user_id)

    @get("/scim/v2/Groups", action="access.provision")
    def list_scim_groups(
        op: Op, wanted: Annotated[str, QueryParameter(name="filter")] = "",
        start: Annotated[int, QueryParameter(name="startIndex")] = 1, count: int = 100,
    ) -> Response[Resource]:  # fmt: skip
        """Groups with their members."""
        return _said(scim.groups(op, wanted, start, count))

    @post("/scim/v2/Groups", action="access.provision", status_code=201)
    def create_scim_group(op: Op, data: dict[str, Any]) -> Response[Resource]:
        """Make a group."""
        return _made(scim.create_group(op, data))

    @get("/scim/v2/Groups/{group_id:str}", action="access.provision")
    def read_scim_group(op: Op, group_id: str) -> Response[Resource]:
        """One group."""
        return _said(scim.group(op, group_id))

    @put("/scim/v2/Groups/{group_id:str}", action="access.provision")
    def replace_scim_group(op: Op, group_id: str, data: dict[str, Any]) -> Response[Resource]:
        """Give a group this name and these members."""
        return _said(scim.replace_group(op, group_id, data))

    @patch("/scim/v2/Groups/{group_id:str}", action="access.provision")
    def patch_scim_group(op: Op, group_id: str, data: dict[str, Any]) -> Response[Resource]:
        """Change a group's name or members."""
        return _said(scim.patch_group(op, group_id, data))

    @delete("/scim/v2/Groups/{group_id:str}", action="access.provision")
    def delete_scim_group(op: Op, group_id: str) -> None:
        """Remove a group with its grants."""
        scim.delete_group(op, group_id)

    return [
        read_scim_config, list_scim_types, read_scim_type, list_scim_schemas, read_scim_schema, list_scim_users, create_scim_user,
        read_scim_user, replace_scim_user, patch_scim_user, delete_scim_user, list_scim_groups, create_scim_group, read_scim_group,
        replace_scim_group, patch_scim_group, delete_scim_group,
    ]  # fmt: skip


def _said(content: Resource) -> Response[Resource]:
    return Response(content, media_type=KIND)


def _made(content: Resource) -> Response[Resource]:
    return Response(content, status_code=201, media_type=KIND, headers={"location": content["meta"]["location"]})


def _list(resources: list[Resource]) -> Resource:
    return {
        "schemas": [LIST], "totalResults": len(resources), "startIndex": 1, "itemsPerPage": len(resources), "Resources": resources,
    }  # fmt: skip


def _one(resources: list[Resource], name: str) -> Resource:
    for resource in resources:
        if resource["id"] == name:
            return resource
    raise NotFound(f"There is no {name[:80]!r} here.")


def service_provider_config() -> Resource:
    """RFC 7643, section 5."""
    no = {"supported": False}
    return {
        "schemas": [CONFIG], "patch": {"supported": True}, "bulk": {**no, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": True, "maxResults": COUNT_MAX}, "changePassword": no, "sort": no, "etag": no,
        "authenticationSchemes": [{
            "type": "oauthbearertoken", "name": "API token", "description": "A token that is limited to access.provision.", "primary": True,
        }],
        "documentationUri": "https://github.com/noria-ml/noria/blob/main/docs/guides/sign-in.md",
        "meta": {"resourceType": "ServiceProviderConfig", "location": "/scim/v2/ServiceProviderConfig"},
    }  # fmt: skip


def resource_types() -> list[Resource]:
    """RFC 7643, section 6."""
    return [
        {
            "schemas": [TYPE], "id": name, "name": name, "endpoint": f"/{name}s", "schema": schema,
            "meta": {"resourceType": "ResourceType", "location": f"/scim/v2/ResourceTypes/{name}"},
        }
        for name, schema in (("User", USER), ("Group", GROUP))
    ]  # fmt: skip


def schemas() -> list[Resource]:
    """RFC 7643, section 7: what is kept, and no more."""
    value = [_attribute("value"), _attribute("type"), _attribute("display"), _attribute("primary", "boolean")]
    user = [
        _attribute("userName", required=True, unique="server"), _attribute("externalId", exact=True), _attribute("active", "boolean"),
        *(_attribute(n) for n in ("displayName", "nickName", "title", "locale", "timezone", "preferredLanguage")),
        _attribute("name", "complex", parts=[_attribute(n) for n in ("formatted", "familyName", "givenName", "middleName")]),
        _attribute("emails", "complex", many=True, parts=value), _attribute("phoneNumbers", "complex", many=True, parts=value),
    ]  # fmt: skip
    member = [_attribute("value", exact=True), _attribute("display"), _attribute("type"), _attribute("$ref", "reference")]
    group = [
        _attribute("displayName", required=True, unique="server"), _attribute("externalId", exact=True),
        _attribute("members", "complex", many=True, parts=member),
    ]  # fmt: skip
    return [
        {
            "schemas": [SCHEMA], "id": schema, "name": name, "description": f"A {name.lower()} of Noria.", "attributes": attributes,
            "meta": {"resourceType": "Schema", "location": f"/scim/v2/Schemas/{schema}"},
        }
        for name, schema, attributes in (("User", USER, user), ("Group", GROUP, group))
    ]  # fmt: skip


def _attribute(
    name: str, kind: str = "string", *, required: bool = False, many: bool = False, exact: bool = False, unique: str = "none",
    parts: list[Resource] | None = None,
) -> Resource:  # fmt: skip
    found: Resource = {
        "name": name, "type": kind, "multiValued": many, "description": name, "required": required, "caseExact": exact,
        "mutability": "readWrite", "returned": "default", "uniqueness": unique,
    }  # fmt: skip
    return (
        found
        | ({"subAttributes": parts} if parts else {})
        | ({"referenceTypes": ["User", "Group"]} if kind == "reference" else {})
    )
