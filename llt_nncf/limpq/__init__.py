"""
What the LIMPQ authors published (their repository is 1hunters/LIMPQ on GitHub), turned into this package's artifacts.

A pickle is read without running anything in it (`plain_pickle`); layers, shapes and MACs come from torchvision's model
(`torchvision_layers`), by name (`conversion`). Needs torch and torchvision, which the search does not.
"""

from llt_nncf.limpq.conversion import convert_indicators as convert_indicators
from llt_nncf.limpq.plain_pickle import load_plain_pickle as load_plain_pickle
from llt_nncf.limpq.torchvision_layers import ModelLayer as ModelLayer
from llt_nncf.limpq.torchvision_layers import survey_torchvision as survey_torchvision
