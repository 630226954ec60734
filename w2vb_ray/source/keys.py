"""Strings as 128-bit keys in numpy arrays: what a plan of ten million ids can hold in memory and search.

The hash is SipHash under secrets that each run draws, so nobody can write ids that collide; keys mean nothing under
other secrets and are never stored. Of n ids any two share a key with odds of n² / 2^129: 10^-25 for ten million.
"""

import secrets
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas.util
import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.source.rows import Column, flat

_siphash: Any = pandas.util.hash_array  # its stubs know no such function
Secrets = tuple[str, str]
SECRETS: Secrets = (secrets.token_hex(8), secrets.token_hex(8))  # 16 characters each, as SipHash takes them
"""Of this process; other processes that hash for it are given them."""


def hashes(column: Column, secret: str = SECRETS[0]) -> np.ndarray:
    """64-bit hashes of strings, null as an empty one. (N,) -> (N,) uint64"""
    if not len(column):
        return np.empty(0, np.uint64)
    objects = flat(pc.fill_null(column, "")).to_numpy(zero_copy_only=False)
    return _siphash(objects, hash_key=secret, categorize=False)


@dataclass(frozen=True)
class Keys:
    """Keys of strings, in two halves: (N,) uint64 each."""

    high: np.ndarray
    low: np.ndarray

    @classmethod
    def of(cls, column: Column, secrets: Secrets = SECRETS) -> "Keys":
        """Keys of a string column, in its order."""
        return cls(*(hashes(column, secret) for secret in secrets))

    @classmethod
    def concat(cls, parts: "list[Keys]") -> "Keys":
        """All keys of all parts, in their order."""
        if not parts:
            return cls(np.empty(0, np.uint64), np.empty(0, np.uint64))
        return cls(np.concatenate([part.high for part in parts]), np.concatenate([part.low for part in parts]))

    def __len__(self) -> int:
        return len(self.high)

    def take(self, rows: np.ndarray) -> "Keys":
        """The keys at these positions."""
        return Keys(self.high[rows], self.low[rows])

    @cached_property
    def order(self) -> np.ndarray:
        """Positions by key, equal keys in the order they came in."""
        order = np.argsort(self.high, kind="stable")
        high = self.high[order]
        # Halves of different keys are nearly never equal, and a sort by both takes three times as long.
        return order if np.all(high[1:] != high[:-1]) else np.lexsort((self.low, self.high))

    def sorted(self) -> "Keys":
        """The same keys in the order in which `find` searches."""
        return self.take(self.order)

    def find(self, wanted: "Keys") -> np.ndarray:
        """Positions of other keys in these, which are sorted; -1 where there is none. (M,) -> (M,)"""
        found = np.full(len(wanted), -1, np.int64)
        if not len(self):
            return found
        rows = wanted.order  # neighbours in the search stay neighbours in memory: six times as fast
        places = np.searchsorted(self.high, wanted.high[rows])
        while len(rows):  # once, but for keys that share a half
            inside = places < len(self)
            rows, places = rows[inside], places[inside]
            same_half = self.high[places] == wanted.high[rows]
            rows, places = rows[same_half], places[same_half]
            same = self.low[places] == wanted.low[rows]
            found[rows[same]] = places[same]
            rows, places = rows[~same], places[~same] + 1
        return found

    def repeated(self) -> np.ndarray:
        """(N,) whether an earlier key is the same."""
        ordered = self.sorted()
        again = (ordered.high[1:] == ordered.high[:-1]) & (ordered.low[1:] == ordered.low[:-1])
        mask = np.zeros(len(self), np.bool_)
        mask[self.order[1:][again]] = True
        return mask


class KeySet:
    """Keys seen so far: sorted runs, merged so that each is more than twice as long as the next."""

    def __init__(self) -> None:
        self._runs: list[Keys] = []

    def __contains__(self, text: str) -> bool:
        return bool(self.holds(Keys.of(pa.array([text])))[0])

    def holds(self, keys: Keys) -> np.ndarray:
        """(N,) whether each key has been added."""
        known = np.zeros(len(keys), np.bool_)
        for run in self._runs:
            known |= run.find(keys) >= 0
        return known

    def add(self, keys: Keys) -> None:
        """Add keys that are not there yet, each once."""
        run = keys.sorted()
        while self._runs and 2 * len(run) > len(self._runs[-1]):
            run = Keys.concat([self._runs.pop(), run]).sorted()  # a stable sort merges two runs in one pass
        self._runs.append(run)
