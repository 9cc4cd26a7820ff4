"""All compiled code: scans over neighbour tables.

Plain loops that release the GIL: callers run those over tables on row chunks, in threads. Array code over the same rows
takes several times longer, as every row ends elsewhere.

Notation: n samples, d features, m table columns, k neighbours. A *row* lists a sample's neighbours in order of
distance; its *radius* is the distance below which the row is complete. A scan compares sample ``i`` on the side of the
table with sample ``permutation[i]`` on the side of the target. All distances are float32, rounded once, so that one
computed here equals the same one in a table bit for bit.
"""

from mi_callback.estimation.kernels.basics import CHEBYSHEV, EUCLIDEAN, Block, Output, Table
from mi_callback.estimation.kernels.ranks import write_scores
from mi_callback.estimation.kernels.scans import (
    Classes,
    Line,
    Partners,
    complete_labels,
    scan_labels,
    scan_scalar,
    scan_table,
)
from mi_callback.estimation.kernels.tables import (
    count_nearer,
    gather_candidates,
    restrict_rows,
    select_neighbors,
    sorted_line_neighbors,
)

__all__ = [
    "CHEBYSHEV",
    "EUCLIDEAN",
    "Block",
    "Classes",
    "Line",
    "Output",
    "Partners",
    "Table",
    "complete_labels",
    "count_nearer",
    "gather_candidates",
    "restrict_rows",
    "scan_labels",
    "scan_scalar",
    "scan_table",
    "select_neighbors",
    "sorted_line_neighbors",
    "write_scores",
]
