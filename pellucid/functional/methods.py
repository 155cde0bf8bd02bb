"""Tensor methods as functions: `pellucid.sum(x)` is `x.sum()` (floor 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import DTypeError
from ..tensor import Tensor


def _method(name: str) -> Callable[..., Any]:
    def function(x: Tensor, *arguments: Any, **options: Any) -> Any:
        if not isinstance(x, Tensor):
            raise DTypeError(
                f"{name}: first came {x!r:.60}, a {type(x).__name__}; expected a Tensor; write tensor(...)"
            )
        return getattr(x, name)(*arguments, **options)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`x.{name}(...)` as a function."
    return function


METHODS = (
    "abs", "add", "all", "allclose", "amax", "amin", "any", "argmax", "argmin", "argsort", "broadcast_to", "ceil",
    "chunk", "clamp", "clip", "clone", "cos", "cumsum", "div", "dot", "eq", "equal", "erf", "exp", "expm1", "flatten",
    "flip", "floor", "gather", "ge", "gt", "index_select", "isclose", "isfinite", "isinf", "isnan", "le", "lerp",
    "log", "log10", "log1p", "log2", "logical_and", "logical_not", "logical_or", "logsumexp", "lt", "masked_fill",
    "masked_select", "max", "maximum", "mean", "min", "minimum", "movedim", "mul", "mv", "narrow", "ne", "neg",
    "nonzero", "norm", "numel", "outer", "permute", "pow", "prod", "reciprocal", "remainder", "repeat_interleave",
    "reshape", "roll", "round", "rsqrt", "scatter_add", "sign", "sin", "sort", "split", "sqrt", "square", "squeeze",
    "std", "sub", "sum", "t", "tan", "topk", "transpose", "tril", "triu", "true_divide", "trunc", "unbind", "unique", "unsqueeze",
    "var",
)  # fmt: skip

methods = {name: _method(name) for name in METHODS}
