"""Random generators that depend on what is explained, never on company or order (methods spec 0.6)."""

import hashlib
import json
from typing import Any

import numpy as np


def digest(thing: Any, size: int = 16) -> str:
    """Returns the BLAKE2 hash, in hex, of a thing's canonical JSON.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    canonical = json.dumps(thing, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(canonical.encode(), digest_size=size).hexdigest()


def generator(*parts: Any) -> np.random.Generator:
    """Returns the generator that belongs to these parts (seed, example id, method, ...)."""
    return np.random.default_rng(int(digest(parts), 16))
