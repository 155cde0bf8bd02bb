"""A broad table of calls, each the same text run by pellucid and by PyTorch: values, dtypes, shapes and gradients agree.

On demand, with an interpreter that has PyTorch: `python -m pytest -m torch tests/test_against_torch.py`.
In a call `T` is the library, `F` its functional module, `a b c` float inputs, `i` int64, `m` bool.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import pellucid as P

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "block": {"a": (3, 4), "b": (3, 4), "c": (4,)},
    "stretched": {"a": (2, 1, 4), "b": (3, 1), "c": (1, 4)},
    "number": {"a": (), "b": (2, 3), "c": ()},
    "empty": {"a": (0, 3), "b": (1, 3), "c": (3,)},
}

# Calls for every set of shapes.
ELEMENTWISE = """
a + b ; a - b ; a * b ; a / (b.abs() + 1) ; a * 2 + 1 ; 1 - a ; 2 / (a.abs() + 1) ; -a ; a ** 2 ; a ** 3
a.abs() ** 0.5 ; (a.abs() + 0.1) ** b ; 2 ** a ; (a.abs() + 1) ** -1 ; T.maximum(a, b) ; T.minimum(a, b) ; a.abs()
a.exp() ; a.expm1() ; (a.abs() + 0.1).log() ; (a.abs() + 0.1).log2() ; (a.abs() + 0.1).log10() ; a.abs().log1p()
(a.abs() + 0.1).sqrt() ; (a.abs() + 0.1).rsqrt() ; a.square() ; (a + 9).reciprocal() ; a.sin() ; a.cos() ; a.tanh()
a.sigmoid() ; a.relu() ; a.erf() ; a.sign() ; a.floor() ; a.ceil() ; a.trunc() ; a.round() ; a // (b.abs() + 0.5)
a % 0.7 ; T.remainder(a, b.abs() + 0.5) ; a.clamp(-0.5, 0.5) ; a.clamp(min=0) ; a.clamp(max=0.1) ; a.clip(-1, 1)
T.where(a > b, a, b) ; T.where(a > 0, a, 0.0) ; a.masked_fill(a > 0.3, 7.0) ; a.lerp(b, 0.3) ; a.isnan() ; a.isinf()
a.isfinite() ; a == b ; a != b ; a < b ; a <= b ; a > b ; a >= b ; a.logical_not() ; T.logical_and(a > 0, b > 0)
T.logical_or(a > 0, b > 0) ; (a > 0) ^ (b > 0) ; ~(a > 0) ; a.add(b, alpha=3) ; a.sub(b, alpha=2) ; T.mul(a, b)
F.relu(a) ; F.gelu(a) ; F.gelu(a, approximate="tanh") ; F.silu(a) ; F.elu(a) ; F.elu(a, 0.7) ; F.leaky_relu(a)
F.leaky_relu(a, 0.2) ; F.softplus(a) ; F.softplus(a, 3.0, 1.0) ; F.sigmoid(a) ; F.tanh(a) ; F.logsigmoid(a)
F.hardtanh(a) ; F.softmax(a, -1) ; F.log_softmax(a, -1) ; a.softmax(-1) ; a.sum() ; a.sum(-1)
a.sum(-1, keepdim=True) ; a.mean() ; a.mean(-1) ; a.cumsum(-1) ; a.logsumexp(-1) ; a.norm() ; (a * b).sum()
a.prod(-1) ; a.prod() ; a.reshape(-1) if a.numel() else a ; a.flatten() ; a.unsqueeze(0) ; a.unsqueeze(-1)
a.squeeze() ; a.clone() ; a.detach() ; T.stack([a, a]) ; T.zeros_like(a) ; T.ones_like(a) ; T.full_like(a, 3)
a.nonzero() ; a.sort(-1).values ; a.sort(-1, descending=True).indices ; a.argsort(-1) ; a.any() ; a.all()
(a > 0).sum() ; (a > 0).any(-1) ; a.var(-1, unbiased=False) ; a.numel() ; a.dim()
T.broadcast_to(a, b.shape) if a.ndim == 0 else a ; a.expand(5, *a.shape) ; T.allclose(a, a) ; T.equal(a, b) ; a.long()
a.double() ; a.int() ; a.bool() ; a.to(T.float64)
"""

# Calls for the block alone: a b (3, 4), c (4,).
BLOCK = """
a @ b.T ; a @ c ; c @ c ; c @ b.T ; T.matmul(a, c) ; a.mm(b.t()) ; c.dot(c) ; a.mv(c)
T.bmm(a.reshape(2, 2, 3), b.reshape(2, 3, 2)) ; a.reshape(2, 3, 2) @ c[:2] ; c[:3] @ a ; a.unsqueeze(1) @ b.T
F.linear(a, b, c[:3]) ; F.linear(c, b) ; a.var() ; a.std() ; a.std(0) ; a.var(1, keepdim=True)
a.var(0, correction=0) ; a.sum((0, 1)) ; a.mean((0,), keepdim=True) ; a.amax() ; a.amax(0) ; a.amin(1, keepdim=True)
a.amax((0, 1)) ; a.max() ; a.min() ; a.max(0).values ; a.max(1, keepdim=True).indices ; a.min(-1)[0] ; a.argmax()
a.argmax(1) ; a.argmin(0, keepdim=True) ; a.argmax(keepdim=True) ; a.any(0) ; a.all(1, keepdim=True)
a.prod(0, keepdim=True) ; a.cumsum(0) ; a.logsumexp(0) ; a.logsumexp((0, 1)) ; a.norm(1) ; a.norm(3, 0)
a.norm(2, 1, True) ; a.norm(float("inf")) ; a.reshape(4, 3) ; a.view(2, -1) ; a.view(12) ; a.T ; a.mT ; a.t()
a.transpose(0, 1) ; a.permute(1, 0) ; a.reshape(1, 3, 1, 4).permute(3, 0, 1, 2) ; a.reshape(1, 3, 4).squeeze(0)
a.reshape(1, 3, 4).squeeze(1) ; a.reshape(1, 3, 1, 4).squeeze((0, 2)) ; a.reshape(3, 2, 2).movedim(0, 2)
a.reshape(3, 2, 2).flatten(1) ; a.reshape(3, 2, 2).flatten(0, 1) ; a.unflatten(1, (2, -1)) ; a.unflatten(-1, (2, 2))
a.swapaxes(0, 1) ; a.expand(2, 3, 4) ; c.expand(3, -1) ; a.expand_as(b) ; c.broadcast_to((3, 4)) ; a.repeat(2, 1)
a.repeat(2, 1, 3) ; a.repeat_interleave(2, 0) ; a.repeat_interleave(3) ; a.repeat_interleave(2, dim=1) ; T.cat([a, b])
T.cat([a, b], 1) ; T.cat((a, b, a), dim=-1) ; T.stack([a, b], 1) ; T.stack([a, b], dim=-1) ; a.narrow(1, 1, 2)
a.split(2)[1] ; a.split([1, 3], 1)[1] ; a.chunk(2)[1] ; a.chunk(3, dim=1)[0] ; a.unbind(1)[2] ; a.select(1, 2)
a.flip(0) ; a.flip((0, 1)) ; a.flip([1]) ; a.roll(1, 0) ; a.roll(-1, 1) ; a.roll(5, 1) ; a.tril() ; a.triu(1)
a.tril(-1) ; T.triu(a, diagonal=1) ; a.gather(1, i.unsqueeze(1)) ; a.gather(0, T.tensor([[0, 2, 1, 1]]))
a.scatter_add(1, i.unsqueeze(1), b) ; a.index_select(0, i) ; a.index_select(1, i) ; a.masked_select(a > 0)
a.topk(2).values ; a.topk(2, 0, largest=False).indices ; a.sort(0).values ; a.sort(1, descending=True).values
a.unique() ; a[0] ; a[-1, 2] ; a[:, 1] ; a[1:] ; a[:, ::2] ; a[..., 0] ; a[None] ; a[:, None, 1:3] ; a[i] ; a[i, i]
a[:, i] ; a[i][:, i] ; a[a > 0] ; a[m] ; a[m, 1] ; a[:, [0, 3]] ; a[[0, 2], [1, 3]] ; a[i, 1:3] ; a[i.unsqueeze(1), i]
a[T.tensor(1)] ; a[0, ...] ; a[-2:, -1] ; a.reshape(3, 2, 2)[:, i % 2] ; a.reshape(3, 2, 2)[0, :, i % 2]
a.reshape(3, 2, 2)[:, 0, i % 2] ; a.reshape(3, 2, 2)[i, :, i % 2] ; a.reshape(3, 2, 2)[m] ; a[m][:, i] ; a[1:1]
F.layer_norm(a, (4,)) ; F.layer_norm(a, (4,), c, c, 1e-3) ; F.layer_norm(a, (3, 4)) ; F.normalize(a)
F.normalize(a, dim=0) ; F.normalize(a, p=1.0, dim=-1) ; F.cosine_similarity(a, b) ; F.cosine_similarity(a, b, dim=0)
F.batch_norm(a, None, None, training=True) ; F.batch_norm(a, T.zeros(4), T.ones(4), c, c)
F.batch_norm(a.reshape(3, 2, 2), None, None, training=True)
F.batch_norm(a.reshape(3, 2, 2, 1), T.zeros(2), T.ones(2), c[:2], c[2:], True) ; F.softmax(a, 0) ; F.softmax(a, dim=1)
F.log_softmax(a, 0) ; F.embedding(i, a) ; F.embedding(i.reshape(1, -1), a, padding_idx=0) ; F.one_hot(i, 5)
F.one_hot(i) ; F.pad(a, (1, 2)) ; F.pad(a, (1, 0, 0, 2), value=3.0) ; F.dropout(a, 0.5, training=False)
F.mse_loss(a, b) ; F.mse_loss(a, b, reduction="sum") ; F.mse_loss(a, b, reduction="none") ; F.l1_loss(a, b)
F.huber_loss(a, b) ; F.huber_loss(a, b, delta=0.3) ; F.smooth_l1_loss(a, b, beta=0.4) ; F.smooth_l1_loss(a, b, beta=0)
F.cross_entropy(a, i) ; F.cross_entropy(a, i, reduction="none") ; F.cross_entropy(a, i, reduction="sum")
F.cross_entropy(a, i, c.abs()) ; F.cross_entropy(a, i, label_smoothing=0.2)
F.cross_entropy(a, i, c.abs(), label_smoothing=0.2) ; F.cross_entropy(a, i, ignore_index=2)
F.cross_entropy(a, i, c.abs(), ignore_index=2, label_smoothing=0.3)
F.cross_entropy(a, i, ignore_index=0, reduction="none") ; F.cross_entropy(c, i[0]) ; F.cross_entropy(a, b.softmax(1))
F.cross_entropy(a, b.softmax(1), c.abs(), label_smoothing=0.1) ; F.cross_entropy(a, b.softmax(1), reduction="none")
F.cross_entropy(a.reshape(3, 2, 2), (i % 2).unsqueeze(1).expand(3, 2))
F.cross_entropy(a.reshape(3, 2, 2), (i % 2).unsqueeze(1).expand(3, 2), c[:2].abs(), reduction="mean")
F.nll_loss(a.log_softmax(1), i) ; F.nll_loss(a, i, c, reduction="sum") ; F.nll_loss(a, i, ignore_index=2)
F.binary_cross_entropy_with_logits(a, b.sigmoid())
F.binary_cross_entropy_with_logits(a, b.sigmoid(), pos_weight=c.abs())
F.binary_cross_entropy_with_logits(a, b.sigmoid(), weight=c.abs(), reduction="sum")
F.binary_cross_entropy(a.sigmoid(), b.sigmoid())
F.binary_cross_entropy(a.sigmoid(), (b > 0).type_as(b), c.abs(), reduction="none")
F.kl_div(a.log_softmax(1), b.softmax(1)) ; F.kl_div(a.log_softmax(1), b.softmax(1), reduction="batchmean")
F.kl_div(a.log_softmax(1), b.log_softmax(1), reduction="sum", log_target=True) ; T.where(m.unsqueeze(1), a, b)
T.relu(a) ; T.softmax(a, 1) ; T.exp(a) ; T.mean(a, 0) ; T.sum(a, dim=1) ; T.max(a, 1)[1] ; T.max(a, b)
T.argmax(a, dim=1) ; T.transpose(a, 0, 1) ; T.flatten(a) ; T.abs(a) ; T.clamp(a, -1, 1) ; T.sqrt(a.abs() + 1)
T.pow(a, 2) ; T.unsqueeze(a, 0) ; a.new_zeros(2, 3) ; a.new_ones((2,)) ; a.type_as(b) ; a.reshape_as(b) ; a.view_as(b)
a.float() ; a.contiguous() ; len(a) ; a.size(0) ; tuple(a.size()) ; a.element_size() ; a.is_floating_point()
a.tolist()
"""

# Calls that make their own inputs; `arr` is a fixed (2, 4, 6, 6) block, `w` (6, 2, 3, 3), `v` (4, 3, 2, 2).
IMAGES = """
F.conv2d(arr, v.transpose(0, 1)[:, :, :1, :1].expand(3, 4, 2, 2)) ; F.conv2d(arr, w, groups=2)
F.conv2d(arr, w, None, 2, 1, 1, 2) ; F.conv2d(arr, w, None, (2, 1), (0, 2), (1, 2), 2)
F.conv2d(arr, w, w[:, 0, 0, 0], padding=1, groups=2) ; F.conv2d(arr, w[:4, :1], padding=1, groups=4)
F.conv1d(arr[:, :, 0], w[:, :, 0], groups=2) ; F.conv1d(arr[:, :, 0], w[:, :, 0], w[:, 0, 0, 0], 2, 2, 1, 2)
F.conv1d(arr[:, :, 0], w[:, :, 0], dilation=2, groups=2) ; F.conv_transpose2d(arr, v)
F.conv_transpose2d(arr, v, None, 2, 1, 1) ; F.conv_transpose2d(arr, v, v[0, :, 0, 0], 3, 0, 2)
F.conv_transpose2d(arr, v, None, 2, 1, 0, 2) ; F.conv_transpose2d(arr, v, stride=2, dilation=2, padding=1)
F.max_pool2d(arr, 2) ; F.max_pool2d(arr, 3, 1) ; F.max_pool2d(arr, (2, 3), (2, 1), (1, 1))
F.max_pool2d(arr, 3, 2, 1) ; F.max_pool2d(arr, 2, dilation=2) ; F.avg_pool2d(arr, 2) ; F.avg_pool2d(arr, 3, 2, 1)
F.avg_pool2d(arr, (1, 2)) ; F.batch_norm(arr, None, None, training=True) ; F.layer_norm(arr, (6, 6))
arr.mean((2, 3)) ; arr.flatten(1) @ arr.flatten(1).T ; arr @ arr.mT ; arr.amax((2, 3))
arr.permute(0, 2, 3, 1).reshape(-1, 4) ; F.pad(arr, (1, 1, 2, 2)) ; arr[:, 1:3, ::2, 3]
arr[T.tensor([0, 1]), T.tensor([1, 3])] ; arr[:, T.tensor([0, 1]), :, T.tensor([1, 3])]
arr[..., T.tensor([[0, 1], [5, 2]])] ; arr[arr > 0] ; arr[0][arr[0, 0, 0] > 0] if False else arr[0]
T.cat([arr, arr[:, :1]], 1) ; arr.var((0, 2, 3), unbiased=False) ; arr.reshape(2, 2, 2, 6, 6).mean(2) ; arr.std(1)
arr.cumsum(2) ; arr.sum((1, 3), keepdim=True) ; arr.max(1).values ; arr.topk(3, 1).values ; arr.norm(dim=(2, 3))
"""

# Calls on whole numbers and bools: i (3,) int64, j (3,) int32, u (3,) uint8, m (3,) bool, h 0-d int64.
INTEGERS = """
i + i ; i * 2 ; i - j ; i + u ; j * u ; u + m ; m + m ; i / 2 ; i // 2 ; i % 2 ; -i ; i ** 2 ; i + 0.5 ; j + 1 ; u + 1
u * 1.5 ; m * 2 ; m * 1.5 ; i / j ; i == j ; i < 2 ; i > 0.5 ; m == m ; i.sum() ; j.sum() ; u.sum() ; m.sum()
i.prod() ; m.sum(0) ; i.max() ; j.max(0).values ; i.min() ; i.argmax() ; i.float().mean() ; i.cumsum(0) ; m.cumsum(0)
i.sort().values ; i.unique() ; i & 1 ; i | 4 ; i ^ j.long() ; ~i ; ~m ; m & m ; m | ~m ; i.exp() ; j.sqrt()
u.log1p() ; i.sin() ; i.sigmoid() ; i.tanh() ; i.abs() ; i.sign() ; u.float() ; h + j ; h * u ; h + 1.5 ; j / h
m + h ; T.where(m, i, j.long()) ; T.where(m, 1.0, 0.0) ; T.where(m, i, 0) ; T.cat([i, i]) ; T.stack([m, m])
i.clamp(1, 2) ; i.clamp(min=1) ; T.maximum(i, j) ; i.any() ; i.all() ; m.any() ; m.all() ; i[m] ; i[i % 3] ; m[m]
i.bool() ; i.to(T.float32) ; i.double() ; i.reshape(3, 1) @ i.reshape(1, 3) ; i.dot(i) ; T.arange(5)
T.arange(2, 9, 3) ; T.arange(0, 1, 0.25) ; T.arange(5, 0, -2) ; T.arange(3.0) ; T.linspace(0, 1, 5) ; T.eye(3)
T.eye(2, 3) ; T.zeros(2, 3) ; T.ones((2,)) ; T.full((2, 2), 7) ; T.full((2,), 1.5) ; T.full((2,), True) ; T.tensor(3)
T.tensor(3.5) ; T.tensor(True) ; T.tensor([1, 2]) ; T.tensor([1.0, 2]) ; T.tensor([[True], [False]]) ; T.tensor([])
T.tensor([1, 2], dtype=T.float32) ; T.tensor([1.7, -1.7], dtype=T.int64) ; T.zeros(2, dtype=T.int64) ; T.zeros(0, 3)
T.zeros(2, dtype=T.bool) ; T.ones_like(i) ; T.zeros_like(i, dtype=T.float32) ; i.tril() if False else i ; i.flip(0)
i.repeat(2) ; i.expand(2, 3) ; F.one_hot(i) ; i.nonzero() ; i.gather(0, i % 3) ; i.float() ; i.logical_not()
i.round() ; i.floor() ; i.isnan() ; i.isinf() ; i.isfinite() ; T.tensor([1.0]) + T.tensor([1.0], dtype=T.float64)
T.tensor([1.0]) * T.tensor(2.0, dtype=T.float64) ; T.tensor([1]) * T.tensor(2.0, dtype=T.float64)
T.tensor(1) + T.tensor([1.0]) ; T.tensor([True]) + T.tensor(1.5)
T.tensor([2], dtype=T.int32) + T.tensor([1], dtype=T.int64) ; 5 % i.clamp(min=1) ; 7 // i.clamp(min=1) ; 2 - i
2 ** i ; 3 / i.clamp(min=1) ; 1 + m ; i.max(0).indices ; i.eq(2) ; i.ne(2) ; i.lt(j) ; i.ge(2) ; m.float() ; m.long()
m.int() ; (i > 1).float().mean() ; m.logical_or(m) ; u - 1 ; u.long() - 5 ; u * 200 ; i.float().max(0).values
h.max() ; h.sum(0) ; h.unsqueeze(0) ; h.reshape(1, 1) ; h.float().softmax(0) ; h.float().max(0).values
h.float().max(0).indices ; h.item() ; h.tolist() ; h.float().sort().values ; h.float().cumsum(0) ; h.argmax()
h.float().var(unbiased=False)
"""


def calls(table: str) -> list[str]:
    return [call.strip() for line in table.strip().splitlines() for call in line.split(";") if call.strip()]


def number(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def plain(result: Any) -> Any:
    """A result as something comparable: (dtype, array) for a Tensor of either library."""
    if isinstance(result, torch.Tensor):
        return str(result.dtype).removeprefix("torch."), result.detach().numpy()
    if isinstance(result, P.Tensor):
        return str(result.dtype), result.detach().numpy()
    return type(result), result


def run(
    library: Any, functional: Any, call: str, arrays: dict[str, np.ndarray], track: bool = True
) -> tuple[Any, dict[str, Any]]:
    """The call's result, and the gradient of its weighted sum for every float input."""
    values = {}
    for name, array in arrays.items():
        values[name] = library.tensor(array)
        if track and array.dtype.kind == "f":
            values[name].requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = eval(call, {"T": library, "F": functional, **values})
        if getattr(result, "requires_grad", False) and result.numel():
            weights = (
                np.random.default_rng(11)
                .uniform(0.5, 1.5, tuple(result.shape))
                .astype(str(result.dtype).removeprefix("torch."))
            )
            (result * library.tensor(weights)).sum().backward()
    return result, {name: v.grad for name, v in values.items() if v.grad is not None}


def compare(call: str, arrays: dict[str, np.ndarray], rtol: float, atol: float) -> None:
    track = True
    try:
        theirs, their_gradients = run(torch, torch.nn.functional, call, arrays)
    except (RuntimeError, IndexError, TypeError) as error:
        track = "derivative" in str(error) or "not differentiable" in str(error)
        if not track:
            with pytest.raises(P.errors.PellucidError):
                run(P, P.functional, call, arrays)
            return  # PyTorch refuses it, and so do we
        track = False  # PyTorch has no gradient for it: compare values
        theirs, their_gradients = run(torch, torch.nn.functional, call, arrays, track)
    ours, our_gradients = run(P, P.functional, call, arrays, track)
    (kind, value), (their_kind, their_value) = plain(ours), plain(theirs)
    assert kind == their_kind
    if isinstance(value, np.ndarray):
        assert value.shape == their_value.shape
        np.testing.assert_allclose(value, their_value, rtol=rtol, atol=atol)
    else:
        assert value == (their_value if not isinstance(their_value, list) else pytest.approx(np.array(their_value)))
    zero = {
        n for n, g in their_gradients.items() if not bool((g != 0).any())
    }  # PyTorch may give zeros where we give None
    assert set(their_gradients) - zero <= set(our_gradients) <= set(their_gradients) | zero
    for name, gradient in our_gradients.items():
        assert tuple(gradient.shape) == tuple(their_gradients[name].shape) and gradient.dtype == arrays[name].dtype
        np.testing.assert_allclose(gradient.numpy(), their_gradients[name].numpy(), rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("call", calls(ELEMENTWISE))
def test_elementwise_and_whole(call: str, shapes: str) -> None:
    arrays = {name: number(ord(name), shape) for name, shape in SHAPES[shapes].items()}
    compare(call, arrays, 1e-9, 1e-12)


@pytest.mark.parametrize("kind", ["float64", "float32"])
@pytest.mark.parametrize("call", calls(BLOCK))
def test_block(call: str, kind: str) -> None:
    arrays = {name: number(ord(name), shape).astype(kind) for name, shape in SHAPES["block"].items()}
    arrays |= {"i": np.array([2, 0, 2]), "m": np.array([True, False, True])}
    if "T.zeros" in call and kind == "float64":
        pytest.skip("mixes float32 statistics with float64 data, which PyTorch refuses")
    compare(call, arrays, *((1e-9, 1e-11) if kind == "float64" else (2e-4, 2e-5)))


@pytest.mark.parametrize("call", calls(IMAGES))
def test_images(call: str) -> None:
    arrays = {"arr": number(1, (2, 4, 6, 6)), "w": number(2, (6, 2, 3, 3)), "v": number(3, (4, 3, 2, 2))}
    compare(call, arrays, 1e-9, 1e-11)


@pytest.mark.parametrize("call", calls(INTEGERS))
def test_whole_numbers_and_promotion(call: str) -> None:
    arrays = {
        "i": np.array([3, 0, 1]), "j": np.array([1, 2, 5], np.int32), "u": np.array([1, 2, 250], np.uint8),
        "m": np.array([True, False, True]), "h": np.array(2),
    }  # fmt: skip
    compare(call, arrays, 1e-6, 1e-7)


# ---- promotion, in full ----------------------------------------------------------------------------------------------

KINDS = ("float32", "float64", "int64", "int32", "uint8", "bool")
OPERANDS = [(kind, form) for kind in KINDS for form in ("vector", "scalar")] + [
    (k, "number") for k in ("bool", "int", "float")
]


def operand_of(library: Any, kind: str, form: str) -> Any:
    if form == "number":
        return {"bool": True, "int": 1, "float": 1.0}[kind]
    return library.ones((2,) if form == "vector" else (), dtype=getattr(library, kind))


@pytest.mark.parametrize("right", OPERANDS, ids="-".join)
@pytest.mark.parametrize("left", [o for o in OPERANDS if o[1] != "number"], ids="-".join)
def test_result_dtypes(left: tuple[str, str], right: tuple[str, str]) -> None:
    for sign in ("+", "*", "/", "==", "swap +"):
        call = "y + x" if sign == "swap +" else f"x {sign} y"
        ours = eval(call, {"x": operand_of(P, *left), "y": operand_of(P, *right)})
        theirs = eval(call, {"x": operand_of(torch, *left), "y": operand_of(torch, *right)})
        assert plain(ours)[0] == plain(theirs)[0], sign


# ---- extremes --------------------------------------------------------------------------------------------------------

EXTREMES = np.array([-np.inf, -1e30, -1e4, -100.0, -1.0, -0.0, 0.0, 1.0, 100.0, 1e4, 1e30, np.inf, np.nan], np.float32)
EXTREME_CALLS = """
a.exp() ; a.log() ; a.sigmoid() ; a.tanh() ; a.relu() ; a.sqrt() ; a.abs() ; a.erf() ; a.expm1() ; a.log1p()
a.round() ; a.clamp(-1, 1) ; a.isnan() ; a.isinf() ; a.isfinite() ; a.maximum(a * 0) ; a.sort().values[:-1]
F.softplus(a) ; F.logsigmoid(a) ; F.silu(a) ; F.elu(a) ; F.leaky_relu(a) ; F.gelu(a[:-2]) ; a.amax() ; a.max(0).values
a[1:11].softmax(0) ; a[1:11].log_softmax(0) ; a[:11].softmax(0) ; a[:11].logsumexp(0) ; a.logsumexp(0)
a[:1].logsumexp(0) ; a[10:12].logsumexp(0) ; F.binary_cross_entropy_with_logits(a, a * 0 + 1, reduction="none")[1:11]
F.cross_entropy(a[1:11].reshape(2, 5), T.tensor([0, 4]), reduction="none") ; F.mse_loss(a, a * 0, reduction="none")
F.huber_loss(a[1:11], a[1:11] * 0, reduction="none") ; F.normalize(a[5:7].reshape(1, 2)) ; a // 3 ; a % 3 ; a ** 2
a ** 0.5 ; a.floor() ; a.sum() ; a.cumsum(0) ; a[1:11].var() ; a.argmax() ; a.argmin() ; a.reciprocal() ; a.rsqrt()
a.bool() ; a == a ; a > 0 ; T.where(a > 0, a, 0.0) ; a.square()
"""


@pytest.mark.parametrize("call", calls(EXTREME_CALLS))
def test_extreme_values(call: str) -> None:
    ours, _ = run(P, P.functional, call, {"a": EXTREMES}, track=False)
    theirs, _ = run(torch, torch.nn.functional, call, {"a": EXTREMES}, track=False)
    np.testing.assert_allclose(plain(ours)[1], plain(theirs)[1], rtol=2e-6, atol=1e-6)


# ---- setting ---------------------------------------------------------------------------------------------------------

SETTING = """
x[0] = 7 ; x[:, 1] = v ; x[1:] = 0.5 ; x[i] = 2 ; x[x > 0] = -1 ; x[i, i] = 9 ; x[..., -1] = 3 ; x[:, [0, 2]] = 4
x[m] = v2 ; x[1, 2] = v[0] ; x[:, ::2] = 1 ; x += 1 ; x -= v2 ; x /= 2 ; x.add_(1) ; x.mul_(3) ; x.sub_(v2, alpha=2)
x.div_(2) ; x.copy_(v.unsqueeze(1)) ; x.clamp_(-1, 1) ; x.clamp_(min=0) ; x.relu_() ; x[m, 1] = 0 ; x[:, i] = 8
x[1] += 1 ; x[i[:2], :2] = 6
"""


@pytest.mark.parametrize("statement", calls(SETTING))
def test_setting_and_its_gradient(statement: str) -> None:
    found = []
    for library in (P, torch):
        leaf = library.tensor(number(1, (3, 4))).requires_grad_()
        v, v2 = library.tensor(number(2, (3,))).requires_grad_(), library.tensor(number(3, (4,)))
        x = leaf * 1.5
        names = {"x": x, "v": v, "v2": v2, "i": library.tensor([2, 0, 1]), "m": library.tensor([True, False, True])}
        exec(statement, names)
        x = names["x"]
        (x * x).sum().backward()
        gradients = [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in (leaf, v)]
        found.append([x.detach().numpy(), *gradients])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_second_order_agrees() -> None:
    found = []
    for library, functional in ((P, P.functional), (torch, torch.nn.functional)):
        x = library.tensor(number(1, (2, 2, 5, 5))).requires_grad_()
        w = library.tensor(number(2, (3, 2, 3, 3))).requires_grad_()
        hidden = functional.max_pool2d(functional.conv2d(x, w, padding=1).tanh(), 2)
        loss = functional.cross_entropy(hidden.flatten(1), library.tensor([3, 7])) + functional.gelu(hidden).mean()
        gradients = library.autograd.grad(loss, [x, w], create_graph=True)
        penalty = sum((g * g).sum() for g in gradients)
        found.append([g.numpy() for g in library.autograd.grad(penalty, [x, w])])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-12)


def test_running_statistics_agree() -> None:
    found = []
    for library, functional in ((P, P.functional), (torch, torch.nn.functional)):
        mean, variance = library.zeros(3), library.ones(3)
        for seed in range(3):
            functional.batch_norm(
                library.tensor(number(seed, (5, 3, 2)).astype(np.float32)), mean, variance, training=True, momentum=0.2
            )
        found.append([mean.numpy(), variance.numpy()])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
