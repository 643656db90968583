"""
Whether the exported files compute what PyTorch computed, read back and run without PyTorch: bit-widths, outputs and
integer codes layer by layer, kernels, accuracy and latency, in ONNX Runtime and OpenVINO.
"""

from llt_nncf.validation.accuracy_function import load_accuracy_function as load_accuracy_function
from llt_nncf.validation.file_contents import FileContents as FileContents
from llt_nncf.validation.file_contents import read_contents as read_contents
from llt_nncf.validation.latency_table import measure_layers as measure_layers
from llt_nncf.validation.report_table import print_report as print_report
from llt_nncf.validation.validate import check_options as check_options
from llt_nncf.validation.validate import validate as validate
