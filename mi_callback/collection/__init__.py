"""A model and its training set in, aligned arrays out. Needs torch and Lightning; knows nothing of estimating."""

from mi_callback.collection.distributed import Processes, Together, check_strategy, gather, join
from mi_callback.collection.errors import CollectionError
from mi_callback.collection.isolation import random_state_kept
from mi_callback.collection.layers import OUTPUT, Layer, select_layers
from mi_callback.collection.sweep import Collected, sweep

__all__ = [
    "OUTPUT",
    "Collected",
    "CollectionError",
    "Layer",
    "Processes",
    "Together",
    "check_strategy",
    "gather",
    "join",
    "random_state_kept",
    "select_layers",
    "sweep",
]
