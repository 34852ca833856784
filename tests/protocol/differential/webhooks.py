"""Steps about webhooks. Nothing is delivered: the address is one that neither server ever calls here."""

from __future__ import annotations

from tests.protocol.differential.api import Api

URL = "https://8.8.8.8/hook"  # an address, so that nobody asks a name server
MADE = {"entity": "REGISTERED_MODEL", "action": "CREATED"}


def play(api: Api) -> None:
    made = api.post("webhook", "webhooks", name="hook", url=URL, events=[MADE], description="why", secret="hush")
    first = api.known_as(made["webhook"]["webhook_id"], "hook")
    api.answers["webhook"][1]["webhook"]["webhook_id"] = "<hook>"
    api.get("webhook read", f"webhooks/{first}")
    api.get("webhooks", "webhooks")
    for what, changes in (
        ("described", {"description": "other"}), ("undescribed", {"description": ""}), ("off", {"status": "DISABLED"}),
        ("on", {"status": "ACTIVE"}), ("renamed", {"name": "renamed"}), ("of other events", {"events": [{
            "entity": "PROMPT_ALIAS", "action": "DELETED"}, {"entity": "MODEL_VERSION_TAG", "action": "SET"}]}),
        ("as it was", {}), ("elsewhere", {"url": URL + "/other"}), ("of no scheme", {"url": "ftp://8.8.8.8"}),
        ("of no name", {"name": "-"}),
    ):  # fmt: skip
        api.patch(f"webhook {what}", f"webhooks/{first}", **changes)
    for what, wrong in (
        ("without url", {"url": ""}), ("of a bad url", {"url": "x"}), ("of no events", {"events": []}), ("of a bad name", {"name": "a b"}),
        ("of a wrong pair", {"events": [{"entity": "PROMPT", "action": "SET"}]}),
    ):  # fmt: skip
        api.post(f"webhook {what}", "webhooks", **{"name": "wrong", "url": URL, "events": [MADE], **wrong})
    api.post("webhook of nothing", "webhooks")
    for count in (0, 1, 1000, 1001, -1):
        api.get(f"webhooks {count}", "webhooks", max_results=count)
    api.get("webhook unknown", "webhooks/" + "f" * 32)
    api.patch("webhook unknown changed", "webhooks/" + "f" * 32, description="x")
    api.delete("webhook unknown removed", "webhooks/" + "f" * 32)
    api.delete("webhook removed", f"webhooks/{first}")
    api.get("webhook after its end", f"webhooks/{first}")
    api.get("webhooks after all", "webhooks")
    api.post("webhook of a private address", "webhooks", name="inside", url="https://10.0.0.1/x", events=[MADE])
