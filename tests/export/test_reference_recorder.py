"""The recorded integers are those that the frozen model works with."""

import numpy as np
import pytest
import torch
from torch import nn

from llt_nncf.errors import ArtifactError
from llt_nncf.errors import ExportError
from llt_nncf.export import record_reference
from llt_nncf.functional import quantize_to_int
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Classifier
from tests.export.frozen_models import calibrate
from tests.export.frozen_models import quantizer


def test_codes_are_uint8_and_signed_ones_are_offset():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.signed, self.unsigned = quantizer("s", 4, True), quantizer("u", 8, False)

        def forward(self, x):
            return self.unsigned(self.signed(x))

    x = torch.tensor([[-9.0, -0.25, 0.0, 0.2, 9.0]])
    reference = record_reference(Model(), x)
    # Step size 1/8: -0.25 is code -2, 0.2 rounds to code 2; 4 bits hold -8..7.
    np.testing.assert_array_equal(reference.taps["s"], [[120, 126, 128, 130, 135]])
    np.testing.assert_array_equal(reference.taps["u"], [[0, 0, 0, 2, 7]])


@pytest.mark.parametrize(("num_bits", "signed", "low", "high"), [(2, False, 0, 3), (3, True, -4, 3)])
def test_ties_are_what_lies_within_a_thousandth_of_a_step_of_a_boundary_inside_the_range(num_bits, signed, low, high):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = quantizer("q", num_bits, signed, step_size=0.1)

        def forward(self, x):
            return self.q(x)

    boundaries = np.arange(low, high) + 0.5
    # In steps: on the boundary, and beside it by less and by more than 2**-10.
    near, far = (boundaries + sign * distance for sign, distance in ((1, 0.0009), (-1, 0.0011)))
    outside = np.array([low - 0.5, high + 0.5, high + 1.0, low + 0.0])
    steps = np.concatenate([boundaries, near, far, outside])
    reference = record_reference(Model(), torch.tensor(steps[None] * 0.1, dtype=torch.float32))
    expected = np.repeat([True, True, False], len(boundaries)).tolist() + [False] * len(outside)
    assert reference.ties["q"][0].tolist() == expected


def test_calls_of_a_shared_quantizer_are_kept_apart_over_batches():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = quantizer("q")

        def forward(self, x):
            return self.q(self.q(x) * 2)

    x = torch.rand(5, 3)
    reference = record_reference(Model(), x, num_tap_samples=4, batch_size=3)
    assert {name: codes.shape for name, codes in reference.taps.items()} == {"q": (4, 3), "q#1": (4, 3)}
    first = quantize_to_int(x[:4], torch.tensor(0.125), num_bits=8, signed=False)
    np.testing.assert_array_equal(reference.taps["q#1"], first.numpy() * 2)


def test_logits_and_labels_are_those_of_the_models_whose_modes_are_left_alone():
    model = calibrate(Classifier(), torch.randn(8, 3, SIZE, SIZE), is_exact=True)
    float_model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * SIZE * SIZE, 10)).train()
    x, labels = torch.randn(7, 3, SIZE, SIZE), torch.arange(7)
    reference = record_reference(model, x, labels, float_model=float_model, batch_size=3)
    assert float_model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with torch.no_grad():
        np.testing.assert_allclose(reference.logits, model(x).numpy(), atol=1e-6)
        np.testing.assert_allclose(reference.float_logits, float_model.eval()(x).numpy(), atol=1e-6)
    np.testing.assert_array_equal(reference.labels, labels)
    assert set(reference.weight_digests) == set(Classifier.policy_bits)


class Interleaved(nn.Module):
    """Sums over the batch, so that what comes out of a batch is not what comes out of its samples one by one."""

    def __init__(self):
        super().__init__()
        self.q = quantizer("q", 8)

    def forward(self, x):
        return self.q((x + x.sum(0)).T).T


def test_what_cannot_be_validated_is_refused_with_what_to_do():
    with pytest.raises(ExportError, match=r"inputs are torch.int64.*export_model"):
        record_reference(nn.Embedding(4, 2), torch.zeros(3, 5, dtype=torch.int64))
    with pytest.raises(ExportError, match=r"15 rows for 3 inputs.*export_model"):
        record_reference(nn.Flatten(0, 1), torch.zeros(3, 5, 2))


def test_codes_and_outputs_of_the_tapped_samples_are_of_the_same_runs():
    x = torch.rand(6, 3)
    reference = record_reference(Interleaved(), x, num_tap_samples=4)
    assert reference.taps["q"].shape == (4, 3, 1)
    np.testing.assert_array_equal(reference.logits[:4], 0.125 * reference.taps["q"][:, :, 0])
    np.testing.assert_array_equal(reference.logits[4:], Interleaved()(x)[4:].numpy())


@pytest.mark.parametrize(
    ("inputs", "labels", "error", "text"),
    [
        (np.zeros((2, 3, SIZE, SIZE), np.float32), None, ExportError, "The inputs are ndarray, and must be one tensor"),
        ([torch.zeros(2, 3, SIZE, SIZE)], None, ExportError, "The inputs are list"),
        (torch.zeros(2, 3, SIZE, SIZE), torch.tensor([0.7, 1.0]), ExportError, "The labels are torch.float32"),
        (
            torch.zeros(2, 3, SIZE, SIZE),
            [3, 12],
            ArtifactError,
            "labels are from 3 to 12, and the model has 10 classes",
        ),
    ],
)
def test_inputs_and_labels_of_another_kind_are_refused(inputs, labels, error, text):
    model = calibrate(Classifier(), torch.randn(4, 3, SIZE, SIZE), is_exact=True)
    with pytest.raises(error, match=text):
        record_reference(model, inputs, labels)


def test_labels_may_be_a_list_or_an_array():
    model = calibrate(Classifier(), torch.randn(4, 3, SIZE, SIZE), is_exact=True)
    for labels in ([3, 4], np.array([3, 4])):
        assert record_reference(model, torch.zeros(2, 3, SIZE, SIZE), labels).labels.tolist() == [3, 4]
