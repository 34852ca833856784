"""Versions: their content never changes, whatever happens to the run they come from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from blake3 import blake3

from noria.kernel.errors import Conflict, Invalid, NotFound
from noria.kernel.ids import Ref
from noria.registry.model import Changes, Evaluation, ModelFile, ModelVersion
from tests.conftest import Noria
from tests.registry.conftest import FILES, FakeLogged, FakeTracking

Given = Callable[..., ModelVersion]
HUGE = b'{"dataset_version": "d", "split": "s", "metrics": {"a": 1e400}}'


def test_a_version_says_what_its_directory_says(noria: Noria, given_version: Given) -> None:
    made = given_version()
    assert (made.model, made.number, made.status) == ("flights", 1, "READY")
    assert sorted(made.flavors) == ["python_function", "sklearn"]
    assert made.signature == {
        "inputs": [{"type": "double", "name": "hour", "required": True}],
        "outputs": [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}],
        "params": [],
    }
    assert made.input_example == {"dataframe_split": {"columns": ["hour"], "data": [[7.5]]}}
    assert made.packages == ["scikit-learn==1.7.0", "numpy>=2"]
    assert len(made.environment_digest) == 64
    assert made.files_count == len(FILES) and made.size_bytes == sum(map(len, FILES.values()))
    assert [f.path for f in noria.app.registry.files(noria.op(), made)] == sorted(FILES)


def test_a_later_change_of_the_run_changes_no_version(noria: Noria, given_version: Given, tracking: FakeTracking) -> None:
    made = given_version()
    tracking.put(made.run_id, "model/model.pkl", b"another model")
    again = noria.app.registry.version(noria.op(), "flights@1")
    assert again.digest == made.digest
    _, chunks = noria.app.registry.open_file(noria.op(), again, "model.pkl")
    assert b"".join(chunks) == FILES["model.pkl"]
    changed = noria.app.registry.create_version(noria.op(), "flights", source=f"runs:/{made.run_id}/model")
    assert changed.number == 2 and changed.digest != made.digest


def test_the_digest_is_of_paths_and_contents_alone(noria: Noria, given_version: Given) -> None:
    one, two, three = given_version(), given_version(), given_version(extra=b"x")
    assert one.digest == two.digest != three.digest
    expected = blake3()
    for path in sorted(FILES):
        expected.update(len(path).to_bytes(8, "big") + path.encode() + blake3(FILES[path]).digest())
    assert one.digest == expected.hexdigest()


def test_numbers_are_never_used_twice(noria: Noria, given_version: Given) -> None:
    given_version()
    given_version()
    noria.app.registry.delete_version(noria.op(), "flights", 2)
    assert given_version().number == 3
    assert [v.number for v in noria.app.registry.versions(noria.op(), "flights").items] == [3, 1]


def test_handles_name_versions(noria: Noria, given_version: Given) -> None:
    one, two = given_version(), given_version()
    noria.app.registry.promote(noria.op(), one, "champion")
    for handle, expected in {
        "flights@1": one, "flights@champion": one, "model:flights@2": two, "flights@latest": two,
        f"flights@{two.id}": two, f"model_version:{one.id}": one,
    }.items():  # fmt: skip
        assert noria.app.registry.version(noria.op(), handle).id == expected.id
    for handle, error in {
        "flights": Invalid, "flights@9": NotFound, "flights@nobody": NotFound, "trains@1": NotFound,
        "model_version:beef": NotFound, "dataset:flights@1": Invalid, "flights@99999999999999999999": NotFound,
    }.items():  # fmt: skip
        with pytest.raises(error):
            noria.app.registry.version(noria.op(), handle)


def test_a_version_of_a_logged_model_and_of_another_version(
    noria: Noria, tracking: FakeTracking, given_version: Given
) -> None:
    origin = given_version()
    tracking.logged["m-1"] = FakeLogged("m-1", origin.run_id)
    for path, data in FILES.items():
        tracking.put("m-1", path, data)
    registry, op = noria.app.registry, noria.op()
    logged = registry.create_version(op, "flights", source="models:/m-1")
    located = registry.create_version(op, "flights", source="mlflow-artifacts:/e1/models/m-1/artifacts")
    copied = registry.create_version(op, "production-flights", source="models:/flights/1")
    assert {v.digest for v in (logged, located, copied)} == {origin.digest}
    assert {v.run_id for v in (logged, located, copied)} == {origin.run_id}
    assert logged.logged_model == located.logged_model == "m-1"
    assert copied.number == 1


@pytest.mark.parametrize(
    "source",
    [
        "file:///etc", "/etc/passwd", "etc", "http://169.254.169.254/latest", "s3://other/bucket", "runs:/../../etc",
        "runs:/%2e%2e/x", "runs:/a/..%2f..", "runs:/a\\..\\b", "runs:/a/../b", "runs:/a//b", "runs://host/a/b", "C:/x",
        "mlflow-artifacts:/C:/x/artifacts", "mlflow-artifacts://elsewhere/0/r/artifacts", "mlflow-artifacts:/0/../r/x",
        "mlflow-artifacts:/0/r/elsewhere", "models:/", "models:/a/b/c", "models:/m-1/../x", "runs:/a;b", "runs:/a?x=1",
        "runs:/a#x", "runs:/a\x00b", "runs:/" + "a" * 3000, "dbfs:/x", "RUNS:/x", "", "runs:/ab\u2028", "models:/flights@",
    ],
)  # fmt: skip
def test_a_source_elsewhere_is_refused(noria: Noria, tracking: FakeTracking, source: str) -> None:
    answer = noria.http.post("/api/v1/models/flights/versions", json={"source": source})
    assert answer.status_code in (400, 404), answer.text
    old = noria.http.post("/api/2.0/mlflow/model-versions/create", json={"name": "flights", "source": source})
    assert old.status_code in (400, 404) and "error_code" in old.json()
    assert noria.http.get("/api/v1/models").json()["items"] == []


def test_a_source_without_files_is_refused(noria: Noria, given_run: Callable[..., str]) -> None:
    with pytest.raises(Invalid, match="no files"):
        noria.app.registry.create_version(noria.op(), "flights", source=f"runs:/{given_run()}/nothing-here")


@pytest.mark.parametrize(
    "content",
    [
        b"!!python/object/apply:os.system ['true']", b"flavors: [", b"- a list", b"\xff\xfe",
        b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
        b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]",
        b"a: " + b"[" * 5000, b"x: " + b"y" * (1 << 20), b"signature: {inputs: '[{'}", b"a: &a {b: *a}",
    ],
)  # fmt: skip
def test_a_hostile_description_is_refused(noria: Noria, given_version: Given, content: bytes) -> None:
    with pytest.raises(Invalid):
        given_version(MLmodel=content)
    assert noria.app.registry.models(noria.op()).items == []


def test_a_directory_without_a_description_is_registered_as_it_is(
    noria: Noria, tracking: FakeTracking, given_run: Callable[..., str]
) -> None:
    run_id = given_run()
    tracking.put(run_id, "weights/w.bin", b"123")
    made = noria.app.registry.create_version(noria.op(), "plain", source=f"runs:/{run_id}/weights")
    assert (made.flavors, made.signature, made.input_example, made.environment_digest) == ({}, None, None, "")


def test_lineage_is_taken_from_the_run(noria: Noria, given_run: Callable[..., str]) -> None:
    run_id = given_run()
    with noria.app.db.write(noria.op()) as tx:
        tx.link(Ref("run", run_id), "read", Ref("dataset_version", "d1"))
    made = noria.app.registry.create_version(noria.op(), "flights", source=f"runs:/{run_id}/model")
    page = noria.http.get(f"/api/v1/models/flights/versions/{made.number}").json()
    assert {(e["kind"], e["ref"]) for e in page["edges"]} == {
        ("built_by", f"run:{run_id}"),
        ("trained_on", "dataset_version:d1"),
    }
    passport = noria.http.get("/api/v1/models/flights/versions/1/passport").json()["passport"]
    assert passport["run"]["id"] == run_id and passport["run"]["experiment"] == "flights"
    assert passport["code"] == {"commit": "c0ffee", "is_dirty": True, "diff_digest": None, "argv": "train.py --depth 3"}
    assert [d["id"] for d in passport["datasets"]] == ["d1"]
    assert passport["files"]["digests"]["model.pkl"] == blake3(FILES["model.pkl"]).hexdigest()


def test_the_latest_evaluation_per_split_counts_and_none_is_lost(noria: Noria, given_version: Given) -> None:
    made = given_version()
    registry, op = noria.app.registry, noria.op()
    for value in (0.5, 0.4):
        registry.set_evaluation(
            op, made, Evaluation(dataset_version="dataset_version:d1", split="test", metrics={"loss": value})
        )
    found = registry.set_evaluation(
        op,
        made.ref,
        Evaluation(dataset_version="d1", split="recent", metrics={"loss": 0.7}, slices={"origin=EWR": {"loss": 0.9}}),
    )
    assert {(e.split, e.metrics["loss"]) for e in found.evaluations} == {("test", 0.4), ("recent", 0.7)}
    assert len(noria.facts("model_version.evaluated")) == 3
    with pytest.raises(Invalid, match="finite"):
        registry.set_evaluation(op, made, Evaluation(dataset_version="d1", split="x", metrics={"loss": float("nan")}))
    assert noria.http.post(
        "/api/v1/models/flights/versions/1/evaluations", content=HUGE,
        headers={"content-type": "application/json"},
    ).status_code == 400  # fmt: skip


def test_a_needed_version_cannot_be_deleted(noria: Noria, given_version: Given) -> None:
    made = given_version()
    registry, op = noria.app.registry, noria.op()
    registry.promote(op, made, "champion")
    for attempt in (
        lambda: registry.delete_version(op, "flights", 1),
        lambda: registry.delete_model(op, "flights"),
        lambda: registry.rename_model(op, "flights", "trains"),
    ):
        with pytest.raises(Conflict, match="alias:flights@champion"):
            attempt()
    registry.remove_alias(op, "flights", "champion")
    assert registry.rename_model(op, "flights", "trains").name == "trains"
    registry.delete_model(op, "trains")
    assert registry.models(op).items == []
    assert given_version("trains").number == 1


def test_tags_and_description_change_the_content_does_not(noria: Noria, given_version: Given) -> None:
    made = given_version()
    found = noria.app.registry.change_version(
        noria.op(), "flights", 1, Changes(description="good", tags={"a": "1", "b": "2"})
    )
    found = noria.app.registry.change_version(noria.op(), "flights", 1, Changes(tags={"a": None}))
    assert (found.description, found.tags, found.digest) == ("good", {"b": "2"}, made.digest)
    assert noria.http.patch("/api/v1/models/flights/versions/1", json={"digest": "x"}).status_code == 400


def test_the_collector_learns_which_blobs_versions_need(noria: Noria, given_version: Given) -> None:
    made = given_version()
    files: list[ModelFile] = noria.app.registry.files(noria.op(), made)
    with noria.app.db.read() as tx:
        in_use = noria.app.registry.digests_in_use(tx, [files[0].digest, "0" * 64])
    assert in_use == {files[0].digest}


def test_lists_are_paged_and_filtered(noria: Noria, given_version: Given) -> None:
    for name in ("a", "b", "c"):
        given_version(name)
        noria.clock.advance(1)
    noria.app.registry.change_version(noria.op(), "b", 1, Changes(tags={"colour": "Red"}))
    first = noria.http.get("/api/v1/models", params={"limit": 2}).json()
    rest = noria.http.get("/api/v1/models", params={"limit": 2, "page": first["next"]}).json()
    assert [m["name"] for m in first["items"] + rest["items"]] == ["a", "b", "c"] and rest["next"] is None
    search = noria.app.registry.search_versions
    for text, expected in {
        "name = 'b'": ["b"], "tags.colour = 'Red'": ["b"], "tags.colour like 'R%'": ["b"], "tags.colour like 'r%'": [],
        "tags.colour ilike 'r_D'": ["b"], "tags.colour is null": ["c", "a"], "version_number >= 1": ["b", "c", "a"],
        "name in ('a', 'c')": ["c", "a"], "name not like 'a%'": ["b", "c"],
        "tags.`mlflow.prompt.is_prompt` != 'true'": ["b", "c", "a"], "source_path like 'runs:/%'": ["b", "c", "a"],
    }.items():  # fmt: skip
        assert [v.model for v in search(noria.op(), filter=text).items] == expected, text
    found, page = [], ""
    while True:
        part = search(noria.op(), order_by=["name desc"], limit=1, page=page)
        found += [v.model for v in part.items]
        if not part.next:
            break
        page = part.next
    assert found == ["c", "b", "a"]
    for bad in ("nonsense = 1", "version_number = 'x'", "name = 3", "metrics.x > 1", "name"):
        assert noria.http.get("/api/v1/models", params={"filter": bad}).status_code == 400, bad


def test_a_binding_on_one_model_shows_that_one(noria: Noria, given_version: Given) -> None:
    from noria.access.model import Grant

    one, other = given_version("mine"), given_version("theirs")
    bob = noria.as_("bob")
    assert bob.get("/api/v1/models").status_code == 403
    noria.app.access.grant(noria.system(), Grant(principal="bob", role="viewer", scope="model:mine"))
    assert [m["name"] for m in bob.get("/api/v1/models").json()["items"]] == ["mine"]
    assert bob.get("/api/v1/models/mine/versions/1").json()["version"]["id"] == one.id
    hidden = bob.get("/api/v1/models/theirs/versions/1")
    absent = bob.get("/api/v1/models/absent/versions/1")
    assert hidden.status_code == absent.status_code == 403
    assert other.id not in bob.get("/api/2.0/mlflow/model-versions/search").text
    assert bob.put("/api/v1/models/mine/aliases/champion", json={"version": 1}).status_code == 403


def test_a_file_is_previewed_as_it_was_registered(noria: Noria, given_version: Given, tracking: FakeTracking) -> None:
    made = given_version()
    tracking.put(made.run_id, "model/requirements.txt", b"something else\n")
    at = f"/api/v1/models/{made.model}/versions/1/preview"
    shown = noria.http.get(at, params={"path": "requirements.txt"}).json()
    assert (shown["kind"], shown["text"].encode()) == ("text", FILES["requirements.txt"])
    assert noria.http.get(at, params={"path": "model.pkl"}).json()["digest"] == blake3(FILES["model.pkl"]).hexdigest()
    for path in ("nothing", "../requirements.txt", "/etc/passwd", ""):
        assert noria.http.get(at, params={"path": path}).status_code == 404, path
