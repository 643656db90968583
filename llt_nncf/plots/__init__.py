"""
Pictures: the course of importance training, its indicators, the bits that the search chose by them, and its frontier.

PNG files, written atomically; matplotlib figures without pyplot, so no global state and no display.
"""

from llt_nncf.plots.bit_chart import plot_bits as plot_bits
from llt_nncf.plots.frontier_chart import plot_frontier as plot_frontier
from llt_nncf.plots.indicator_chart import plot_indicators as plot_indicators
from llt_nncf.plots.training_chart import plot_training as plot_training
