"""Automatic mixed precision in the user's loop: autocast and gradient scaling, as PyTorch's recipe has them."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from tests.devices import DEVICES

DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
SECTION = {
    "budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
    "importance": {"where": "training", "epochs": 1},
}


@pytest.fixture(autouse=True)
def without_tf32(monkeypatch):
    """A GPU computes in float32 what is compared with float32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def train(ctrl, model, loader, dtype, *, epochs, scale=2.0**16):
    """Returns the loss of every pass, and the scaler."""
    device = next(model.parameters()).device
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16, init_scale=scale)
    losses = []
    for _ in range(epochs):
        ctrl.scheduler.epoch_step()
        model.train()
        for images, target in loader:
            ctrl.scheduler.step()
            optimizer.zero_grad()
            for _ in ctrl.policies():
                with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                    loss = nn.functional.cross_entropy(model(images.to(device)), target.to(device)) + ctrl.loss()
                scaler.scale(loss).backward()
                losses.append(loss.item())
            scaler.step(optimizer)
            scaler.update()
    return losses, scaler


def step_sizes(ctrl):
    return [quantizer.raw_step_sizes for quantizer in ctrl.quantizers.all()]


@DEVICES
@DTYPES
def test_training_in_mixed_precision_is_close_to_that_in_float32(compress, residual, loader, dtype, device):
    residual.to(device)
    ctrl, model = compress(copy.deepcopy(residual), **SECTION)
    expected, _ = train(ctrl, model, loader, torch.float32, epochs=1)
    ctrl, model = compress(residual, **SECTION)
    losses, _ = train(ctrl, model, loader, dtype, epochs=1)
    assert losses == pytest.approx(expected, rel=0.05)
    assert losses != expected
    assert all(
        values.dtype == values.grad.dtype == torch.float32 for values in step_sizes(ctrl) if values.requires_grad
    )


@DEVICES
@DTYPES
def test_what_was_trained_in_mixed_precision_is_exported_as_it_is(compress, residual, loader, tmp_path, dtype, device):
    ctrl, model = compress(residual.to(device), **SECTION)
    losses, _ = train(ctrl, model, loader, dtype, epochs=4)
    assert sum(losses[-4:]) < 4 * losses[0]
    assert all(bool(torch.isfinite(values).all()) for values in step_sizes(ctrl))
    images = next(iter(loader))[0].to(device)
    model.eval()
    with torch.no_grad():
        live = model(images)
        with torch.autocast(device, dtype=dtype):
            half = model(images)
        frozen = ctrl.strip()(images).cpu()
    assert half.dtype == dtype
    # Codes at the edge between two may fall to the other side.
    assert float((half.float() - live).abs().max()) < 0.1 * float(live.abs().max())
    np.testing.assert_allclose(frozen, live.cpu(), rtol=1e-4, atol=1e-4)
    ctrl.export_model(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: images.cpu().numpy()})[0]
    np.testing.assert_allclose(found, frozen, rtol=1e-4, atol=1e-4)


@DEVICES
def test_a_step_that_the_scaler_leaves_out_changes_nothing(compress, residual, loader, device):
    ctrl, model = compress(residual.to(device))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    (first, *_) = loader
    _, scaler = train(ctrl, model, [first], torch.float16, epochs=1, scale=2.0**60)
    assert scaler.get_scale() == 2.0**59
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
