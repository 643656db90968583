"""Batch norm statistics of a model whose bits were switched."""

from nncf import NNCFConfig
from nncf.common.initialization.batchnorm_adaptation import BatchnormAdaptationAlgorithm
from nncf.common.logging import nncf_logger
from nncf.config.extractors import BNAdaptDataLoaderNotFoundError
from nncf.config.extractors import extract_bn_adaptation_init_params
from nncf.torch.nncf_network import NNCFNetwork

from llt_nncf.config import ALGORITHM_NAME
from llt_nncf.functional import training_mode


def adapt_batch_norms(model: NNCFNetwork, nncf_config: NNCFConfig) -> None:
    """Adapts them on the registered loader, as ``initializer.batchnorm_adaptation`` says; without one it warns."""
    try:
        params = extract_bn_adaptation_init_params(nncf_config, ALGORITHM_NAME)
    except BNAdaptDataLoaderNotFoundError:
        # A resumed run may have no loader registered; its training goes on with the statistics that it has.
        nncf_logger.warning("llt_quantization: no data loader was registered, so batch norms were not adapted.")
        return
    if params is not None:
        # Without dropout, whatever mode the script has left the model in: after a resume it is another.
        with training_mode(model, False):
            BatchnormAdaptationAlgorithm(**params).run(model)
