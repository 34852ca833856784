"""A name for a run that nobody named: easy to say and to tell apart. Made from the run's id: the same each time."""

from __future__ import annotations

import re
import zlib

_ADJECTIVES = [
    "able", "amber", "ancient", "bold", "brave", "bright", "brisk", "calm", "candid", "clear", "clever", "cool",
    "crisp", "curious", "deep", "eager", "early", "fair", "fast", "fine", "fleet", "fond", "free", "fresh",
    "gentle", "glad", "golden", "grand", "great", "green", "happy", "hardy", "honest", "jolly", "keen", "kind",
    "large", "late", "light", "lively", "lucid", "lucky", "mellow", "merry", "mild", "neat", "nimble", "noble",
    "patient", "placid", "plain", "polite", "proud", "quick", "quiet", "rapid", "rare", "ready", "sharp", "silent",
    "silver", "smooth", "sober", "soft", "solid", "steady", "still", "sunny", "sure", "swift", "tidy", "true",
    "vast", "vivid", "warm", "wise", "witty", "young",
]  # fmt: skip
_NOUNS = [
    "alder", "ant", "badger", "bat", "bear", "beaver", "beech", "bison", "birch", "boar", "brook", "cedar",
    "clover", "cod", "crane", "crow", "deer", "delta", "dove", "duck", "eagle", "elk", "elm", "falcon", "fern",
    "finch", "fox", "frog", "gull", "hare", "hawk", "hazel", "heron", "hill", "ibis", "ivy", "jay", "koi", "lake",
    "lark", "linden", "lion", "lynx", "maple", "marten", "meadow", "mole", "moose", "moss", "moth", "newt", "oak",
    "orca", "otter", "owl", "panda", "pine", "plover", "pond", "poplar", "puma", "quail", "raven", "reed", "river",
    "robin", "rook", "rowan", "salmon", "seal", "shrew", "snipe", "spring", "spruce", "stork", "stream", "swan",
    "swift", "tern", "thrush", "tiger", "toad", "trout", "viper", "vole", "willow", "wolf",
]  # fmt: skip
_HEX = re.compile(r"[0-9a-f]{1,12}")


def name_of(run_id: str) -> str:
    """`brisk-heron-417`."""
    digits = run_id[-12:]
    number = int(digits, 16) if _HEX.fullmatch(digits) else zlib.crc32(run_id.encode())
    number, suffix = divmod(number, 1000)
    number, noun = divmod(number, len(_NOUNS))
    return f"{_ADJECTIVES[number % len(_ADJECTIVES)]}-{_NOUNS[noun]}-{suffix}"
