"""
The search: from indicators and a budget to the bits of every layer, proven optimal.

`allocate_bits` puts both into arrays (`choice_problem`), bounds the objective and closes most columns with a Lagrangian
relaxation (`lagrangian`, `repair`, `presolve`), and lets CP-SAT prove the optimum on the rest (`cp_sat_core`). Needs
numpy and ortools, not torch.
"""

from llt_nncf.allocation.allocate import allocate_bits as allocate_bits
from llt_nncf.allocation.allocation import Allocation as Allocation
from llt_nncf.allocation.allocation import LimitUse as LimitUse
