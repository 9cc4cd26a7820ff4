r"""Usable information: a lower bound on I(T;Y) that a simple decoder, fitted on other samples, attains.

The total information of a layer hardly moves in training, since a one-to-one layer holds all of I(X;Y) from the first
step. What training changes is how much of it a simple reader gets out (Xu et al. 2020, arXiv:2002.10689, call it
V-information). The decoder is linear: ridge regression for continuous targets, multinomial logistic regression for
classes, cross-fitted, so that a sample is only ever read by a decoder that has not seen it.

Why it is a lower bound. For any conditional density q(y|t), with q(y) = E_T q(y|t) the marginal it implies,

.. math:: I(T;Y) - E \log \frac{q(Y|T)}{q(Y)} = KL(p(y|t)\,\|\,q(y|t)) - KL(p(y)\,\|\,q(y)) \ge 0

because the divergence of joint distributions is at least that of their marginals. No entropy of Y has to be estimated,
so no error of such an estimate can lift the bound above the truth. With q(y) the mean over finitely many samples, the
sample itself among them, the expectation stays below I(T;Y) (Poole et al. 2019, arXiv:1905.06922). The familiar
h(Y) - 1/2 log(2 pi e MSE) is the same bound with the Gaussian q and less: it lacks KL(p(y) || q(y)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mi_callback.estimation.decoders import logistic_probabilities, ridge_folds
from mi_callback.estimation.parallel import one_blas_thread
from mi_callback.estimation.permutation import stream

__all__ = ["UsableInformation", "usable_information"]

_Real = TypeVar("_Real", np.float32, np.float64)

_USABLE = 0x5AB  # purpose of a stream
_MOST_SAMPLES = 10_000  # samples read: a standard error of sd / 100, .01 nats
_MARGINAL_SAMPLES = 2_048  # predictions that a marginal q(y) is averaged over: a bound of log 2048 = 11 bits
_CLIP = 6.0  # standardised activations are cut off here, lest one outlier dominate a linear reader
_MAX_TARGETS = 16  # a target of more dimensions is read through its leading principal components
_GUARD = 0.01  # share of the marginal mixed into q(y|t): a wild prediction costs at most log 100, all others .015 bits


@dataclass(frozen=True, slots=True, eq=False)
class UsableInformation:
    """What a held-out linear decoder gets out of T about Y.

    Attributes:
        local: values per sample read in nats, shape (m,). Their mean is the estimate, signed: a decoder that has learnt
            nothing comes out around zero on either side.
        rows: the samples read, shape (m,), rising: all of up to 10,000, a random part of more.
        stderr: standard error of the mean in nats.
        constant_decoder: whether the decoder that looks at nothing was chosen for most of the folds.
    """

    local: NDArray[np.float64]
    rows: NDArray[np.intp]
    stderr: float
    constant_decoder: bool


@one_blas_thread()
def usable_information(
    activations: ArrayLike, target: ArrayLike, *, discrete: bool, n_folds: int = 5, seed: int = 0
) -> UsableInformation:
    """Information that a held-out linear decoder gets out of T about Y, in nats.

    More than 10,000 samples are represented by so many, drawn at random.

    Args:
        activations: shape (n,) or (n, d), the layer T.
        target: shape (n,) or (n, e) if continuous; (n,) or (n, 1) labels if ``discrete``.
        discrete: whether Y is a class.
        n_folds: number of parts the samples are cut into; each is read by a decoder fitted on the others.
        seed: seeds the cut into folds, and which samples of many are read.

    Raises:
        ValueError: if there are fewer than two samples a fold, or lengths differ.
    """
    t, y = np.asarray(activations), np.asarray(target)
    t, y = t.reshape(len(t), -1), y.reshape(len(y), -1)
    if len(t) != len(y):
        raise ValueError(f"target: expected {len(t)} samples, as many as the activations have, got {len(y)}.")
    if len(t) < 2 * n_folds:
        raise ValueError(
            f"activations: expected at least {2 * n_folds} samples for {n_folds} folds, got {len(t)}. "
            "Gather more samples."
        )
    rng = stream(seed, _USABLE)
    rows = np.arange(len(t))
    if len(t) > _MOST_SAMPLES:
        rows = np.sort(rng.permutation(len(t))[:_MOST_SAMPLES])
        t, y = t[rows], y[rows]
    if (t == t[:1]).all() or (y == y[:1]).all():
        # A constant holds nothing, and there is nothing to know of one.
        return UsableInformation(local=np.zeros(len(t)), rows=rows, stderr=0.0, constant_decoder=True)
    if discrete:
        labels = np.unique(y[:, 0], return_inverse=True)[1].reshape(-1)
        local, is_constant, influence = _from_classes(_features(t, np.float32), labels, n_folds, rng)
    else:
        local, is_constant, influence = _from_values(_features(t, np.float64), y.astype(np.float64), n_folds, rng)
    return UsableInformation(
        local=local,
        rows=rows,
        stderr=math.hypot(local.std(), influence.std()) / math.sqrt(len(local)),
        constant_decoder=bool(is_constant.mean() > 0.5),
    )


def _features(t: NDArray[Any], dtype: type[_Real]) -> NDArray[_Real]:
    """Units brought to zero mean and unit spread, cut off at six.

    Fitted to all samples, but without any look at Y: as much a part of the layer as of its reader.
    """
    t = t if t.dtype == np.float32 else t.astype(np.float64)
    mean, spread = t.mean(axis=0, dtype=np.float64), t.std(axis=0, dtype=np.float64)
    varies = spread > 1e-7 * np.abs(t).max(axis=0)
    f = np.clip((t[:, varies] - mean[varies].astype(t.dtype)) / spread[varies].astype(t.dtype), -_CLIP, _CLIP)
    return np.asarray(f, dtype=dtype)


def _folds(n: int, n_folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Shape (n,), the fold of each sample; folds differ in size by one at most."""
    return rng.permutation(np.arange(n) % n_folds)


def _stratified(labels: NDArray[np.intp], n_folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Shape (n,), folds that share out each class evenly, so that a rare class is known to each decoder."""
    n = len(labels)
    order = np.lexsort((rng.random(n), labels))
    folds = np.empty(n, dtype=np.intp)
    folds[order] = np.arange(n) % n_folds
    return folds


def _from_classes(
    f: NDArray[np.float32], labels: NDArray[np.intp], n_folds: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """H(Y) minus the held-out cross entropy, sample by sample, in nats.

    The plug-in H(Y) falls short of the true one by (K - 1) / 2n, on the safe side.
    """
    n = len(labels)
    frequency = np.bincount(labels) / n
    own, is_constant, influence = logistic_probabilities(f, labels, _stratified(labels, n_folds, rng))
    prior = frequency[labels]
    return np.log((1 - _GUARD) * own / prior + _GUARD), is_constant, influence


def _from_values(
    f: NDArray[np.float64], y: NDArray[np.float64], n_folds: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Local log q(y|t) / q(y) in nats, q a Gaussian around the prediction of a cross-fitted ridge."""
    spread = y.std(axis=0)
    y = (y[:, spread > 0] - y[:, spread > 0].mean(axis=0)) / spread[spread > 0]
    n = len(y)
    if y.shape[1] > _MAX_TARGETS:  # a function of Y: the bound stays one, and the residuals' covariance estimable
        y = y @ np.linalg.svd(y, full_matrices=False)[2][:_MAX_TARGETS].T
    folds = _folds(n, n_folds, rng)
    local, influence = np.empty(n), np.empty(n)
    others = rng.permutation(n)[:_MARGINAL_SAMPLES]
    listed = np.zeros(n, dtype=bool)
    listed[others] = True
    is_constant = np.zeros(n_folds, dtype=bool)
    for fit in ridge_folds(f, y, folds):
        held = np.flatnonzero(folds == fit.fold)
        is_constant[fit.fold], influence[held] = fit.is_constant, fit.influence
        whiten = np.linalg.inv(np.linalg.cholesky(fit.residual_covariance)).T
        p, z = fit.predicted @ whiten, y[held] @ whiten
        own = -0.5 * ((z - p[held]) ** 2).sum(axis=1)
        local[held] = own - _log_mean_density(z, own, p[others], listed[held])
    return np.log((1 - _GUARD) * np.exp(local) + _GUARD), is_constant, influence


def _log_mean_density(
    z: NDArray[np.float64], own: NDArray[np.float64], p: NDArray[np.float64], listed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Log of the mean over samples of exp(-|z_i - p_j|^2 / 2), sample i itself always among them; shape (len(z),)."""
    if z.shape[1] == 1:  # a difference costs less than a product, and does not cancel
        exponent = (z.astype(np.float32) - p.astype(np.float32).T) ** 2
        exponent *= np.float32(-0.5)
    else:
        exponent = z @ p.T
        exponent -= 0.5 * (p * p).sum(axis=1)
        exponent -= 0.5 * (z * z).sum(axis=1)[:, None]
    top = np.maximum(exponent.max(axis=1), own)
    exponent -= top[:, None].astype(exponent.dtype)
    total = np.exp(exponent, out=exponent).sum(axis=1, dtype=np.float64) + np.where(listed, 0.0, np.exp(own - top))
    return np.asarray(top + np.log(total / (len(p) + ~listed)))
