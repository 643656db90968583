"""
Distillation during importance training: passes learn from soft outputs instead of the labels.

``in_place`` is an option of the LIMPQ authors' code (Tang et al., ECCV 2022, arXiv:2203.08368), after the sandwich rule
of Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019, arXiv:1903.05134.
``teacher`` is the distillation of Hinton et al., arXiv:1503.02531, at temperature 1 and without labels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional

from llt_nncf.errors import ConfigError
from llt_nncf.errors import InvalidTensorError
from llt_nncf.functional import training_mode


class DistilledLoss:
    """
    Wraps a loss function ``loss_fn(model, batch)``: some passes of a step return another loss in its place.

    That loss is the soft cross-entropy: the mean over samples (and positions) of
    ``-sum over C of softmax(teacher's outputs) * log_softmax(outputs)``, in float32 at least. The outputs are what the
    model returns while ``loss_fn`` runs; if ``loss_fn`` calls it several times, those of the last call.

    * ``in_place``: the first pass after ``new_batch()`` returns ``loss_fn``'s own value and is the teacher of all later
      passes, which get no gradient through it. The trainer lets the highest uniform policy come first.
    * ``teacher``: every pass learns from the teacher, whose outputs are computed once per batch, without gradients, in
      evaluation mode, by ``loss_fn(teacher, batch)``.

    :param loss_fn: Does the forward pass and returns a scalar loss. Model and teacher must return one float tensor of
        shape ``(N, C, *)``, logits over the classes ``C``.
    :param kind: ``in_place`` or ``teacher``.
    :param teacher: The float model, for ``teacher`` only. It is not changed, and its parameters need not be frozen.
    :raises ConfigError: If ``kind`` is another, or ``teacher`` does not fit it.
    """

    def __init__(self, loss_fn: Callable[[nn.Module, Any], Tensor], *, kind: str, teacher: nn.Module | None = None):
        if kind not in ("in_place", "teacher"):
            msg = f"kind={kind!r} of distillation is not known: use 'in_place' or 'teacher'."
            raise ConfigError(msg)
        if (teacher is not None) != (kind == "teacher"):
            msg = (
                f"Distillation of kind={kind!r} with teacher={type(teacher).__name__}: kind='teacher' needs the float "
            )
            msg += "model as teacher, kind='in_place' takes none."
            raise ConfigError(msg)
        self._loss_fn = loss_fn
        self._teacher = teacher
        self._targets: Tensor | None = None

    def new_batch(self) -> None:
        """Forgets the teacher's outputs; to be called before the passes of each batch, and after the last."""
        self._targets = None

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """
        Does one pass and returns its loss.

        :param model: The model that learns.
        :param batch: The batch, the same one until ``new_batch()`` is called.
        :return: Scalar loss.
        :raises InvalidTensorError: If the outputs of model or teacher are not one float tensor of shape ``(N, C, *)``,
            or the shapes of the two differ.
        """
        if self._teacher is not None and self._targets is None:
            with torch.no_grad(), training_mode(self._teacher, False):
                _, outputs = self._run(self._teacher, batch)
            self._targets = functional.softmax(outputs, dim=1)
        loss, outputs = self._run(model, batch)
        if self._targets is None:
            self._targets = functional.softmax(outputs.detach(), dim=1)
            return loss
        if outputs.shape != self._targets.shape:
            msg = (
                f"The outputs have shape {tuple(outputs.shape)}, and those to learn from {tuple(self._targets.shape)}."
            )
            msg += " Distillation needs the same samples and classes in both."
            raise InvalidTensorError(msg)
        return functional.cross_entropy(outputs, self._targets)

    def _run(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Returns the loss, and the model's outputs in float32 at least."""
        captured: list[Any] = []
        handle = model.register_forward_hook(lambda module, inputs, output: captured.append(output))
        try:
            loss = self._loss_fn(model, batch)
        finally:
            handle.remove()
        outputs = captured[-1] if captured else None
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or outputs.ndim < 2:
            if not captured:
                found = "the loss function did not call the model that it was given"
            elif isinstance(outputs, Tensor):
                found = f"{type(model).__name__} returns a {outputs.dtype} tensor of shape {tuple(outputs.shape)}"
            else:
                found = f"{type(model).__name__} returns a {type(outputs).__name__}"
            msg = f"Distillation needs outputs that are one float tensor of shape (N, C, ...), but {found}. Wrap the "
            msg += "model so that it returns its logits alone, or switch distillation off."
            raise InvalidTensorError(msg)
        return loss, outputs.to(torch.promote_types(outputs.dtype, torch.float32))
