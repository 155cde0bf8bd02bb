"""The Tensor: its state, and PyTorch's methods by kind, each a line or two over the operations (floor 3).

    state      what it holds: making, `assign`, `detach`, `clone`, `data`, copying      gradients   `grad`, `backward`, hooks
    conversion dtypes, NumPy, Python numbers, printing                                 shapes      sizes, views, pieces
    arithmetic operators, comparisons, functions of each number                        linalg      matrix products
    selection  `x[key]`, gather, masks, sorting                                        reductions  sums, extremes, softmax
    inplace    `add_`, `x[key] = value`, `fill_`                                       operands    what stands beside a Tensor

A kind is a base class of `Tensor`, which extends the kinds whose methods it calls. A new method goes into the file of its
kind and nowhere else. Losses, normalization and convolution stand in `functional/`, random numbers in `random.py`.

Slices, `reshape`, `permute`, `expand` and `detach` give views, as in PyTorch: they follow what is written to the original,
and write through to it (`core/sharing.py`). Every write ends in `assign`.

In the docstrings, `dim` counts from 0, or from the end when negative; B is a batch, M, N, K, C, H, W are sizes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import array_of
from ..core.op import new_value, use_value_class
from ..core.state_version import note_change
from ..errors import DTypeError
from .gradients import Gradients, RemovableHook
from .inplace import InPlace
from .linalg import LinearAlgebra, matmul
from .operands import as_value_of, operand, operand_tensor
from .reductions import Reductions
from .selection import MinMax
from .shapes import concatenate
from .state import ConsumedGradient, DeviceLike, check_device, device

__all__ = [
    "ConsumedGradient",
    "DeviceLike",
    "MinMax",
    "Parameter",
    "RemovableHook",
    "Tensor",
    "as_value_of",
    "check_device",
    "concatenate",
    "device",
    "matmul",
    "operand",
    "operand_tensor",
]


class Tensor(InPlace, Reductions, LinearAlgebra, Gradients):
    """A multi-dimensional array that remembers how it was made. Make one with `pellucid.tensor(...)`.

    `Tensor(2, 3)` has those sizes and is filled with zeros; `Tensor([1, 2])` holds the numbers as float32. An array keeps
    its dtype.
    """

    __array_priority__ = 1000  # a NumPy array on the left of an operator leaves it to the Tensor


use_value_class(Tensor)


class Parameter(Tensor):
    """A Tensor that a Module trains: it registers itself when set as an attribute.

    data: a Tensor, or what a Tensor can be made of. Raises DTypeError for integers and bools that shall be trained.
    """

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        source = data if isinstance(data, Tensor) else new_value(np.array(array_of(data)))
        if requires_grad and source.dtype.kind != "f":
            raise DTypeError(f"Parameter: {source.dtype}; expected floating-point numbers; convert with .float()")
        super().__init__(source.array)
        self.requires_grad = requires_grad

    @property
    def requires_grad(self) -> bool:
        """Whether it is trained. A change makes compiled steps check whether they still hold."""
        return self.__dict__.get("requires_grad", False)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.__dict__.get("requires_grad", False) != value:
            note_change()
        self.__dict__["requires_grad"] = value

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"
