"""Arrays in, records out: estimating mutual information, with numpy, scipy, faiss and numba; no torch, no Lightning."""

from mi_callback.estimation.estimator import Estimator, mutual_information
from mi_callback.estimation.records import Flag, MutualInformation
from mi_callback.estimation.variable import Variable

__all__ = ["Estimator", "Flag", "MutualInformation", "Variable", "mutual_information"]
