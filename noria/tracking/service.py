"""The service of the slice, put together from its parts.

Deleting puts away; purging (purge.py) removes for good.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database
from noria.kernel.op import Op
from noria.kernel.ticks import Ticks
from noria.tracking.artifacts import Artifacts
from noria.tracking.batch import Batch
from noria.tracking.costs import Costs
from noria.tracking.experiments import Experiments
from noria.tracking.histories import Histories
from noria.tracking.imports import Imports
from noria.tracking.inputs import DatasetVersions
from noria.tracking.logged_models import LoggedModels
from noria.tracking.logs import Logs
from noria.tracking.model import LoggedModel
from noria.tracking.places import Mount
from noria.tracking.purge import Purge
from noria.tracking.runs import Runs
from noria.tracking.series import SeriesCache


class Tracking(Experiments, Runs, Histories, Artifacts, Logs):
    """The service of the slice. `models` are the logged models of runs."""

    def __init__(self, db: Database, blobs: BlobStore, ticks: Ticks, datasets: Any = None) -> None:
        self._db, self._blobs, self._ticks = db, blobs, ticks
        self._datasets: DatasetVersions | None = datasets
        self._cache = SeriesCache()
        self._known: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._known_lock = threading.Lock()
        self.models = LoggedModels(db)
        self.purge: Purge | None = None  # set by app.py
        self.batch = Batch(db)
        self.costs = Costs(db)
        self.imports = Imports(db, self)
        self.mounts: dict[str, Mount] = {}  # first part of an artifact proxy path → whose files lie below it

    def logged_model(self, op: Op, model_id: str) -> LoggedModel:
        """One logged model. Raises NotFound."""
        return self.models.get(op, model_id)
