"""Which blobs the versions of data need: lists of files, the files, recipes and their chunks. For the collector of unused blobs.

Deleted versions count too: they can be restored.
"""

from __future__ import annotations

import msgspec

from noria.datasets import manifest, store
from noria.datasets.model import Chunk
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Read

_CHUNKS = msgspec.json.Decoder(list[Chunk])


def digests_in_use(tx: Read, blobs: BlobStore, digests: list[str]) -> set[str]:
    """Those of `digests` that some version needs. Reads the list of files of every version until all are found."""
    wanted = set(digests)
    roots, recipes = store.roots(tx), store.recipes(tx)
    found = wanted.intersection(roots) | wanted.intersection(recipes)
    for root in roots:
        if found >= wanted:
            return found
        found |= wanted.intersection(file.digest for file in manifest.decode(blobs.get(root)).values())
    for recipe in recipes:
        if found >= wanted:
            return found
        found |= wanted.intersection(chunk.digest for chunk in _CHUNKS.decode(blobs.get(recipe)))
    return found
