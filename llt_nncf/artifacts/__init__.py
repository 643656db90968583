"""
The files between the stages: frozen dataclasses with schema-versioned JSON, saved atomically and loaded strictly.

None of them needs torch.
"""

from llt_nncf.artifacts.bit_policy import BitPolicy as BitPolicy
from llt_nncf.artifacts.cost_table import CostTable as CostTable
from llt_nncf.artifacts.file_reading import check_zip as check_zip
from llt_nncf.artifacts.file_reading import reading as reading
from llt_nncf.artifacts.indicator_table import IndicatorTable as IndicatorTable
from llt_nncf.artifacts.json_file import load_json as load_json
from llt_nncf.artifacts.json_file import read_json as read_json
from llt_nncf.artifacts.json_file import save_json as save_json
from llt_nncf.artifacts.json_file import write_atomically as write_atomically
from llt_nncf.artifacts.layer_table import FLOAT_INPUT as FLOAT_INPUT
from llt_nncf.artifacts.layer_table import MIXED_INPUT as MIXED_INPUT
from llt_nncf.artifacts.layer_table import UNSEARCHED_BITS as UNSEARCHED_BITS
from llt_nncf.artifacts.layer_table import Layer as Layer
from llt_nncf.artifacts.layer_table import LayerTable as LayerTable
from llt_nncf.artifacts.model_metadata import DIGEST_KEY as DIGEST_KEY
from llt_nncf.artifacts.model_metadata import NARROWED_KEY as NARROWED_KEY
from llt_nncf.artifacts.model_metadata import POLICY_KEY as POLICY_KEY
from llt_nncf.artifacts.model_metadata import VERSIONS_KEY as VERSIONS_KEY
from llt_nncf.artifacts.model_metadata import graph_digest as graph_digest
from llt_nncf.artifacts.pair_score_table import PairScoreTable as PairScoreTable
from llt_nncf.artifacts.reference import Reference as Reference
from llt_nncf.artifacts.reference import weight_digest as weight_digest
from llt_nncf.artifacts.scored_layers import load_scored_layers as load_scored_layers
from llt_nncf.artifacts.step_record import StepRecord as StepRecord
from llt_nncf.artifacts.temporary_path import temporary_path as temporary_path
from llt_nncf.artifacts.training_log import TrainingCurves as TrainingCurves
from llt_nncf.artifacts.training_log import TrainingLog as TrainingLog
from llt_nncf.artifacts.validation_report import ValidationReport as ValidationReport
