"""The simple readers that usable information is measured with: cross-fitted ridge and multinomial logistic regression.

Written here rather than taken from scikit-learn, because they run once a layer and epoch: products over all samples
are made once and shared by folds and penalties, which no general-purpose estimator can do.

Both are penalised on the features as they come, by the squared length of their weights. (Features whitened first give
directions of noise the say of all others: with as many units as samples nothing is left to read.) The penalty of a
fold is the one that read the *other* folds best, so that its own samples have no say; an infinite one, the decoder
that looks at nothing, stands among the candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky

__all__ = ["RidgeFold", "logistic_probabilities", "ridge_folds", "spanned"]

_LEAST_VARIANCE = 1e-9  # of residuals, next to targets of variance one: keeps q finite where the prediction is perfect
_PENALTIES = tuple(10.0**-i for i in range(-2, 7))  # a sample, from strong to weak
_PATIENCE = 2  # decades in a row that read worse than the best, by more than this many nats a sample, before we stop
_WORSE = 0.01
_LOGISTIC_SAMPLES = 20_000  # more cost in proportion, and change the third digit
_ITERATIONS = 30
_TOLERANCE = 1e-4  # nats that another step of conjugate gradients would gain
_SCORES = 8_000_000  # scores held at a time: so many folds are fitted side by side


def spanned(f: NDArray[np.float64]) -> NDArray[np.float64]:
    """Features of the same inner products, shape (n, min(n, d)): coordinates in the space that the samples span.

    A penalty on the squared length of the weights, and so the decoder, is the same in both.
    """
    return f if f.shape[1] <= len(f) else np.ascontiguousarray(np.linalg.qr(f.T, mode="r").T)


@dataclass(frozen=True, slots=True, eq=False)
class RidgeFold:
    """A ridge regression fitted without one fold.

    Attributes:
        fold: the fold left out.
        predicted: predictions for all samples, shape (n, e).
        residual_covariance: covariance of held-out residuals, taken from the other folds, shape (e, e).
        is_constant: whether the decoder that looks at nothing read the other folds best.
    """

    fold: int
    predicted: NDArray[np.float64]
    residual_covariance: NDArray[np.float64]
    is_constant: bool


def ridge_folds(f: NDArray[np.float64], y: NDArray[np.float64], folds: NDArray[np.intp]) -> Iterator[RidgeFold]:
    """Ridge regressions, each fitted without one fold, with the penalty that read the other folds best.

    Products over samples are made once: those of a training part are the total less those of the fold.

    Args:
        f: shape (n, d), features.
        y: shape (n, e), of unit variance.
        folds: shape (n,), the fold of each sample.
    """
    f = spanned(f)
    n, d, n_folds = len(f), f.shape[1], int(folds.max()) + 1
    both = np.concatenate([f, y], axis=1)
    parts = [both[folds == fold] for fold in range(n_folds)]
    products, sums = [part.T @ part for part in parts], [part.sum(axis=0) for part in parts]
    total, total_sum = sum(products), sum(sums)
    coefficients = np.zeros((n_folds, 1 + len(_PENALTIES), d, y.shape[1]))
    means = np.empty((n_folds, both.shape[1]))
    squares = np.empty((n_folds, 1 + len(_PENALTIES), y.shape[1], y.shape[1]))  # of held-out residuals, summed
    for fold, part in enumerate(parts):
        n_train = n - len(part)
        means[fold] = (total_sum - sums[fold]) / n_train
        moments = (total - products[fold]) / n_train - np.outer(means[fold], means[fold])
        for i, penalty in enumerate(_PENALTIES, start=1):
            penalised = moments[:d, :d].copy()
            penalised[np.diag_indices(d)] += penalty
            factor = cholesky(penalised, lower=True, overwrite_a=True, check_finite=False)
            coefficients[fold, i] = cho_solve((factor, True), moments[:d, d:], check_finite=False)
        centred = part - means[fold]
        residuals = centred[:, d:] - centred[:, :d] @ coefficients[fold]
        squares[fold] = residuals.transpose(0, 2, 1) @ residuals
    for fold in range(n_folds):
        covariances = (squares.sum(axis=0) - squares[fold]) / (n - len(parts[fold]))
        spectra, axes = np.linalg.eigh(covariances)
        spectra = np.maximum(spectra, _LEAST_VARIANCE)
        best = int(np.log(spectra).sum(axis=1).argmin())
        predicted = (f - means[fold, :d]) @ coefficients[fold, best] + means[fold, d:]
        yield RidgeFold(fold, predicted, (axes[best] * spectra[best]) @ axes[best].T, best == 0)


def logistic_probabilities(
    f: NDArray[np.float64], labels: NDArray[np.intp], folds: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Held-out probabilities under multinomial logistic regressions, each fitted without one fold.

    Penalties are tried from strong to weak, each fit starting from the one before, until the other folds are read
    worse and worse.

    Args:
        f: shape (n, d), features.
        labels: shape (n,), classes 0 to K - 1.
        folds: shape (n,), the fold of each sample.

    Returns:
        The probability of each sample's own class, shape (n,), and whether each fold is read by the decoder that
        looks at nothing, shape (n_folds,).
    """
    f = spanned(f)
    n, n_classes, n_folds = len(labels), int(labels.max()) + 1, int(folds.max()) + 1
    features = np.concatenate([f, np.ones((n, 1))], axis=1).astype(np.float32)
    prior = np.bincount(labels, minlength=n_classes) / n
    rows = np.arange(0, n, max(1, round(n * (1 - 1 / n_folds) / _LOGISTIC_SAMPLES)))
    problem = _Logistic(features[rows], labels[rows], n_classes)
    weights = np.zeros((n_classes, n_folds, features.shape[1]), dtype=np.float32)
    weights[:, :, -1] = np.log(prior)[:, None]
    at_once = max(1, _SCORES // (len(rows) * n_classes))
    groups = [np.arange(i, min(i + at_once, n_folds)) for i in range(0, n_folds, at_once)]
    log_p = [np.log(prior)[labels]]
    held_out = [np.bincount(folds, weights=log_p[0], minlength=n_folds)]
    best = np.zeros(n_folds, dtype=np.intp)
    others = held_out[0].sum() - held_out[0]
    n_worse = np.zeros(n_folds, dtype=np.intp)
    for i, penalty in enumerate(_PENALTIES, start=1):
        for group in groups:
            weights[:, group] = problem.minimise(weights[:, group], folds[rows] != group[:, None], penalty)
        own = np.empty(n)
        for fold in range(n_folds):
            held = folds == fold
            scores = weights[:, fold] @ features[held].T
            own[held] = _log_softmax(scores)[labels[held], np.arange(scores.shape[1])]
        log_p.append(own)
        held_out.append(np.bincount(folds, weights=own, minlength=n_folds))
        read = held_out[i].sum() - held_out[i]
        is_better = (read > others) & (n_worse < _PATIENCE)
        best[is_better], others[is_better] = i, read[is_better]
        n_worse = np.where((read < others - _WORSE * n) & (n_worse < _PATIENCE), n_worse + 1, n_worse)
        n_worse[is_better] = 0
        if (n_worse >= _PATIENCE).all():
            break
    return np.exp(np.stack(log_p)[best[folds], np.arange(n)]), best == 0


def _log_softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the first axis, that of the classes."""
    scores = scores - scores.max(axis=0)
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=0)))


class _Logistic:
    """Penalised cross entropies of several training parts of the same samples, minimised side by side.

    Nonlinear conjugate gradients (Polak & Ribiere), preconditioned by the curvature that the classes' mean variance
    would give. Scores are linear in a step, so the step's length costs no product with the features.
    """

    def __init__(self, features: NDArray[np.float32], labels: NDArray[np.intp], n_classes: int) -> None:
        self.features, self.labels = features, labels
        self.gram = (features.T @ features).astype(np.float64) / len(features)
        self.one_hot = np.zeros((n_classes, 1, len(features)), dtype=np.float32)
        self.one_hot[labels, 0, np.arange(len(features))] = 1

    def minimise(
        self, w: NDArray[np.float32], is_train: NDArray[np.bool_], penalty: float
    ) -> NDArray[np.float32]:
        """Weights of shape (K, F, d + 1), the last one the intercept, from a start of that shape.

        Args:
            w: where to start.
            is_train: shape (F, n), which samples each fit is made on.
            penalty: on half the squared length of the slopes, against the cross entropy per sample.
        """
        shares = (is_train / is_train.sum(axis=1, keepdims=True)).astype(np.float32)
        penalties = np.full(w.shape[2], penalty, dtype=np.float32)
        penalties[-1] = 0
        scores = self._scores(w)
        loss, p = self._loss(scores, shares), None
        loss += 0.5 * np.einsum("kfd,kfd,d->f", w, w, penalties)
        direction = gradient = steepest = np.zeros_like(w)
        slope_before = np.ones(w.shape[1])
        for _ in range(_ITERATIONS):
            p = np.exp(_log_softmax(scores))
            new = self._products((p - self.one_hot) * shares) + penalties * w
            if _ == 0:
                factor = self._preconditioner(float(np.mean(p * (1 - p))), penalty)
            new_steepest = cho_solve((factor, True), new.reshape(-1, w.shape[2]).T, check_finite=False).T
            new_steepest = np.ascontiguousarray(new_steepest).reshape(w.shape)
            slope = np.einsum("kfd,kfd->f", new, new_steepest)
            turn = np.maximum(0, (slope - np.einsum("kfd,kfd->f", gradient, new_steepest)) / slope_before)
            gradient, steepest, slope_before = new, new_steepest, np.maximum(slope, 1e-30)
            direction = turn[:, None].astype(np.float32) * direction - steepest
            descent = np.einsum("kfd,kfd->f", gradient, direction)
            change = self._scores(direction)
            mean = (p * change).sum(axis=0)
            curvature = (shares * ((p * change**2).sum(axis=0) - mean**2)).sum(axis=1)
            curvature = curvature + np.einsum("kfd,kfd,d->f", direction, direction, penalties)
            step = np.where(descent < 0, -descent / np.maximum(curvature, 1e-30), 0).astype(np.float32)
            for _try in range(20):
                moved = w + step[:, None] * direction
                new_scores = scores + step[:, None] * change
                new_loss = self._loss(new_scores, shares) + 0.5 * np.einsum("kfd,kfd,d->f", moved, moved, penalties)
                overshot = new_loss > loss + 1e-6
                if not overshot.any():
                    break
                step = np.where(overshot, step / 2, step)
            gain = loss - new_loss
            w, scores, loss = moved, new_scores, new_loss
            if (gain < _TOLERANCE).all():
                break
        return w

    def _preconditioner(self, variance: float, penalty: float) -> NDArray[np.float32]:
        """Cholesky factor of the curvature if every class had this variance."""
        curvature = variance * self.gram
        curvature[np.diag_indices(len(curvature))] += 1e-6 * variance
        curvature[np.diag_indices(len(curvature) - 1)] += penalty
        factor = cholesky(curvature, lower=True, overwrite_a=True, check_finite=False)
        return np.asarray(factor, dtype=np.float32)

    def _scores(self, w: NDArray[np.float32]) -> NDArray[np.float32]:
        return (w.reshape(-1, w.shape[2]) @ self.features.T).reshape(*w.shape[:2], -1)

    def _products(self, residuals: NDArray[np.float32]) -> NDArray[np.float32]:
        return (residuals.reshape(-1, residuals.shape[2]) @ self.features).reshape(*residuals.shape[:2], -1)

    def _loss(self, scores: NDArray[np.float32], shares: NDArray[np.float32]) -> NDArray[np.float64]:
        """Cross entropy of each fit, shape (F,), in nats a sample."""
        own = np.take_along_axis(scores, self.labels[None, None, :], axis=0)[0]
        top = scores.max(axis=0)
        log_sum = top + np.log(np.exp(scores - top).sum(axis=0))
        return np.einsum("fn,fn->f", shares, log_sum - own, dtype=np.float64)
