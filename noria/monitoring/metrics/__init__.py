"""Every metric there is. To add one: a file beside these, a line here, a golden number in tests/monitoring/test_metrics.py."""

from __future__ import annotations

from noria.monitoring.metrics import accuracy as _accuracy
from noria.monitoring.metrics import auc as _auc
from noria.monitoring.metrics import brier as _brier
from noria.monitoring.metrics import calibration_gap as _calibration_gap
from noria.monitoring.metrics import change as _change
from noria.monitoring.metrics import embedding as _embedding
from noria.monitoring.metrics import error as _error
from noria.monitoring.metrics import estimated as _estimated
from noria.monitoring.metrics import fair as _fair
from noria.monitoring.metrics import found as _found
from noria.monitoring.metrics import js as _js
from noria.monitoring.metrics import ks as _ks
from noria.monitoring.metrics import l_infinity as _l_infinity
from noria.monitoring.metrics import log_loss as _log_loss
from noria.monitoring.metrics import null_share as _null_share
from noria.monitoring.metrics import psi as _psi
from noria.monitoring.metrics import ranking as _ranking
from noria.monitoring.metrics import reconstruction as _reconstruction
from noria.monitoring.metrics import unseen as _unseen
from noria.monitoring.metrics import wasserstein as _wasserstein
from noria.monitoring.metrics.base import METRICS, UNDEFINED, Estimate, Metric, metric_of

__all__ = ["METRICS", "UNDEFINED", "Estimate", "Metric", "metric_of"]
_ = (
    _accuracy, _auc, _brier, _calibration_gap, _change, _embedding, _error, _estimated, _fair, _found, _js, _ks, _l_infinity, _log_loss,
    _null_share, _psi, _ranking, _reconstruction, _unseen, _wasserstein,
)  # fmt: skip
