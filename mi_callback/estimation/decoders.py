"""The simple readers that usable information is measured with: cross-fitted ridge and multinomial logistic regression.

Written here rather than taken from scikit-learn, because they run once a layer and epoch: products over all samples
are made once and shared by folds and penalties, which no general-purpose estimator can do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize

__all__ = ["logistic_probabilities", "ridge_predictions"]

_CLIP = 6.0  # standardised activations are cut off here, lest one outlier dominate a linear reader
_MAX_FEATURES = 512  # wider layers are read through this many random projections
_RIDGE_PENALTIES = np.logspace(-6, 4, 21)
_LOGISTIC_PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)  # per sample, on whitened features; from strong to weak, warm-started
_LOGISTIC_SAMPLES = 5_000  # fitting on more changes the third digit and costs in proportion
_ITERATIONS = 30


def _features(t: NDArray[np.float64], train: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Standardised by the training part's mean and spread and cut off; units that do not vary there are left out."""
    if t.shape[1] > _MAX_FEATURES:
        projection = np.random.default_rng(0).standard_normal((t.shape[1], _MAX_FEATURES))
        t = t @ projection / np.sqrt(t.shape[1])
    mean, spread = t[train].mean(axis=0), t[train].std(axis=0)
    varies = spread > 1e-7 * np.abs(t[train]).max(axis=0)
    return np.asarray(np.clip((t[:, varies] - mean[varies]) / spread[varies], -_CLIP, _CLIP))


def ridge_predictions(
    t: NDArray[np.float64], y: NDArray[np.float64], train: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit a ridge regression on part of the samples and predict all; the penalty by generalised cross-validation.

    Golub, Heath & Wahba 1979, doi:10.1080/00401706.1979.10489751; read off one eigendecomposition.

    Args:
        t: shape (n, d).
        y: shape (n, e).
        train: shape (n,), which samples to fit on.

    Returns:
        Predictions, shape (n, e), and the covariance of the residuals to expect on new samples, shape (e, e).
    """
    f = _features(t, train)
    mean_y = y[train].mean(axis=0)
    ft, yt = f[train], y[train] - mean_y
    n = len(ft)
    offset = ft.mean(axis=0)
    gram = (ft.T @ ft) / n - np.outer(offset, offset)
    cross = (ft.T @ yt) / n
    values, vectors = eigh(gram) if gram.size else (np.zeros(0), gram)
    values = np.maximum(values, 0)
    projected = vectors.T @ cross
    total = (yt**2).sum() / n
    best_score, best_penalty = np.inf, _RIDGE_PENALTIES[-1]
    for penalty in _RIDGE_PENALTIES:
        shrunk = values / (values + penalty)
        freedom = 1 - (1 + shrunk.sum()) / n
        explained = ((2 - shrunk)[:, None] * projected**2 / (values + penalty)[:, None]).sum()
        score = (total - explained) / freedom**2 if freedom >= 0.5 else np.inf  # near 0 the score lies
        if score < best_score:
            best_score, best_penalty = score, penalty
    shrunk = values / (values + best_penalty)
    coefficients = vectors @ (projected / (values + best_penalty)[:, None])
    predicted = (f - offset) @ coefficients + mean_y
    residual = y[train] - predicted[train]
    freedom = max(1 - (1 + shrunk.sum()) / n, 1 / n)
    covariance = residual.T @ residual / n / freedom**2  # squared: what GCV expects of samples not fitted on
    floor = 1e-9 * np.eye(y.shape[1])  # y is standardised: a perfect prediction must not make q infinite
    return predicted, np.asarray(covariance + floor)


def logistic_probabilities(
    t: NDArray[np.float64], labels: NDArray[np.intp], folds: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Held-out probability of each sample's own class under a multinomial logistic regression, shape (n,).

    Features are whitened, which turns the problem round enough for L-BFGS to finish in a few steps. Each fold takes
    the penalty that read the other folds best, so that its own samples have no say.

    Args:
        t: shape (n, d).
        labels: shape (n,), classes 0 to K - 1.
        folds: shape (n,), the fold of each sample.
    """
    n, n_classes, n_folds = len(labels), int(labels.max()) + 1, int(folds.max()) + 1
    prior = np.bincount(labels, minlength=n_classes) / n
    own = np.empty((1 + len(_LOGISTIC_PENALTIES), n))
    own[0] = np.log(prior)[labels]  # an infinite penalty: the decoder that looks at nothing
    for fold in range(n_folds):
        train = folds != fold
        f = _whitened(_features(t, train), train)
        fit_on = np.flatnonzero(train)
        fit_on = fit_on[:: -(-len(fit_on) // _LOGISTIC_SAMPLES)]
        features, held = f[fit_on], f[~train]
        one_hot = np.zeros((len(fit_on), n_classes), dtype=np.float32)
        one_hot[np.arange(len(fit_on)), labels[fit_on]] = 1
        weights = np.zeros((f.shape[1], n_classes))
        weights[-1] = np.log(prior)
        for i, penalty in enumerate(_LOGISTIC_PENALTIES):
            weights = _fit_logistic(features, one_hot, penalty, weights)
            log_p = _log_softmax(held @ weights.astype(np.float32))
            own[1 + i, ~train] = log_p[np.arange(len(held)), labels[~train]]
    fold_sums = np.stack([np.bincount(folds, weights=row, minlength=n_folds) for row in own])
    best = (fold_sums.sum(axis=1, keepdims=True) - fold_sums).argmax(axis=0)
    return np.asarray(np.exp(own[best[folds], np.arange(n)]))


def _whitened(f: NDArray[np.float64], train: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Uncorrelated features of unit variance, but for directions of next to none, and a column of ones."""
    ft = f[train]
    values, vectors = eigh(ft.T @ ft / len(ft)) if f.shape[1] else (np.zeros(0), np.zeros((0, 0)))
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

    found = minimize(loss_and_gradient, start.ravel(), jac=True, method="L-BFGS-B",
                     options={"maxiter": _ITERATIONS, "ftol": 1e-5})
    return np.asarray(found.x.reshape(start.shape))
