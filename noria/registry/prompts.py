"""Prompts: MLflow keeps them as registered models whose versions are text instead of files of a run.

A version of a prompt says so in a tag, and carries its template in another. Noria makes the template the version's only file, so
that its digest is the digest of the text, and lets neither tag change: a prompt's version is as fixed as any other.
"""

from __future__ import annotations

from collections.abc import Mapping

from noria.kernel.blobs import BlobStore
from noria.kernel.errors import Invalid
from noria.kernel.filters import Comparison, parse_filter
from noria.registry.model import FIXED_TAGS, PROMPT_TAG, TEXT_TAG, TYPE_TAG, ModelFile, is_prompt

SOURCES = ("prompt-template", "dummy-source")  # what MLflow's clients write where a source is wanted and there is none


def template_of(tags: Mapping[str, str], source: str, blobs: BlobStore) -> list[ModelFile]:
    """The template of a new version as its only file. Raises Invalid when it has none, or a source of files besides."""
    if source not in SOURCES:
        raise Invalid(
            f"{source[:120]!r} cannot be the source of a prompt.", where="source", hint=f"Use {SOURCES[0]}; the text is a tag."
        )  # fmt: skip
    if TEXT_TAG not in tags:
        raise Invalid(f"A version of a prompt has its text in the tag {TEXT_TAG}.", where="tags")
    stored = blobs.put(tags[TEXT_TAG].encode())
    name = "prompt.json" if tags.get(TYPE_TAG) == "chat" else "prompt.txt"
    return [ModelFile(path=name, size_bytes=stored.size_bytes, digest=stored.digest)]


def check_fixed(was: Mapping[str, str], changes: Mapping[str, str | None]) -> None:
    """Raises Invalid for a change of what makes a version of a prompt what it is."""
    for key in FIXED_TAGS if is_prompt(was) else ():
        if key in changes and changes[key] != was.get(key):
            raise Invalid(f"The tag {key} of a prompt's version does not change.", where="tags", hint="Make a new version.")


def conditions(filter: str) -> list[Comparison]:
    """A filter as MLflow reads it: prompts are found when it asks for them, and only then."""
    parsed = parse_filter(filter)
    about = [c for c in parsed if c.entity in ("tag", "tags") and c.key == PROMPT_TAG]
    wants = bool(about) and (about[0].op, str(about[0].value).lower()) in (("=", "true"), ("!=", "false"))
    return [*(c for c in parsed if c not in about), Comparison("tags", PROMPT_TAG, "=" if wants else "!=", "true")]
