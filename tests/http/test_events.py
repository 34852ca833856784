"""The list of facts: narrowed by kind, subject and actor, in both directions."""

from __future__ import annotations

from tests.conftest import Noria


def test_facts_about_several_things_are_asked_for_at_once(noria: Noria) -> None:
    made = [noria.http.post("/api/v1/groups", json={"name": name}) for name in ("a", "b", "c")]
    assert [answer.status_code for answer in made] == [200] * 3, made[0].text
    a, b, c = [f"group:{answer.json()['id']}" for answer in made]

    def found(**params: object) -> list[str]:
        answer = noria.http.get("/api/v1/events", params={"kinds": "group.created", **params})
        assert answer.status_code == 200, answer.text
        return [fact["subject"] for fact in answer.json()["items"]]

    assert found() == [c, b, a]
    assert found(subject=b) == [b]
    assert found(subject=f"{c}, {a}") == [c, a]
    assert found(subject=f"{c},{a}", after=0) == [a, c]
    assert found(actor="nobody", after=0) == found(actor="nobody") == []
    refused = noria.http.get("/api/v1/events", params={"subject": ",".join(f"group:{i}" for i in range(101))})
    assert refused.status_code == 400 and "At most 100" in refused.text
