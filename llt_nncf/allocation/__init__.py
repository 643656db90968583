"""
The search: from indicators and a budget to the bits of every layer, proven optimal.

`allocate_bits` puts both into arrays (`choice_problem`), bounds the objective from below with a Lagrangian relaxation
(`lagrangian`) and from above by policies within the limits (`repair`, `enumeration`), which closes most columns and is
often a proof already (`presolve`); CP-SAT proves the optimum on what is left (`cp_sat_core`). Needs numpy and ortools,
not torch.
"""

from llt_nncf.allocation.allocate import allocate_bits as allocate_bits
from llt_nncf.allocation.allocation import Allocation as Allocation
from llt_nncf.allocation.allocation import LimitUse as LimitUse
from llt_nncf.allocation.allocation import RankedPolicy as RankedPolicy
from llt_nncf.allocation.frontier import Frontier as Frontier
from llt_nncf.allocation.frontier import FrontierPoint as FrontierPoint
from llt_nncf.allocation.frontier import check_axes as check_axes
from llt_nncf.allocation.next_bits import NextBits as NextBits
from llt_nncf.allocation.outliers import Outlier as Outlier
from llt_nncf.allocation.restrictions import Restrictions as Restrictions
