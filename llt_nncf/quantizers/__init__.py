"""
Quantizer modules: ``SwitchableQuantizer`` for training, and the constants that it freezes into.

The module paths are part of checkpoints.
"""

from llt_nncf.quantizers.frozen import FrozenActivationQuantizer as FrozenActivationQuantizer
from llt_nncf.quantizers.frozen import FrozenWeight as FrozenWeight
from llt_nncf.quantizers.switchable import SwitchableQuantizer as SwitchableQuantizer
