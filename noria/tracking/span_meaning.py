"""What the attributes of spans mean: MLflow's own names first, then OpenTelemetry's for generative models, then OpenInference's."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.kernel.errors import Invalid
from noria.tracking.model import check_key, check_value
from noria.tracking.trace_model import DERIVED_TAGS, NAME_TAG, PREVIEW_LENGTH_MAX, Span

_NAMES = {
    "inputs": ("mlflow.spanInputs", "gen_ai.input.messages", "input.value", "gen_ai.prompt"),
    "outputs": ("mlflow.spanOutputs", "gen_ai.output.messages", "output.value", "gen_ai.completion"),
    "kind": ("mlflow.spanType", "openinference.span.kind", "gen_ai.operation.name", "traceloop.span.kind"),
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
}
_USAGE = "mlflow.chat.tokenUsage"
_TAG_PREFIX = "mlflow.traceTag."
_KINDS = {
    "CHAT": "CHAT_MODEL",
    "TEXT_COMPLETION": "LLM",
    "EXECUTE_TOOL": "TOOL",
    "INVOKE_AGENT": "AGENT",
    "EMBEDDINGS": "EMBEDDING",
}
_INT64 = 1 << 63


def meaning(attributes: dict[str, Any], what: str) -> Any:
    """The first attribute that says `what`: inputs, outputs, kind; None when none does."""
    return next((attributes[name] for name in _NAMES[what] if attributes.get(name) is not None), None)


def kind_of(attributes: dict[str, Any]) -> str:
    """LLM, TOOL, RETRIEVER and so on, in MLflow's words; UNKNOWN when nothing says so."""
    said = meaning(attributes, "kind")
    word = str(said).upper()[:64] if isinstance(said, str) and said else "UNKNOWN"
    return _KINDS.get(word, word)


def preview(span: Span, what: str) -> str | None:
    """The beginning of the inputs or outputs of a span, as text. What the last person or the assistant said, if it is a chat."""
    found = meaning(span.attributes, what)
    if found is None:
        return None
    text = _said(found, "user" if what == "inputs" else "assistant") or found
    if not isinstance(text, str):
        text = msgspec.json.encode(text).decode()
    return text if len(text) <= PREVIEW_LENGTH_MAX else text[: PREVIEW_LENGTH_MAX - 3] + "..."


def _said(value: Any, role: str) -> str:
    messages = value
    if isinstance(value, dict):
        messages = value.get("messages") or value.get("input")
        if messages is None and isinstance(value.get("choices"), list):
            messages = [c.get("message") for c in value["choices"] if isinstance(c, dict)]
    if not isinstance(messages, list):
        return ""
    spoken = [m.get("content") for m in messages if isinstance(m, dict) and m.get("role") == role]
    return next((text for text in reversed(spoken) if isinstance(text, str)), "")


def tokens_of(attributes: dict[str, Any]) -> tuple[int, int] | None:
    """How many tokens went in and came out, when a span says so."""
    usage = attributes.get(_USAGE)
    if isinstance(usage, dict):
        found = usage.get("input_tokens"), usage.get("output_tokens")
    else:
        found = meaning(attributes, "input_tokens"), meaning(attributes, "output_tokens")
    if found == (None, None):
        return None
    counts = [n if isinstance(n, int) and not isinstance(n, bool) and 0 <= n < _INT64 else 0 for n in found]
    return counts[0], counts[1]


def top_tokens(nodes: list[Any]) -> str:
    """The tokens of a trace, as MLflow writes them. A span that counts them counts for the spans below it.

    `nodes`: (span, parent, input, output), the last two None where a span does not count.
    """
    parents = {span_id: parent_id for span_id, parent_id, _, _ in nodes}
    counted = {span_id for span_id, _, found, _ in nodes if found is not None}
    total = [0, 0]
    for span_id, parent_id, found_in, found_out in nodes:
        if found_in is None:
            continue
        above, seen = parent_id, {span_id}
        while above and above not in counted and above not in seen:
            seen.add(above)
            above = parents.get(above, "")
        if not above or above in seen:  # at the top, or in a circle that no one can read
            total[0], total[1] = total[0] + found_in, total[1] + found_out
    if not counted:
        return ""
    said = {"input_tokens": total[0], "output_tokens": total[1], "total_tokens": sum(total)}
    return msgspec.json.encode(said).decode()


def trace_tags(span: Span) -> dict[str, str]:
    """Tags of the trace that come with a span: of its resource, and those its root carries for the trace, which win.

    As in MLflow, names of MLflow's and of the SDK itself are left out, and so is what no tag can hold; the span keeps it.
    """
    found = {
        key: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for key, value in span.resource.items()
        if not key.startswith(("telemetry.sdk.", "mlflow."))
    }
    if not span.parent_id:
        for key, value in span.attributes.items():
            name = key.removeprefix(_TAG_PREFIX)
            if key != name and name != NAME_TAG and name not in DERIVED_TAGS:
                found[name] = str(value)
    return {key: value for key, value in found.items() if _fits(key, value)}


def _fits(key: str, value: str) -> bool:
    try:
        check_value(check_key(key, "tag"), value, "tag")
    except Invalid:
        return False
    return True
