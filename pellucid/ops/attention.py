"""Scaled dot-product attention that does not keep its matrix of weights, and its gradient (floor 2).

The result and the logarithm of each softmax's sum are kept; the gradient recomputes the weights (B, H, T, S) from them (Dao et
al. 2022). The forward here is plain NumPy; the kernels in `compiler/backends/cpu/kernels/attention.py` never hold more than a block of
scores. `weights` gives the weights by differentiable operations.

Letters: B batch, H heads of the query, G heads of key and value (H is a multiple of G, and head h reads head
h // (H / G): grouped queries, Ainslie et al. 2023), T queries, S keys, D channels of query and key, E channels of value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.op import Attributes, Node, Op, Rule, Sample, SampleInputs, new_value
from ..core.value import Shaped, Spec, V, Value, grad_mode
from ..errors import DTypeError, format_shape
from .contraction import matmul, swap_last
from .elementwise import exp, where
from .movement import permute, reshape, slice_
from .reduce import amax, expand, sum_, sum_to

LARGEST_HEAD = 256  # channels: kernels keep their blocks on the stack, and beyond this plain products are as good


# ---- packing: an operation has one output ----------------------------------------------------------------------------


def unpack(x: V, shapes: Sequence[tuple[int, ...]]) -> list[V]:
    """A flat x as consecutive pieces of `shapes`."""
    pieces, start = [], 0
    for shape in shapes:
        size = math.prod(shape)
        pieces.append(reshape(slice_(x, slices=((start, size, 1),)), shape=shape))
        start += size
    return pieces


def result_shapes(q: Shaped, v: Shaped) -> list[tuple[int, ...]]:
    """The shapes that `attention` packs: the result (B, T, H, E), and log(sum(exp(scores))), (B, H, T)."""
    (batch, heads, length, _), channels = q.shape, v.shape[3]
    return [(batch, length, heads, channels), (batch, heads, length)]


def gradient_shapes(q: Any, k: Any, v: Any) -> list[tuple[int, ...]]:
    """The shapes that `attention_gradient` packs: dq (B, T, H, D), dk (B, S, G, D), dv (B, S, G, E).

    q, k, v: what has a shape; the padding rules of the compiler give axes in place of sizes.
    """
    return [(x.shape[0], x.shape[2], x.shape[1], x.shape[3]) for x in (q, k, v)]


def heads_first(x: V) -> V:
    """(B, T, H, D) as (B, H, T, D), or back."""
    return permute(x, axes=(0, 2, 1, 3))


def _pack(*arrays: np.ndarray) -> np.ndarray:
    return np.concatenate([x.reshape(-1) for x in arrays])


# ---- by NumPy --------------------------------------------------------------------------------------------------------


def _scores(
    q: np.ndarray, k: np.ndarray, mask: Sequence[np.ndarray], causal: bool, scale: float
) -> np.ndarray:  # fmt: skip
    """scale q k^T + mask (B, H, T, S), -inf where a query may not attend."""
    scores = np.matmul(q * q.dtype.type(scale), _for_heads(k, q).swapaxes(2, 3))
    masked = scores.dtype.type(-np.inf)
    for m in mask:
        scores = np.where(m, scores, masked) if m.dtype == np.bool_ else scores + m
    return np.where(np.tri(*scores.shape[2:], dtype=np.bool_), scores, masked) if causal else scores


def _for_heads(x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """x (B, G, S, D) repeated to (B, H, S, D)."""
    return x if x.shape[1] == q.shape[1] else np.repeat(x, q.shape[1] // x.shape[1], axis=1)


def _for_groups(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """x (B, H, S, D) summed to (B, G, S, D)."""
    return x.reshape(*like.shape[:2], -1, *x.shape[2:]).sum(2) if x.size else np.zeros_like(like)


class Attention(Op):
    """q (B, H, T, D), k (B, G, S, D), v (B, G, S, E) and an optional mask -> flat, see `result_shapes`.

    mask: broadcasts to (B, H, T, S); bool (True: may attend), or numbers that are added to the scores. causal: query t attends
    to keys 0 ... t only. scale: the scores are scale q k^T. A query that may attend to no key gives zeros.
    Raises ShapeError or DTypeError where the inputs do not fit each other.
    """

    kind = "contraction"
    same_dtype = False

    def infer(self, q: Shaped, k: Shaped, v: Shaped, *mask: Shaped, causal: bool, scale: float) -> Spec:
        check(self, q, k, v, *mask)
        return Spec((_count(result_shapes(q, v)),), q.dtype)

    def forward(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, *mask: np.ndarray, causal: bool, scale: float
    ) -> np.ndarray:
        scores = _scores(q, k, mask, causal, scale)
        top = scores.max(3, keepdims=True, initial=-np.inf)
        top = np.where(top == -np.inf, np.zeros_like(top), top)
        e = np.exp(scores - top)
        total = e.sum(3, keepdims=True)
        total = np.where(total == 0, np.ones_like(total), total)  # a query that may attend to no key
        result = np.matmul(e, _for_heads(v, q)) / total
        return _pack(result.transpose(0, 2, 1, 3), top + np.log(total))

    def backward(self, node: Node, g: Value) -> Sequence[Any]:
        """`attention_gradient` gives all; the rules run where the pass itself is recorded, or the mask needs a gradient."""
        if grad_mode.get() or any(parent is not None for parent in node.parents[3:]):
            return super().backward(node, g)
        q, k, v, *mask = node.inputs
        dy, dl = unpack(g, result_shapes(q, v))
        packed = attention_gradient(heads_first(dy), dl, q, k, v, node.output(), *mask, **node.attributes)
        grads: list[Value | None] = [heads_first(x) for x in unpack(packed, gradient_shapes(q, k, v))]
        grads += [None] * len(mask)
        return [grad if parent is not None else None for grad, parent in zip(grads, node.parents, strict=True)]

    def rules(self, node: Node) -> Sequence[Rule | None]:
        truths = any(mask.dtype.kind != "f" for mask in node.inputs[3:])
        return (*self.gradients[:3], None) if truths else self.gradients[: len(node.inputs)]

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        shapes = [  # B, H, G, T, S, D, E, shape of the mask, its kind
            (2, 2, 2, 3, 3, 4, 4, None, ""),
            (1, 2, 1, 2, 5, 3, 2, None, ""),
            (2, 4, 2, 3, 2, 1, 3, (3, 2), "bool"),
            (1, 1, 1, 1, 1, 1, 1, None, ""),
            (1, 2, 2, 1, 19, 2, 1, (1, 2, 1, 19), "bool"),
            (2, 3, 1, 2, 3, 2, 2, (2, 1, 1, 3), "float"),
            (2, 1, 1, 0, 3, 2, 2, None, ""),
            (1, 2, 2, 2, 2, 3, 2, (2, 2), "float"),
        ]
        for number, (b, h, g, t, s, d, e, mask, kind) in enumerate(shapes):
            arrays: list[np.ndarray] = [random.normal(size=size) for size in ((b, h, t, d), (b, g, s, d), (b, g, s, e))]
            if mask is not None:
                m = random.normal(size=mask)
                arrays.append(m > -0.5 if kind == "bool" else m)
            for causal in (False, True):
                yield self.sample(random, arrays, {"causal": causal, "scale": d**-0.5 if number % 2 else 0.8})

    def sample(self, random: np.random.Generator, arrays: list[np.ndarray], attributes: Attributes) -> Sample:
        return arrays, attributes


class AttentionGradient(Attention):
    """dL/dresult g (B, H, T, E), dL/d(logarithm) h (B, H, T), q, k, v, the output of `attention`, an optional mask -> flat,
    see `gradient_shapes`. No gradient: `attention` is differentiated twice by its rules.
    """

    def infer(  # type: ignore[override]
        self, g: Shaped, h: Shaped, q: Shaped, k: Shaped, v: Shaped, y: Shaped, *mask: Shaped, causal: bool, scale: float
    ) -> Spec:  # fmt: skip
        check(self, q, k, v, *mask)
        return Spec((_count(gradient_shapes(q, k, v)),), q.dtype)

    def forward(  # type: ignore[override]
        self, g: np.ndarray, h: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, y: np.ndarray,
        *mask: np.ndarray, causal: bool, scale: float,
    ) -> np.ndarray:  # fmt: skip
        result = y[: g.size].reshape(result_shapes(q, v)[0]).transpose(0, 2, 1, 3)
        p = np.exp(_scores(q, k, mask, causal, scale) - y[g.size :].reshape(*h.shape, 1))
        dp = np.matmul(g, _for_heads(v, q).swapaxes(2, 3))
        ds = p * (dp - ((g * result).sum(3) - h)[..., None]) * p.dtype.type(scale)
        dq = np.matmul(ds, _for_heads(k, q))
        dk = _for_groups(np.matmul(ds.swapaxes(2, 3), q), k)
        dv = _for_groups(np.matmul(p.swapaxes(2, 3), g), v)
        return _pack(*(x.transpose(0, 2, 1, 3) for x in (dq, dk, dv)))

    def sample(self, random: np.random.Generator, arrays: list[np.ndarray], attributes: Attributes) -> Sample:
        q, k, v, *mask = arrays
        y = attention.forward(q, k, v, *mask, **attributes)
        shape = (*q.shape[:3], v.shape[3])
        return [random.normal(size=shape), random.normal(size=shape[:3]), q, k, v, y, *mask], attributes


def _count(shapes: Sequence[tuple[int, ...]]) -> int:
    """How many numbers `shapes` hold together."""
    return int(np.sum([math.prod(shape) for shape in shapes]))


def check(op: Op, q: Shaped, k: Shaped, v: Shaped, *mask: Shaped) -> None:
    """Raise ShapeError or DTypeError where query, key, value and mask do not belong together."""
    shapes = f"query {format_shape(q.shape)}, key {format_shape(k.shape)}, value {format_shape(v.shape)}"
    if not q.dtype == k.dtype == v.dtype or q.dtype.kind != "f":
        raise DTypeError(
            f"{op.name}: query {q.dtype}, key {k.dtype}, value {v.dtype}; expected one floating dtype; convert with .to()"
        )
    if {q.ndim, k.ndim, v.ndim} != {4}:
        raise op.fail(shapes, "expected (batch, heads, length, channels) each", "add the missing axes")
    if k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0]:
        raise op.fail(shapes, "expected equal batches, and keys and values of equal heads and length", "check the axes")
    if q.shape[3] != k.shape[3]:
        raise op.fail(shapes, f"expected {k.shape[3]} channels in the query, as in the key", "check the projections")
    if q.shape[1] != k.shape[1] and (k.shape[1] == 0 or q.shape[1] % k.shape[1]):
        raise op.fail(
            shapes, f"expected a multiple of the key's {k.shape[1]} heads in the query", "check the number of heads"
        )
    for m in mask:
        scores = (*q.shape[:3], k.shape[2])
        if m.dtype not in (np.bool_, q.dtype):
            raise DTypeError(f"{op.name}: mask {m.dtype}; expected bool, or {q.dtype} as the query; convert with .to()")
        aligned = zip(m.shape[::-1], scores[::-1], strict=False)
        if m.ndim > 4 or any(have not in (1, want) for have, want in aligned):
            raise op.fail(
                f"mask {format_shape(m.shape)}",
                f"expected what broadcasts to {format_shape(scores)}",
                "check the mask's axes",
            )


# ---- by differentiable operations ------------------------------------------------------------------------------------


def repeated(x: V, heads: int) -> V:
    """x (B, G, S, D) as (B, H, S, D): each head of a group reads the same."""
    batch, groups, *rest = x.shape
    if groups == heads:
        return x
    x = expand(reshape(x, shape=(batch, groups, 1, *rest)), shape=(batch, groups, heads // groups, *rest))
    return reshape(x, shape=(batch, heads, *rest))


def weights(q: V, k: V, *mask: V, causal: bool, scale: float) -> V:
    """The softmax of the scores (B, H, T, S), all zeros for a query that may attend to no key."""
    scores = matmul(q * scale, swap_last(repeated(k, q.shape[1])))
    for m in mask:
        scores = where(m, scores, -np.inf) if m.dtype == np.bool_ else scores + m
    if causal:
        scores = where(new_value(np.tri(*scores.shape[2:], dtype=bool)), scores, -np.inf)
    if not scores.size:
        return scores
    top = amax(scores.detach(), axes=(3,), keepdims=True)
    e = exp(scores - where(top == -np.inf, 0, top))
    total = sum_(e, axes=(3,), keepdims=True)
    return e / where(total == 0, 1, total)


def _gradients(g: Value, q: Value, k: Value, v: Value, *mask: Value, **attributes: Any) -> list[Value]:
    """dL/dq, dL/dk, dL/dv, and dL/dmask."""
    dy, dl = unpack(g, result_shapes(q, v))
    dy = heads_first(dy)
    p = weights(q, k, *mask, **attributes)
    dp = matmul(dy, swap_last(repeated(v, q.shape[1])))
    rows = sum_(p * dp, axes=(3,), keepdims=True) - reshape(dl, shape=(*dl.shape, 1))
    ds = p * (dp - rows)
    dq = matmul(ds, repeated(k, q.shape[1])) * attributes["scale"]
    dk = _summed(matmul(swap_last(ds), q), k.shape) * attributes["scale"]
    dv = _summed(matmul(swap_last(p), dy), v.shape)
    return [dq, dk, dv, *(sum_to(ds, m.shape) for m in mask if m.dtype == q.dtype)]


def _summed(x: Value, shape: tuple[int, ...]) -> Value:
    """x (B, H, S, D) summed to (B, G, S, D): the transpose of `repeated`."""
    if x.shape == shape:
        return x
    batch, groups, *rest = shape
    return sum_(reshape(x, shape=(batch, groups, x.shape[1] // groups, *rest)), axes=(2,), keepdims=False)


def _rule(number: int) -> Rule:
    return lambda g, y, *inputs, **attributes: _gradients(g, *inputs, **attributes)[number]


attention: Op = Attention("attention", [_rule(number) for number in range(4)])
attention_gradient: Op = AttentionGradient("attention_gradient")
