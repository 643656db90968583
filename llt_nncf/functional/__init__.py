"""
Pure tensor maths of quantization: integer ranges, LSQ fake quantization with its gradients, integer codes, start
values and batch-norm folding. Functions only; no state.
"""

from llt_nncf.functional.batch_norm_fold import fold_batch_norm as fold_batch_norm
from llt_nncf.functional.batch_norm_fold import round_bias_to_grid as round_bias_to_grid
from llt_nncf.functional.batch_norm_fold import silence_dead_channels as silence_dead_channels
from llt_nncf.functional.batch_norm_fold import steps_with_room as steps_with_room
from llt_nncf.functional.gpu_kernels import kernels_for as kernels_for
from llt_nncf.functional.integer_codes import dequantize as dequantize
from llt_nncf.functional.integer_codes import quantize_to_int as quantize_to_int
from llt_nncf.functional.integer_range import MAX_BITS as MAX_BITS
from llt_nncf.functional.integer_range import MIN_BITS as MIN_BITS
from llt_nncf.functional.integer_range import integer_range as integer_range
from llt_nncf.functional.lsq import fake_quantize as fake_quantize
from llt_nncf.functional.lsq import fake_quantize_by_tensors as fake_quantize_by_tensors
from llt_nncf.functional.start_values import even_sample as even_sample
from llt_nncf.functional.start_values import lsq_step_size as lsq_step_size
from llt_nncf.functional.start_values import min_max_step_size as min_max_step_size
from llt_nncf.functional.start_values import mse_step_size as mse_step_size
from llt_nncf.functional.start_values import rows_per_step_size as rows_per_step_size
from llt_nncf.functional.training_mode import training_mode as training_mode
