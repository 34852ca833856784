"""MLflow asks its context providers for tags when it creates a run; this one gives Noria's.

It is found through the entry point `mlflow.run_context_provider`; nothing of MLflow is imported or changed. MLflow only asks
for these three names, so no base class is needed.
"""

from __future__ import annotations

import os
import sys

from noria.client.context import context_tags, in_step, reads


class NoriaRunContext:
    """See MLflow's RunContextProvider."""

    def in_context(self) -> bool:
        """Only where Noria is meant: in a step, with NORIA_URL set, or after data was read through Noria."""
        return in_step() or bool(os.environ.get("NORIA_URL")) or bool(reads(_tracking_url()))

    def tags(self) -> dict[str, str]:
        return context_tags(_tracking_url())


def _tracking_url() -> str:
    """Where MLflow's client points; it is loaded, since it is asking."""
    mlflow = sys.modules.get("mlflow")
    return str(mlflow.get_tracking_uri()) if mlflow else ""
