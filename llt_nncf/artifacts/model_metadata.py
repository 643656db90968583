"""What an exported model says about itself: keys of ONNX metadata, which are paths in an OpenVINO model's rt_info."""

import hashlib
from typing import Any

# JSON of ``BitPolicy.to_dict``.
POLICY_KEY = "llt_nncf.policy"
# JSON of package name to version: what the file was made with.
VERSIONS_KEY = "llt_nncf.versions"
DIGEST_KEY = "llt_nncf.digest"
# In an OpenVINO model: JSON of the quantizers whose codes the bounds of an activation function leave fewer.
NARROWED_KEY = "llt_nncf.narrowed"


def graph_digest(graph: Any) -> str:
    """
    Returns a fingerprint of everything that an ONNX graph computes with.

    Unlike a hash of the file it can stand in the file itself, and it does not depend on where the data is kept.

    :param graph: ``onnx.GraphProto`` with its data loaded.
    :return: SHA-256 in hexadecimal digits.
    """
    digest = hashlib.sha256()
    for tensor in graph.initializer:
        digest.update(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}".encode())
        digest.update(tensor.raw_data)
    for node in graph.node:
        digest.update(node.SerializeToString(deterministic=True))
    return digest.hexdigest()
