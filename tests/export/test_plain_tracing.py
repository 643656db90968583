"""While a model is traced, sizes are not taken for activations, and attention is not fused."""

import torch

from llt_nncf.export.plain_tracing import plain_tracing


class Counted(torch.Tensor):
    """Counts its products, as NNCF's tensors do."""

    calls = 0

    def __mul__(self, other):
        Counted.calls += 1
        return super().__mul__(other)


Counted.__mul__._original_op = torch.Tensor.__mul__


def test_products_of_sizes_go_to_pytorch_and_products_of_activations_to_the_wrapper():
    size, activations = torch.tensor(3).as_subclass(Counted), torch.ones(2).as_subclass(Counted)
    wrapper = vars(Counted)["__mul__"]
    with plain_tracing():
        assert int(size * 2) == 6
        assert Counted.calls == 0
        torch.testing.assert_close((activations * size).as_subclass(torch.Tensor), torch.full((2,), 3.0))
        assert Counted.calls == 1
    assert vars(Counted)["__mul__"] is wrapper


def test_attention_is_not_fused_and_may_be_afterwards():
    torch.backends.mha.set_fastpath_enabled(True)
    with plain_tracing():
        assert not torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mha.get_fastpath_enabled()
