"""What a script's own loop may do around ``policies()``: accumulate gradients, and wrap the model."""

import copy

import pytest
import torch
from nncf.torch import load_state
from torch import nn

from llt_nncf.errors import DataParallelError


def accumulated(ctrl, model, batches):
    """Gradients of one optimizer step over all ``batches``, and the names and bits of the passes of each batch."""
    parts, seen = len(batches), []
    model.double().zero_grad()
    for images, target in batches:
        seen.append([])
        for name in ctrl.policies(accumulation_steps=parts):
            (nn.functional.cross_entropy(model(images), target) / parts).backward()
            seen[-1].append((name, [quantizer.num_bits for quantizer in ctrl.quantizers.all()]))
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, seen


@pytest.mark.parametrize(("where", "count"), [("init", 1), ("training", 7)])
def test_micro_batches_add_up_to_the_gradient_of_the_large_batch(compress, concat, loader, where, count):
    importance = {"where": where, "sampled_policies": 2}
    images, target = next(iter(loader))
    large = [(images.double(), target)]
    small = list(zip(images.double().split(8), target.split(8), strict=True))
    whole, (passes,) = accumulated(*compress(copy.deepcopy(concat), importance=importance), large)
    parts, seen = accumulated(*compress(concat, importance=importance), small)
    # All micro-batches go through the policies of the large batch, the sampled ones among them.
    assert len(passes) == count
    assert seen == [passes] * 4
    assert parts.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-9, atol=1e-12, msg=lambda _, name=name: name)


def test_the_next_optimizer_step_samples_anew_and_so_does_an_epoch_that_cuts_one_short(compress, concat):
    ctrl, _ = compress(concat, importance={"where": "training", "epochs": 3})

    def sampled(calls):
        found = []
        for _ in range(calls):
            for name in ctrl.policies(accumulation_steps=2):
                if name == "sampled-0":
                    found.append(tuple(quantizer.num_bits for quantizer in ctrl.quantizers.all()))
        return found

    ctrl.scheduler.epoch_step()
    first, second, third, fourth, fifth = sampled(5)
    ctrl.scheduler.epoch_step()
    sixth, seventh = sampled(2)
    assert (first, third, sixth) == (second, fourth, seventh)
    assert len({first, third, fifth, sixth}) == 4


def test_an_epoch_that_cuts_a_step_short_is_resumed_as_it_went_on(compress, concat):
    section = {"importance": {"where": "training", "epochs": 2}}
    float_model = copy.deepcopy(concat)

    def sampled_in_next_epoch(ctrl):
        ctrl.scheduler.epoch_step()
        names = ctrl.policies(accumulation_steps=2)
        return [[quantizer.num_bits for quantizer in ctrl.quantizers.all()] for name in names if name == "sampled-0"]

    ctrl, model = compress(concat, **section)
    ctrl.scheduler.epoch_step()
    for _ in range(3):
        list(ctrl.policies(accumulation_steps=2))
    state = ctrl.get_compression_state()
    resumed, resumed_model = compress(float_model, **section, compression_state=state)
    load_state(resumed_model, model.state_dict(), is_resume=True)
    assert sampled_in_next_epoch(resumed) == sampled_in_next_epoch(ctrl)


def test_data_parallel_on_several_devices_is_refused_with_the_remedy(compress, concat, loader):
    ctrl, model = compress(concat)
    parallel = nn.DataParallel(model)
    parallel.device_ids = [0, 1]  # as on a machine with two GPUs
    with pytest.raises(DataParallelError, match="torchrun"):
        next(ctrl.policies(parallel))
    # A loop that does not hand the model to policies() is told so by the first replica.
    replica = model.left.pre_ops["0"].op._replicate_for_data_parallel()
    with pytest.raises(DataParallelError, match="DistributedDataParallel"):
        replica(model.left.weight)


def test_data_parallel_on_one_device_works(compress, concat, loader):
    ctrl, model = compress(concat)
    parallel = nn.DataParallel(model)
    images, target = next(iter(loader))
    for _ in ctrl.policies(parallel):
        nn.functional.cross_entropy(parallel(images), target).backward()
    assert torch.equal(parallel(images), model(images))
