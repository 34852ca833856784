"""Imports what a worker will import, once in a new environment, so that its compiled form lies there: a worker may not write it.

python -m noria.serving.prime MODULE…
"""

from __future__ import annotations

import contextlib
import importlib
import sys

from noria.kernel.processes import die_with_parent


def main() -> None:
    die_with_parent()
    for name in ("noria.serving.worker", *sys.argv[1:]):
        with contextlib.suppress(Exception):  # whoever needs it will say why it does not import
            importlib.import_module(name)


if __name__ == "__main__":
    main()
