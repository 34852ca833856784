"""Who may do what, as one table: roles × actions. tests/approval/permissions.txt shows it in full.

An action is `noun.verb`. Every route declares the one it asks for. A role is a named set of actions; a binding gives a
principal a role on a scope: the whole workspace, or one thing such as `model:fraud`.
"""

from __future__ import annotations

from noria.kernel import things

READ = frozenset({
    "event.read", "experiment.read", "run.read", "dataset.read", "model.read", "pipeline.read", "endpoint.read",
    "monitor.read", "loop.read", "approval.read", "policy.read", "lineage.read", "search.read", "view.read", "comment.read",
    "compliance.read", "report.read", "project.read",
})  # fmt: skip
BYTES = frozenset(
    {"artifact.read", "blob.read", "inference.read"}
)  # contents, not descriptions: an auditor has no need of them
EXPERIMENT = frozenset(
    {"project.write", "experiment.create", "experiment.update", "run.create", "run.log", "artifact.write", "blob.write"}
)
DATA = frozenset({"dataset.commit", "dataset.alias"})
MODEL = frozenset({"model.create", "model.tag", "model.evaluate"})
PIPELINE = frozenset({"pipeline.register", "pipeline.run", "pipeline.cancel", "pipeline.report", "pipeline.attempt"})
USE = frozenset({"endpoint.predict", "endpoint.truth", "model.score"})
ASK = frozenset({"approval.request"})
REPORT = frozenset({"report.write", "report.share"})
DEPLOY = frozenset({"endpoint.deploy", "model.promote"})
DECIDE = frozenset({"approval.decide"})
REMOVE = frozenset(
    {"experiment.delete", "run.delete", "run.purge", "dataset.delete", "model.delete", "endpoint.delete", "report.delete"}
)
IMPORT = frozenset({"run.import", "model.import"})  # with the ids and times they had elsewhere
WATCH = frozenset(
    {
        "monitor.write",
        "loop.write",
        "loop.run",
        "trigger.write",
        "queue.write",
        "dataset.expect",
        "dataset.transfer",
        "compliance.write",
        "secret.write",
    }
)
INSPECT = frozenset({"audit.read", "audit.export", "access.read", "webhook.read", "secret.read"})
GOVERN = frozenset(
    {"policy.write", "access.write", "access.provision", "webhook.write", "compliance.waive", "audit.seal", "system.admin"}
)
SECRETS = frozenset(
    {"secret.read", "secret.use"}
)  # their names, and having them given to one's own steps; never their values
VIEWS = frozenset({"view.write"})  # whoever reads runs may name what they look at
TALK = frozenset({"comment.write"})  # whoever may read a thing may say something about it
OWN = frozenset({"me.read", "token.own", "address.own"})  # everyone who is signed in: their own profile and tokens
WORK = frozenset({"pipeline.work", "blob.read", "blob.write"})  # a worker elsewhere: steps, their code and values
SERVE = frozenset(
    {"endpoint.serve", "blob.read", "blob.write"}
)  # a serving node elsewhere: models, and the record of answers
INTERNAL = frozenset({"pipeline.work", "endpoint.serve"})  # Noria's own processes, here and elsewhere

ROLES: dict[str, frozenset[str]] = {
    "viewer": READ | VIEWS | TALK | BYTES | OWN,
    "predictor": USE | OWN,
    "contributor": READ | SECRETS | VIEWS | TALK | BYTES | OWN | EXPERIMENT | DATA | MODEL | PIPELINE | USE | ASK | REPORT,
    "approver": READ | VIEWS | TALK | BYTES | OWN | DECIDE,
    "deployer": READ | VIEWS | TALK | BYTES | OWN | ASK | DEPLOY | USE,
    "maintainer": READ | SECRETS | VIEWS | TALK | BYTES | OWN | EXPERIMENT | DATA | MODEL | PIPELINE | USE | ASK | DEPLOY | REMOVE
    | REPORT | IMPORT | WATCH,
    "agent": WORK | OWN,
    "node": SERVE | OWN,
    "auditor": READ | VIEWS | TALK | OWN | INSPECT,
    "admin": READ | SECRETS | VIEWS | TALK | BYTES | OWN | EXPERIMENT | DATA | MODEL | PIPELINE | USE | ASK | DEPLOY | DECIDE | REMOVE
    | REPORT | IMPORT | WATCH | INSPECT | GOVERN,
}  # fmt: skip

# About the workspace itself, not about things in it: somebody from whom a thing is hidden may still do them. Every other action on
# "everywhere" – the whole log of facts, all lineage, any blob by its digest – is theirs on what they may see, one thing at a time.
WORKSPACE_ACTIONS = (
    OWN
    | VIEWS
    | GOVERN
    | INTERNAL
    | {
        "access.read",
        "webhook.read",
        "policy.read",
        "experiment.create",
        "approval.request",
        "project.read",
        "project.write",
    }
) - {"audit.seal"}

_KINDS: dict[str, tuple[str, ...]] = {  # on what kind of thing an action of this noun is asked for; any other noun: on any
    "experiment": ("experiment",), "run": ("experiment",), "artifact": ("experiment", "model"), "dataset": ("dataset",),
    "blob": ("dataset",), "model": ("model",), "pipeline": ("pipeline",), "trigger": ("pipeline",), "endpoint": ("endpoint",),
    "inference": ("endpoint",), "monitor": ("monitor", "endpoint"), "loop": ("loop",), "compliance": ("system",),
    "secret": ("project",), "project": ("project",),
    "report": ("report",),
}  # fmt: skip


# What cannot be taken back (a run or an experiment that is put away can), and what changes who may do what: in a browser it wants a
# recent sign-in.
STEP_UP = (REMOVE - {"run.delete", "experiment.delete"}) | {
    "access.write", "policy.write", "webhook.write", "system.admin", "compliance.waive", "secret.write",
}  # fmt: skip


def kinds_of(action: str) -> tuple[str, ...]:
    """The kinds of things that `action` is asked for on."""
    return _KINDS.get(action.partition(".")[0]) or tuple(sorted(things.kinds()))


ACTIONS: frozenset[str] = frozenset().union(*ROLES.values()) | INTERNAL
PUBLIC = "public"  # a route that anyone may call: health, sign-in, static files
