"""Where distances are taken: scales that fit nothing, and maps fitted on one half of the samples, read off the other.

Neighbours of a wide layer see all of its coordinates alike, and the few that matter drown. Spaces stretch what predicts
the other side. ``competition`` tells the story: split, fit ``candidates`` on one half, compare them on its last
quarter, refit the winner, read it off the other half. A candidate is a pair of maps, one a side, from normal scores
(``scales``) to coordinates to take distances in; the maps are made of ``linear`` directions, and of those and the
distribution of Y that a small ``network`` learns. x and y are normal scores of some samples everywhere, x of shape
(n, d): fits get the samples to fit to, and the maps that they return take any others.
"""

from mi_callback.estimation.spaces.scales import normal_scores, standardize

__all__ = ["normal_scores", "standardize"]
