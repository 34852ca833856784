"""Steps about prompts: registered models of text."""

from __future__ import annotations

from tests.protocol.differential.api import Api
from tests.protocol.differential.registry import ML, MV
from tests.protocol.differential.tracking import tags

IS = {"key": "mlflow.prompt.is_prompt", "value": "true"}


def play(api: Api) -> None:
    api.post("prompt made", f"{ML}/create", name="p-one", tags=[IS, *tags(author="ada")])
    text = [IS, {"key": "mlflow.prompt.text", "value": "Hi {{x}}"}]
    api.post("prompt version", f"{MV}/create", name="p-one", source="prompt-template", tags=text, description="one")
    api.post("prompt version of the pages", f"{MV}/create", name="p-one", source="dummy-source", tags=text)
    api.post("prompt version of a file", f"{MV}/create", name="p-one", source="file:///etc", tags=text)
    api.post("prompt version of another model", f"{MV}/create", name="flights", source="models:/p-one/1")
    api.post("prompt alias", f"{ML}/alias", name="p-one", alias="production", version="1")
    api.get("prompt by alias", f"{ML}/alias", name="p-one", alias="production")
    api.post("prompt tag", f"{ML}/set-tag", name="p-one", key="team", value="x")
    api.post("model beside the prompt", f"{ML}/create", name="p-plain")
    for filter in ("name LIKE 'p-%'", "tags.`mlflow.prompt.is_prompt` = 'true'", "tags.`mlflow.prompt.is_prompt` != 'true'",
                   "tags.`mlflow.prompt.is_prompt` = 'false'", "tags.`mlflow.prompt.is_prompt` != 'false'",
                   "tags.`mlflow.prompt.is_prompt` = 'true' AND tags.team = 'x'", "name = 'p-one'"):  # fmt: skip
        mine = f"name LIKE 'p-%' AND {filter}"
        api.get(f"prompts or models where {filter}", f"{ML}/search", filter=mine)
        api.get(f"versions of prompts or models where {filter}", f"{MV}/search", filter=mine, order_by=["version_number"])
    api.delete("prompt version removed", f"{MV}/delete", name="p-one", version="2")
