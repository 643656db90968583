"""The training that every method gets after its choice of bits, and what is measured then."""

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from plan import Finetuning
from setting import POLICY_BITS
from setting import Setting
from setting import for_model
from soft_targets import SoftTargetLoss
from soft_targets import SoftTargets
from torch import nn
from torch.utils.data import DataLoader

from llt_nncf.errors import TrainingDivergedError
from llt_nncf.export import export_onnx

_LOSS_EVERY = 10


def fine_tune_policy(setting: Setting, policy_path: Path, seed: int) -> tuple[dict[str, float], dict[int, float]]:
    """
    Puts quantizers with the bits of a policy into the float model, trains it, and exports it.

    :param policy_path: The policy's file.
    :param seed: Of the order and the variation of the data.
    :return: Figures and losses of a cell.
    """
    section = {"policy": str(policy_path), "candidate_bits": list(POLICY_BITS)}
    ctrl, model = setting.compress(section, seed)
    # The training does not change the size of the file, and what cannot be exported is known before it.
    before = {"start_top1": setting.top1(model), "file_bytes": exported_bytes(ctrl, setting)}
    figures, losses = train(setting, model, seed, ctrl)
    return {**before, **figures}, losses


def exported_bytes(ctrl: Any, setting: Setting) -> int:
    """Returns the size of the ONNX file of a compressed model, with every weight at its bits."""
    images, _ = next(iter(setting.loader(0)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export_onnx(ctrl.strip(do_copy=True).cpu(), images[:1], file, policy=ctrl.policy, packed=True)
        return file.stat().st_size


def train(setting: Setting, model: nn.Module, seed: int, ctrl: Any = None) -> tuple[dict[str, float], dict[int, float]]:
    """
    Trains ``model`` in place as the plan says, whosever quantizers it has, and measures it.

    :param model: What NNCF or a rival has made of the float model.
    :param seed: Of the order and the variation of the data.
    :param ctrl: NNCF's controller, if there is one.
    :return: ``top1``, ``finetune_seconds`` and ``finetune_passes``; and the mean loss of every ten steps.
    :raises TrainingDivergedError: If the loss becomes NaN or infinite.
    """
    plan = setting.plan.finetuning
    device = next(model.parameters()).device
    loader, criterion = batches_and_loss(setting, seed, device)
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=plan.learning_rate, momentum=0.9, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.epochs * len(loader))
    model.train()
    start, step, recent, losses = time.process_time(), 0, 0.0, {}
    for _ in range(plan.epochs):
        if ctrl is not None:
            ctrl.scheduler.epoch_step()
        for images, target in loader:
            optimizer.zero_grad()
            loss = criterion(model(for_model(images, model)), target.to(device))
            if ctrl is not None:
                ctrl.scheduler.step()
            loss.backward()
            optimizer.step()
            schedule.step()
            step, recent = step + 1, recent + loss.item()
            if not math.isfinite(recent):
                msg = f"The loss is {loss.item()} at step {step} of the fine-tuning; lower finetuning.learning_rate."
                raise TrainingDivergedError(msg)
            if step % _LOSS_EVERY == 0:
                losses[step], recent = recent / _LOSS_EVERY, 0.0
    seconds = time.process_time() - start
    return {"top1": setting.top1(model), "finetune_seconds": seconds, "finetune_passes": passes(plan, step)}, losses


def batches_and_loss(
    setting: Setting, seed: int, device: torch.device | str = "cpu"
) -> tuple[DataLoader | SoftTargets, nn.Module]:
    """Returns what the plan's fine-tuning of a model on ``device`` runs over, and its loss of (outputs, targets)."""
    plan, loader = setting.plan.finetuning, setting.loader(seed)
    if plan.distillation_temperature is None:
        return loader, nn.CrossEntropyLoss(label_smoothing=plan.label_smoothing)
    temperature = plan.distillation_temperature
    return SoftTargets(loader, setting.float_model().to(device), temperature), SoftTargetLoss(temperature)


def passes(plan: Finetuning, steps: int) -> float:
    """Returns the passes of so many steps; the teacher's forward pass counts as a third."""
    return steps if plan.distillation_temperature is None else steps * 4 / 3
