"""Attention, the Transformer's layers and spectral normalisation beside PyTorch's: keys, starts, values, gradients, masks.

On demand, with an interpreter that has PyTorch: `python -m pytest -m torch tests/nn`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid.tensor import Tensor

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

random = np.random.default_rng(0)
B, T, S, E, H = 3, 5, 4, 8, 2
TARGET = random.normal(size=(T, B, E)).astype(np.float32)
SOURCE = random.normal(size=(S, B, E)).astype(np.float32)
NARROW, WIDE = (random.normal(size=(S, B, n)).astype(np.float32) for n in (6, 10))
PADDING = np.array([[False] * S, [False] * (S - 1) + [True], [True, False, False, True]])
OWN_PADDING = np.array([[False] * T, [False] * (T - 1) + [True], [False, False, False, True, True]])
CAUSAL = np.triu(np.ones((T, T), bool), 1)
BIAS = random.normal(size=(T, S)).astype(np.float32)
EACH = random.normal(size=(B * H, T, S)).astype(np.float32)
TRUTHS = (random.random(size=(B * H, T, S)) < 0.3) & (np.arange(S) > 0)  # every query may look at the first
FLOAT_CAUSAL = np.where(CAUSAL, -np.inf, 0).astype(np.float32)


def call(layer: Any, library: Any, arrays: tuple[np.ndarray, ...], options: dict[str, Any]) -> list[Any]:
    """Outputs, then gradients of the inputs and Parameters for a fixed weighting of the outputs."""
    inputs: dict[int, Any] = {}
    for a in arrays:  # the same array is the same Tensor
        inputs.setdefault(id(a), library.tensor(a.copy()).requires_grad_())
    options = {k: library.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    outputs = layer(*(inputs[id(a)] for a in arrays), **options)
    outputs = [y for y in (outputs if isinstance(outputs, tuple) else (outputs,)) if y is not None]
    total = 0
    for seed, y in enumerate(outputs):
        weights = np.random.default_rng(seed).uniform(0.5, 1.5, tuple(y.shape)).astype(np.float32)
        total = total + (y * library.tensor(weights)).sum()
    total.backward()
    gradients = [p.grad for p in layer.parameters()]
    return [np.asarray(x.detach()) for x in (*outputs, *(x.grad for x in inputs.values()), *gradients)]


def compare(text: str, arrays: tuple[np.ndarray, ...], options: dict[str, Any]) -> None:
    P.manual_seed(0)
    ours, theirs = (eval(text, {"nn": library.nn, "F": library.nn.functional}) for library in (P, torch))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    for p in ours.parameters():  # biases start at 0, where a wrong one would not be seen
        p.assign(p + P.randn(*p.shape) * 0.1)
    theirs.load_state_dict({k: torch.from_numpy(np.array(v.array)) for k, v in ours.state_dict().items()})
    for found, expected in zip(call(ours, P, arrays, options), call(theirs, torch, arrays, options), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
    half = {k: P.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    given = [P.tensor(a) for a in arrays]
    run = lambda *x: ours.eval()(*x, **half)
    compiled, eager = P.compile(run)(*given), run(*given)
    for a, b in zip(*((y if isinstance(y, tuple) else (y,)) for y in (compiled, eager)), strict=True):
        assert (a is None and b is None) or np.allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-5)


first = lambda *arrays: tuple(np.ascontiguousarray(a.swapaxes(0, 1)) for a in arrays)
CROSS, SELF = (TARGET, SOURCE, SOURCE), (TARGET, TARGET, TARGET)
OWN = first(TARGET)[0]
ATTENTION: list[tuple[str, tuple[np.ndarray, ...], dict[str, Any]]] = [
    ("nn.MultiheadAttention(8, 2)", CROSS, {}),
    ("nn.MultiheadAttention(8, 2)", SELF, {}),
    ("nn.MultiheadAttention(8, 1, 0.0, False)", SELF, {"need_weights": False}),
    ("nn.MultiheadAttention(8, 4)", CROSS, {"average_attn_weights": False}),
    ("nn.MultiheadAttention(8, 2)", CROSS, {"key_padding_mask": PADDING}),
    ("nn.MultiheadAttention(8, 2)", CROSS, {"key_padding_mask": PADDING, "attn_mask": EACH}),
    ("nn.MultiheadAttention(8, 2)", CROSS, {"attn_mask": BIAS, "need_weights": False}),
    ("nn.MultiheadAttention(8, 2)", CROSS, {"attn_mask": BIAS > 1}),
    ("nn.MultiheadAttention(8, 2)", SELF, {"attn_mask": CAUSAL, "key_padding_mask": OWN_PADDING}),
    ("nn.MultiheadAttention(8, 2)", SELF, {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False}),
    ("nn.MultiheadAttention(8, 2, kdim=6, vdim=10)", (TARGET, NARROW, WIDE), {"average_attn_weights": False}),
    ("nn.MultiheadAttention(8, 2, bias=False, vdim=10)", (TARGET, SOURCE, WIDE), {}),
    ("nn.MultiheadAttention(8, 2, batch_first=True)", (OWN, OWN, OWN), {"attn_mask": FLOAT_CAUSAL}),
    ("nn.MultiheadAttention(8, 2, batch_first=True)", first(TARGET, SOURCE, SOURCE * 2), {"key_padding_mask": PADDING}),
    ("nn.MultiheadAttention(8, 2)", (TARGET[:, 0].copy(), SOURCE[:, 0].copy(), SOURCE[:, 1].copy()), {"attn_mask": BIAS}),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(ATTENTION)))
def test_multihead_attention(case: int) -> None:
    compare(*ATTENTION[case])


@pytest.mark.parametrize(
    "text", [text for text, _, _ in ATTENTION if "dim=" in text or "bias" in text] + ["nn.MultiheadAttention(8, 2)"]
)
def test_attention_starts_from_the_same_distribution(text: str) -> None:
    text = text.replace("8,", "80,").replace("=6", "=60").replace("=10", "=100")
    P.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = (eval(text, {"nn": library.nn}) for library in (P, torch))
    for (name, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        p, q = p.detach().numpy(), q.detach().numpy()
        assert abs(p.std() - q.std()) <= 0.05 * q.std() and abs(abs(p).max() - abs(q).max()) <= 0.1 * abs(q).max(), name


LAYERS: list[tuple[str, tuple[np.ndarray, ...], dict[str, Any]]] = [
    ("nn.TransformerEncoderLayer(8, 2, 16, 0.0)", (TARGET,), {}),
    ("nn.TransformerEncoderLayer(8, 2, 16, 0.0, 'gelu', 1e-3, True, True)", (OWN,), {"src_mask": CAUSAL}),
    ("nn.TransformerEncoderLayer(8, 4, 16, 0.0, F.silu, bias=False)", (TARGET,), {"src_key_padding_mask": OWN_PADDING}),
    ("nn.TransformerEncoderLayer(8, 2, 16, 0.0)", (TARGET[:, 0].copy(),), {"src_mask": FLOAT_CAUSAL, "is_causal": True}),
    ("nn.TransformerDecoderLayer(8, 2, 16, 0.0)", (TARGET, SOURCE), {}),
    ("nn.TransformerDecoderLayer(8, 2, 16, 0.0, 'gelu', norm_first=True, bias=False)", (TARGET, SOURCE),
     {"tgt_mask": CAUSAL, "memory_mask": BIAS > 1, "tgt_key_padding_mask": OWN_PADDING, "memory_key_padding_mask": PADDING}),
    ("nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True)", first(TARGET, SOURCE), {"memory_mask": TRUTHS}),
    ("nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0), 2, nn.LayerNorm(8), enable_nested_tensor=False)",
     (TARGET,), {"mask": FLOAT_CAUSAL}),
    ("nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, 0.0), 2)", (TARGET, SOURCE), {"tgt_mask": FLOAT_CAUSAL}),
    ("nn.Transformer(8, 2, 1, 2, 16, 0.0)", (SOURCE, TARGET),
     {"tgt_mask": FLOAT_CAUSAL, "src_key_padding_mask": PADDING, "memory_key_padding_mask": PADDING}),
    ("nn.Transformer(8, 2, 1, 1, 16, 0.0, norm_first=True, batch_first=True)", first(SOURCE, TARGET), {}),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(LAYERS)))
def test_transformer_layers(case: int) -> None:
    compare(*LAYERS[case])


def test_the_causal_mask() -> None:
    ours, theirs = (library.nn.Transformer.generate_square_subsequent_mask(4) for library in (P, torch))
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


SPECTRAL = [
    ("nn.Linear(5, 4)", (6, 5), {}),
    ("nn.Conv2d(3, 4, 3, bias=False)", (2, 3, 5, 5), {"n_power_iterations": 3}),
    ("nn.ConvTranspose2d(3, 4, 2)", (2, 3, 5, 5), {"eps": 1e-6}),
]


@pytest.mark.parametrize(("text", "shape", "options"), SPECTRAL, ids=lambda case: str(case))
def test_spectral_norm(text: str, shape: Any, options: dict[str, Any]) -> None:
    P.manual_seed(0)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    build = lambda library: library.nn.utils.spectral_norm(eval(text, {"nn": library.nn}), **options)
    ours, theirs = build(P), build(torch)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({k: torch.from_numpy(np.array(v.array)) for k, v in ours.state_dict().items()})
    for training in (True, True, False):
        found = []
        for library, layer in ((P, ours.train(training)), (torch, theirs.train(training))):
            layer.zero_grad()
            (layer(library.tensor(x)) ** 2).sum().backward()
            found.append([p.grad for p in layer.parameters()] + list(layer.state_dict().values()) + [layer.weight])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(np.asarray(a.detach()), np.asarray(b.detach()), rtol=1e-4, atol=1e-5)


def test_rotary_turns_pairs_as_complex_numbers() -> None:
    """PyTorch has no such layer: its complex numbers do the turning."""
    x = np.random.default_rng(2).normal(size=(2, 5, 3, 6)).astype(np.float32)
    angles = torch.outer(torch.arange(2, 7), 10_000.0 ** (-torch.arange(0, 6, 2) / 6))
    turned = (
        torch.view_as_complex(torch.tensor(x).unflatten(3, (3, 2))) * torch.polar(torch.ones(5, 3), angles)[:, None]
    )
    ours: Tensor = P.nn.RotaryEmbedding(6)(P.tensor(x), input_pos=2)
    np.testing.assert_allclose(ours.numpy(), torch.view_as_real(turned).flatten(3).numpy(), atol=1e-5)
