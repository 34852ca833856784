"""`noria.seed(7)`: the generators of random numbers set, and what was set kept with the run."""

from __future__ import annotations

import importlib.util
import random
import sys

from noria.kernel.errors import Invalid

_seeded: dict[str, int] = {}


def seed(value: int) -> list[str]:
    """Seed Python's `random`, NumPy where it is installed, and PyTorch where it is imported; returns which were.

    Call it after the imports: PyTorch is not imported for this. The run of this process records it, also one begun later.
    """
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise Invalid(f"A seed is an integer from 0 to {(1 << 32) - 1}.", where="seed")
    random.seed(value)
    done = ["random"]
    if importlib.util.find_spec("numpy"):
        import numpy as np

        np.random.seed(value)
        done.append("numpy")
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(value)  # every device's generator, too
        done.append("torch")
    _seeded.update(dict.fromkeys(done, value))
    from noria.client.logger import current

    run = current()
    if run is not None:
        run.set_tags(seed_tags())
    return done


def seed_tags() -> dict[str, str]:
    """What was seeded in this process, as tags; none when nothing was."""
    if not _seeded:
        return {}
    value = next(reversed(_seeded.values()))
    return {"noria.seed": str(value), "noria.seeded": ",".join(name for name, v in _seeded.items() if v == value)}
