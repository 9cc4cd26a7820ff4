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
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.lapack import dpotrf, dpotrs

_Real = TypeVar("_Real", np.float32, np.float64)

__all__ = ["RidgeFold", "logistic_probabilities", "ridge_folds", "spanned"]

_LEAST_VARIANCE = 1e-9  # of residuals, next to targets of variance one: keeps q finite where the prediction is perfect
_PENALTIES = tuple(10.0**-i for i in range(-2, 7))  # a sample, from strong to weak
_PATIENCE = 2  # idle decades in a row before the search ends: they read worse than the best by so many nats a sample,
_WORSE = 0.05
_FLAT = 1e-3  # or as the decade before
_LEARNT = 0.01  # once they differ from the decoder that looks at nothing by so many
_LEAST_PROBABILITY = 1e-6  # of a class: one sample gone wrong does not choose the penalty
_ITERATIONS = 30
_TOLERANCES = (3e-5, 3e-4)  # nats that another step would gain: the larger loses .09 of 4.85 bits at 300 x 2,048 with
_SMALL_PROBLEM = (
    1e7  # 50 classes; at 5,000 x 2,048 .01, for a third less time. The smaller up to this n d K, then rising
)
_SCORES = 8_000_000  # scores held at a time: so many folds are fitted side by side


def spanned(f: NDArray[_Real]) -> NDArray[_Real]:
    """Features of the same inner products, shape (n, min(n, d)): coordinates in the space that the samples span.

    A penalty on the squared length of the weights, and so the decoder, is the same in both.
    """
    return f if f.shape[1] <= len(f) else np.ascontiguousarray(np.asarray(np.linalg.qr(f.T, mode="r")).T)


@dataclass(frozen=True, slots=True, eq=False)
class RidgeFold:
    """A ridge regression fitted without one fold.

    Attributes:
        fold: the fold left out.
        predicted: predictions for all samples, shape (n, e).
        residual_covariance: covariance of held-out residuals, taken from the other folds, shape (e, e).
        is_constant: whether the decoder that looks at nothing read the other folds best.
        influence: what each sample of the fold adds to the mean log q(y|t) through the other folds' decoders, times n.
    """

    fold: int
    predicted: NDArray[np.float64]
    residual_covariance: NDArray[np.float64]
    is_constant: bool
    influence: NDArray[np.float64]


def ridge_folds(f: NDArray[np.float64], y: NDArray[np.float64], folds: NDArray[np.intp]) -> Iterator[RidgeFold]:
    """Ridge regressions, each fitted without one fold, with the penalty that read the other folds best.

    Products over samples are made once: those of a training part are the total less those of the fold.

    Args:
        f: shape (n, d), features.
        y: shape (n, e), of unit variance.
        folds: shape (n,), the fold of each sample.
    """
    f = spanned(f)
    n, n_folds = len(f), int(folds.max()) + 1
    order, counts = np.argsort(folds, kind="stable"), np.bincount(folds)
    ends = np.cumsum(counts)
    parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    f, y = f[order], y[order]
    centre, middle = f.mean(axis=0), y.mean(axis=0)
    f -= centre
    y = y - middle
    # What the samples outside of a fold sum to is less what those of the fold do: the total is centred.
    f_means, y_means = (np.stack([-a[part].sum(axis=0) / (n - len(a[part])) for part in parts]) for a in (f, y))
    grams, crosses = [f[part].T @ f[part] for part in parts], [f[part].T @ y[part] for part in parts]
    gram, cross = sum(grams[1:], grams[0].copy()), sum(crosses[1:], crosses[0].copy())
    for fold, count in enumerate(counts):
        grams[fold] -= gram
        grams[fold] /= count - n
        grams[fold] -= np.outer(f_means[fold], f_means[fold])
        crosses[fold] = (cross - crosses[fold]) / (n - count) - np.outer(f_means[fold], y_means[fold])
    coefficients, covariances = [], []
    choice = _Choice(n_folds)
    for penalty in (np.inf, *_PENALTIES):
        fits = np.stack([_ridge_solve(*moments, penalty) for moments in zip(grams, crosses, strict=True)])
        residuals = [
            y[part] - f[part] @ fit - (y_mean - f_mean @ fit)
            for part, fit, f_mean, y_mean in zip(parts, fits, f_means, y_means, strict=True)
        ]
        squares = np.stack([residual.T @ residual for residual in residuals])
        covariance = (squares.sum(axis=0) - squares) / (n - counts)[:, None, None]
        spectra, axes = np.linalg.eigh(covariance)
        spectra = np.maximum(spectra, _LEAST_VARIANCE)
        coefficients.append(fits)
        covariances.append((axes * spectra[:, None, :]) @ axes.transpose(0, 2, 1))
        if choice.add(-0.5 * np.log(spectra).sum(axis=1)):
            break
    chosen = [coefficients[best][fold] for fold, best in enumerate(choice.best)]
    predictions = (f @ np.concatenate(chosen, axis=1)).reshape(n, n_folds, -1)
    predictions += np.stack([y_means[fold] - f_means[fold] @ fit for fold, fit in enumerate(chosen)])
    # In training what is left of a sample bounds its pull on the coefficients; held out, it shows what they lack.
    trained, scaled = np.empty_like(y), np.empty_like(y)
    for fold, (best, part) in enumerate(zip(choice.best, parts, strict=True)):
        trained[part] = y[part] - predictions[part, (fold + 1) % n_folds]
        scaled[part] = np.linalg.solve(covariances[best][fold], (y[part] - predictions[part, fold]).T).T
    penalty = (np.inf, *_PENALTIES)[int(np.median(choice.best))]
    influence = ((f @ _ridge_solve(gram / n, f.T @ scaled / n, penalty)) * trained).sum(axis=1)
    predicted = np.empty_like(predictions)
    predicted[order] = predictions + middle
    for fold, (best, part) in enumerate(zip(choice.best, parts, strict=True)):
        yield RidgeFold(fold, predicted[:, fold], covariances[best][fold], bool(best == 0), influence[part])


def _ridge_solve(gram: NDArray[np.float64], cross: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """(gram + penalty)^-1 cross, shape (d, e)."""
    if np.isinf(penalty) or not cross.size:
        return np.zeros_like(cross)
    penalised = gram.copy()
    penalised[np.diag_indices(len(gram))] += penalty
    # Its own transpose, and in LAPACK's order: a third less than copied there. LAPACK itself, since scipy's wrappers of
    # it take longer than 8 features do.
    factor, failed = dpotrf(penalised.T, lower=True, clean=False, overwrite_a=True)
    assert not failed, "a penalised Gram matrix is positive definite"
    return np.asarray(dpotrs(factor, cross, lower=True)[0])


class _Choice:
    """Each fold's choice among decoders, tried from the constant one to the least penalised, by the other folds.

    Attributes:
        best: shape (n_folds,), the number of the decoder chosen.
    """

    def __init__(self, n_folds: int) -> None:
        self.best = np.zeros(n_folds, dtype=np.intp)
        self._readings: list[NDArray[np.float64]] = []
        self._n_idle = np.zeros(n_folds, dtype=np.intp)

    def add(self, readings: NDArray[np.float64]) -> bool:
        """Whether no fold wants to see a further decoder.

        Args:
            readings: shape (n_folds,), mean log q(y|t) over all folds but one, in nats.
        """
        # A fold that has ended its search stays out of it, or its own samples would have a say through the others'.
        searches = self._n_idle < _PATIENCE
        before = self._readings
        if before:
            most = np.stack(before)[self.best, np.arange(len(self.best))]
            self.best = np.where(searches & (readings > most), len(before), self.best)
        if len(before) > 1:
            # Of few samples a class a strong penalty makes worse than none: held against other fits alone.
            is_idle = readings < np.max(before[1:], axis=0) - _WORSE
            is_idle |= (np.abs(readings - before[-1]) < _FLAT) & (np.abs(readings - before[0]) > _LEARNT)
            self._n_idle = np.where(searches, (self._n_idle + 1) * is_idle, self._n_idle)
        before.append(readings)
        return bool((self._n_idle >= _PATIENCE).all())


def logistic_probabilities(
    f: NDArray[np.float32], labels: NDArray[np.intp], folds: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Held-out probabilities under multinomial logistic regressions, each fitted without one fold.

    Penalties are tried from strong to weak, each fit starting from the one before, until the other folds are read
    worse and worse.

    Args:
        f: shape (n, d), features.
        labels: shape (n,), classes 0 to K - 1.
        folds: shape (n,), the fold of each sample.

    Returns:
        The probability of each sample's own class, shape (n,); whether each fold is read by the decoder that looks at
        nothing, shape (n_folds,); and what each sample adds to the mean log probability through the decoders of other
        folds, times n, shape (n,).
    """
    f = spanned(f)
    n, n_classes, n_folds = len(labels), int(labels.max()) + 1, int(folds.max()) + 1
    features = np.concatenate([f, np.ones((n, 1), dtype=np.float32)], axis=1)
    prior = np.bincount(labels, minlength=n_classes) / n
    problem = _Logistic(features, labels, n_classes)
    weights = np.zeros((n_classes, n_folds, features.shape[1]), dtype=np.float32)
    weights[:, :, -1] = np.log(prior)[:, None]
    at_once = max(1, _SCORES // (n * n_classes))
    groups = [np.arange(i, min(i + at_once, n_folds)) for i in range(0, n_folds, at_once)]
    choice = _Choice(n_folds)
    log_p, tried = [], []
    for penalty in (np.inf, *_PENALTIES):
        own = np.log(prior)[labels]
        if np.isfinite(penalty):
            for group in groups:
                weights[:, group] = problem.minimise(weights[:, group], folds != group[:, None], penalty)
            for fold in range(n_folds):
                held = np.flatnonzero(folds == fold)
                p = _softmax(weights[:, fold] @ features[held].T)[0]
                own[held] = np.log(p[labels[held], np.arange(len(held))] + _LEAST_PROBABILITY)
        log_p.append(own)
        tried.append(weights.copy())
        sums = np.bincount(folds, weights=own, minlength=n_folds)
        if choice.add((sums.sum() - sums) / (n - np.bincount(folds, minlength=n_folds))):
            break
    typical = int(np.median(choice.best))
    influence = np.zeros(n)
    if typical > 0:
        # In training what is left of a sample bounds its pull on the weights, which on separable classes is slight.
        left, trained = np.empty((2, n_classes, n), dtype=np.float32)
        for fold, best in enumerate(choice.best):
            held = np.flatnonzero(folds == fold)
            left[:, held] = -_softmax(tried[best][:, fold] @ features[held].T)[0]
            other = (fold + 1) % n_folds
            trained[:, held] = -_softmax(tried[choice.best[other]][:, other] @ features[held].T)[0]
        variance = float(np.mean(-left * (1 + left)))
        left[labels, np.arange(n)] += 1
        trained[labels, np.arange(n)] += 1
        factor = problem.curvature(max(variance, 1e-3), _PENALTIES[typical - 1])
        gain = cho_solve((factor, True), (left @ features / n).T, check_finite=False).T
        influence = ((gain @ features.T) * trained).sum(axis=0)
    return np.exp(np.stack(log_p)[choice.best[folds], np.arange(n)]), choice.best == 0, influence


def _softmax(scores: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities over the first axis, that of the classes, and the log of what they were divided by."""
    top = scores.max(axis=0)
    p = np.exp(scores - top)
    total = p.sum(axis=0)
    p /= total
    return p, top + np.log(total)


class _Logistic:
    """Penalised cross entropies of several training parts of the same samples, minimised side by side.

    Nonlinear conjugate gradients (Polak & Ribiere), preconditioned by the curvature that the classes' mean variance
    would give. Scores are linear in a step, so the step's length costs no product with the features.
    """

    def __init__(self, features: NDArray[np.float32], labels: NDArray[np.intp], n_classes: int) -> None:
        self.features, self.labels = features, labels
        self.gram = (features.T @ features).astype(np.float64) / len(features)
        size = features.size * n_classes / _SMALL_PROBLEM
        self.tolerance = float(np.clip(size * _TOLERANCES[0], *_TOLERANCES))
        self.one_hot = np.zeros((n_classes, 1, len(features)), dtype=np.float32)
        self.one_hot[labels, 0, np.arange(len(features))] = 1

    def minimise(self, w: NDArray[np.float32], is_train: NDArray[np.bool_], penalty: float) -> NDArray[np.float32]:
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
        loss, p = self._loss(scores, shares, w, penalties)
        factor = self.curvature(float(np.mean(p * (1 - p))), penalty)
        direction = gradient = steepest = np.zeros_like(w)
        slope_before = np.ones(w.shape[1])
        for _ in range(_ITERATIONS):
            new = self._products((p - self.one_hot) * shares) + penalties * w
            new_steepest = cho_solve((factor, True), new.reshape(-1, w.shape[2]).T, check_finite=False).T
            new_steepest = np.ascontiguousarray(new_steepest).reshape(w.shape)
            slope = np.einsum("kfd,kfd->f", new, new_steepest)
            turn = np.maximum(0, (slope - np.einsum("kfd,kfd->f", gradient, new_steepest)) / slope_before)
            gradient, steepest, slope_before = new, new_steepest, np.maximum(slope, 1e-30)
            direction = turn[:, None].astype(np.float32) * direction - steepest
            descent = np.einsum("kfd,kfd->f", gradient, direction)
            change = self._scores(direction)
            weighted = p * change
            mean = weighted.sum(axis=0)
            weighted *= change
            curvature = np.einsum("fn,fn->f", shares, weighted.sum(axis=0) - mean**2)
            curvature = curvature + np.einsum("kfd,kfd,d->f", direction, direction, penalties)
            step = np.where(descent < 0, -descent / np.maximum(curvature, 1e-30), 0).astype(np.float32)
            for _halving in range(20):
                moved = w + step[:, None] * direction
                new_scores = scores + step[:, None] * change
                new_loss, p = self._loss(new_scores, shares, moved, penalties)
                overshot = new_loss > loss + 1e-6
                if not overshot.any():
                    break
                step = np.where(overshot, step / 2, step)
            gain = loss - new_loss
            w, scores, loss = moved, new_scores, new_loss
            if (gain < self.tolerance).all():
                break
        return w

    def curvature(self, variance: float, penalty: float) -> NDArray[np.float32]:
        """Cholesky factor of the curvature if every class had this variance."""
        curvature = variance * self.gram
        curvature[np.diag_indices(len(curvature))] += 1e-6 * variance
        curvature[np.diag_indices(len(curvature) - 1)] += penalty
        factor = cholesky(curvature.T, lower=True, overwrite_a=True, check_finite=False)
        return np.asarray(factor, dtype=np.float32)

    def _scores(self, w: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((w.reshape(-1, w.shape[2]) @ self.features.T).reshape(*w.shape[:2], -1))

    def _products(self, residuals: NDArray[np.float32]) -> NDArray[np.float32]:
        return (residuals.reshape(-1, residuals.shape[2]) @ self.features).reshape(*residuals.shape[:2], -1)

    def _loss(
        self,
        scores: NDArray[np.float32],
        shares: NDArray[np.float32],
        w: NDArray[np.float32],
        penalties: NDArray[np.float32],
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Penalised cross entropy of each fit, shape (F,), in nats a sample, and probabilities (K, F, n)."""
        p, log_total = _softmax(scores)
        own = np.take_along_axis(scores, self.labels[None, None, :], axis=0)[0]
        loss = np.einsum("fn,fn->f", shares, log_total - own, dtype=np.float64)
        return loss + 0.5 * np.einsum("kfd,kfd,d->f", w, w, penalties), p
