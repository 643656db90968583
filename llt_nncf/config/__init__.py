"""
The ``llt_quantization`` section of an NNCF config: its JSON schema, a check that reports all faults at once, and the
values as frozen dataclasses. Needs neither torch nor nncf.
"""

from llt_nncf.config.llt_config import ALGORITHM_NAME as ALGORITHM_NAME
from llt_nncf.config.llt_config import ImportanceConfig as ImportanceConfig
from llt_nncf.config.llt_config import LltConfig as LltConfig
from llt_nncf.config.llt_config import SearchConfig as SearchConfig
from llt_nncf.config.llt_config import budget_of_section as budget_of_section
from llt_nncf.config.llt_config import faults_of_device as faults_of_device
from llt_nncf.config.nncf_keys import NNCF_PROPERTIES as NNCF_PROPERTIES
from llt_nncf.config.quantizer_rules import GroupRules as GroupRules
from llt_nncf.config.quantizer_rules import QuantizerRule as QuantizerRule
from llt_nncf.config.section_check import check_section as check_section
from llt_nncf.config.section_check import raise_faults as raise_faults
from llt_nncf.config.section_check import section_faults as section_faults
from llt_nncf.config.section_schema import section_properties as section_properties
