"""
A frozen model as files: ``onnx_qcdq`` writes standard ONNX that runs in integers, ``openvino_ir`` OpenVINO's format,
and ``reference_recorder`` keeps what PyTorch computed.
"""

from llt_nncf.export.onnx_qcdq import export_float_onnx as export_float_onnx
from llt_nncf.export.onnx_qcdq import export_onnx as export_onnx
from llt_nncf.export.openvino_direct import export_openvino_directly as export_openvino_directly
from llt_nncf.export.openvino_ir import export_openvino as export_openvino
from llt_nncf.export.reference_recorder import record_reference as record_reference
