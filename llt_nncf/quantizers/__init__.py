"""
Quantizer modules: ``SwitchableQuantizer`` for training, and the constants that it freezes into.

``PerBitBatchNorm`` gives the batch norms behind them values per bit-width. The module paths are part of checkpoints.
"""

from llt_nncf.quantizers.frozen import FrozenActivationQuantizer as FrozenActivationQuantizer
from llt_nncf.quantizers.frozen import FrozenWeight as FrozenWeight
from llt_nncf.quantizers.frozen import llt_nodes as llt_nodes
from llt_nncf.quantizers.per_bit_batch_norm import PerBitBatchNorm as PerBitBatchNorm
from llt_nncf.quantizers.switchable import SwitchableQuantizer as SwitchableQuantizer
