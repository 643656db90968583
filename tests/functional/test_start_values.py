"""Start values against their formulas; the least squared error against a dense scan in numpy float64."""

import numpy as np
import pytest
import torch

from llt_nncf.errors import InvalidBitWidthError
from llt_nncf.functional import even_sample
from llt_nncf.functional import lsq_step_size
from llt_nncf.functional import min_max_step_size
from llt_nncf.functional import mse_step_size
from llt_nncf.functional import rows_per_step_size

GRIDS = [
    pytest.param(num_bits, signed, id=f"{num_bits}-bit-{'signed' if signed else 'unsigned'}")
    for num_bits in range(2, 9)
    for signed in (True, False)
]


def values(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Numbers that float32 holds exactly, as float64."""
    generator = np.random.default_rng(seed)
    drawn = {
        "gaussian": lambda: generator.normal(size=shape),
        "shifted": lambda: generator.normal(0.5, size=shape),
        "laplacian": lambda: generator.laplace(size=shape),
        "half-normal": lambda: np.abs(generator.normal(size=shape)),
        "relu": lambda: np.maximum(generator.normal(size=shape), 0.0),
        "uniform": lambda: generator.uniform(-1.0, 1.0, size=shape),
        "outlier": lambda: np.concatenate([generator.normal(size=(shape[0] - 1, *shape[1:])), [50.0]]),
    }
    return drawn[name]().astype(np.float32).astype(np.float64)


def mean_squared_error(x: np.ndarray, step: float, num_bits: int, signed: bool) -> float:
    """By the definition: divide, round, clip, multiply, subtract."""
    low, high = (-(2 ** (num_bits - 1)), 2 ** (num_bits - 1) - 1) if signed else (0, 2**num_bits - 1)
    return float(np.mean((np.clip(np.rint(x / step), low, high) * step - x) ** 2))


def scanned_error(x: np.ndarray, num_bits: int, signed: bool, trials: int = 1500) -> float:
    """The least error that any of ``trials`` step sizes has, up to 1.5 times the one that covers all magnitudes."""
    covering = np.abs(x).max() / (2 ** (num_bits - 1) - 1 if signed else 2**num_bits - 1)
    fractions = np.geomspace(1e-3, 1.5, trials)
    return min(mean_squared_error(x, step, num_bits, signed) for step in fractions * covering)


@pytest.mark.parametrize(
    ("num_bits", "signed", "expected"),
    [
        (2, True, 2 * 0.3 / 1**0.5),  # qmax 1
        (4, True, 2 * 0.3 / 7**0.5),
        (8, True, 2 * 0.3 / 127**0.5),
        (2, False, 2 * 0.3 / 3**0.5),
        (4, False, 2 * 0.3 / 15**0.5),
    ],
)
def test_lsq_starts_at_twice_the_mean_magnitude_over_the_root_of_qmax(num_bits: int, signed: bool, expected: float):
    step = lsq_step_size(torch.tensor([0.3, 0.6]), num_bits=num_bits, signed=signed)
    torch.testing.assert_close(step, torch.tensor([expected, 2 * expected]))


@pytest.mark.parametrize("num_bits", range(2, 9))
def test_min_max_grid_ends_at_the_larger_magnitude(num_bits: int):
    low, high = torch.tensor([-3.0, -1.0]), torch.tensor([2.0, 2.0])
    signed = min_max_step_size(low, high, num_bits=num_bits, signed=True)
    torch.testing.assert_close(signed * (2 ** (num_bits - 1) - 1), torch.tensor([3.0, 2.0]))
    unsigned = min_max_step_size(low, high, num_bits=num_bits, signed=False)
    torch.testing.assert_close(unsigned * (2**num_bits - 1), torch.tensor([2.0, 2.0]))


def test_tensors_of_zeros_still_get_a_positive_step_size():
    zero = torch.zeros(2)
    assert (lsq_step_size(zero, num_bits=4, signed=True) > 0).all()
    assert (min_max_step_size(zero, zero, num_bits=4, signed=True) > 0).all()
    # All values negative, yet declared unsigned: the reach is below zero.
    assert (min_max_step_size(-torch.ones(2), -torch.ones(2), num_bits=4, signed=False) > 0).all()


def test_unsupported_bits_are_refused():
    with pytest.raises(InvalidBitWidthError):
        lsq_step_size(torch.ones(1), num_bits=1, signed=True)
    with pytest.raises(InvalidBitWidthError):
        min_max_step_size(torch.ones(1), torch.ones(1), num_bits=1, signed=True)
    with pytest.raises(InvalidBitWidthError):
        mse_step_size(torch.ones(1), num_bits=9, signed=True)


@pytest.mark.parametrize("name", ["gaussian", "shifted", "laplacian", "half-normal", "relu", "uniform", "outlier"])
@pytest.mark.parametrize(("num_bits", "signed"), GRIDS)
def test_no_step_size_of_a_dense_scan_has_an_error_that_is_one_percent_less(name: str, num_bits: int, signed: bool):
    x = values(name, (3000,))
    step = mse_step_size(torch.from_numpy(x).float(), num_bits=num_bits, signed=signed)
    assert step.shape == (1,)
    assert mean_squared_error(x, step.item(), num_bits, signed) <= 1.01 * scanned_error(x, num_bits, signed)


@pytest.mark.parametrize("num_bits", [2, 5, 8])
def test_a_large_tensor_is_within_one_percent_though_only_a_sample_is_looked_at(num_bits: int):
    x = values("laplacian", (2**20,))
    step = mse_step_size(torch.from_numpy(x).float(), num_bits=num_bits, signed=True).item()
    around = min(mean_squared_error(x, step * factor, num_bits, True) for factor in np.linspace(0.8, 1.25, 46))
    assert mean_squared_error(x, step, num_bits, True) <= 1.01 * around


@pytest.mark.parametrize(("num_bits", "signed"), [(2, True), (4, False), (6, True)])
def test_channels_get_the_step_size_that_each_would_get_alone(num_bits: int, signed: bool):
    x = (
        torch.from_numpy(values("gaussian", (5, 4, 3, 3))).float()
        * torch.tensor([1e-3, 0.1, 1, 7, 900])[:, None, None, None]
    )
    x[1] = 0.0
    steps = mse_step_size(x, num_bits=num_bits, signed=signed, scale_shape=(5, 1, 1, 1))
    assert steps.shape == (5, 1, 1, 1)
    alone = [mse_step_size(channel, num_bits=num_bits, signed=signed) for channel in x]
    torch.testing.assert_close(steps.flatten(), torch.cat(alone))
    assert steps[1].item() == pytest.approx(1e-6)


def test_channels_of_a_small_layer_are_close_to_their_dense_scan():
    x = values("gaussian", (8, 64, 3, 3))
    steps = mse_step_size(torch.from_numpy(x).float(), num_bits=3, signed=True, scale_shape=(8, 1, 1, 1))
    for channel, step in zip(x, steps.flatten().tolist(), strict=True):
        assert mean_squared_error(channel, step, 3, True) <= 1.01 * scanned_error(channel, 3, True)


@pytest.mark.parametrize(("num_bits", "signed"), GRIDS)
@pytest.mark.parametrize("constant", [0.7, -0.7, 0.0])
def test_constants_are_kept_where_the_grid_can_hold_them(constant: float, num_bits: int, signed: bool):
    x = np.full(100, np.float32(constant), dtype=np.float64)
    step = mse_step_size(torch.from_numpy(x).float(), num_bits=num_bits, signed=signed).item()
    assert step >= 1e-6 * (1 - 1e-6)
    # An unsigned grid holds nothing below zero; 0 is as near as it gets.
    lost = constant**2 if constant < 0 and not signed else 0.0
    assert mean_squared_error(x, step, num_bits, signed) == pytest.approx(lost, rel=1e-5, abs=1e-12)


def test_scaling_the_values_scales_the_best_step_size():
    x = torch.from_numpy(values("laplacian", (2000,))).float()
    one = mse_step_size(x, num_bits=4, signed=True)
    torch.testing.assert_close(mse_step_size(1000 * x, num_bits=4, signed=True), 1000 * one)
    assert mse_step_size(x.half(), num_bits=4, signed=True).dtype == torch.float32


def test_rows_hold_the_elements_that_share_a_step_size():
    x = torch.arange(24).reshape(2, 3, 4)
    assert rows_per_step_size(x, (1,)).tolist() == [list(range(24))]
    assert rows_per_step_size(x, (1, 1, 1)).tolist() == [list(range(24))]
    assert rows_per_step_size(x, (2, 1, 1)).tolist() == x.reshape(2, 12).tolist()
    assert rows_per_step_size(x, (1, 3, 1)).tolist() == [x[:, c].flatten().tolist() for c in range(3)]
    assert rows_per_step_size(x, (2, 1, 4)).tolist() == [x[n, :, w].tolist() for n in range(2) for w in range(4)]


def test_a_sample_visits_all_rows_and_columns_of_images_evenly():
    # 4096 of 8 x 16 x 32 x 32 elements: at regular distances all would lie in one column.
    shape = (8, 16, 32, 32)
    places = even_sample(torch.arange(8 * 16 * 32 * 32).reshape(1, -1), 4096).numpy()
    for index, size in zip(np.unravel_index(places.flatten(), shape), shape, strict=True):
        assert np.bincount(index, minlength=size) == pytest.approx(4096 / size, rel=0.25)
    few = torch.arange(10).reshape(2, 5)
    assert even_sample(few, 5).tolist() == few.tolist()
    assert even_sample(few, 3).shape == (2, 3)
