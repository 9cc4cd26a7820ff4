"""A model and its data in, aligned arrays out. Needs torch; knows nothing of estimating."""

from mi_callback.collection.distributed import Processes, Together, check_strategy, gather, join
from mi_callback.collection.errors import CollectionError
from mi_callback.collection.host import Host, PlainHost
from mi_callback.collection.isolation import random_state_kept
from mi_callback.collection.layers import OUTPUT, Layer, select_layers
from mi_callback.collection.lightning_host import LightningHost
from mi_callback.collection.loaders import check_loader
from mi_callback.collection.sweep import Collected, sweep

__all__ = [
    "OUTPUT",
    "Collected",
    "CollectionError",
    "Host",
    "Layer",
    "LightningHost",
    "PlainHost",
    "Processes",
    "Together",
    "check_loader",
    "check_strategy",
    "gather",
    "join",
    "random_state_kept",
    "select_layers",
    "sweep",
]
