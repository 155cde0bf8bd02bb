"""PyTorch's own samples of every operator that we have under its name: value, shape, dtype and gradients agree.

On demand, with an interpreter that has PyTorch 2.13 and expecttest: `python -m pytest -m torch tests/test_operator_samples.py`.
The samples are those PyTorch tests itself with (`op_db`, in its wheel). An operator is called as a function, as a method
and in place, wherever that name exists here. An error of ours is a refusal and is allowed; another one is not: NumPy's
or Python's own message says nothing to a user. What differs on purpose stands in `ON_PURPOSE`, with the reason.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid.errors import PellucidError

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="PyTorch's samples import it: pip install expecttest")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

DTYPES = {
    torch.float32: P.float32, torch.float64: P.float64, torch.int64: P.int64, torch.int32: P.int32,
    torch.uint8: P.uint8, torch.bool: P.bool,
}  # fmt: skip
REFUSED_BY_PYTHON = re.compile(r"unexpected keyword|positional argument|multiple values|keyword-only")
MOST = 50  # samples of one operator and dtype
LARGEST = 20_000  # numbers in the Tensors of a sample
CHANCE = {
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "bernoulli",
    "multinomial",
    "empty",
    "empty_like",
    "uniform",
    "normal",
    "nn.functional.dropout",
}


def _has_nan(sample: Any) -> bool:
    return any(x.is_floating_point() and bool(x.isnan().any()) for x in leaves([sample.input]))


# What differs on purpose: operator -> (whether this sample of PyTorch's does, why).
ON_PURPOSE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sign": (_has_nan, "the sign of NaN is NaN: test_surprises.test_the_sign_of_nan_is_nan"),
    "nn.functional.scaled_dot_product_attention": (
        lambda sample: bool(sample.kwargs.get("dropout_p")),
        "its dropout draws other numbers: test_surprises.test_random_numbers_are_not_pytorch_s",
    ),
}


# ---- names -----------------------------------------------------------------------------------------------------------


def ours(path: str, owner: Any) -> Callable[..., Any] | None:
    for name in path.split("."):
        owner = getattr(owner, name, None)
    return owner


def theirs_in_place(name: str) -> Callable[..., Any] | None:
    return getattr(torch.Tensor, name + "_", None)


def variants() -> Iterator[tuple[str, Any, Callable[..., Any], Callable[..., Any]]]:
    """(name, operator, PyTorch's callable, ours) for every spelling that both have."""
    swapped = {"where": lambda x, condition, other: P.where(condition, x, other)}  # as PyTorch's table has it
    for op in op_db:
        label = op.name + (f"({op.variant_test_name})" if op.variant_test_name else "")
        function, method, inside = ours(op.name, P), ours(op.name, P.Tensor), ours(op.name + "_", P.Tensor)
        function = swapped.get(op.name, function)
        if isinstance(function, np.dtype):
            function = None  # torch.int is a dtype as well as, in its table, a method
        if function is not None:  # a function that only calls the method stands for both
            method = None if ours(op.name, P.functional.methods) or op.name in P.functional.methods else method
            yield label, op, op.op, function
        if method is not None and op.method_variant is not None:
            yield f"Tensor.{label}", op, op.method_variant, method
        if op.name.startswith("__") and method is not None:
            yield f"Tensor.{label}", op, op.op, method
        if inside is not None and op.inplace_variant is not None:
            yield f"Tensor.{label}_", op, op.inplace_variant, inside


# ---- samples ---------------------------------------------------------------------------------------------------------


class Untranslatable(Exception):
    """A sample holds what we have no counterpart of (complex numbers, layouts, ...)."""


def translated(x: Any, made: dict[int, tuple[Any, Any]]) -> Any:
    """The same argument as ours; `made` holds pairs (PyTorch's Tensor, ours) by the id of the first."""
    if isinstance(x, torch.Tensor):
        if x.dtype not in DTYPES or x.layout is not torch.strided:
            raise Untranslatable
        if id(x) not in made:
            made[id(x)] = (x, P.tensor(np.array(x.detach().numpy()), requires_grad=x.requires_grad))
        return made[id(x)][1]
    if isinstance(x, torch.dtype):
        if x not in DTYPES:
            raise Untranslatable
        return DTYPES[x]
    if isinstance(x, torch.device):
        return str(x)
    if isinstance(x, torch.Size):
        return tuple(x)
    if isinstance(x, list | tuple):
        return type(x)(translated(item, made) for item in x)
    if isinstance(x, dict):
        return {key: translated(item, made) for key, item in x.items()}
    if isinstance(x, complex | torch.layout | torch.memory_format | torch.Generator):
        raise Untranslatable
    return x


def as_leaves(x: Any) -> Any:
    """A sample with every Tensor a leaf of its own: some come as views of others."""
    if isinstance(x, torch.Tensor):
        return x.detach().clone().requires_grad_(x.requires_grad)
    if isinstance(x, list | tuple) and not isinstance(x, torch.Size):
        return type(x)(as_leaves(item) for item in x)
    return {key: as_leaves(item) for key, item in x.items()} if isinstance(x, dict) else x


def leaves(x: Any) -> Iterator[Any]:
    if isinstance(x, torch.Tensor | P.Tensor):
        yield x
    elif isinstance(x, list | tuple):
        for item in x:
            yield from leaves(item)
    elif isinstance(x, dict):
        for item in x.values():
            yield from leaves(item)


# ---- comparing -------------------------------------------------------------------------------------------------------


def tolerance(dtype: np.dtype) -> dict[str, float]:
    return {"rtol": 2e-4, "atol": 2e-4} if dtype == np.float32 else {"rtol": 1e-7, "atol": 1e-7}


def difference(found: Any, expected: Any) -> str | None:
    """What is wrong with `found`, or None."""
    if isinstance(expected, torch.Tensor):
        if not isinstance(found, P.Tensor):
            return f"{type(found).__name__} instead of a Tensor"
        if expected.dtype not in DTYPES:
            return None
        if tuple(found.shape) != tuple(expected.shape):
            return f"shape {found.shape} instead of {tuple(expected.shape)}"
        if found.dtype != DTYPES[expected.dtype]:
            return f"dtype {found.dtype} instead of {expected.dtype}"
        a, b = found.detach().numpy(), expected.numpy(force=True)
        if a.dtype.kind != "f":
            same = np.array_equal(a, b)
        else:
            same = np.allclose(a, b, equal_nan=True, **tolerance(a.dtype))
        return None if same else f"values {shortened(a)} instead of {shortened(b)}"
    if isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            return f"{shortened(found)} instead of {len(expected)} results"
        return next((wrong for pair in zip(found, expected, strict=True) if (wrong := difference(*pair))), None)
    if isinstance(expected, float):
        return None if np.isclose(found, expected, equal_nan=True) else f"{found} instead of {expected}"
    return None if found == expected else f"{shortened(found)} instead of {shortened(expected)}"


def shortened(x: Any) -> str:
    return " ".join(repr(x).split())[:110]


def picked(result: Any, x: Any, name: str) -> Any:
    """What a sort gives, without the order among equals: the values, and what its positions pick."""
    if name not in ("sort", "topk", "argsort") or not x.ndim:
        return result
    values, positions = (None, result) if name == "argsort" else result
    return values, positions.shape


def weighted(outputs: list[Any], library: Any) -> Any:
    """One number of `outputs`, each of their numbers with a weight of its own."""
    total: Any = 0
    for output in outputs:
        weights = np.random.default_rng(3).uniform(0.5, 1.5, tuple(output.shape))
        kind = np.float32 if "32" in str(output.dtype) else np.float64
        total = total + (output * library.tensor(weights.astype(kind))).sum()
    return total


def gradients(result: Any, inputs: list[Any], library: Any, order: int) -> list[list[Any]]:
    """dL/dinput for L a weighted sum of the results, and for order 2 the gradients of a weighted sum of those."""
    outputs = [x for x in leaves(result) if x.requires_grad and "float" in str(x.dtype)]
    found = []
    for i in range(order):
        if not outputs:
            break
        g = library.autograd.grad(weighted(outputs, library), inputs, create_graph=i + 1 < order, allow_unused=True)
        found.append(list(g))
        outputs = [x for x in g if x is not None and x.requires_grad]
    return found


def wrong_gradient(result: Any, expected: Any, mine: list[Any], theirs: list[Any], order: int) -> str | None:
    try:
        want = gradients(expected, theirs, torch, order)
    except RuntimeError:  # not implemented there
        return None
    have = gradients(result, mine, P, order)
    have += [[None] * len(mine)] * (len(want) - len(have))
    for n, (a, b) in enumerate(zip(have, want, strict=False), start=1):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            x = P.zeros_like(mine[i]) if x is None else x
            y = torch.zeros_like(theirs[i]) if y is None else y
            known = ~theirs[i].detach().isnan()  # of NaN there is no slope: PyTorch gives 0, 1 or NaN
            wrong = (
                difference(x, y)
                if known.all() or x.shape != tuple(y.shape)
                else difference(x[P.tensor(known.numpy())], y[known])
            )
            if wrong:
                return f"gradient of order {n} of input {i}: {wrong}"
    return None


# ---- the test --------------------------------------------------------------------------------------------------------


def outcome(theirs: Callable[..., Any], mine: Callable[..., Any], sample: Any, op: Any, in_place: bool) -> str | None:
    """ "same", "refused: ..." or "wrong: ..." for one sample; None where PyTorch refuses it or we cannot say it."""
    made: dict[int, tuple[Any, Any]] = {}
    call = as_leaves([sample.input, list(sample.args), dict(sample.kwargs)])
    try:
        own = translated(call, made)
    except Untranslatable:
        return None
    watched = [pair for pair in made.values() if pair[0].requires_grad and op.name not in CHANCE]
    one = lambda c, library: (c[0].clone() if in_place else c[0], *c[1])
    try:
        expected = theirs(*one(call, torch), **call[2])
    except Exception:
        return None
    try:
        found = mine(*one(own, P), **own[2])
        if op.name in CHANCE:
            same = [(tuple(x.shape), str(x.dtype).split(".")[-1]) for x in leaves(expected)]
            wrong = None if [(x.shape, str(x.dtype)) for x in leaves(found)] == same else f"{same}"
        else:
            wrong = difference(*(picked(r, c[0], op.name) for r, c in ((found, own), (expected, call))))
        if watched and not wrong:
            small = sum(x.numel() for x, _ in watched) < 200 and watched[0][0].dtype == torch.float64
            order = 2 if op.supports_gradgrad and small else 1
            wrong = wrong_gradient(found, expected, [y for _, y in watched], [x for x, _ in watched], order)
    except PellucidError as error:
        return f"refused: {error}"
    except TypeError as error:
        return f"{'refused' if REFUSED_BY_PYTHON.search(str(error)) else 'wrong: TypeError'}: {error}"
    except Exception as error:
        return f"wrong: {type(error).__name__}: {error}"
    return f"wrong: {wrong}" if wrong else "same"


def samples(op: Any, dtype: Any) -> Iterator[Any]:
    grads = op.supports_autograd and dtype.is_floating_point and dtype in op.supported_backward_dtypes("cpu")
    torch.manual_seed(0)
    np.random.seed(0)
    try:
        found = list(islice(op.reference_inputs("cpu", dtype, requires_grad=grads), 4 * MOST))
    except (ValueError, RuntimeError):  # of some operators the longer list asks for gradients of integers
        found = list(op.sample_inputs("cpu", dtype, requires_grad=grads))
    found = [s for s in found if sum(x.numel() for x in leaves([s.input, s.args, s.kwargs])) <= LARGEST]
    return iter(found[:: max(len(found) // MOST, 1)])


CASES = [pytest.param(*case[1:], case[0][-1] == "_" and case[0][-2] != "_", id=case[0]) for case in variants()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("op", "theirs", "mine", "in_place"), CASES)
def test_samples_of_an_operator_agree(op: Any, theirs: Any, mine: Any, in_place: bool, record_property: Any) -> None:
    counts: Counter[str] = Counter()
    wrong: dict[str, str] = {}  # by kind
    refused: Counter[str] = Counter()
    for dtype in DTYPES:
        if dtype not in op.supported_dtypes("cpu"):
            continue
        for sample in samples(op, dtype):
            differs, _ = ON_PURPOSE.get(op.name, (None, ""))
            if differs is not None and differs(sample):
                counts["on purpose"] += 1
                continue
            result = outcome(theirs, mine, sample, op, in_place)
            if result is None:
                continue
            counts[result.split(":")[0]] += 1
            if result.startswith("wrong"):
                call = ", ".join(
                    [
                        shortened(sample.input),
                        *map(shortened, sample.args),
                        *(f"{k}={shortened(v)}" for k, v in sample.kwargs.items()),
                    ]
                )
                wrong.setdefault(re.sub(r"[-\d.e+]+", "", result)[:60], f"{str(dtype)[6:]}: {result}\n      {call}")
            elif result.startswith("refused"):
                refused[re.sub(r"[-\d.]+", "N", result)[:160]] += 1
    record_property("counts", dict(counts))
    if refused:
        print(dict(counts), *(f"{n} x {why}" for why, n in refused.most_common(8)), sep="\n  ")
    assert not wrong, f"{dict(counts)}\n  " + "\n  ".join(list(wrong.values())[:12])
