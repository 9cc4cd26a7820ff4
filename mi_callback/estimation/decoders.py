"""The simple readers that usable information is measured with: cross-fitted ridge and multinomial logistic regression.

Written here rather than taken from scikit-learn, because they run once a layer and epoch: products over all samples
are made once and shared by folds and penalties, which no general-purpose estimator can do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize

__all__ = ["logistic_probabilities", "ridge_folds"]

_LEAST_VARIANCE = 1e-9
_RIDGE_PENALTIES = np.logspace(-6, 4, 21)
_LOGISTIC_PENALTIES = (0.3, 0.03, 0.003, 0.0003)  # per sample, on whitened features; from strong to weak, warm-started
_LOGISTIC_SAMPLES = 20_000  # more cost in proportion, and change the third digit
_ITERATIONS = 30


def ridge_folds(
    f: NDArray[np.float64], y: NDArray[np.float64], folds: NDArray[np.intp]
) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Ridge regressions, each fitted without one fold; the penalty by generalised cross-validation.

    Golub, Heath & Wahba 1979, doi:10.1080/00401706.1979.10489751, read off one eigendecomposition. Products over
    samples are made once: those of a training part are the total less those of the fold.

    Args:
        f: shape (n, d), features.
        y: shape (n, e).
        folds: shape (n,), the fold of each sample.

    Yields:
        The fold left out; predictions for all samples, shape (n, e); and the covariance of the residuals to expect on
        samples not fitted on, shape (e, e).
    """
    both = np.concatenate([f, y], axis=1)
    n_folds = int(folds.max()) + 1
    parts = [both[folds == fold] for fold in range(n_folds)]
    products, sums = [part.T @ part for part in parts], [part.sum(axis=0) for part in parts]
    for fold in range(n_folds):
        n = len(f) - len(parts[fold])
        mean = (sum(sums) - sums[fold]) / n
        moments = (sum(products) - products[fold]) / n - np.outer(mean, mean)
        coefficients, covariance = _ridge(moments, f.shape[1], n)
        yield fold, (f - mean[: f.shape[1]]) @ coefficients + mean[f.shape[1] :], covariance


def _ridge(moments: NDArray[np.float64], d: int, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients (d, e) and residual covariance (e, e), from the joint covariance of features and targets."""
    cross, total = moments[:d, d:], moments[d:, d:]
    values, vectors = eigh(moments[:d, :d]) if d else (np.zeros(0), np.zeros((0, 0)))
    values = np.maximum(values, 0)
    projected = vectors.T @ cross
    best, score, freedom = _RIDGE_PENALTIES[-1], np.inf, 1.0
    for penalty in _RIDGE_PENALTIES:
        shrunk = values / (values + penalty)
        left = 1 - (1 + shrunk.sum()) / n
        if left < 0.5:  # near 0 the score lies
            continue
        explained = ((2 - shrunk)[:, None] * projected**2 / (values + penalty)[:, None]).sum()
        if (np.trace(total) - explained) / left**2 < score:
            best, score, freedom = penalty, (np.trace(total) - explained) / left**2, left
    weights = projected / (values + best)[:, None]
    shrunk = values / (values + best)
    fitted = (projected * ((2 - shrunk) / (values + best))[:, None]).T @ projected
    # Squared: what generalised cross-validation expects of samples not fitted on. The floor keeps q finite where the
    # prediction is perfect; y is standardised.
    covariance = (total - fitted) / freedom**2
    covariance = (covariance + covariance.T) / 2
    spectrum, axes = np.linalg.eigh(covariance)
    return vectors @ weights, np.asarray((axes * np.maximum(spectrum, _LEAST_VARIANCE)) @ axes.T)


def logistic_probabilities(
    f: NDArray[np.float64], labels: NDArray[np.intp], folds: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Held-out probability of each sample's own class under a multinomial logistic regression, shape (n,).

    Features are whitened, which turns the problem round enough for L-BFGS to finish in a few steps. Each fold takes
    the penalty that read the other folds best, so that its own samples have no say.

    Args:
        f: shape (n, d), features.
        labels: shape (n,), classes 0 to K - 1.
        folds: shape (n,), the fold of each sample.
    """
    n, n_classes, n_folds = len(labels), int(labels.max()) + 1, int(folds.max()) + 1
    prior = np.bincount(labels, minlength=n_classes) / n
    own = np.empty((1 + len(_LOGISTIC_PENALTIES), n))
    own[0] = np.log(prior)[labels]  # an infinite penalty: the decoder that looks at nothing
    white = _whitened(f)
    for fold in range(n_folds):
        train = folds != fold
        fit_on = np.flatnonzero(train)
        fit_on = fit_on[:: -(-len(fit_on) // _LOGISTIC_SAMPLES)]
        features, held = white[fit_on], white[~train]
        one_hot = np.zeros((len(fit_on), n_classes), dtype=np.float32)
        one_hot[np.arange(len(fit_on)), labels[fit_on]] = 1
        weights = np.zeros((white.shape[1], n_classes))
        weights[-1] = np.log(prior)
        for i, penalty in enumerate(_LOGISTIC_PENALTIES):
            weights = _fit_logistic(features, one_hot, penalty, weights)
            log_p = _log_softmax(held @ weights.astype(np.float32))
            own[1 + i, ~train] = log_p[np.arange(len(held)), labels[~train]]
    fold_sums = np.stack([np.bincount(folds, weights=row, minlength=n_folds) for row in own])
    best = (fold_sums.sum(axis=1, keepdims=True) - fold_sums).argmax(axis=0)
    return np.asarray(np.exp(own[best[folds], np.arange(n)]))


def _whitened(f: NDArray[np.float64]) -> NDArray[np.float32]:
    """Uncorrelated features of unit variance, but for directions of next to none, and a column of ones."""
    values, vectors = eigh(f.T @ f / len(f)) if f.shape[1] else (np.zeros(0), np.zeros((0, 0)))
    turned = f @ (vectors / np.sqrt(np.maximum(values, 0) + 1e-3))
    return np.concatenate([turned, np.ones((len(f), 1))], axis=1).astype(np.float32)


def _log_softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    scores = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))


def _fit_logistic(
    features: NDArray[np.float32], one_hot: NDArray[np.float32], penalty: float, start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Minimise the penalised cross entropy per sample by L-BFGS; shape (d + 1, K), the last row the intercept."""
    n = len(features)
    is_slope = np.ones((len(start), 1))
    is_slope[-1] = 0

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w = flat.reshape(start.shape)
        log_p = _log_softmax(features @ w.astype(np.float32))
        slope = features.T @ (np.exp(log_p) - one_hot) / n + penalty * is_slope * w
        loss = -float(np.vdot(log_p, one_hot)) / n + 0.5 * penalty * float((is_slope * w * w).sum())
        return loss, slope.ravel()

    found = minimize(
        loss_and_gradient, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS, "ftol": 1e-5}
    )
    return np.asarray(found.x.reshape(start.shape))
