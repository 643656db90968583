"""Which layers there are, what feeds them, and what is fixed; the expected values are counted by hand."""


def test_the_residual_network_is_surveyed_as_counted_by_hand(compress, residual):
    ctrl, _ = compress(residual)
    rows = ctrl.table.by_name
    # 7x9 input; stride 2 with padding 1 and a 3x3 kernel gives 4x5, and so does the 1x1 downsample.
    counted = {
        "conv1": (7 * 9 * 8 * 2 * 9, 8 * 2 * 9),
        "conv2": (4 * 5 * 12 * 8 * 9, 12 * 8 * 9),
        "down": (4 * 5 * 12 * 8, 12 * 8),
        "conv3": (4 * 5 * 12 * 4 * 9, 12 * 4 * 9),
        "fc": (12 * 4, 12 * 4),
    }
    assert {name: (row.macs, row.weight_count) for name, row in rows.items()} == counted
    assert [name for name, row in rows.items() if row.is_fixed] == ["conv1", "fc"]
    assert rows["conv2"].activation_group == rows["down"].activation_group
    assert len({row.activation_group for row in rows.values()}) == 4
    # The two inputs of the addition and the input of the pooling feed no layer.
    assert set(ctrl.table.unsearched.values()) == {8}
    assert len(ctrl.table.unsearched) == 3


def test_unified_scales_of_a_concat_are_one_activation_quantizer(compress, concat):
    ctrl, _ = compress(concat)
    rows = ctrl.table.by_name
    assert list(rows) == ["stem", "left", "right", "merge", "fc"]
    assert rows["left"].macs == 7 * 9 * 8 * 9
    assert rows["left"].activation_group == rows["right"].activation_group
    assert rows["merge"].activation_bits == (6, 5, 4, 3, 2)
    assert [name for name, row in rows.items() if row.depthwise] == ["left"]


def test_ignored_layers_are_not_in_the_table(compress, residual):
    ctrl, _ = compress(residual, ignored_scopes=["Residual/NNCFConv2d[conv3]/conv2d_0"])
    assert "conv3" not in ctrl.table.by_name


def test_a_float_input_is_counted_at_8_bits(compress, residual):
    ctrl, _ = compress(residual, quantize_inputs=False)
    assert ctrl.table.by_name["conv1"].activation_group == "conv1 (float input)"
    assert ctrl.policy.bits["conv1"] == (8, 8)


def test_per_channel_weights_have_a_step_size_per_channel(compress, residual):
    ctrl, _ = compress(residual, weights={"per_channel": True})
    shapes = {name: quantizer.scale_shape for name, quantizer in ctrl.quantizers.weights.items()}
    assert shapes["conv2"] == (12, 1, 1, 1)
    assert shapes["fc"] == (4, 1)


def test_the_range_of_the_models_input_alone_is_not_trained(compress, residual):
    ctrl, _ = compress(residual)
    kept = {
        name for name, quantizer in ctrl.quantizers.activations.items() if not quantizer.raw_step_sizes.requires_grad
    }
    assert kept == {ctrl.table.by_name["conv1"].activation_group}
    assert all(quantizer.raw_step_sizes.requires_grad for quantizer in ctrl.quantizers.weights.values())
