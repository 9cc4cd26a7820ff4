"""All compiled code: scans over neighbour tables.

Plain loops that release the GIL: callers run them on row chunks, in threads.

Notation: n samples, d features, m table columns, k neighbours. A *row* lists a sample's neighbours in order of
distance; its *radius* is the distance below which the row is complete. A scan compares sample ``i`` on the side of the
table with sample ``permutation[i]`` on the side of the target. All distances are float32, rounded once, so that one
computed here equals the same one in a table bit for bit.
"""

from mi_callback.estimation.kernels.basics import CHEBYSHEV, EUCLIDEAN
from mi_callback.estimation.kernels.direct import distances_from_products, read_classes, read_on_line, read_pairs
from mi_callback.estimation.kernels.scans import complete_labels, scan_labels, scan_scalar, scan_table
from mi_callback.estimation.kernels.tables import (
    count_listed,
    count_nearer,
    distance_rows,
    restrict_rows,
    select_neighbors,
    sorted_line_neighbors,
)

__all__ = [
    "CHEBYSHEV",
    "EUCLIDEAN",
    "complete_labels",
    "count_listed",
    "count_nearer",
    "distance_rows",
    "distances_from_products",
    "read_classes",
    "read_on_line",
    "read_pairs",
    "restrict_rows",
    "scan_labels",
    "scan_scalar",
    "scan_table",
    "select_neighbors",
    "sorted_line_neighbors",
]
