"""
Pictures of the search: the bits that it chose, the indicators that it chose by, and the frontier over the budget.

PNG files, written atomically; matplotlib figures without pyplot, so no global state and no display.
"""

from llt_nncf.plots.bit_chart import plot_bits as plot_bits
from llt_nncf.plots.frontier_chart import plot_frontier as plot_frontier
from llt_nncf.plots.indicator_chart import plot_indicators as plot_indicators
