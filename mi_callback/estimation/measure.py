"""Mutual information of two samples, with its null, error bar and flags: what a user without Lightning calls."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma, ndtri
from scipy.stats import rankdata

from mi_callback.estimation.records import MutualInformation, Unit

__all__ = ["Estimator", "Variable", "mutual_information"]


class Variable:
    """One side of an estimate; keeps what has been computed for it, so that it can be paired many times."""

    def __init__(self, values: ArrayLike, *, discrete: bool | None = None, name: str = "x") -> None:
        self.values = np.asarray(values)
        self.name = name
        if self.values.ndim == 1:
            self.values = self.values[:, None]
        self.discrete = self.values.dtype.kind in "biuUSO" and self.values.shape[1] == 1 if discrete is None else discrete


class Estimator:
    """Estimates mutual information of variables."""

    def __init__(self, *, k: int = 3, n_permutations: int = 100, metric: str = "euclidean", space: str = "auto",
                 unit: Unit = "bits", seed: int = 0) -> None:
        self.k, self.n_permutations, self.metric, self.space, self.unit, self.seed = (
            k, n_permutations, metric, space, unit, seed)

    def estimate(self, x: Variable, y: Variable) -> MutualInformation:
        """Estimate I(x; y)."""
        n = len(x.values)
        rng = np.random.default_rng(self.seed)

        def dist(v):
            if v.discrete:
                return v.values[:, 0][:, None] != v.values[:, 0][None, :]
            s = ndtri((rankdata(v.values, axis=0) - .5) / n)
            d = np.sqrt(np.maximum(((s[:, None] - s[None]) ** 2).sum(-1), 0))
            np.fill_diagonal(d, np.inf)
            r = np.median(np.sort(d, 1)[:, min(n - 2, int(np.sqrt(self.k * n)))])
            return d / (r or 1)
        dx, dy = dist(x), dist(y)

        def value(dy):
            if y.discrete:
                tot = []
                for i in range(n):
                    same = np.flatnonzero(~dy[i].astype(bool))
                    same = same[same != i]
                    if not len(same):
                        continue
                    kk = min(self.k, len(same))
                    r = np.partition(dx[i][same], kk - 1)[kk - 1]
                    tot.append(digamma(n) + digamma(kk) - digamma(len(same) + 1) - digamma((dx[i] < r).sum() + 1))
                return np.mean(tot)
            e = np.partition(np.maximum(dx, dy), self.k - 1, axis=1)[:, self.k - 1][:, None]
            return np.mean(digamma(self.k) + digamma(n) - digamma((dx < e).sum(1) + 1) - digamma((dy < e).sum(1) + 1))
        scale = 1 / np.log(2) if self.unit == "bits" else 1.
        raw = value(dy) * scale
        null = []
        for _ in range(self.n_permutations):
            p = rng.permutation(n)
            null.append(value(dy[p][:, p]) * scale)
        null = np.array(null)
        mean = null.mean() if len(null) else 0.
        return MutualInformation(
            mi=raw - mean, raw=raw, null=null, null_mean=mean, null_std=null.std(ddof=1) if len(null) > 1 else np.nan,
            p_value=(1 + (null >= raw).sum()) / (1 + len(null)) if len(null) else None, stderr=np.nan, unit=self.unit,
            k=self.k, n_samples=n, estimator="ross" if y.discrete else "ksg", space="scores", intrinsic_dim=np.nan)


def mutual_information(x: ArrayLike, y: ArrayLike, *, k: int = 3, n_permutations: int = 100,
                       metric: str = "euclidean", space: str = "auto", unit: Unit = "bits",
                       discrete: bool | None = None, seed: int = 0) -> MutualInformation:
    """Estimate I(x; y)."""
    return Estimator(k=k, n_permutations=n_permutations, metric=metric, space=space, unit=unit, seed=seed).estimate(
        Variable(x, name="x"), Variable(y, discrete=discrete, name="y"))
