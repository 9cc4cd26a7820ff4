"""Spaces made by appending functions of a variable to the variable itself.

t -> (features(t), floor * t) is one-to-one whatever the features are, so mutual information stays what it is, while
distances follow the features: what predicts the other side is stretched, the rest is shrunk and never removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mi_callback.estimation.spaces.whitening import Array

__all__ = ["Features", "Space", "append", "radial"]

Features = Callable[[Array], Array]

# Weight of a coordinate that is not a feature, times d^(1/4): squared distances among d idle coordinates scatter by
# floor^2 sqrt(d), which is what blurs the features, so the blur is the same for every width.
_FLOOR = 0.05
_MOST_DIRECTIONS = 128
_LEAST_RADIAL = 3  # in one or two dimensions a direction is a sign or an angle, which jumps


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Where distances are taken: one map for each side, from normal scores.

    Attributes:
        name: what the result calls it.
        map_x: map of x's scores of shape (n, d).
        map_y: map of y's scores of shape (n, q); None leaves y as it is, as for class labels.
        preserves_information: whether both maps are one-to-one; if not, they can only lower the information.
    """

    name: str
    map_x: Features
    map_y: Features | None
    preserves_information: bool = True


def append(features: Features, values: Array) -> Features:
    """The map that puts features beside the values themselves.

    Args:
        features: map of shape (n, d) to shape (n, r); their relative scale is kept, the widest gets unit variance.
        values: shape (n, d), samples that set the scale.
    """
    fitted = features(values)
    mean, spread = fitted.mean(axis=0), float(fitted.std(axis=0).max())
    unit = np.float32(1 / spread if spread > 0 else 1)
    floor = np.float32(_FLOOR * values.shape[1] ** -0.25)

    def appended(values: Array) -> Array:
        return np.concatenate([(features(values) - mean) * unit, floor * values], axis=1, dtype=np.float32)

    return appended


def radial(whitened: Array) -> Array:
    """Append the direction and the logarithm of the radius to whitened coordinates, shape (n, p) -> (n, 2 p + 1).

    What two sides share is often a common scale, or an angle that depends on the radius: linear in these, not in the
    coordinates. Fewer than three coordinates stay as they are; more than 128 get the radius only, as the direction is
    then nearly the coordinates again.
    """
    p = whitened.shape[1]
    if p < _LEAST_RADIAL:
        return whitened
    radius = np.sqrt(np.einsum("ij,ij->i", whitened, whitened))[:, None] + np.float32(1e-6)
    direction = whitened / radius * np.float32(np.sqrt(p))
    parts = [whitened, direction, np.log(radius)] if p <= _MOST_DIRECTIONS else [whitened, np.log(radius)]
    return np.concatenate(parts, axis=1)
