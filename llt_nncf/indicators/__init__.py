"""
Importance indicators: start values from a few batches, joint training (Algorithm 1), and the table that comes of it.

Works on any module tree with ``SwitchableQuantizer`` modules, any loader and any loss; knows nothing of NNCF.
"""

from llt_nncf.indicators.insertion import insert_quantizers as insert_quantizers
from llt_nncf.indicators.joint_training import JointTrainingResult as JointTrainingResult
from llt_nncf.indicators.joint_training import train_indicators as train_indicators
from llt_nncf.indicators.model_buffers import ModelBuffers as ModelBuffers
from llt_nncf.indicators.normalized import normalize_indicators as normalize_indicators
from llt_nncf.indicators.open_quantizers import open_quantizers as open_quantizers
from llt_nncf.indicators.plugin import OWN_INDICATORS as OWN_INDICATORS
from llt_nncf.indicators.plugin import register_indicator as register_indicator
from llt_nncf.indicators.plugin import registered_indicators as registered_indicators
from llt_nncf.indicators.plugin import score_pairs as score_pairs
from llt_nncf.indicators.policy_rounds import policy_rounds as policy_rounds
from llt_nncf.indicators.quantizer_set import QuantizerSet as QuantizerSet
from llt_nncf.indicators.rank_exchange import is_first_rank as is_first_rank
from llt_nncf.indicators.rank_exchange import made_by_first_rank as made_by_first_rank
from llt_nncf.indicators.rank_exchange import take_from_first_rank as take_from_first_rank
from llt_nncf.indicators.ranking import ranking_tau as ranking_tau
from llt_nncf.indicators.scalar_loss import scalar_loss as scalar_loss
from llt_nncf.indicators.start_step_sizes import start_step_sizes as start_step_sizes
from llt_nncf.indicators.tensorboard_log import TensorBoardLog as TensorBoardLog
from llt_nncf.indicators.training_progress import TrainingProgress as TrainingProgress
