from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader

from samples.classification.datasets import load_dataset
from samples.classification.models import CifarBlock
from samples.classification.models import build_model


def test_digits_cnn_is_small_and_has_ten_logits():
    model = build_model("digits-cnn", num_classes=10, in_channels=1)
    assert 20_000 < sum(parameter.numel() for parameter in model.parameters()) < 80_000
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "layers", "weights"), [("resnet20", 20, 0.27), ("resnet32", 32, 0.46), ("resnet56", 56, 0.85)]
)
def test_cifar_resnets_have_the_layers_and_millions_of_weights_of_the_paper(name: str, layers: int, weights: float):
    model = build_model(name, num_classes=10, in_channels=3)
    found = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    # Table 6 of He et al.
    assert len(found) == layers
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(weights, abs=0.01)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_cifar_resnet_uses_the_names_of_published_weights():
    names = build_model("resnet20", num_classes=10, in_channels=3).state_dict()
    wanted = {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer3.2.bn2.weight", "linear.weight"}
    assert wanted <= set(names)
    assert {name.split(".")[0] for name in names} == {"conv1", "bn1", "layer1", "layer2", "layer3", "linear"}


def test_mobilenet_v1_uses_the_names_of_published_weights():
    state = build_model("mobilenet_v1", num_classes=1000, in_channels=3).state_dict()
    # timm's mobilenetv1_100 has 164 tensors, of these names and shapes.
    shapes = {
        "conv_stem.weight": (32, 3, 3, 3),
        "bn1.bias": (32,),
        "blocks.0.0.conv_dw.weight": (32, 1, 3, 3),
        "blocks.0.0.bn1.running_var": (32,),
        "blocks.1.1.conv_pw.weight": (128, 128, 1, 1),
        "blocks.4.1.bn2.weight": (1024,),
        "classifier.weight": (1000, 1024),
    }
    assert len(state) == 164
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


def test_mobilenet_v1_for_cifar_is_half_as_wide_and_keeps_the_pixels_of_its_stem():
    model = build_model("mobilenet_v1_cifar", num_classes=10, in_channels=3)
    assert model.conv_stem(torch.zeros(1, 3, 32, 32)).shape == (1, 16, 32, 32)
    assert model.classifier.in_features == 512


def test_shortcut_of_option_a_takes_every_second_pixel_and_puts_zeros_around_the_channels():
    block = CifarBlock(2, 4, stride=2).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.rand(1, 2, 4, 4)
    out = block(x)
    assert torch.equal(out[:, 1:3], x[:, :, ::2, ::2])
    assert not out[:, [0, 3]].any()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("digits-cnn", (2, 1, 8, 8)),
        ("resnet20", (2, 3, 32, 32)),
        ("mobilenet_v1", (2, 3, 32, 32)),
        ("mobilenet_v1_cifar", (2, 3, 32, 32)),
    ],
)
def test_models_can_be_traced_and_exported(name: str, shape: tuple[int, ...]):
    model = build_model(name, num_classes=10, in_channels=shape[1]).eval()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.jit.trace(model, x)(x), model(x))
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))


def test_any_classifier_of_torchvision_is_built_by_name():
    model = build_model("squeezenet1_1", num_classes=7, in_channels=3).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_weights_come_from_a_file(tmp_path: Path):
    source = build_model("resnet20", num_classes=10, in_channels=3)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    model = build_model("resnet20", num_classes=10, in_channels=3, weights=tmp_path / "w.safetensors")
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in source.state_dict().items())


def test_weights_that_do_not_fit_are_refused_with_every_misfit_named(tmp_path: Path):
    state = build_model("resnet20", num_classes=10, in_channels=3).state_dict()
    del state["bn1.weight"]
    state["fc.bias"] = torch.zeros(1)
    state["linear.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "w.safetensors")
    faults = r"bn1.weight is missing; fc.bias is unknown; linear.bias has the shape \[3\], not \[10\]"
    with pytest.raises(ValueError, match=faults):
        build_model("resnet20", num_classes=10, in_channels=3, weights=tmp_path / "w.safetensors")


def test_bad_requests_name_what_is_allowed(tmp_path: Path):
    with pytest.raises(ValueError, match=r"Did you mean .*resnet20.*digits-cnn, resnet20, .*mobilenet_v2"):
        build_model("resnet21", num_classes=10, in_channels=3)
    with pytest.raises(ValueError, match="3 channels"):
        build_model("resnet18", num_classes=10, in_channels=1)
    with pytest.raises(ValueError, match="1000 classes"):
        build_model("resnet18", num_classes=10, in_channels=3, weights="torchvision")
    with pytest.raises(ValueError, match="no weights for resnet20"):
        build_model("resnet20", num_classes=10, in_channels=3, weights="torchvision")
    with pytest.raises(ValueError, match="safetensors"):
        build_model("resnet20", num_classes=10, in_channels=3, weights=tmp_path / "w.pth")
    with pytest.raises(FileNotFoundError):
        build_model("resnet20", num_classes=10, in_channels=3, weights=tmp_path / "w.safetensors")


def test_digits_cnn_learns_the_digits_in_five_epochs():
    torch.manual_seed(0)
    train, test, _ = load_dataset("digits")
    model = build_model("digits-cnn", num_classes=10, in_channels=1)
    loader = DataLoader(train, 64, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=5 * len(loader))
    for _ in range(5):
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    images, labels = next(iter(DataLoader(test, len(test))))
    with torch.no_grad():
        assert (model(images).argmax(1) == labels).float().mean() >= 0.98
