"""The fine-tuning of the recipes: NNCF's usual loop, on one device or shared by the ranks that torchrun has started."""

import math
from typing import Any

import torch
from checkpoint import Checkpoint
from torch import distributed
from torch import nn
from torch.utils.data import DataLoader


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader) -> float:
    """Top-1 accuracy in percent, over the images of all ranks."""
    model.eval()
    device = next(model.parameters()).device
    hits = torch.zeros(2, dtype=torch.int64, device=device)
    for images, target in loader:
        right = (model(images.to(device)).argmax(1) == target.to(device)).sum()
        hits += torch.stack([right, torch.tensor(len(target), device=device)])
    if distributed.is_initialized():
        distributed.all_reduce(hits)
    return 100 * hits[0].item() / hits[1].item()


def rate_factor(step: int, *, warmup: int, total: int) -> float:
    """Of the learning rate: up in a straight line for ``warmup`` steps, then down along a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2


def finetune(
    ctrl: Any, model: nn.Module, loaders: Any, criterion: nn.Module, recipe: dict[str, Any], checkpoint: Checkpoint
) -> float:
    """Trains in place with the chosen bits; returns the top-1 accuracy."""
    loader, val_loader = loaders
    sampler = loader.sampler
    device, epochs, values = next(model.parameters()).device, recipe["epochs"], recipe["optimizer"]
    parallel = nn.parallel.DistributedDataParallel(model) if distributed.is_initialized() else model
    decay = {"momentum": values["momentum"], "weight_decay": values["weight_decay"]}
    optimizer = torch.optim.SGD(model.parameters(), lr=values["learning_rate"], **decay)
    lengths = {"warmup": values["warmup_epochs"] * len(loader), "total": epochs * len(loader)}
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, **lengths))
    done = checkpoint.restore(model, loader, optimizer, schedule)
    if done == 0 and sampler.rank == 0:
        # Whoever is killed in the first epoch does not lose the importance training.
        checkpoint.save(0, model, loader, optimizer, schedule, ctrl)
    for epoch in range(done, epochs):
        parallel.train()
        ctrl.scheduler.epoch_step()
        sampler.set_epoch(epoch)
        # Of what varies the images: another one for every rank and epoch, also after a resume.
        loader.generator.manual_seed((sampler.seed + epoch) * sampler.num_replicas + sampler.rank)
        for images, target in loader:
            optimizer.zero_grad()
            for _ in ctrl.policies(parallel):
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    loss = criterion(parallel(images.to(device)), target.to(device)) + ctrl.loss()
                loss.backward()
            optimizer.step()
            schedule.step()
            ctrl.scheduler.step()
        top1 = evaluate(model, val_loader)
        if sampler.rank == 0:
            print(f"  epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}, top-1 {top1:.2f} %", flush=True)
            checkpoint.save(epoch + 1, model, loader, optimizer, schedule, ctrl)
    return top1 if done < epochs else evaluate(model, val_loader)
