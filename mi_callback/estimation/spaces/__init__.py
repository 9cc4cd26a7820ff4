"""Where distances are taken: scales that fit nothing, and maps fitted on one half of the samples, read off the other.

scales: standardising and normal scores. whitening, directions, coding: linear maps by correlation and by moments.
network, training: directions and features that a small network finds. augmentation: the one-to-one maps made of them.
candidates, selection: what competes, and how. fitted: the estimate in the winner's space.
"""

from mi_callback.estimation.spaces.scales import normal_scores, standardize

__all__ = ["normal_scores", "standardize"]
