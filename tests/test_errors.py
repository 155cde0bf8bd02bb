"""The hierarchy, and the four things in each of the main messages: where, what came, what was expected, what to do."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import pellucid as P
from pellucid import errors
from pellucid import functional as F
from pellucid.errors import PellucidError, format_shape, in_module, suggestion

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, PellucidError)]
LEAF = lambda: P.ones(3, requires_grad=True)


def used_twice() -> None:
    loss = (LEAF() * P.ones(3)).exp().sum()
    loss.backward()
    loss.backward()


def overwritten() -> None:
    x = P.ones(3)
    loss = (LEAF() * x).sum()
    x.add_(1)
    loss.backward()


# name: (call, where, what came, what was expected, what to do)
MESSAGES: dict[str, tuple[Callable[[], Any], str, str, str, str]] = {
    "broadcast": (lambda: P.ones(2, 3) + P.ones(2, 4),
        "add", "(2, 3) and (2, 4), axis -1 has 3 and 4", "expected equal sizes, or 1", "reshape or unsqueeze"),
    "matmul": (lambda: P.ones(32, 783) @ P.ones(784, 100),
        "matmul", "(32, 783) @ (784, 100), last axis 783 against 784", "expected", "transpose one side"),
    "linear": (lambda: F.linear(P.ones(32, 783), P.ones(100, 784)),
        "matmul", "783 against 784", "expected", "check the sizes"),
    "reshape": (lambda: P.ones(2, 3).reshape(4, 2),
        "reshape", "(2, 3) holds 6 numbers, (4, 2) would hold 8", "expected the same count", "use -1"),
    "reshape -1": (lambda: P.ones(6).reshape(-1, 4),
        "reshape", "(6,) to (-1, 4)", "expected at most one -1 and sizes that divide 6", "check"),
    "dim": (lambda: P.ones(2, 3).sum(2), "sum", "dim 2 of shape (2, 3)", "expected -2 to 1", "count the axes from 0"),
    "dim twice": (lambda: P.ones(2, 3).sum((0, -2)),
        "sum", "dim (0, -2)", "expected each axis once", "remove the repeated one"),
    "expand": (lambda: P.ones(2, 3).expand(4, 3),
        "expand", "(2, 3) to (4, 3)", "only axes of size 1", "unsqueeze or reshape"),
    "cat": (lambda: P.cat([P.ones(2, 3), P.ones(2, 4)]),
        "concatenate", "input 1 is (2, 4), input 0 is (2, 3)", "expected equal sizes on every axis but 0", "reshape or slice"),
    "empty": (lambda: P.ones(0, 3).max(),
        "amax", "shape (0, 3) has no numbers", "expected at least one", "check that the data is not empty"),
    "index": (lambda: P.ones(3)[7], "index", "7 on axis 0 of (3,)", "expected -3 to 2", "check the bounds"),
    "embedding": (lambda: F.embedding(P.tensor([9]), P.ones(5, 2)),
        "take", "index 9 on axis 0 of size 5", "expected 0 to 4", "check the labels or tokens"),
    "class": (lambda: F.cross_entropy(P.ones(2, 3), P.tensor([1, 3])),
        "cross_entropy", "a target is 3", "expected 0 to 2 for 3 classes", "number the classes from 0"),
    "target dtype": (lambda: F.cross_entropy(P.ones(2, 3), P.ones(2) > 0),
        "cross_entropy", "target is bool", "expected int64 class numbers", ".long()"),
    "target shape": (lambda: F.cross_entropy(P.ones(2, 3), P.zeros(2, 1).long()),
        "cross_entropy", "target (2, 1)", "expected a target (2,)", "target.squeeze(-1)"),
    "loss shape": (lambda: F.mse_loss(P.ones(4, 1), P.ones(4)),
        "mse_loss", "input (4, 1), target (4,)", "expected equal shapes", "write input.squeeze(-1)"),
    "reduction": (lambda: F.mse_loss(P.ones(4), P.ones(4), reduction="avg"),
        "reduction", "'avg'", 'expected "mean", "sum" or "none"', "leave it out"),
    "conv channels": (lambda: F.conv2d(P.ones(1, 3, 4, 4), P.ones(2, 2, 3, 3)),
        "convolution", "has 3 channels", "expected 2 channels", "check in_channels"),
    "conv kernel": (lambda: F.conv2d(P.ones(1, 1, 2, 2), P.ones(1, 1, 3, 3)),
        "convolution", "input (1, 1, 2, 2)", "expected a kernel no larger", "pad the input"),
    "mean of integers": (lambda: P.arange(3).mean(),
        "mean", "int64", "expected floating-point", "convert with .float()"),
    "where": (lambda: P.where(P.ones(2), 1, 0), "where", "condition is float32", "expected bool", "compare first"),
    "bit operation": (lambda: P.ones(2) & P.ones(2),
        "bitwise_and", "input is float32", "expected bool or integers", "compare first"),
    "no dtype for it": (lambda: -P.tensor([True]), "negative", "bool", "expected floating-point", "convert with"),
    "data": (lambda: P.tensor([[1, 2], [3]]),
        "tensor", "nested lists of unequal length", "expected a rectangular block", "pad or drop"),
    "text": (lambda: P.tensor(["a"]), "tensor", "list of <U1", "expected numbers", "encode text"),
    "operand": (lambda: P.ones(2) + "1", "operand", "'1' (str)", "expected a Tensor or a number", "pellucid.tensor"),
    "dtype": (lambda: P.zeros(2, dtype=complex), "dtype", "complex128", "expected one of float32", "convert the data"),
    "device": (lambda: P.device("cuda"), "device", "'cuda'", 'expected "cpu"', "cuda.is_available()"),
    "dropout": (lambda: F.dropout(P.ones(2), 50), "dropout", "p = 50", "expected a probability from 0 to 1", "usual"),
    "item": (lambda: P.ones(2).item(), "item", "shape (2,)", "expected a single number", "tolist()"),
    "truth": (lambda: bool(P.ones(2) > 0), "bool", "shape (2,)", "expected one number", ".any() or .all()"),
    "not a number": (lambda: (LEAF() * 2).backward(),
        "backward", "shape (3,)", "expected a single number", ".mean() or .sum()"),
    "no tape": (lambda: P.ones(1).backward(),
        "backward", "does not depend on anything", "expected one computed from parameters", "requires_grad=True"),
    "twice": (used_twice,
        "test_errors.py:", "released by an earlier backward()", "to walk it twice", "retain_graph=True"),
    "overwritten": (overwritten,
        "multiply (test_errors.py:", "overwritten at test_errors.py:", "its gradient needs the old numbers", "clone()"),
    "leaf": (lambda: LEAF().add_(1),
        "in-place", "a leaf (3,) that requires a gradient", "expected the tape to be off", "with no_grad():"),
    "numpy": (lambda: LEAF().numpy(), "numpy()", "is on the tape", "expected a detached one", "x.detach().numpy()"),
    "integers with a gradient": (lambda: P.arange(3).requires_grad_(),
        "requires_grad_", "int64", "expected floating-point", ".float()"),
    "unused": (lambda: P.autograd.grad((LEAF() * 2).sum(), LEAF()),
        "grad", "do not depend on input 0 (3,)", "expected every input to be used", "allow_unused=True"),
    "scan": (lambda: P.scan(lambda c, x: (c, None), P.ones(1), (P.ones(2), P.ones(3))),
        "scan", "lengths [2, 3]", "expected one length", "slice or stack"),
    "seed": (lambda: P.manual_seed(0.5), "seed", "0.5", "expected a whole number", "pass 0"),
    "threads": (lambda: P.set_num_threads(0), "threads", "0", "expected a whole number from 1", "leave it out"),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_the_four_things(name: str) -> None:
    call, where, came, expected, fix = MESSAGES[name]
    with pytest.raises(PellucidError) as caught:
        call()
    message = str(caught.value)
    for part in (where, came, expected, fix):
        assert part in message, f"{part!r} is missing in: {message}"
    assert caught.value.__cause__ is None and (caught.value.__context__ is None or caught.value.__suppress_context__)
    assert "\n" not in message
    if name != "numpy":
        assert "numpy" not in message.lower().replace("numpy's astype", "")


def test_the_hierarchy_is_caught_by_python_s_own_names_too() -> None:
    for kind, base in [
        ("ShapeError", ValueError),
        ("DTypeError", TypeError),
        ("IndexRangeError", IndexError),
        ("GradientError", RuntimeError),
        ("TraceError", RuntimeError),
        ("StateError", RuntimeError),
        ("DataError", ValueError),
        ("OptionError", ValueError),
        ("NonFiniteError", ArithmeticError),
    ]:
        cls = getattr(errors, kind)
        assert issubclass(cls, PellucidError) and issubclass(cls, base)
        assert kind in (errors.__doc__ or ""), f"{kind} is missing in the outline"
    assert len(CLASSES) == 10
    for cls in CLASSES:
        assert str(pickle.loads(pickle.dumps(cls("what happened")))) == "what happened"


def test_the_layer_is_named_once() -> None:
    error = P.errors.ShapeError("matmul: wrong")
    assert str(in_module(error, "net.layer1 (Linear 784→128)")) == "net.layer1 (Linear 784→128): matmul: wrong"
    assert str(in_module(error, "net")).startswith("net.layer1")  # the deeper layer has said so already


def test_words_and_nearest() -> None:
    assert [format_shape(s) for s in [(), (5,), (2, 3)]] == ["()", "(5,)", "(2, 3)"]
    assert suggestion("incmoe", ["age", "income"]) == " Did you mean 'income'?" and suggestion("zzz", ["age"]) == ""
