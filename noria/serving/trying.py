"""Ask an endpoint from the control plane, for the form on its page: a browser does not speak with the gateway's origin."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
from msgspec import Struct

from noria.kernel.errors import Invalid, NotFound, Unavailable
from noria.kernel.ids import Ref
from noria.kernel.op import Op

ROWS_MAX = 100
TIMEOUT_S = 20.0


class TryRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows by column name; `key` decides the side of a split. What is asked is recorded like any other request."""

    rows: list[dict[str, Any]]
    key: str = ""
    explain: bool = False  # what each feature contributed, too


class Tried(Struct, frozen=True, kw_only=True):
    """What came back, and how long it took from here."""

    predictions: Any
    prediction_id: str
    model: str
    latency_ms: float
    explanations: list[dict[str, Any]] = []  # one a row, as KServe's V1 has them
    space: str = ""  # what they add up to, in words
    refusal: str = ""  # why there are none


class Trying:
    """See the module. The caller's right to predict is checked here; the gateway trusts the server's own token."""

    def __init__(self, gateway_url: str, token: str) -> None:
        self._url, self._token = gateway_url, token

    def ask(self, op: Op, endpoint: str, wanted: TryRequest) -> Tried:
        """Raises Forbidden, Invalid (with the gateway's words), Unavailable."""
        op.require("endpoint.predict", Ref("endpoint", endpoint))
        if not 1 <= len(wanted.rows) <= ROWS_MAX:
            raise Invalid(f"1 to {ROWS_MAX} rows are asked at once.", where="rows")
        if wanted.key != wanted.key.strip() or not wanted.key.isprintable():
            raise Invalid("A key has no line breaks and no spaces around it.", where="key")
        headers = {b"authorization": f"Bearer {self._token}".encode(), b"content-type": b"application/json"}
        if wanted.key:
            headers[b"x-noria-key"] = wanted.key.encode()  # the gateway reads keys as UTF-8
        try:
            answer = httpx.post(
                httpx.URL(self._url).copy_with(path=f"/endpoints/{endpoint}/invocations"), headers=headers, timeout=TIMEOUT_S,
                content=msgspec.json.encode({"dataframe_records": wanted.rows}),
            )  # fmt: skip
        except (httpx.HTTPError, UnicodeEncodeError) as cause:
            raise Unavailable(f"The gateway does not answer at {self._url}.", retry_after_s=2) from cause
        said = msgspec.json.decode(answer.content)
        if answer.status_code == 404:
            raise NotFound(str(said.get("message", answer.text)), ref=Ref("endpoint", endpoint))
        if answer.status_code >= 500:
            raise Unavailable(str(said.get("message", answer.text)), retry_after_s=2)
        if answer.is_error:
            raise Invalid(str(said.get("message", answer.text)), where="rows")
        explained: dict[str, Any] = {}
        if wanted.explain:
            explained = self._explained(endpoint, answer.headers["x-noria-model"].rpartition("@")[2], wanted.rows, headers)
        return Tried(
            predictions=said.get("predictions"), prediction_id=answer.headers["x-noria-prediction-id"],
            model=answer.headers["x-noria-model"], latency_ms=answer.elapsed.total_seconds() * 1000,
            explanations=explained.get("explanations", []), space=explained.get("space", ""), refusal=explained.get("error", ""),
        )  # fmt: skip

    def _explained(
        self, endpoint: str, version: str, rows: list[dict[str, Any]], headers: dict[bytes, bytes]
    ) -> dict[str, Any]:
        """Of the version that answered; or its refusal, under `error`."""
        path = f"/v1/models/{endpoint}/versions/{version}:explain"
        try:
            answer = httpx.post(
                httpx.URL(self._url).copy_with(path=path), headers=headers, timeout=TIMEOUT_S,
                content=msgspec.json.encode({"instances": rows}),
            )  # fmt: skip
        except httpx.HTTPError as cause:
            return {"error": f"The gateway does not answer at {self._url}: {cause}."}
        return msgspec.json.decode(answer.content, type=dict[str, Any])
