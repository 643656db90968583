"""
What a policy costs: BitOPs and weight sizes per layer, their totals (`PolicyCost`), and what they may be (`Budget`).

A `Budget` resolves to `Limit` objects, each an integer cost per (layer, weight bits, activation bits) that adds up over
the layers, with the most that it may add up to. Any further additive table, such as latency, can join as a `Limit`.
"""

from llt_nncf.cost.budget import AXES as AXES
from llt_nncf.cost.budget import Budget as Budget
from llt_nncf.cost.layer_cost import layer_bitops as layer_bitops
from llt_nncf.cost.layer_cost import layer_weight_bits as layer_weight_bits
from llt_nncf.cost.limit import Limit as Limit
from llt_nncf.cost.limit_share import LimitShare as LimitShare
from llt_nncf.cost.limit_share import limit_shares as limit_shares
from llt_nncf.cost.policy_cost import PolicyCost as PolicyCost
