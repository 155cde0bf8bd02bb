"""Where pellucid differs from PyTorch on purpose: each difference is a named, passing test.

First those that would be silent when one is not told, then those that raise. `docs` may point here by name.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import pellucid as P
from pellucid import functional as F
from pellucid.errors import DTypeError, GradientError, ShapeError

# ---- silent ----------------------------------------------------------------------------------------------------------


def test_numpy_gives_a_read_only_snapshot() -> None:
    """PyTorch: `.numpy()` shares memory both ways."""
    x = P.ones(2)
    before = x.numpy()
    with pytest.raises(ValueError, match="read-only"):
        before[0] = 5
    x.add_(1)
    assert before.tolist() == [1, 1] and x.tolist() == [2, 2]
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(x)[0] = 5


def test_from_numpy_copies() -> None:
    """PyTorch: `from_numpy` and `as_tensor` share the array."""
    array = np.ones(2, np.float32)
    x, y = P.from_numpy(array), P.as_tensor(array)
    array[:] = 7
    assert x.tolist() == y.tolist() == [1, 1]


def test_assigning_to_data_copies_the_numbers() -> None:
    """PyTorch: after `x.data = y`, x and y share memory. Here x has the numbers of y, and goes its own way."""
    x, y = P.ones(2, requires_grad=True), P.tensor([3.0, 4.0])
    x.data = y
    y.add_(1)
    assert x.tolist() == [3, 4] and x.requires_grad and x.is_leaf


def test_a_parameter_made_of_a_tensor_has_its_own_numbers() -> None:
    """PyTorch: `nn.Parameter(y)` shares memory with y."""
    y = P.ones(2)
    p = P.nn.Parameter(y)
    y.add_(1)
    assert p.tolist() == [1, 1]


def test_a_clone_lies_in_row_order() -> None:
    """PyTorch: the clone of a transposed Tensor is laid out as that is, so that flattening it makes a copy. Here a clone is
    in row order, and what flattens it is a view of it."""
    c = P.zeros(2, 3).T.clone()
    c.reshape(-1)[0] = 5
    assert c[0, 0].item() == 5


def test_empty_is_zeros() -> None:
    """PyTorch: `empty` holds whatever was in memory."""
    assert P.empty(100).tolist() == [0.0] * 100 and P.empty_like(P.ones(3)).tolist() == [0.0] * 3


def test_clone_copies_nothing_and_is_as_safe_as_a_copy() -> None:
    x = P.ones(2)
    y = x.clone()
    assert y.array is x.array or np.shares_memory(y.array, x.array)
    x.add_(1)
    assert y.tolist() == [1, 1]


def test_every_tensor_is_contiguous() -> None:
    """`view` works after `permute`, by a copy as `reshape` makes it, where PyTorch asks for `contiguous()`."""
    x = P.arange(6).reshape(2, 3)
    assert x.T.is_contiguous() and x.T.contiguous().view(6).tolist() == [0, 3, 1, 4, 2, 5]
    assert x.view(3, 2).T.flatten().view(-1).tolist() == [0, 2, 4, 1, 3, 5]


def test_uint8_positions_are_positions() -> None:
    """PyTorch reads a uint8 index as a mask, and warns. Here only bool is a mask."""
    assert P.tensor([10, 20, 30])[P.tensor([1, 0, 1], dtype=P.uint8)].tolist() == [20, 10, 20]


def test_slices_may_run_backwards() -> None:
    """PyTorch refuses a negative step."""
    assert P.arange(4)[::-1].tolist() == [3, 2, 1, 0] and P.arange(6)[4:0:-2].tolist() == [4, 2]


def test_negative_positions_count_from_the_end_in_gather_too() -> None:
    """PyTorch refuses negative indices in gather, scatter and embedding."""
    x = P.tensor([[1.0, 2.0, 3.0]])
    assert x.gather(1, P.tensor([[-1, 0]])).tolist() == [[3, 1]] and F.embedding(P.tensor([-1]), x.T).tolist() == [[3]]


def test_sorting_is_always_stable() -> None:
    """PyTorch promises it only with `stable=True`; its `topk` promises no order among equals."""
    x = P.tensor([1.0, 0.0, 1.0, 1.0])
    assert x.argsort().tolist() == [1, 0, 2, 3] and x.argsort(descending=True).tolist() == [0, 2, 3, 1]
    assert x.topk(2).indices.tolist() == [0, 2]


def test_compiled_code_flushes_numbers_that_are_too_small_to_be_normal() -> None:
    """Eager code keeps numbers below 1.2e-38 (subnormal ones), as PyTorch does; compiled code takes and gives 0 for them,
    which is faster and far below what training resolves."""
    x = P.tensor([1e-38, 1e-30])
    assert (x * 0.5)[0].item() > 0
    assert P.compile(lambda x: x * 0.5)(x).tolist() == [0, (x * 0.5)[1].item()]


def test_a_tensor_of_an_array_keeps_its_dtype() -> None:
    """PyTorch: `Tensor(array)` gives float32 whatever came. `Tensor([1, 2])` does so here too."""
    assert P.Tensor(np.array([1, 2])).dtype == P.int64 and P.Tensor([1, 2]).dtype == P.float32


def test_the_sign_of_nan_is_nan() -> None:
    """PyTorch gives 0: the NaN would vanish."""
    assert P.tensor([math.nan, -2.0]).sign().isnan().tolist() == [True, False]


def test_gelu_of_infinity_is_infinity() -> None:
    """PyTorch's vectorised float32 form gives NaN there."""
    assert F.gelu(P.tensor([math.inf])).tolist() == [math.inf]


def test_whole_numbers_divided_by_zero_give_zero_as_in_numpy() -> None:
    """PyTorch raises ZeroDivisionError."""
    assert (P.tensor([1, -1]) // 0).tolist() == [0, 0] and (P.tensor([5]) % 0).tolist() == [0]


def test_random_numbers_are_not_pytorch_s() -> None:
    """Same names and distributions, other bits: a function of (seed, call, position), the same on every machine."""
    P.manual_seed(0)
    assert P.rand(1).item() == pytest.approx(0.3990, abs=1e-4)  # torch.manual_seed(0): 0.4963
    assert P.random.default_generator.get_state().tolist() == [0, 1]


def test_the_default_seed_is_0_not_the_clock() -> None:
    """PyTorch seeds itself anew in each process."""
    assert P.Generator().initial_seed() == 0


def test_shape_is_a_plain_tuple_and_dtype_numpy_s() -> None:
    x = P.zeros(2, 3)
    assert type(x.shape) is tuple and x.size() == (2, 3) and x.dtype is P.float32 and x.dtype == np.float32
    assert x.dtype == "float32"


def test_repr_says_which_operation_made_it() -> None:
    """PyTorch prints `grad_fn=<MulBackward0>`."""
    assert "made by multiply" in repr(P.ones(1, requires_grad=True) * 2)


def test_the_gradient_of_the_largest_is_shared_by_equals_in_max_too() -> None:
    """As in PyTorch, `amax()` and `max()` share it among equals, and `max(dim)` gives it to one: here to the first."""
    x = P.tensor([2.0, 2.0], requires_grad=True)
    x.max().backward()
    assert x.grad.tolist() == [0.5, 0.5]
    x.grad = None
    x.max(0).values.backward()
    assert x.grad.tolist() == [1.0, 0.0]


def test_the_gradient_slot_is_none_where_nothing_was_left_of_a_tensor() -> None:
    """PyTorch gives zeros after `y.zero_()`; here y no longer depends on x, and a backward that starts there is refused."""
    x = P.ones(2, requires_grad=True)
    y = x * 2
    y.zero_()
    assert not y.requires_grad
    (y.sum() + (x * 3).sum()).backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_x_times_equals_x_is_differentiated() -> None:
    """PyTorch refuses `y *= y` in backward: the original was overwritten. Values keep it."""
    x = P.tensor(3.0, requires_grad=True)
    y = x * 1
    y *= y
    y.backward()
    assert x.grad.item() == 6.0


def test_writing_to_a_result_leaves_alone_what_was_made_from_it() -> None:
    """PyTorch refuses `relu(x).add_(1)`: relu's gradient reads its output. Here the old output is a value and stays."""
    x = P.tensor([-1.0, 2.0], requires_grad=True)
    y = x.relu()
    y.add_(1)
    y.sum().backward()
    assert y.tolist() == [1, 3] and x.grad.tolist() == [0, 1]


# ---- refused ---------------------------------------------------------------------------------------------------------


def test_a_loss_never_broadcasts() -> None:
    """PyTorch warns, and compares every example with every other."""
    with pytest.raises(ShapeError, match=r"write input\.squeeze\(-1\)"):
        F.mse_loss(P.zeros(4, 1), P.zeros(4))


def test_a_tensor_on_the_tape_has_no_numpy_but_within_no_grad_it_has() -> None:
    """PyTorch refuses in both cases; and `np.asarray` is let through here, since a snapshot can do no harm."""
    x = P.ones(2, requires_grad=True)
    with pytest.raises(GradientError, match=r"x\.detach\(\)\.numpy\(\)"):
        x.numpy()
    with P.no_grad():
        assert x.numpy().tolist() == [1, 1]


def test_the_only_device_is_the_cpu() -> None:
    assert not P.cuda.is_available() and P.cuda.device_count() == 0
    with pytest.raises(P.errors.OptionError, match="cpu"):
        P.device("cuda")


def test_float16_data_widens() -> None:
    """There is no half precision: data arrives as float32, and asking for float16 is refused."""
    assert P.tensor(np.ones(2, np.float16)).dtype == P.float32
    with pytest.raises(DTypeError, match="float16"):
        P.zeros(2, dtype=np.float16)


def test_cutting_off_a_fraction_in_place_is_refused_as_in_pytorch() -> None:
    n = P.ones(2, dtype=P.int64)
    with pytest.raises(DTypeError, match="in-place arithmetic: the result is float32"):
        n += 0.5
    n[0] = 2.9  # setting casts, as there
    assert n.tolist() == [2, 1]
