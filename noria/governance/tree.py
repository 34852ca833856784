"""Where the nodes of the sealed tree stand, and which of them make a root or a proof. Pure.

Node `i` of level `l` stands at `(2i + 1) · 2^l - 1`: in order, as in RFC 7574.
"""

from __future__ import annotations

from noria.governance.verify import Tree


def position(level: int, index: int) -> int:
    """Where node `index` of `level` stands in order."""
    return (2 * index + 1) * (1 << level) - 1


def peak_positions(size: int) -> list[int]:
    """Where the roots of the perfect subtrees of a tree of `size` leaves stand, largest first."""
    found, start = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            found.append(position(level, start >> level))
            start += 1 << level
    return found


def perfect_parts(first: int, last: int) -> list[int]:
    """The positions of the perfect nodes that make up the subtree over leaves `first` to `last` (exclusive)."""
    # A subtree of RFC 6962 starts at a multiple of a power of two no smaller than its size, so its nodes are shifted ones.
    return [p + 2 * first for p in peak_positions(last - first)]


def combine(parts: list[bytes]) -> bytes:
    """The root over perfect nodes, largest first."""
    return Tree(0, parts).root()


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The subtrees whose hashes prove leaf `index` of `size`, from the leaf up: PATH of RFC 6962, 2.1.1."""
    first, last, found = 0, size, list[tuple[int, int]]()
    while last - first > 1:
        split = first + (1 << (last - first - 1).bit_length() - 1)
        if index < split:
            found.append((split, last))
            last = split
        else:
            found.append((first, split))
            first = split
    return found[::-1]


def consistency_ranges(old: int, size: int) -> list[tuple[int, int]]:
    """The subtrees whose hashes prove that `size` leaves only added to `old`: PROOF of RFC 6962, 2.1.2."""
    first, last, whole, found = 0, size, True, list[tuple[int, int]]()
    while old != last:
        split = first + (1 << (last - first - 1).bit_length() - 1)
        if old <= split:
            found.append((split, last))
            last = split
        else:
            found.append((first, split))
            first, whole = split, False
    if not whole:
        found.append((first, last))
    return found[::-1]
