"""
Mixed-precision quantization by learned layer-wise importance, as a plugin for NNCF.

``import llt_nncf`` is light. ``import llt_nncf.register``, before ``nncf.torch`` is first imported, adds the algorithm
``llt_quantization`` to NNCF. The stages live in the subpackages ``indicators``, ``allocation``, ``export`` and
``validation``, and their files in ``artifacts``.
"""

__version__ = "0.1.0"
