"""Every measurement there is. A check of the catalogue without one stops the start of the server."""

from __future__ import annotations

from noria.compliance.measures import access as _access
from noria.compliance.measures import data as _data
from noria.compliance.measures import deployment as _deployment
from noria.compliance.measures import documents as _documents
from noria.compliance.measures import inventory as _inventory
from noria.compliance.measures import operation as _operation
from noria.compliance.measures import origin as _origin
from noria.compliance.measures import validation as _validation
from noria.compliance.measures.base import MEASURES, Measured

__all__ = ["MEASURES", "Measured"]
_ = (_access, _data, _deployment, _documents, _inventory, _operation, _origin, _validation)
