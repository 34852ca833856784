"""Steps about registered models, versions, stages, aliases and tags."""

from __future__ import annotations

from typing import Any

from tests.protocol.differential.api import Api
from tests.protocol.differential.tracking import begin, start, tags

ML = "registered-models"
MV = "model-versions"


def play(api: Api) -> None:
    where = begin(api, "registry")
    run = start(api, where, "built")
    upload(api, f"{where}/{run}/artifacts/model/MLmodel", b"flavors: {}\n")
    upload(api, f"{where}/{run}/artifacts/model/data.bin", b"12345")
    models(api)
    versions(api, run, where)
    searches(api)
    aliases(api)
    endings(api)
    apart(api, run)


def upload(api: Api, path: str, content: bytes) -> None:
    api.http.put(f"/api/2.0/mlflow-artifacts/artifacts/{path}", content=content).raise_for_status()


def models(api: Api) -> None:
    api.post("registered made", f"{ML}/create", name="flights", description="about", tags=tags(team="a"))
    api.post("registered made plain", f"{ML}/create", name="plain")
    api.post("registered made twice", f"{ML}/create", name="flights")
    api.post("registered of no name", f"{ML}/create", name="")
    api.post("registered of blank name", f"{ML}/create", name="  ")
    for name in ("a/b", "a:b", "..", ".", "a b", "ünï"):
        api.post(f"registered name {name[:9]}{len(name)}", f"{ML}/create", name=name)
    api.get("registered", f"{ML}/get", name="flights")
    api.get("registered plain", f"{ML}/get", name="plain")
    api.get("registered unknown", f"{ML}/get", name="nobody")
    api.patch("registered described", f"{ML}/update", name="flights", description="other")
    api.patch("registered undescribed", f"{ML}/update", name="flights", description="")
    api.patch("registered unknown described", f"{ML}/update", name="nobody", description="x")
    api.post("registered tag", f"{ML}/set-tag", name="flights", key="k", value="v")
    api.post("registered tag again", f"{ML}/set-tag", name="flights", key="k", value="w")
    api.post("registered tag without value", f"{ML}/set-tag", name="flights", key="bare")
    api.post("registered tag of unknown", f"{ML}/set-tag", name="nobody", key="k", value="v")
    api.post("registered tag key of 251", f"{ML}/set-tag", name="flights", key="k" * 251, value="v")
    api.post("registered tag key odd", f"{ML}/set-tag", name="flights", key="a//b", value="v")
    api.post("registered tag of 100000", f"{ML}/set-tag", name="plain", key="long", value="v" * 100_000)
    api.post("registered tag of 100001", f"{ML}/set-tag", name="plain", key="long", value="v" * 100_001)
    api.delete("registered tag removed", f"{ML}/delete-tag", name="flights", key="bare")
    api.delete("registered tag removed twice", f"{ML}/delete-tag", name="flights", key="bare")
    api.get("registered after all", f"{ML}/get", name="flights")
    api.post("registered renamed", f"{ML}/rename", name="plain", new_name="renamed")
    api.post("registered renamed to a taken name", f"{ML}/rename", name="renamed", new_name="flights")
    api.post("registered renamed to itself", f"{ML}/rename", name="renamed", new_name="renamed")
    api.post("registered unknown renamed", f"{ML}/rename", name="nobody", new_name="x")
    api.post("registered renamed to a bad name", f"{ML}/rename", name="renamed", new_name="a/b")
    api.post("registered renamed to nothing", f"{ML}/rename", name="renamed", new_name="")


def versions(api: Api, run: str, where: str) -> None:
    source = f"runs:/{run}/model"
    api.post("version", f"{MV}/create", name="flights", source=source, run_id=run, description="one", tags=tags(v="1"),
             run_link="http://x/y")  # fmt: skip
    api.post("version of artifacts", f"{MV}/create", name="flights", source=f"mlflow-artifacts:/{where}/{run}/artifacts/model",
             run_id=run)  # fmt: skip
    api.post("version of version", f"{MV}/create", name="flights", source="models:/flights/1")
    api.post("version of unknown model", f"{MV}/create", name="nobody", source=source, run_id=run)
    api.post("version of another run", f"{MV}/create", name="flights", source=source, run_id="f" * 32)
    for bad in ("file:///etc", "/etc/passwd", "../x", "runs:/../x", "models:/nobody/1", "models:/flights/99",
                "models:/flights@none", "mlflow-artifacts:/x/../y"):  # fmt: skip
        api.post(f"version of {bad}", f"{MV}/create", name="flights", source=bad, run_id=run)
    api.get("version read", f"{MV}/get", name="flights", version="1")
    api.get("version unknown", f"{MV}/get", name="flights", version="99")
    api.get("version of nobody", f"{MV}/get", name="nobody", version="1")
    api.get("version not a number", f"{MV}/get", name="flights", version="x")
    api.get("version zero", f"{MV}/get", name="flights", version="0")
    api.get("version negative", f"{MV}/get", name="flights", version="-1")
    api.patch("version described", f"{MV}/update", name="flights", version="1", description="uno")
    api.patch("version undescribed", f"{MV}/update", name="flights", version="2", description="")
    api.patch("version unknown described", f"{MV}/update", name="flights", version="99", description="x")
    api.post("version tag", f"{MV}/set-tag", name="flights", version="1", key="k", value="v")
    api.post("version tag of a number", f"{MV}/set-tag", name="flights", version=2, key="k", value="w")
    api.post("version tag of unknown", f"{MV}/set-tag", name="flights", version="99", key="k", value="v")
    api.post("version tag without value", f"{MV}/set-tag", name="flights", version="1", key="bare")
    api.post("version tag key of 251", f"{MV}/set-tag", name="flights", version="1", key="k" * 251, value="v")
    api.post("version tag of 100001", f"{MV}/set-tag", name="flights", version="1", key="long", value="v" * 100_001)
    api.delete("version tag removed", f"{MV}/delete-tag", name="flights", version="1", key="k")
    api.delete("version tag removed twice", f"{MV}/delete-tag", name="flights", version="1", key="k")
    api.delete("version tag removed of unknown", f"{MV}/delete-tag", name="flights", version="99", key="k")
    for stage in ("Staging", "production", "Archived", "None", "Nonsense", ""):
        api.post(f"stage {stage}", f"{MV}/transition-stage", name="flights", version="1", stage=stage)
    api.post("stage of another", f"{MV}/transition-stage", name="flights", version="2", stage="Production")
    api.post("stage pushes out", f"{MV}/transition-stage", name="flights", version="1", stage="Production",
             archive_existing_versions=True)  # fmt: skip
    api.post("stage pushes nothing out", f"{MV}/transition-stage", name="flights", version="1", stage="None",
             archive_existing_versions=True)  # fmt: skip
    api.post("stage of unknown", f"{MV}/transition-stage", name="flights", version="99", stage="Staging")
    api.post("latest", f"{ML}/get-latest-versions", name="flights")
    api.post("latest of stage", f"{ML}/get-latest-versions", name="flights", stages=["Archived"])
    api.post("latest of two stages", f"{ML}/get-latest-versions", name="flights", stages=["none", "Production"])
    api.post("latest of no stage", f"{ML}/get-latest-versions", name="flights", stages=["Nonsense"])
    api.post("latest of nobody", f"{ML}/get-latest-versions", name="nobody")
    api.get("latest by query", f"{ML}/get-latest-versions", name="flights")
    for step in ("latest", "latest of stage", "latest of two stages", "latest by query"):
        api.sort(step, "model_versions", "version")
    api.get("registered with versions", f"{ML}/get", name="flights")


FILTERS = (
    "name = 'flights'", "name != 'flights'", "name LIKE 'fl%'", "name LIKE 'FL%'", "name ILIKE 'FL%'", "tags.team = 'a'",
    "tag.k = 'w'", "tags.k != 'w'", "tags.k LIKE 'W'", "tags.k ILIKE 'W'", "name = 'flights' and tags.team = 'a'",
    "name IN ('flights')", "nothing = 'x'", "name > 'a'", "name = flights", "name = 'a' OR name = 'b'", "name ==", "tags.team > 'a'",
    "creation_timestamp > 0", "params.x = 'y'", "name = 5", "attribute.name = 'flights'", "metrics.x > 1", "description = 'x'",
)  # fmt: skip
VERSION_FILTERS = (
    "name = 'flights'", "name LIKE 'fl%'", "name ILIKE 'FL%'", "name != 'flights'", "tags.v = '1'", "tags.k = 'w'", "tags.v != '1'",
    "version_number = 1", "version_number > 1", "version_number <= 2", "version_number = '1'", "version_number LIKE '1'",
    "run_id = ''", "run_id IN ('', 'x')", "run_id = 'x'", "run_id != 'x'", "run_id LIKE 'x'", "source_path = 'x'",
    "source_path LIKE 'runs%'", "name = 'flights' and version_number = 2", "name IN ('flights')", "nothing = 'x'", "name > 'a'",
    "name = flights", "current_stage = 'None'", "version = 1", "status = 'READY'", "name = 'a' OR name = 'b'", "user_id = ''",
    "creation_timestamp > 0", "run_id IN ()", "name = 5", "tags.v > '0'", "version_number IN (1, 2)", "name == 'flights'",
)  # fmt: skip


def searches(api: Api) -> None:
    for filter in FILTERS:
        api.get(f"registered where {filter}", f"{ML}/search", filter=filter)
    for order in (
        "name",
        "name DESC",
        "last_updated_timestamp DESC",
        "creation_timestamp",
        "timestamp",
        "nothing",
        "name up",
        "tags.k",
    ):
        api.get(f"registered by {order}", f"{ML}/search", order_by=order)
    api.get("registered by two", f"{ML}/search", order_by=["last_updated_timestamp", "name DESC"])
    page = api.get("registered page", f"{ML}/search", max_results=1)
    api.get("registered next page", f"{ML}/search", max_results=1, page_token=page["next_page_token"])
    for count in (0, -1, 1000, 1001, "x"):
        api.get(f"registered {count}", f"{ML}/search", max_results=count, filter="name = 'flights'")
    api.get("registered bad token", f"{ML}/search", page_token="???")
    for filter in VERSION_FILTERS:
        api.get(f"versions where {filter}", f"{MV}/search", filter=filter, order_by=["name", "version_number"])
    for order in (
        "name",
        "version_number DESC",
        "creation_timestamp DESC",
        "last_updated_timestamp",
        "nothing",
        "name up",
        "run_id",
    ):
        more = ["version_number"] if order != "version_number DESC" else []
        api.get(f"versions by {order}", f"{MV}/search", order_by=[order, *more])
    page = api.get("versions page", f"{MV}/search", max_results=2, order_by="version_number")
    api.get(
        "versions next page", f"{MV}/search", max_results=2, order_by="version_number", page_token=page["next_page_token"]
    )
    for count in (0, -1, 200_000, 200_001, "x"):
        api.get(f"versions {count}", f"{MV}/search", max_results=count, filter="name = 'nobody'")
    api.get("versions bad token", f"{MV}/search", page_token="???")


def aliases(api: Api) -> None:
    def set_to(step: str, alias: Any, version: Any, name: str = "flights") -> None:
        api.post(step, f"{ML}/alias", name=name, alias=alias, version=version)

    set_to("alias", "champion", "1")
    set_to("alias moved", "champion", "2")
    set_to("alias of a number", "second", 1)
    set_to("alias of unknown version", "champion", "99")
    set_to("alias of unknown model", "champion", "1", name="nobody")
    for alias in ("latest", "LATEST", "v1", "V22", "a b", "a/b", "x" * 255, "x" * 256, "vv1"):
        set_to(f"alias {alias[:9]} {len(alias)}", alias, "1")
    api.get("alias read", f"{ML}/alias", name="flights", alias="champion")
    api.get("alias unknown", f"{ML}/alias", name="flights", alias="nobody")
    api.get("alias of nobody", f"{ML}/alias", name="nobody", alias="champion")
    api.get("registered with aliases", f"{ML}/get", name="flights")
    api.post("latest with aliases", f"{ML}/get-latest-versions", name="flights")
    api.sort("latest with aliases", "model_versions", "version")
    api.get("version with aliases", f"{MV}/get", name="flights", version="2")
    for alias in ("second", "vv1"):
        api.delete(f"alias {alias} removed", f"{ML}/alias", name="flights", alias=alias)
    api.delete("alias removed twice", f"{ML}/alias", name="flights", alias="second")
    api.delete("alias removed of nobody", f"{ML}/alias", name="nobody", alias="second")


def endings(api: Api) -> None:
    api.delete("version removed", f"{MV}/delete", name="flights", version="3")
    api.delete("version removed twice", f"{MV}/delete", name="flights", version="3")
    api.get("version after its end", f"{MV}/get", name="flights", version="3")
    api.delete("version of a number removed", f"{MV}/delete", name="flights", version="x")
    api.delete("registered unknown removed", f"{ML}/delete", name="nobody")
    api.delete("registered removed", f"{ML}/delete", name="renamed")
    api.delete("registered removed twice", f"{ML}/delete", name="renamed")
    api.get("registered after its end", f"{ML}/get", name="renamed")


def apart(api: Api, run: str) -> None:
    """What the two servers answer differently, on a model of its own so that nothing else does."""
    api.http.post(f"/api/2.0/mlflow/{ML}/create", json={"name": "odd"}).raise_for_status()
    api.post("apart: version", f"{MV}/create", name="odd", source=f"runs:/{run}/model", run_id=run, description="one")
    for alias in ("1", "a.b", "ü"):
        api.post(f"apart: alias {alias}", f"{ML}/alias", name="odd", alias=alias, version="1")
    api.post("apart: version without run", f"{MV}/create", name="odd", source=f"runs:/{run}/model")
    api.post("apart: version of unknown run", f"{MV}/create", name="odd", source=f"runs:/{'f' * 32}/model", run_id="f" * 32)
    api.post("apart: version of dbfs", f"{MV}/create", name="odd", source="dbfs:/x", run_id=run)
    api.patch("apart: version as it was", f"{MV}/update", name="odd", version="1")
    api.post("apart: name of 300", f"{ML}/create", name="x" * 300)
