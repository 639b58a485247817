"""Random permutations that are evaluated only where asked."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from annpipes.plans.sorting import shuffled, sorting_order

__all__ = ["Key", "Permutation", "hashed_words", "permuted_within", "random_words", "scaled"]

Key = tuple[int, ...]
"""What an epoch's order is drawn from: ``(seed, epoch)``, or one number drawn by torch."""

_TABLE = 1 << 20
_ROUNDS = 6
_SMALL_ROUNDS = 12  # of few elements 6 rounds favour some permutations visibly
_GOLDEN = np.arange(1, _SMALL_ROUNDS + 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio


def random_words(key: Key, count: int) -> NDArray[np.uint64]:
    """``count`` random 64-bit words that depend on ``key`` alone, in every version of numpy.

    numpy promises stable streams for `SeedSequence` and for bit generators, but not for the
    methods of `Generator` (NEP 19), so only the former are used. All but the first number
    go into the spawn key: as entropy, ``(1,)`` and ``(1, 0)`` would give one stream.
    """
    sequence = np.random.SeedSequence(key[0], spawn_key=key[1:])
    return np.random.Philox(sequence).random_raw(count)  # (count,)


def hashed_words(key: Key, positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A random 64-bit word for each position, whichever others are asked for: SplitMix64 (Steele et al. 2014)."""
    counters = positions.astype(np.uint64) + np.uint64(1)
    return _mix(random_words(key, 1)[0] + counters * _GOLDEN[0])


def permuted_within(
    key: Key, positions: NDArray[np.int64], sizes: NDArray[np.int64], kinds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each position below its size the element there of a permutation of that many.

    Positions of one kind belong to one permutation, and all of a kind have one size. Shapes ``(n,)``.
    """
    n = sizes.astype(np.uint64)
    side = np.floor(np.sqrt(np.maximum(sizes - 1, 0))).astype(np.uint64) + np.uint64(1)
    salts = hashed_words(key, kinds)
    values = positions.astype(np.uint64)
    outside = np.arange(len(values))
    while len(outside):
        left, right = np.divmod(values[outside], side[outside])
        for number in range(_SMALL_ROUNDS):
            word = _mix(salts[outside] + _GOLDEN[number])
            left, right = right, (left + scaled(_mix(right ^ word), side[outside])) % side[outside]
        values[outside] = left * side[outside] + right
        outside = outside[values[outside] >= n[outside]]
    # All rounds together are an even permutation of an odd square: let the first two elements change places, or not.
    odd = _mix(salts + _GOLDEN[_SMALL_ROUNDS]) >> np.uint64(63)
    return (values ^ (odd & (values < 2) & (n > 1))).astype(np.int64)


def scaled(words: NDArray[np.uint64], n: np.uint64 | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Random words as numbers in 0 … n-1, by their upper half (Lemire 2019, without rejection)."""
    numbers: NDArray[np.uint64] = (words >> np.uint64(32)) * n >> np.uint64(32)
    return numbers


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Permutation:
    """A random permutation of 0 … n-1 in bounded memory (8 MB).

    >>> import numpy as np
    >>> shuffled = Permutation(10, (0, 1))
    >>> sorted(shuffled(np.arange(10)).tolist()) == list(range(10))
    True
    >>> shuffled.position_of(int(shuffled(np.array([3]))[0]))
    3

    Up to 2^20 elements it is a table, uniform over all permutations; above, a Feistel
    network on pairs ``(left, right)`` with ``value = left · side + right``, where the few
    pairs that are no element are walked through (Black and Rogaway, "Ciphers with
    Arbitrary Finite Domains", 2002).

    Parameters
    ----------
    n
        How many elements.
    key
        Equal keys give equal permutations.
    """

    def __init__(self, n: int, key: Key) -> None:
        self.n = n
        self._bijection = _Table(n, key) if n <= _TABLE else _Feistel(n, key)

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The elements at ``positions``; shape as given."""
        return self._bijection.forward(positions)

    def position_of(self, element: int) -> int:
        """Where ``element`` stands."""
        return int(self._bijection.backward(np.array([element]))[0])


class _Table:
    """A permutation drawn whole."""

    def __init__(self, n: int, key: Key) -> None:
        self.elements: NDArray[np.int64] = shuffled(random_words(key, n))  # (n,)

    def forward(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.elements[positions]

    def backward(self, elements: NDArray[np.int64]) -> NDArray[np.int64]:
        return sorting_order(self.elements)[elements]


class _Feistel:
    """A keyed bijection of 0 … n-1 and its inverse."""

    def __init__(self, n: int, key: Key) -> None:
        self.n = n
        self.side = np.uint64(math.isqrt(n - 1) + 1)
        self.keys = random_words(key, _ROUNDS)  # (rounds,)

    def forward(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._walk(positions, self._encrypt)

    def backward(self, elements: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._walk(elements, self._decrypt)

    def _walk(
        self, values: NDArray[np.int64], step: Callable[[NDArray[np.uint64]], NDArray[np.uint64]]
    ) -> NDArray[np.int64]:
        result = step(values.astype(np.uint64))
        outside = np.flatnonzero(result >= self.n)
        while len(outside):
            result[outside] = step(result[outside])
            outside = outside[result[outside] >= self.n]
        return result.astype(np.int64)

    def _encrypt(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = np.divmod(values, self.side)
        for key in self.keys:
            left, right = right, self._wrap(left + self._round(right, key))
        return left * self.side + right

    def _decrypt(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = np.divmod(values, self.side)
        for key in self.keys[::-1]:
            left, right = self._wrap(right + self.side - self._round(left, key)), left
        return left * self.side + right

    def _wrap(self, sums: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """``sums`` below 2 · side modulo side, without a division."""
        return np.where(sums >= self.side, sums - self.side, sums)

    def _round(self, half: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
        """A hash of ``half`` in 0 … side-1: splitmix64's finaliser (Steele et al. 2014), then scaled."""
        z = half ^ key
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return scaled(z, self.side)
