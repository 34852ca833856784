"""How Noria's answers differ from those of MLflow's own server, and why: for docs/reference/mlflow.md and for the test of it.

tests/protocol/test_differential.py plays one script of requests to both; whatever is not listed here must be equal. `steps` are
names of steps of that script, as patterns; each must really differ, so that this list cannot outlive a difference.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from msgspec import Struct


class Difference(Struct, frozen=True):
    """One difference: what MLflow does, what Noria does, why."""

    mlflow: str
    noria: str
    why: str
    steps: tuple[str, ...] = ()

    def holds(self, step: str) -> bool:
        return any(fnmatchcase(step, pattern) for pattern in self.steps)


# Everywhere, so the test rewrites them before it compares.
EVERYWHERE = (
    Difference("leaves empty lists out", "writes them", "Plain JSON is easier to read without knowing what protobuf leaves out."),
    Difference("writes its sentence", "writes another one", "Clients act on `error_code`; people read the sentence and its hint."),
    Difference("stores ±Infinity as ±1.797…e308", "keeps it", "What was sent is what is read back."),
    Difference("does not say who made a registered model or version", "`user_id` says it", "It is known."),
    Difference("does not name the aliases of versions in a list", "names them", "They are asked for next."),
    Difference("gives the experiment 0 the time of its first start", "0", "Nobody made it."),
)  # fmt: skip

APART = (
    Difference(
        "takes a value of a wrong type and stores another one (0, an empty text, or nothing at all)", "refuses it",
        "A number that was not sent is worse than an error.",
        ("metric odd 'nan'", "metric odd 'inf'", "metric odd True", "metric odd inf", "metric fraction of time", "metric step 1.5",
         "metric step 9223372036854775808", "history of x", "runs 1.5", "runs NONE", "tag is a number", "status is unknown",
         "model of no status", "input without *"),
    ),
    Difference(
        "answers 500", "says what is wrong with the request", "It is the request that is wrong.",
        ("metric odd ?1?", "body is a list", "body is text", "stage pushes nothing out", "experiment deleted, rename"),
    ),
    Difference(
        "answers a page of HTML for what it does not know", "`NOT_IMPLEMENTED`, with the reason if there is one",
        "A client reads JSON.", ("endpoint *", "body is json in text"),
    ),
    Difference(
        "reads what it understands of a filter or a sort key and drops the rest", "refuses it",
        "A filter that is silently shorter finds the wrong runs.",
        ("runs where metrics. > 1", "runs where params.'model' = 'x'", "runs where params.model = 'x' and", "runs where and",
         "runs where metrics.acc > 0.5 metrics.acc < 1", "runs by ?'metrics.'?"),
    ),
    Difference(
        "refuses these in filters and sort keys", "understands them",
        "One grammar for every list: `in`, `between`, `is null`, `==`, `''` inside a text, every column of the list.",
        ("experiments where name IN ('FIRST')", "experiments by wrong ?'tags.stage'?", "experiments by wrong ?''?",
         "runs where status IN (?RUNNING*", "runs where * BETWEEN *", "runs where metrics.acc IS NOT NULL",
         "runs where run_name IS NOT NULL",
         "runs where params.model = 'it''s'", "runs where tags.t IN *", "runs where params.model IN *", "registered where name > 'a'",
         "registered where tags.team > 'a'", "registered where creation_timestamp > 0", "registered by creation_timestamp",
         "versions where name > 'a'", "versions where version = 1", "versions where creation_timestamp > 0",
         "versions where tags.v > '0'", "versions where version_number IN *", "versions where name == 'flights'",
         "versions by run_id", "models where status = 'READY'"),
    ),
    Difference(
        "compares NaN as 0", "NaN matches no comparison", "It is no number.", ("runs where metrics.acc != 0.3",),
    ),
    Difference(
        "takes 0 or less as a page size", "refuses it", "A page of nothing whose token leads to itself never ends.",
        ("models 0", "models -1", "registered 0", "registered -1"),
    ),
    Difference(
        "orders a history by time, then step", "by step, then time", "Curves are drawn by step, and pages follow the index.",
        ("history of ties",),
    ),
    Difference(
        "answers the history of a run that is not there with nothing", "`RESOURCE_DOES_NOT_EXIST`",
        "A misspelt id should not look like an empty curve.", ("history of no run",),
    ),
    Difference(
        "keeps the end of a run that goes on", "a run that goes on has no end until it ends again",
        "A duration that stops while the run works is wrong.", ("running again", "run running again", "run named by tag"),
    ),
    Difference(
        "limits the tag of an experiment to 20,000 characters, the digest of an input to 36", "65,536 and 128",
        "Nothing is cut that fits.", ("experiment tag of 20001", "input digest too long"),
    ),
    Difference(
        "cannot log a param of a logged model twice", "the same value changes nothing; another is `INVALID_PARAMETER_VALUE`",
        "As for params of runs: a request may be repeated.", ("model params again", "model param changed"),
    ),
    Difference(
        "the experiment 0 is younger than 1970", "it is not", "See above.",
        ("experiments where creation_time > 0", "experiments where last_update_time >= 1"),
    ),
    Difference(
        "takes a blank name of an experiment, and 300 characters for a model", "refuses both",
        "A name nobody can see or read.", ("name is blank", "apart: name of 300"),
    ),
    Difference(
        "registers sources it cannot look into, and runs that are not there", "a source lies on this server, and is there",
        "A version is its files, and they never change.", ("apart: version of unknown run", "apart: version of dbfs"),
    ),
    Difference(
        "wants `run_id` beside a source that names the run", "finds the run in the source", "It is said already.",
        ("apart: version without run",),
    ),
    Difference(
        "removes a description that an update does not name", "leaves it", "It was not asked to.", ("apart: version as it was",),
    ),
    Difference(
        "lets an alias be a number or letters beyond ASCII, but not have a dot", "the other way round",
        "`name@1` is the first version, wherever it is written.", ("apart: alias *",),
    ),
    Difference(
        "says `INVALID_PARAMETER_VALUE` of an alias in a source, and looks for a version -1",
        "says `RESOURCE_DOES_NOT_EXIST` of the alias, and that -1 is no version number", "What is meant is said.",
        ("version of models:/flights@none", "version negative"),
    ),
    Difference(
        "refuses a private address when a webhook is made", "when something is sent there",
        "A name may lead elsewhere by then, and an administrator may allow it meanwhile.", ("webhook of a private address",),
    ),
    Difference(
        "answers an upload with nothing", "with `{}`", "It is JSON, as everywhere; clients do not read it.", ("file up*",),
    ),
    Difference(
        "does not give the size of an empty file", "gives 0", "It is known.", ("files in a folder", "files of the run's folder"),
    ),
    Difference(
        "takes a backslash in a path; says `INVALID_PARAMETER_VALUE` of `/etc`", "refuses it; there is nothing at `/etc`",
        "Other programs turn these names into files.", ("files at d?x", "proxy at d?x", "proxy at /etc"),
    ),
)  # fmt: skip


def apart(step: str) -> bool:
    """May the answers to this step differ?"""
    return any(difference.holds(step) for difference in APART)


def section() -> list[str]:
    """The differences as a part of the page."""
    rows = [f"| {_cell(d.mlflow)} | {_cell(d.noria)} | {_cell(d.why)} |" for d in (*EVERYWHERE, *APART)]
    return ["## How answers differ", "", "| MLflow | Noria | why |", "|---|---|---|", *rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
