"""Batch norm folded into quantized weights, and biases on the grid that integer kernels use."""

import torch
from torch import Tensor

INT32_MAX = 2**31 - 1

# A live channel's bias is some thousand steps; beyond the first number the channel is dead, the second replaces it.
_LARGEST_BIAS = 2**30
_GROWN_BIAS = 2**20


def fold_batch_norm(
    codes: Tensor,
    step_size: Tensor,
    bias: Tensor | None,
    *,
    gain: Tensor,
    shift: Tensor,
    channel_dim: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """
    Folds ``y -> gain * y + shift`` behind a layer into its integer weights, without rounding them again.

    The magnitude of the gain goes into the step size, its sign into the codes, so the function is unchanged: a
    per-tensor step size becomes a per-channel one. A negated code can be ``-qmin``, one beyond ``qmax``, which an int8
    container holds for every bit-width but 8; 8-bit weights are therefore quantized with a narrow range.

    :param codes: Integer weights; dimension ``channel_dim`` is the output channel.
    :param step_size: Broadcastable to ``codes``.
    :param bias: Bias of the layer, shape ``(C,)``, or ``None``.
    :param gain: ``gamma / sqrt(var + eps)``, shape ``(C,)``.
    :param shift: ``beta - mean * gain``, shape ``(C,)``.
    :param channel_dim: The output-channel dimension of ``codes``.
    :return: ``(codes, step_size, bias)``: codes of the same shape, a positive per-channel step size broadcastable to
        them, a bias of shape ``(C,)``.
    """
    shape = [1] * codes.dim()
    shape[channel_dim] = -1
    # A gain of exactly 0 switches the channel off: codes 0 with any positive step size say so.
    sign = torch.sign(gain).view(shape)
    magnitude = torch.where(gain == 0, torch.ones_like(gain), gain.abs()).view(shape)
    folded_bias = shift if bias is None else bias * gain + shift
    return codes * sign.to(codes.dtype), step_size * magnitude, folded_bias


def steps_with_room(bias: Tensor, step_size: Tensor, *, input_step: Tensor) -> Tensor:
    """
    Returns weight step sizes with whose int32 grid every bias fits.

    A batch norm of almost no gain (weight decay leaves such channels) gives a tiny weight step and so a tiny grid. In
    such a channel the step grows; its weights contribute less than a thousandth of the bias.

    :param bias: Shape ``(C,)``.
    :param step_size: Positive, one value or ``C``.
    :param input_step: Step size of the layer's input, one value.
    :return: Shape ``(C,)``; where the bias fits anyway, the same steps.
    """
    steps = step_size.reshape(-1).expand(bias.numel())
    dead = bias.abs() > _LARGEST_BIAS * input_step * steps
    return torch.where(dead, bias.abs() / (_GROWN_BIAS * input_step), steps)


def silence_dead_channels(
    codes: Tensor, step_size: Tensor, bias: Tensor, *, input_step: Tensor, channel_dim: int = 0
) -> tuple[Tensor, Tensor]:
    """
    Sets the weights to 0 in channels whose step ``steps_with_room`` lets grow.

    :param codes: Integer weights; dimension ``channel_dim`` is the output channel.
    :param step_size: Positive, broadcastable to ``codes``.
    :param bias: Shape ``(C,)``.
    :param input_step: Step size of the layer's input, one value.
    :param channel_dim: The output-channel dimension of ``codes``.
    :return: ``(codes, step_size)``, the same ones if every bias fits.
    """
    shape = [1] * codes.dim()
    shape[channel_dim] = -1
    steps = steps_with_room(bias, step_size, input_step=input_step)
    dead = steps != step_size.reshape(-1)
    if not bool(dead.any()):
        return codes, step_size
    return codes * (~dead).view(shape).to(codes.dtype), steps.view(shape)


def round_bias_to_grid(bias: Tensor, grid: Tensor) -> Tensor:
    """
    Rounds ``bias`` to multiples of ``grid``, the step of the int32 accumulator.

    Integer kernels add the bias as an int32 number of input step x weight step; a model that was evaluated with the
    bias on that grid loses nothing when an engine rounds it there.

    :param bias: Shape ``(C,)``.
    :param grid: Input step size times weight step size, positive, shape ``(C,)`` or ``()``.
    :return: Shape ``(C,)``, each value a multiple of its grid within int32.
    """
    codes = torch.clamp(torch.round(bias.double() / grid.double()), -INT32_MAX, INT32_MAX)
    return (codes * grid.double()).to(bias.dtype)
