"""
Pictures: the course of importance training, its indicators, the bits that the search chose by them, and its frontier;
what came of it against other methods, and the losses of fine-tuning.

PNG or SVG files, as their names end, written atomically; matplotlib figures without pyplot, so no global state and no
display.
"""

from llt_nncf.plots.accuracy_chart import AccuracyPoint as AccuracyPoint
from llt_nncf.plots.accuracy_chart import plot_accuracy as plot_accuracy
from llt_nncf.plots.bit_chart import plot_bits as plot_bits
from llt_nncf.plots.frontier_chart import plot_frontier as plot_frontier
from llt_nncf.plots.indicator_chart import plot_indicators as plot_indicators
from llt_nncf.plots.loss_chart import plot_losses as plot_losses
from llt_nncf.plots.picture_file import picture_format as picture_format
from llt_nncf.plots.training_chart import plot_training as plot_training
