"""Facts in the words of others: OCSF for security tools, CloudEvents for everything that takes events.

A mapping and nothing else: a fact keeps its number, and its data is there whole, so that what OCSF has no word for is not lost.
OCSF 1.3 (schema.ocsf.io); CloudEvents 1.0 in its JSON format (cloudevents.io).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from noria import __version__

OCSF_VERSION = "1.3.0"
# noun → (class, category, title). What is not here is API Activity: somebody did something through the API.
_CLASSES = {
    "session": (3002, 3, "Authentication"), "sign_in": (3002, 3, "Authentication"),
    "principal": (3001, 3, "Account Change"), "token": (3001, 3, "Account Change"),
    "grant": (3005, 3, "User Access Management"), "compliance": (2003, 2, "Compliance Finding"),
}  # fmt: skip
_API = (6003, 6, "API Activity")
# The numbers of activities differ per class; 99 is "other", and then the name says which.
_ACTIVITIES: dict[int, dict[str, int]] = {
    3002: {"started": 1, "ended": 2, "refused": 1},
    3001: {"created": 1, "disabled": 5, "revoked": 6},
    3005: {"added": 1, "removed": 2},
    2003: {"changed": 2},
    6003: {"created": 1, "updated": 3, "changed": 3, "saved": 3, "deleted": 4, "removed": 4, "purged": 4},
}
_ACTOR_TYPES = {"user": (1, "User"), "system": (3, "System"), "service": (99, "Service"), "trigger": (99, "Trigger")}
_HIGH = {"approval.overridden", "blob.damaged", "model_version.scan_accepted"}


def to_ocsf(row: dict[str, Any]) -> dict[str, Any]:
    """A fact, its nine columns, as an OCSF event."""
    noun, _, verb = row["kind"].partition(".")
    class_uid, category_uid, title = _CLASSES.get(noun, _API)
    activity = _ACTIVITIES[class_uid].get(verb, 99)
    data = msgspec.json.decode(row["data"])
    is_refused = verb == "refused" or (row["kind"] == "policy.judged" and not data.get("allowed", True))
    is_gap = row["kind"] == "compliance.changed" and data.get("now") == "fail"
    is_failed = is_refused or is_gap or verb in ("failed", "lost")
    is_bad_scan = row["kind"] == "model_version.scanned" and data.get("status") == "suspicious"
    severity = (4, "High") if row["kind"] in _HIGH or is_bad_scan else (3, "Medium") if is_failed else (1, "Informational")
    kind, _, name = row["actor"].partition(":")
    actor_type, actor_word = _ACTOR_TYPES.get(kind, (0, "Unknown"))
    user = {"name": name or row["actor"], "uid": row["actor"], "type_id": actor_type, "type": actor_word}
    made: dict[str, Any] = {
        "class_uid": class_uid, "class_name": title, "category_uid": category_uid,
        "activity_id": activity, "activity_name": verb, "type_uid": class_uid * 100 + activity,
        "time": row["at_ms"], "severity_id": severity[0], "severity": severity[1],
        "status_id": 2 if is_failed else 1, "status": "Failure" if is_failed else "Success",
        "message": f"{row['kind']} {row['subject']}",
        "metadata": {
            "version": OCSF_VERSION, "uid": str(row["seq"]), "sequence": row["seq"], "correlation_uid": row["op_id"],
            "event_code": row["kind"], "product": {"name": "Noria", "vendor_name": "Noria", "version": __version__},
        },
        "actor": {"user": user},
        "unmapped": {"data": data, "workspace": row["workspace"], "cause": row["cause"]},
    }  # fmt: skip
    if class_uid == _API[0]:
        made["api"] = {"operation": row["kind"], "request": {"uid": row["op_id"]}}
        made["src_endpoint"] = {"name": "unknown"}  # the log does not keep where a request came from
        made["resources"] = [{"uid": row["subject"], "type": row["subject"].partition(":")[0]}]
    elif class_uid == 2003:
        made["finding_info"] = {"uid": f"{row['subject']} {data['check']}", "title": f"{data['check']}: {data['reason']}"}
        made["compliance"] = {
            "control": data["check"], "status": {"pass": "Pass", "fail": "Fail"}.get(data["now"], "Other"),
            "status_id": {"pass": 1, "fail": 3}.get(data["now"], 99), "standards": [f"Noria catalogue {data['catalogue']}"],
        }  # fmt: skip
        made["resources"] = [{"uid": row["subject"], "type": "system"}]
    elif class_uid == 3005:
        made["user"] = {"uid": str(data.get("principal") or row["subject"])}
        made["privileges"] = [str(data.get("role") or "unknown")]
    else:
        made["user"] = {"uid": row["subject"]} if class_uid == 3001 else user
    return made


def to_cloudevent(row: dict[str, Any], origin: str) -> dict[str, Any]:
    """A fact as a CloudEvent; `origin` is the name of the log, which makes `id` unique together with it."""
    made = {
        "specversion": "1.0", "id": str(row["seq"]), "source": f"/{origin}", "type": f"noria.{row['kind']}",
        "subject": row["subject"], "time": _time(row["at_ms"]), "datacontenttype": "application/json",
        "actor": row["actor"], "operation": row["op_id"], "workspace": row["workspace"],
        "data": msgspec.json.decode(row["data"]),
    }  # fmt: skip
    return made | ({"cause": str(row["cause"])} if row["cause"] is not None else {})


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
