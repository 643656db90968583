"""Outputs of every shape are compared with PyTorch's, in steps of their channel where they have one."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Layer as Row
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ArtifactError
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.export import record_reference
from llt_nncf.validation import validate
from llt_nncf.validation.exported_ir import ExportedIr
from llt_nncf.validation.exported_model import ExportedModel
from tests.export.frozen_models import Layer
from tests.export.frozen_models import calibrate
from tests.export.frozen_models import quantizer


class Head(nn.Module):
    """A quantizer, a layer with a step size per channel, and what becomes of its outputs."""

    def __init__(self, shape, finish=lambda x: x, *, num_bits=8, before=lambda x: x, **options):
        super().__init__()
        self.q = quantizer("q", num_bits)
        self.layer = Layer("head", self.q, shape, is_exact=False, **options)
        self.before, self.finish = before, finish

    def forward(self, x):
        return self.finish(self.layer(self.q(self.before(x))))


def export(model, x, folder):
    """Returns model.onnx and model.xml, and the reference."""
    calibrate(model, x, is_exact=False)
    policy = BitPolicy({"head": (4, model.q.num_bits)})
    path = export_onnx(model, x[:1], folder / "model.onnx", policy=policy)
    return path, export_openvino(path, folder / "model.xml"), record_reference(model, x)


@pytest.mark.parametrize(
    ("head", "shape", "num_steps"),
    [
        (Head((4, 3, 3, 3)), (3, 6, 6), 4),
        (Head((4, 3, 3, 3), lambda x: x.flatten(1)), (3, 6, 6), 1),
        (Head((4, 3, 3, 3), lambda x: x.flatten(2)), (3, 6, 6), 1),
        (Head((6, 5)), (5,), 6),
        (Head((6, 5), lambda x: x.view(-1, 3, 2)), (5,), 1),
        (Head((6, 5)), (7, 5), 1),
        (Head((6, 5)), (6, 5), 1),  # As many rows as channels.
    ],
    ids=["convolution", "flattened", "pixels", "linear", "points", "tokens", "square"],
)
def test_steps_lie_along_channels_or_are_the_largest(tmp_path, head, shape, num_steps):
    torch.manual_seed(0)
    path, xml_path, reference = export(head, torch.rand(8, *shape), tmp_path)
    report = validate(reference, path, xml_path=xml_path, min_agreement=0, latency_rounds=0)
    assert report.faults == ()
    steps = head.layer.frozen_weight.step_size.numpy().ravel() * head.q.step_size.item()
    for exported in (ExportedModel(path), ExportedIr(xml_path)):
        assert exported.output_step_size.size == num_steps
        np.testing.assert_allclose(exported.output_step_size, steps if num_steps > 1 else steps.max(), rtol=1e-6)


def test_one_output_is_no_class(tmp_path):
    torch.manual_seed(0)
    x = torch.rand(8, 5)
    path, _, reference = export(Head((1, 5)), x, tmp_path)
    report = validate(dataclasses.replace(reference, labels=np.ones(8, np.int64)), path, latency_rounds=0)
    assert report.passed
    figures = report.sections["engines"]["onnxruntime"]
    assert (figures["agreement"], figures["accuracy"]) == (None, None)
    assert any("no classes to compare" in text for text in report.sections["warnings"])
    np.savez(tmp_path / "data.npz", inputs=x.numpy(), labels=np.ones(8, np.int64))
    with pytest.raises(ArtifactError, match=r"no classes for outputs of shape \(8, 1\)"):
        validate(reference, path, latency_rounds=0, data=tmp_path / "data.npz")


def test_a_range_that_relu6_narrows_to_that_of_fewer_bits_passes_in_both_files(tmp_path):
    torch.manual_seed(0)
    model, x = Head((4, 3, 3, 3), before=nn.functional.relu6), 6 * torch.rand(4, 3, 6, 6)
    calibrate(model, x, is_exact=False)
    model.q.step_size.fill_(6 / 127)
    model.layer.put_bias_on_grid()
    path = export_onnx(model, x[:1], tmp_path / "model.onnx", policy=BitPolicy({"head": (4, 8)}))
    xml_path = export_openvino(path, tmp_path / "model.xml")
    assert ExportedIr(xml_path).activations == ExportedModel(path).activations
    assert ExportedIr(xml_path).activations["q"].high == 127
    assert validate(record_reference(model, x), path, xml_path=xml_path, min_agreement=0, latency_rounds=0).passed


def test_an_input_is_float_only_where_the_table_says_so(tmp_path):
    torch.manual_seed(0)
    model, x = Head((4, 3, 3, 3), finish=nn.Flatten()), torch.rand(4, 3, 6, 6)
    calibrate(model, x, is_exact=False)
    model.q = nn.Identity()
    path, reference = export_onnx(model, x[:1], tmp_path / "model.onnx"), record_reference(model, x)

    def faults(num_bits, group=None):
        table = None if group is None else LayerTable((Row("head", 9, 9, group, (4,), (num_bits,)),))
        policy = BitPolicy({"head": (4, num_bits)})
        return validate(reference, path, policy=policy, table=table, min_agreement=0, latency_rounds=0).faults

    assert faults(8) == faults(8, "head (float input)") == ()
    lost = "The input of 'head' is not quantized; the policy gives it 8 bits."
    assert faults(8, "q") == (lost, "Quantizer 'q' of the layer table is not in the file.")
    assert faults(4) == (lost.replace("8", "4"),)
