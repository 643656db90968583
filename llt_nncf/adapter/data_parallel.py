"""``torch.nn.DataParallel`` on several devices, which is refused."""

from torch import nn

from llt_nncf.errors import DataParallelError


def refuse_data_parallel(module: nn.Module | None) -> None:
    """
    Lets everything pass but a ``DataParallel`` of several devices, and a replica that one has made.

    Replicas are new in every forward pass: what importance training and batch norms leave in them is lost, and a step
    size's gradient counts the batch of one replica. On one device ``DataParallel`` makes none, and works.

    :param module: A model, a part of one, or ``None``.
    :raises DataParallelError: With the remedy.
    """
    is_wrapper = isinstance(module, nn.DataParallel) and len(module.device_ids) > 1
    if is_wrapper or getattr(module, "_is_replica", False):
        msg = (
            "The model runs in torch.nn.DataParallel on several devices, which llt_quantization does not support: "
            "start one process per device by torchrun and wrap the model in torch.nn.parallel.DistributedDataParallel, "
            "or give DataParallel one device, as device_ids=[0]."
        )
        raise DataParallelError(msg)
