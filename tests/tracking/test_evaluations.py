"""Evaluation datasets through the door, on both databases."""

from __future__ import annotations

import json
from typing import Any

from tests.conftest import Noria

ROOT = "/api/3.0/mlflow/datasets"


def create(noria: Noria, name: str = "faq", **more: Any) -> dict[str, Any]:
    answer = noria.http.post(f"{ROOT}/create", json={"name": name, "experiment_ids": ["0"], **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["dataset"])


def upsert(noria: Noria, dataset: str, *records: Any, http: Any = None) -> Any:
    return (http or noria.http).post(f"{ROOT}/{dataset}/records", json={"records": json.dumps(records)})


def records(noria: Noria, dataset: str, **query: Any) -> list[dict[str, Any]]:
    return list(json.loads(noria.http.get(f"{ROOT}/{dataset}/records", params=query).json()["records"]))


def test_records_with_the_same_inputs_are_one(noria: Noria) -> None:
    made = create(noria, tags=json.dumps({"team": "a"}))
    dataset = made["dataset_id"]
    assert (made["name"], json.loads(made["tags"]), made["experiment_ids"]) == ("faq", {"team": "a"}, ["0"])
    first = {"inputs": {"q": "why", "n": 1}, "expectations": {"a": "b"}, "tags": {"k": "v"}}
    assert upsert(noria, dataset, first, {"inputs": {"q": "how"}, "outputs": ["x"]}).json() == {
        "inserted_count": 2,
        "updated_count": 0,
    }
    noria.clock.advance(5)
    source = {"source_type": "TRACE", "source_data": {"trace_id": "tr-1"}}
    again = {"inputs": {"n": 1, "q": "why"}, "expectations": {"c": 1.5}, "source": source}
    assert upsert(noria, dataset, again).json() == {"inserted_count": 0, "updated_count": 1}
    kept = {r["inputs"]["q"]: r for r in records(noria, dataset)}
    assert (kept["why"]["expectations"], kept["why"]["tags"]) == ({"a": "b", "c": 1.5}, {"k": "v"})
    assert (kept["why"]["source"], kept["why"]["source_id"], kept["how"]["outputs"]) == (source, "tr-1", ["x"])
    got = noria.http.get(f"{ROOT}/{dataset}").json()["dataset"]
    assert json.loads(got["profile"]) == {"num_records": 2} and got["digest"] != made["digest"]
    assert json.loads(got["schema"])["inputs"] == {"q": "string", "n": "integer"}
    removed = noria.http.request(
        "DELETE", f"{ROOT}/{dataset}/records", json={"dataset_record_ids": [kept["how"]["dataset_record_id"], "x"]}
    )
    assert removed.json() == {"deleted_count": 1} and len(records(noria, dataset)) == 1
    changed = [(f.data["inserted"], f.data["updated"], f.data["deleted"]) for f in noria.facts("evaluation_dataset.changed")]
    assert changed == [(2, 0, 0), (0, 1, 0), (0, 0, 1)]


def test_records_are_paged(noria: Noria) -> None:
    dataset = create(noria)["dataset_id"]
    upsert(noria, dataset, *[{"inputs": {"i": i}} for i in range(5)])
    seen, token = [], None
    while token or not seen:
        page = noria.http.get(
            f"{ROOT}/{dataset}/records", params={"max_results": 2, **({"page_token": token} if token else {})}
        ).json()
        seen += [r["inputs"]["i"] for r in json.loads(page["records"])]
        token = page.get("next_page_token")
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert noria.http.get(f"{ROOT}/{dataset}/records", params={"page_token": "zz"}).status_code == 400


def test_datasets_are_found_linked_and_removed(noria: Noria) -> None:
    other = noria.app.tracking.create_experiment(noria.op(), "other").id
    first, second = create(noria, "faq")["dataset_id"], create(noria, "bugs", tags='{"team": "a"}')["dataset_id"]

    def found(filter: str = "", experiments: list[str] | None = None) -> list[str]:
        body = {"filter_string": filter, "experiment_ids": experiments or [], "order_by": ["name ASC"]}
        return [d["name"] for d in noria.http.post(f"{ROOT}/search", json=body).json()["datasets"]]

    assert (found(), found("name LIKE 'f%'"), found("tags.team = 'a'"), found("", [other])) == (
        ["bugs", "faq"],
        ["faq"],
        ["bugs"],
        [],
    )
    linked = noria.http.post(f"{ROOT}/{first}/add-experiments", json={"experiment_ids": [other]}).json()["dataset"]
    assert linked["experiment_ids"] == ["0", other] and found("", [other]) == ["faq"]
    assert noria.http.get(f"{ROOT}/{first}/experiment-ids").json() == {"experiment_ids": ["0", other]}
    left = noria.http.post(f"{ROOT}/{first}/remove-experiments", json={"experiment_ids": ["0"]}).json()["dataset"]
    assert left["experiment_ids"] == [other]
    assert noria.http.patch(f"{ROOT}/{second}/tags", json={"tags": '{"b": 1, "c": null}'}).status_code == 200
    assert noria.http.delete(f"{ROOT}/{second}/tags/team").status_code == 200
    assert json.loads(noria.http.get(f"{ROOT}/{second}").json()["dataset"]["tags"]) == {"b": "1"}
    assert noria.http.delete(f"{ROOT}/{second}").status_code == 200 and found() == ["faq"]
    assert noria.http.get(f"{ROOT}/{second}").status_code == 404
    kinds = [f.kind for f in noria.facts("evaluation_dataset.created", "evaluation_dataset.deleted")]
    assert kinds == ["evaluation_dataset.created"] * 2 + ["evaluation_dataset.deleted"]


def test_what_cannot_be_kept_is_refused(noria: Noria) -> None:
    dataset = create(noria)["dataset_id"]
    for body in ({"name": ""}, {"name": "x" * 501}, {"name": "a\x00"}, {"name": "a", "tags": "[]"}, {"name": "a", "tags": "{"},
                 {"name": "a", "tags": json.dumps({f"k{i}": "" for i in range(1001)})},
                 {"name": "a", "tags": '{"a": "\\u0000"}'}):  # fmt: skip
        answer = noria.http.post(f"{ROOT}/create", json={"experiment_ids": ["0"], **body})
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), body
    assert noria.http.post(f"{ROOT}/create", json={"name": "a", "experiment_ids": ["none"]}).status_code == 404
    for text in ("", "{", "{}", '[{"inputs": 1}]', '[{"inputs": {"a": NaN}}]', '[{"tags": {"a": 1}}]', '[{"inputs": {"a": "\\ud800"}}]',
                 "[" * 50_000, json.dumps([{"inputs": {"a": "x" * (1 << 20)}}]),
                 json.dumps([{"source": {"source_type": "x" * 99}}])):  # fmt: skip
        answer = noria.http.post(f"{ROOT}/{dataset}/records", json={"records": text})
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), text[:80]
    assert upsert(noria, dataset, *[{"inputs": {"i": i}} for i in range(10_001)]).status_code == 413
    assert noria.http.post(f"{ROOT}/search", json={"filter_string": "loss < 1"}).status_code == 400
    assert records(noria, dataset) == []


def test_who_may_do_what(noria: Noria) -> None:
    mine, secret = (noria.app.tracking.create_experiment(noria.op(), n).id for n in ("mine", "secret"))
    hidden = create(noria, "hidden", experiment_ids=[secret])["dataset_id"]
    both = create(noria, "both", experiment_ids=[mine, secret])["dataset_id"]
    nowhere = create(noria, "nowhere", experiment_ids=[])["dataset_id"]
    eve = noria.as_("eve")
    noria.http.post("/api/v1/grants", json={"principal": "eve", "role": "contributor", "scope": f"experiment:{mine}"})
    assert [eve.get(f"{ROOT}/{d}").status_code for d in (hidden, both, nowhere)] == [404, 200, 404]
    assert [d["name"] for d in eve.post(f"{ROOT}/search", json={}).json()["datasets"]] == ["both"]
    assert upsert(noria, both, {"inputs": {"a": 1}}, http=eve).status_code == 403, "writing takes all experiments"
    assert eve.post(f"{ROOT}/create", json={"name": "x"}).status_code == 403
    assert eve.post(f"{ROOT}/create", json={"name": "x", "experiment_ids": [mine]}).status_code == 200
    assert eve.post(f"{ROOT}/create", json={"name": "x", "experiment_ids": [secret]}).status_code == 404
    auditor = noria.as_("auditor", "auditor")
    assert [auditor.get(f"{ROOT}/{both}{p}").status_code for p in ("", "/records")] == [200, 403]
