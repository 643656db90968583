"""
The rivals of the comparison, which choose policies for our quantizers.

``choice`` is what they have in common, ``hawq_search`` is NNCF's HAWQ, ``mct_search`` Sony's model-compression-toolkit,
``diffq_search`` DiffQ; ``nncf_int8`` is NNCF's plain 8-bit quantization. The packages of MCT and DiffQ are imported at
the call, so that one that is missing does not keep the rest from running.
"""
