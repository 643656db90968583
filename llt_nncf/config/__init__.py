"""
The ``llt_quantization`` section of an NNCF config: its JSON schema, a check that reports all faults at once, and the
values as frozen dataclasses. Needs neither torch nor nncf.
"""

from llt_nncf.config.llt_config import ALGORITHM_NAME as ALGORITHM_NAME
from llt_nncf.config.llt_config import ImportanceConfig as ImportanceConfig
from llt_nncf.config.llt_config import LltConfig as LltConfig
from llt_nncf.config.llt_config import SearchConfig as SearchConfig
from llt_nncf.config.section_check import check_section as check_section
from llt_nncf.config.section_schema import section_properties as section_properties
