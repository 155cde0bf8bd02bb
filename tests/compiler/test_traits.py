"""What an operation says of itself is all that compiler passes know of it: a new one is one entry in `ops/`."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid import Tensor, compiler
from pellucid.core.op import REGISTRY
from pellucid.ops.elementwise import Elementwise
from pellucid.ops.reduce import Reduction, expand, sum_

FILES = sorted(p for p in Path(compiler.__file__).parent.rglob("*.py") if "guards" not in p.parts)


@pytest.fixture
def product() -> Iterator[Reduction]:
    """A reduction that the library has not."""
    yield Reduction(
        "test_product", np.multiply.reduce, [lambda g, y, x, axes, keepdims: _back(g * y, x, axes, keepdims) / x],
        saves="inputs output", identity=lambda dtype: 1, native=lambda e, a, b: e.multiply(a, b), allow_empty=True, rounds=True,
    )  # fmt: skip
    del REGISTRY["test_product"]


def _back(g: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    return (g if keepdims else g.unsqueeze(axes[0])).expand(x.shape)


def numbers(*shape: int) -> Tensor:
    return P.tensor(np.random.default_rng(3).uniform(0.8, 1.2, shape).astype(np.float32))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_new_reduction_has_a_fused_kernel_and_a_gradient(product: Reduction, axis: int) -> None:
    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        y = product(x * 2, axes=(axis,), keepdims=False)
        y.sum().backward()
        return y, x.grad

    x = numbers(40, 24).requires_grad_()
    compiled = P.compile(step)
    y, grad = compiled(x)
    exact = np.asarray(x.tolist()) * 2
    np.testing.assert_allclose(y.tolist(), exact.prod(axis), rtol=1e-5)
    np.testing.assert_allclose(grad.tolist(), 2 * exact.prod(axis, keepdims=True) / exact, rtol=1e-5)
    kernels = compiled.kernels(measure=False)
    assert {k.kind for k in kernels} == {"loop"}  # nothing is interpreted, and nothing is copied


def test_a_new_reduction_along_a_padded_axis_reads_no_padding(product: Reduction) -> None:
    run = P.compile(lambda x: product(x, axes=(1,), keepdims=False), pad={"x": 1})
    for length in (13, 9, 16, 3):
        x = numbers(3, length)
        np.testing.assert_allclose(run(x).tolist(), np.asarray(x.tolist()).prod(1), rtol=1e-5)


def test_a_new_reduction_is_taken_out_of_a_scan(product: Reduction) -> None:
    weight = numbers(6, 6)

    def step(xs: Tensor) -> Tensor:
        body = lambda h, x: (h * 0.5 + x.sum(), product(x @ weight, axes=(1,), keepdims=False))
        return P.scan(body, P.zeros(()), xs)[1]

    xs = numbers(5, 4, 6)
    compiled = P.compile(step)
    expected = np.stack([(np.asarray(x.tolist()) @ np.asarray(weight.tolist())).prod(1) for x in xs])
    np.testing.assert_allclose(compiled(xs).tolist(), expected, rtol=1e-4)
    products = [k for k in compiled.kernels(measure=False) if k.kind == "product"]
    assert [(math.prod(k.shape), k.runs) for k in products] == [(5 * 4 * 6, 1)]  # all steps in one product


def test_a_linear_operation_says_so() -> None:
    """op(a) + op(b) = op(a + b), by the operations' own samples."""
    random, tried = np.random.default_rng(0), 0
    for op in REGISTRY.values():
        if not op.linear:
            continue
        for arrays, attributes in op.sample_inputs(random):
            others = [random.normal(size=a.shape) for a in arrays]
            apart = op.forward(*arrays, **attributes) + op.forward(*others, **attributes)
            together = op.forward(*[a + b for a, b in zip(arrays, others, strict=True)], **attributes)
            np.testing.assert_allclose(together, apart, rtol=1e-9, atol=1e-12, err_msg=op.name)
            tried += 1
    assert tried > 15


def test_a_view_holds_numbers_of_its_input() -> None:
    random, tried = np.random.default_rng(0), 0
    for op in REGISTRY.values():
        for arrays, attributes in op.sample_inputs(random) if op.is_view else ():
            assert np.isin(op.forward(*arrays, **attributes), arrays[0]).all(), op.name
            tried += 1
    assert tried > 15


def test_a_batched_operation_works_alike_on_each() -> None:
    """`Op.batched`: the operation on three samples at once gives each sample's result."""
    random, tried = np.random.default_rng(0), set()
    for op in REGISTRY.values():
        for arrays, attributes in op.sample_inputs(random):
            batched = op.batched(attributes, 3)
            ranks = {a.ndim for a in arrays}
            grows = op is expand and len(attributes["shape"]) != arrays[0].ndim
            if batched is None or len(ranks) > 1 or grows:  # fewer axes are broadcast from the right
                continue
            if isinstance(op, Elementwise) and not op.floats:
                arrays = [a > 0 for a in arrays]
            copies = [np.stack([a] * 3) for a in arrays]
            whole = op.forward(*copies, **batched)
            each = op.forward(*arrays, **attributes)
            np.testing.assert_allclose(whole, np.stack([each] * 3), rtol=1e-12, err_msg=op.name)
            tried.add(op.kind)
    assert tried >= {"elementwise", "reduction", "movement"}


def test_identities_change_nothing() -> None:
    for op in REGISTRY.values():
        if isinstance(op, Reduction):
            for dtype in (np.float32, np.float64, np.int64, np.uint8):
                x = np.arange(1, 7).astype(dtype).reshape(2, 3)
                more = np.concatenate([x, np.full((2, 1), op.identity(np.dtype(dtype)), dtype)], 1)
                attributes = {"axes": (1,), "keepdims": False}
                np.testing.assert_array_equal(op.forward(more, **attributes), op.forward(x, **attributes), op.name)


def test_the_compiler_knows_operations_by_object() -> None:
    """No comparison with a name of an operation, no table keyed by one, none emitted by one."""
    names = set(REGISTRY) - {"all", "any", "length"}  # "length" is a kind of input too
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                asked = [node.left, *node.comparators]
                asked += [x for c in node.comparators if isinstance(c, ast.Tuple | ast.Set | ast.List) for x in c.elts]
                if any(isinstance(x, ast.Attribute) and x.attr == "kind" for x in asked):
                    continue  # "reshape" is a kind of kernel
            elif isinstance(node, ast.Dict):
                asked = [key for key in node.keys if key is not None]
            elif isinstance(node, ast.Set):
                asked = node.elts
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "emit":
                asked = node.args[:1]
            else:
                continue
            found += [
                f"{path.name}:{x.lineno}: {x.value}" for x in asked if isinstance(x, ast.Constant) and x.value in names
            ]
    assert found == []


def test_every_elementwise_operation_and_reduction_is_native() -> None:
    assert all(op.native is not None for op in REGISTRY.values() if isinstance(op, Elementwise | Reduction))
    assert sum_.rounds
