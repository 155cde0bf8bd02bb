"""pellucid: a neural network you can see through, at the speed of the machine. The public list.

The names are PyTorch's, so `import pellucid as torch` runs a tutorial. Where things stand: `op` and `tape` (what an
operation is, the walk back), `ops` (every primitive once), `tensor`, `random`, `functional`, `nn`, `optim`, `data`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from . import autograd, cuda, errors, functional, nn, ops, optim, random, utils
from .arguments import bool_ as bool
from .arguments import float32, float64, int32, int64, uint8
from .compiler.compile import compile
from .creation import (
    arange,
    as_tensor,
    cat,
    concat,
    concatenate,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    is_tensor,
    linspace,
    ones,
    ones_like,
    stack,
    tensor,
    where,
    zeros,
    zeros_like,
)
from .functional import relu, sigmoid, softmax, tanh
from .functional.methods import methods as _methods
from .grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .ops.loop import scan
from .random import (
    Generator,
    bernoulli,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    multinomial,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    seed,
    set_rng_state,
)
from .serialization import load, save
from .tensor import Tensor, device, matmul
from .threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

dtype = np.dtype
float = float32
double = float64
long = int64
int = int32
mm = bmm = matmul
globals().update({name: function for name, function in _methods.items() if name not in globals()})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...  # the methods as functions: pellucid.exp(x), pellucid.mean(x, 0), ...


__all__ = sorted(
    {
        "Generator", "Tensor", "arange", "as_tensor", "autograd", "bernoulli", "bmm", "bool", "cat", "compile", "concat", "concatenate",
        "cuda", "default_generator", "device", "double", "dtype", "empty", "empty_like", "enable_grad", "errors", "eye", "float", "float32",
        "float64", "from_numpy", "full", "full_like", "functional", "get_num_threads", "get_rng_state", "inference_mode",
        "initial_seed", "int", "int32", "int64", "is_grad_enabled", "is_tensor", "linspace", "load", "long", "manual_seed", "matmul", "mm",
        "multinomial", "nn", "no_grad", "ones", "ones_like", "ops", "optim", "rand", "rand_like", "randint", "randn",
        "randn_like", "random", "randperm", "relu", "save", "scan", "seed", "set_grad_enabled", "set_num_threads", "set_rng_state",
        "sigmoid", "softmax", "stack", "tanh", "tensor", "uint8", "utils", "where", "zeros", "zeros_like", *_methods,
    }
)  # fmt: skip
