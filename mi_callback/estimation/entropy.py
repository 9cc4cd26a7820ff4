"""Exact entropies of discrete samples, by counting equal rows; and the binned estimate that makes famous artefacts.

The entropies here are those of the empirical distribution. They equal the population's where the sample lists all
inputs, and fall short of it by about (number of distinct rows - 1) / 2n nats where it does not (Miller 1955).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Groups", "binned", "entropy", "group_rows", "is_enumerable", "plugin_information"]

_HASHED = 2**22  # values hashed at once: 32 MB
_UNSEEN = 0.05  # largest share of rows that occur once where counting rows is taken to show the distribution


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Equal rows of a sample, put together.

    Attributes:
        first: shape (m,), the index of a representative of each of the m distinct rows.
        inverse: shape (n,), the distinct row that each sample equals.
        counts: shape (m,), how often each distinct row occurs.
    """

    first: NDArray[np.intp]
    inverse: NDArray[np.intp]
    counts: NDArray[np.intp]


def group_rows(values: ArrayLike) -> Groups:
    """Group equal rows; exact, and much faster than sorting rows.

    Rows are hashed to 64 bits by a fixed multilinear hash, the hashes grouped, and every row compared with its group's
    representative: a collision cannot pass unseen.

    Args:
        values: shape (n,) or (n, d), numbers, bools or strings.
    """
    rows = np.asarray(values)
    rows = rows.reshape(len(rows), -1)
    d = rows.shape[1]
    if rows.dtype.kind not in "biuf":
        rows = np.unique(rows, return_inverse=True)[1].reshape(rows.shape)
    multipliers = np.random.default_rng(0x4A54).integers(1, 2**63, size=d, dtype=np.uint64) * np.uint64(2) + np.uint64(
        1
    )
    parts = [slice(start, start + max(1, _HASHED // d)) for start in range(0, len(rows), max(1, _HASHED // d))]
    hashes = np.empty(len(rows), np.uint64)
    for part in parts:  # a part at a time: no copy of all in eight bytes
        words = _words(rows[part])
        mixed = words ^ (words >> np.uint64(32))  # doubles differ in their high bits, products keep the low ones
        mixed *= multipliers
        mixed ^= mixed >> np.uint64(29)
        hashes[part] = mixed.sum(axis=1, dtype=np.uint64)
    _, first, inverse, counts = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    if not all(np.array_equal(_words(rows[first[inverse[part]]]), _words(rows[part])) for part in parts):
        _, first, inverse, counts = np.unique(
            _words(rows), axis=0, return_index=True, return_inverse=True, return_counts=True
        )
    return Groups(first, inverse.reshape(-1), counts)


def _words(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Numbers as eight bytes each, equal where the numbers are."""
    # -0.0 + 0.0 is 0.0: the two zeros are one value
    wide = rows.astype(np.float64) + 0.0 if rows.dtype.kind == "f" else rows.astype(np.int64)
    return np.ascontiguousarray(wide).view(np.uint64)


def entropy(values: ArrayLike) -> NDArray[np.float64]:
    """Local entropies -log p(row) of a discrete sample, in nats; their mean is H.

    For a deterministic layer of a discrete input X, H(T) is I(X;T) exactly.

    Args:
        values: shape (n,) or (n, d).

    Returns:
        Shape (n,).
    """
    groups = group_rows(values)
    n = len(groups.inverse)
    return np.asarray(-np.log(groups.counts / n)[groups.inverse])


def plugin_information(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Local values of I(x;y) = H(x) + H(y) - H(x,y) for two discrete samples, in nats; exact for an enumerated input.

    Args:
        x: shape (n,) or (n, d).
        y: shape (n,) or (n, e).

    Returns:
        Shape (n,).
    """
    gx, gy = group_rows(x), group_rows(y)
    joint = group_rows(gx.inverse.astype(np.int64) * len(gy.first) + gy.inverse)
    n = len(gx.inverse)
    return np.asarray(
        np.log(joint.counts * float(n))[joint.inverse] - np.log(gx.counts)[gx.inverse] - np.log(gy.counts)[gy.inverse]
    )


def is_enumerable(values: ArrayLike) -> bool:
    """Whether the sample shows (nearly) all rows there are, so that counting rows gives entropies to rely on.

    True if the chance that a further draw is a row not seen yet is at most 5 %, which is the share of rows that occur
    once (Good 1953, doi:10.1093/biomet/40.3-4.237); or if that holds for each column, and at least a quarter of all
    combinations of the columns' values are in the sample (twelve binary inputs, all listed).

    Args:
        values: shape (n,) or (n, d).
    """
    rows = np.asarray(values)
    rows = rows.reshape(len(rows), -1)
    n = len(rows)
    counts = group_rows(rows).counts
    if np.count_nonzero(counts == 1) <= _UNSEEN * n:
        return True
    combinations = 1.0
    for column in rows.T:
        repeats = np.unique(column, return_counts=True)[1]
        combinations *= len(repeats)
        if combinations > 4 * len(counts) or np.count_nonzero(repeats == 1) > _UNSEEN * n:
            return False
    return True


def binned(values: ArrayLike, n_bins: int = 30, low: float = -1.0, high: float = 1.0) -> NDArray[np.intp]:
    """Activations cut into bins of equal width, the way of Shwartz-Ziv & Tishby (2017, arXiv:1703.00810).

    Kept to show the artefact: H of the result falls when a bounded activation saturates or when activations outgrow
    the bins, whether or not any information is lost (Saxe et al. 2019, doi:10.1088/1742-5468/ab3985).

    Args:
        values: shape (n, d).
        n_bins: number of bins between ``low`` and ``high``; what lies outside goes to the outermost.
        low: lower end of the bins.
        high: upper end of the bins.

    Returns:
        Shape (n, d), the number of the bin.
    """
    edges = np.linspace(low, high, n_bins + 1)[1:-1]
    return np.asarray(np.digitize(np.asarray(values), edges))
