"""A model with more versions than one answer holds."""

from __future__ import annotations

from typing import Any

import pytest

from noria.registry.service import VERSIONS_PER_SEARCH
from tests.conftest import Noria

pytestmark = pytest.mark.slow
COUNT = VERSIONS_PER_SEARCH + 50
SEARCH = "/api/2.0/mlflow/model-versions/search"


@pytest.fixture
def many(noria: Noria) -> Noria:
    """`many` has COUNT versions, each a copy of the first with a tag of its own."""
    op = noria.op()
    experiment = noria.app.tracking.create_experiment(op, "e")
    run = noria.app.tracking.create_run(op, experiment.id).id
    noria.app.tracking.put_artifact(op, run, "model/MLmodel", b"flavors: {sklearn: {code: null}}\n")
    noria.app.registry.create_version(op, "many", source=f"runs:/{run}/model", tags={"k": "1"})
    with noria.app.db.write(op) as tx:
        first = tx.rows("select * from model_version")[0]
        rows = [{**first, "id": f"{n:032x}", "number": n} for n in range(2, COUNT + 1)]
        columns, values = ", ".join(first), ", ".join(f":{name}" for name in first)
        tx.many(f"insert into model_version ({columns}) values ({values})", rows)
        tags = [{"id": row["id"], "value": str(row["number"])} for row in rows]
        tx.many("insert into model_version_tag (version_id, key, value) values (:id, 'k', :value)", tags)
    noria.app.registry.promote(op, f"many@{COUNT}", "champion")
    return noria


def test_a_search_gives_as_many_as_mlflows_and_the_rest_on_the_next_page(many: Noria) -> None:
    def page(**query: Any) -> Any:
        answer = many.http.get(SEARCH, params={"filter": "name = 'many'", "order_by": "version_number ASC", **query})
        assert answer.status_code == 200, answer.text
        return answer.json()

    first = page()
    assert len(first["model_versions"]) == VERSIONS_PER_SEARCH
    rest = page(page_token=first["next_page_token"])
    assert "next_page_token" not in rest
    found = [*first["model_versions"], *rest["model_versions"]]
    assert [int(v["version"]) for v in found] == list(range(1, COUNT + 1))
    assert [v["tags"] for v in found] == [[{"key": "k", "value": str(n)}] for n in range(1, COUNT + 1)]
    assert [v["version"] for v in found if v.get("aliases") == ["champion"]] == [str(COUNT)]
    assert page(max_results=200_000)["model_versions"] == first["model_versions"]
    assert many.http.get(SEARCH, params={"max_results": 200_001}).status_code == 400
    ours = many.app.registry.search_versions(many.op(), filter="name = 'many'", limit=1).items
    assert ours[0].flavors == {"sklearn": {"code": None}}, "only MLflow's answers are brief"
    assert page(max_results=3)["model_versions"] == first["model_versions"][:3]
