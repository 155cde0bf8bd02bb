"""Which dtype comes out: PyTorch's table, pinned; `test_against_torch` compares the same rules with PyTorch itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pellucid as P
from pellucid.core.promotion import result_type
from pellucid.errors import DTypeError

KINDS = ("bool", "uint8", "int32", "int64", "float32", "float64")
SHORT = {"bool": "b", "uint8": "u1", "int32": "i4", "int64": "i8", "float32": "f4", "float64": "f8"}

# Two Tensors with dimensions: the lattice.
VECTORS = """
        b   u1  i4  i8  f4  f8
bool    b   u1  i4  i8  f4  f8
uint8   u1  u1  i4  i8  f4  f8
int32   i4  i4  i4  i8  f4  f8
int64   i8  i8  i8  i8  f4  f8
float32 f4  f4  f4  f4  f4  f8
float64 f8  f8  f8  f8  f8  f8
"""
# A Tensor with dimensions (row) and a 0-d one (column): the category may rise, the width within it does not.
SCALARS = """
        b   u1  i4  i8  f4  f8
bool    b   u1  i4  i8  f4  f8
uint8   u1  u1  u1  u1  f4  f8
int32   i4  i4  i4  i4  f4  f8
int64   i8  i8  i8  i8  f4  f8
float32 f4  f4  f4  f4  f4  f4
float64 f8  f8  f8  f8  f8  f8
"""
# A Tensor with dimensions and Python's True, 1, 1.0; a 0-d one and the same; then x/x exp sum prod cumsum amax of a Tensor.
NUMBERS = """
        b   1   1.  0b  01  01. div exp sum prd cum max
bool    b   i8  f4  b   i8  f4  f4  f4  i8  i8  i8  b
uint8   u1  u1  f4  u1  u1  f4  f4  f4  i8  i8  i8  u1
int32   i4  i4  f4  i4  i4  f4  f4  f4  i8  i8  i8  i4
int64   i8  i8  f4  i8  i8  f4  f4  f4  i8  i8  i8  i8
float32 f4  f4  f4  f4  f4  f4  f4  f4  f4  f4  f4  f4
float64 f8  f8  f8  f8  f8  f8  f8  f8  f8  f8  f8  f8
"""


def rows(table: str) -> list[tuple[str, list[str]]]:
    return [(line.split()[0], line.split()[1:]) for line in table.strip().splitlines()[1:]]


def ones(kind: str, shape: tuple[int, ...] = (2,)) -> P.Tensor:
    return P.ones(*shape, dtype=kind)


def short(x: Any) -> str:
    return SHORT[str(x.dtype)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_table(kind: str) -> None:
    lattice, scalars, numbers = (dict(rows(table))[kind] for table in (VECTORS, SCALARS, NUMBERS))
    x, zero = ones(kind), ones(kind, ())
    assert [short(x + ones(other)) for other in KINDS] == lattice
    assert [short(ones(other) * x) for other in KINDS] == lattice
    assert [short(zero + ones(other, ())) for other in KINDS] == lattice  # two 0-d Tensors are equals too
    assert [short(x + ones(other, ())) for other in KINDS] == scalars
    assert [short(ones(other, ()) + x) for other in KINDS] == scalars
    found = [
        x + True,
        x + 1,
        x + 1.0,
        zero + True,
        zero + 1,
        zero + 1.0,
        x / x,
        x.exp(),
        x.sum(),
        x.prod(),
        x.cumsum(0),
        x.amax(),
    ]
    assert [short(y) for y in found] == numbers
    assert [short(y) for y in (True + x, 1 + x, 1.0 * x)] == numbers[:3]


def test_the_same_table_for_other_operations() -> None:
    for left in KINDS:
        for right in KINDS:
            x, y = ones(left), ones(right)
            expected = (x + y).dtype
            assert (
                x.maximum(y).dtype
                == P.where(x == 1, x, y).dtype
                == P.cat([x, y]).dtype
                == P.stack([y, x]).dtype
                == expected
            )
            assert (x == y).dtype == (x < y).dtype == P.bool
            assert (x / y).dtype == (expected if expected.kind == "f" else P.float32)
            assert (x.reshape(1, 2) @ y).dtype == expected
    assert P.where(P.tensor([True]), 1.0, 0).dtype == P.float32 and P.where(P.tensor([True]), 1, 0).dtype == P.int64


def test_python_numbers_and_numpy_s_adapt_to_the_tensor() -> None:
    x = P.ones(2)
    for number in (2, 2.5, True, np.float64(2.5), np.int64(2), np.float32(1), np.bool_(True)):
        assert (x * number).dtype == (number * x).dtype == P.float32, number
    assert (x * np.ones(2)).dtype == P.float64  # an array is data, not a number
    assert (x * [1, 2]).dtype == P.float32


def test_gradients_come_back_in_each_input_s_dtype() -> None:
    a = P.ones(2, requires_grad=True)
    b = P.ones(2, dtype=P.float64, requires_grad=True)
    n = P.tensor([2, 3])
    loss = (a * b * n).sum()
    assert loss.dtype == P.float64
    loss.backward()
    assert (a.grad.dtype, b.grad.dtype) == (P.float32, P.float64) and a.grad.tolist() == [2.0, 3.0]


OPERANDS = st.one_of(
    st.builds(lambda kind, shape: ones(kind, shape), st.sampled_from(KINDS), st.sampled_from([(), (2,)])),
    st.sampled_from([True, 3, 2.5]),
)


@given(OPERANDS, OPERANDS, OPERANDS)
def test_the_order_of_operands_does_not_matter(a: Any, b: Any, c: Any) -> None:
    kinds = {result_type(*order) for order in ((a, b, c), (c, a, b), (b, c, a), (c, b, a))}
    assert len(kinds) == 1
    assert result_type(a, a) == result_type(a)


@pytest.mark.parametrize("wrong", ["text", None, object(), 1j, {1: 2}])
def test_what_is_no_operand(wrong: Any) -> None:
    with pytest.raises(
        DTypeError, match=r"an operand is .*; expected a Tensor or a number; make it one with pellucid\.tensor"
    ):
        P.ones(2) + wrong
    with pytest.raises(DTypeError):
        wrong * P.ones(2)
