"""Attention, Transformer layers, positions and the cache: gradients, training compiled as eagerly, decoding, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from layer_checks import check_gradients, same_losses_compiled

import pellucid as P
from pellucid import functional as F
from pellucid import nn
from pellucid.errors import DTypeError, IndexRangeError, OptionError, ShapeError
from pellucid.tensor import Tensor

random = np.random.default_rng(0)
ROWS = random.normal(size=(2, 3, 4))  # (B, T, E)
MEMORY = random.normal(size=(2, 5, 4))
CAUSAL = nn.Transformer.generate_square_subsequent_mask(3)


def named(text: str) -> nn.Module:
    P.manual_seed(1)
    return eval(text, {"nn": nn, "F": F})


# ---- gradients and training --------------------------------------------------------------------------------------------

LAYERS = {
    "nn.TransformerEncoderLayer(4, 2, 6, 0.0, 'gelu', batch_first=True)": (ROWS,),
    "nn.TransformerEncoderLayer(4, 2, 6, 0.0, F.silu, batch_first=True, norm_first=True, bias=False)": (ROWS,),
    "nn.TransformerDecoderLayer(4, 1, 6, 0.0, 'gelu', batch_first=True)": (ROWS, MEMORY),
    "nn.Transformer(4, 2, 1, 1, 6, 0.0, 'gelu', batch_first=True)": (MEMORY, ROWS),
    "nn.LearnedPositionalEmbedding(4, 4)": (ROWS,),
    "nn.SinusoidalPositionalEmbedding(3, 4)": (ROWS,),
    "nn.RotaryEmbedding(4, 3)": (ROWS.reshape(2, 3, 1, 4),),
}


@pytest.mark.parametrize("text", LAYERS)
def test_gradients(text: str) -> None:
    assert check_gradients(named(text).double(), *LAYERS[text])


@pytest.mark.parametrize("how", [{}, {"average_attn_weights": False}, {"is_causal": True}, {"attn_mask": CAUSAL}])
def test_gradients_of_attention_and_its_maps(how: dict[str, Any]) -> None:
    layer = nn.MultiheadAttention(4, 2, batch_first=True).double()

    def call(*inputs: Tensor) -> Tensor:
        y, maps = layer(*inputs, **how)
        return P.cat([y.flatten(), maps.flatten()])

    layer_call = lambda x: call(x, x * 0.5, x + 1)
    assert check_gradients(layer, ROWS, call=layer_call)
    assert check_gradients(layer, ROWS, call=lambda x: call(x, x, x))


class Weighed(nn.Module):
    """A layer's output by fixed weights: towards a constant, a layer norm at the end would let no gradient through."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.weights = layer, P.arange(4) + 0.5

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.layer(*inputs) * self.weights


@pytest.mark.parametrize("text", [text for text in LAYERS if "Sinus" not in text and "Rotary" not in text])
def test_training_compiled(text: str) -> None:
    x, *more = (a.astype(np.float32) for a in LAYERS[text])
    same_losses_compiled(lambda: Weighed(named(text)), x, *map(P.tensor, more))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_attention_trains_compiled(dropout: float) -> None:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(4, 2, dropout, batch_first=True)

        def forward(self, x: Tensor) -> Any:
            return self.attn(x, x, x)

    same_losses_compiled(Attend, ROWS.astype(np.float32))


# ---- attention -----------------------------------------------------------------------------------------------------------


def test_maps_are_shares_and_explain_the_output() -> None:
    layer = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True).eval()
    x = P.tensor(ROWS.astype(np.float32))
    y, maps = layer(x, x, x, average_attn_weights=False)
    assert maps.shape == (2, 2, 3, 3) and (maps.sum(-1) - 1).abs().amax() < 1e-6
    value = layer._heads(F.linear(x, layer.in_proj_weight[8:], layer.in_proj_bias[8:]))
    assert layer.out_proj((maps @ value).transpose(1, 2).flatten(2)).allclose(y, atol=1e-6)
    assert layer(x, x, x)[1].allclose(maps.mean(1)) and layer(x, x, x, need_weights=False)[1] is None


def test_is_causal_needs_no_mask() -> None:
    """PyTorch takes it as a hint about attn_mask, and refuses it alone; here it says all."""
    layer, x = nn.MultiheadAttention(4, 2, batch_first=True), P.tensor(ROWS.astype(np.float32))
    alone, masked = layer(x, x, x, is_causal=True), layer(x, x, x, attn_mask=CAUSAL)
    assert alone[0].allclose(masked[0], atol=1e-6) and alone[1].allclose(masked[1], atol=1e-6)


def test_a_query_that_may_look_at_nothing_gives_the_bias() -> None:
    """PyTorch gives NaN with need_weights, and zeros before the projection without."""
    layer, x = nn.MultiheadAttention(4, 2, batch_first=True), P.ones(1, 2, 4)
    layer.out_proj.bias.assign([1.0, 2, 3, 4])
    y, maps = layer(x, x, x, key_padding_mask=P.tensor([[True, True]]))
    assert y[0].tolist() == [[1.0, 2, 3, 4]] * 2 and maps.tolist() == [[[0.0] * 2] * 2]


def test_layers_of_a_stack_have_weights_of_their_own() -> None:
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6), 2)
    first, second = stack.layers
    first.linear1.weight.assign(0)
    assert second.linear1.weight.abs().sum() > 0
    assert len(list(stack.parameters())) == 2 * len(list(first.parameters()))


def test_what_attention_refuses() -> None:
    layer, x = nn.MultiheadAttention(4, 2), P.ones(3, 2, 4)
    with pytest.raises(OptionError, match="embed_dim=6, num_heads=4; expected embed_dim to be a multiple.*2 heads"):
        nn.MultiheadAttention(6, 4)
    with pytest.raises(OptionError, match="add_bias_kv=True.*expected False"):
        nn.MultiheadAttention(4, 2, add_bias_kv=True)
    with pytest.raises(ShapeError, match=r"MultiheadAttention: query \(3, 2, 5\).*expected 4, 4, 4 channels"):
        layer(P.ones(3, 2, 5), x, x)
    with pytest.raises(ShapeError, match=r"expected \(T, B, E\) each, or \(T, E\)"):
        layer(x[0], x, x)
    with pytest.raises(ShapeError, match=r"equal batches \(axis 1\).*check batch_first=False"):
        layer(x, x[:, :1], x[:, :1])
    with pytest.raises(ShapeError, match=r"key_padding_mask \(3, 2\); expected \(2, 3\)"):
        layer(x, x, x, key_padding_mask=P.ones(3, 2).bool())
    with pytest.raises(ShapeError, match=r"attn_mask \(2, 3\); expected \(3, 3\) or \(4, 3, 3\)"):
        layer(x, x, x, attn_mask=P.ones(2, 3))
    with pytest.raises(DTypeError, match="a mask is int64; expected bool"):
        layer(x, x, x, attn_mask=P.ones(3, 3).long())
    with pytest.raises(DTypeError, match="is float64; expected float32"):
        layer(x.double(), x, x)
    with pytest.raises(OptionError, match=r"activation='swish'; expected \"relu\", \"gelu\" or a function"):
        nn.TransformerEncoderLayer(4, 2, activation="swish")


# ---- positions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["nn.LearnedPositionalEmbedding(9, 4)", "nn.SinusoidalPositionalEmbedding(9, 4)"])
def test_rows_are_added_from_the_offset_on(text: str) -> None:
    layer, x = named(text), P.tensor(ROWS.astype(np.float32))
    assert layer(x)[1].allclose(x[1] + layer.weight[:3])
    for offset in (6, P.tensor(6)):
        assert layer(x, offset)[0].allclose(x[0] + layer.weight[6:])
        with pytest.raises(IndexRangeError, match="position 9; expected 0 to 8"):
            layer(x, offset + 1)
    with pytest.raises(ShapeError, match=r"input \(2, 3, 5\); expected \(\*, T, 4\)"):
        layer(P.ones(2, 3, 5))


def test_sines_are_those_of_the_paper() -> None:
    table = nn.SinusoidalPositionalEmbedding(20, 6).weight
    assert table[7, 2].item() == pytest.approx(np.sin(7 / 10_000 ** (2 / 6)), abs=1e-6)
    assert table[7, 3].item() == pytest.approx(np.cos(7 / 10_000 ** (2 / 6)), abs=1e-6)
    assert nn.SinusoidalPositionalEmbedding(20, 6).state_dict() == {}


def test_rotary_products_depend_on_distance_alone() -> None:
    rotary, (q, k) = nn.RotaryEmbedding(8, 50), P.randn(2, 1, 1, 1, 8)
    product = lambda s, t: (rotary(q, input_pos=s) * rotary(k, input_pos=t)).sum().item()
    assert product(3, 5) == pytest.approx(product(40, 42), abs=1e-5) != pytest.approx(product(3, 6), abs=1e-3)
    assert rotary(q).allclose(q) and rotary(q, input_pos=30).norm().allclose(q.norm(), rtol=1e-5)
    x = P.randn(2, 3, 2, 8)
    each = rotary(x, input_pos=P.tensor([[5, 6, 7], [0, 1, 2]]))
    assert each[0].allclose(rotary(x, input_pos=5)[0], atol=1e-6) and each[1].allclose(rotary(x)[1], atol=1e-6)
    with pytest.raises(IndexRangeError, match="RotaryEmbedding: position 52; expected 0 to 49"):
        rotary(x, input_pos=50)
    with pytest.raises(OptionError, match="RotaryEmbedding: dim=5; expected an even number"):
        nn.RotaryEmbedding(5)


# ---- the cache -----------------------------------------------------------------------------------------------------------


class Decoder(nn.Module):
    """A small causal network with rotary positions, whole or token by token."""

    def __init__(self, length: int, batch: int = 2) -> None:
        super().__init__()
        self.project, self.out, self.rotary = nn.Linear(8, 24), nn.Linear(8, 8), nn.RotaryEmbedding(4, length)
        self.plain = nn.MultiheadAttention(8, 2, batch_first=True)
        self.caches = nn.ModuleList([nn.KeyValueCache(batch, 2, length, 4) for _ in range(2)])

    def forward(self, x: Tensor, cached: bool = False) -> Tensor:
        position = self.caches[0].position.clone() if cached else 0
        q, k, v = (part.unflatten(2, (2, 4)) for part in self.project(x).chunk(3, -1))  # (B, T, H, D)
        q, k = self.rotary(q, input_pos=position), self.rotary(k, input_pos=position)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        if cached:
            k, v = self.caches[0].append(k, v)
            y = F.scaled_dot_product_attention(q, k, v, self.caches[0].mask(x.shape[1]))
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = x + self.out(y.transpose(1, 2).flatten(2))
        more = {"cache": self.caches[1]} if cached else {"is_causal": True}
        return y + self.plain(y, y, y, need_weights=False, **more)[0]


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("pieces", [[1] * 7, [4, 1, 1, 1], [3, 4], [7]], ids=str)
def test_decoding_with_a_cache_is_the_whole_forward(pieces: list[int], native: bool) -> None:
    P.manual_seed(0)
    network, x = Decoder(9), P.randn(2, 7, 8)
    whole = network(x)
    step = P.compile(lambda x: network(x, cached=True)) if native else (lambda x: network(x, cached=True))
    for _ in range(2):
        found = P.cat([step(part) for part in x.split(pieces, 1)], 1)
        np.testing.assert_allclose(found.detach().numpy(), whole.detach().numpy(), atol=1e-5)
        assert network.caches[1].position.item() == 7
        for cache in network.caches:
            cache.reset()
    if native:
        assert len(step.programs) == len(set(pieces))  # one for every position
    assert not any("cache" in name for name in network.state_dict())


def test_what_the_cache_refuses() -> None:
    cache, new = nn.KeyValueCache(2, 2, 3, 4), P.ones(2, 2, 2, 4)
    cache.append(new, new)
    for native in (False, True):
        append = P.compile(cache.append) if native else cache.append
        with pytest.raises(IndexRangeError, match=r"KeyValueCache: 4 positions; expected at most 3.*reset\(\)"):
            append(new, new.clone())
        assert cache.position.item() == 2
    with pytest.raises(ShapeError, match=r"key \(2, 1, 2, 4\).*expected \(2, 2, T, 4\)"):
        cache.append(new[:, :1], new)
    with pytest.raises(DTypeError, match="float64; expected float32"):
        cache.append(new.double(), new)
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True), P.ones(2, 1, 8)
    for mask in ({"key_padding_mask": P.zeros(2, 1).bool()}, {"attn_mask": P.zeros(1, 1).bool()}):
        with pytest.raises(OptionError, match="a mask together with a cache"):
            layer(x, x, x, **mask, cache=cache)
    with pytest.raises(ShapeError, match=r"attn_mask \(7, 7\); expected \(1, 1\)"):
        layer(x, x, x, attn_mask=P.zeros(7, 7).bool(), is_causal=True)


# ---- spectral normalisation ----------------------------------------------------------------------------------------------


def spectral() -> nn.Sequential:
    P.manual_seed(2)
    norm = nn.utils.spectral_norm
    return nn.Sequential(norm(nn.Linear(4, 8)), nn.Tanh(), norm(nn.Linear(8, 4, bias=False), n_power_iterations=2))


def test_the_largest_singular_value_becomes_one() -> None:
    layer = nn.utils.spectral_norm(nn.Conv2d(3, 4, 3), n_power_iterations=30)
    layer(P.ones(1, 3, 4, 4))
    sizes = np.linalg.svd(layer.weight.detach().numpy().reshape(4, -1), compute_uv=False)
    assert sizes[0] == pytest.approx(1, abs=1e-4)
    before = [value.numpy() for value in layer.state_dict().values()]
    layer.eval()(P.ones(1, 3, 4, 4))
    assert all((a == b.numpy()).all() for a, b in zip(before, layer.state_dict().values(), strict=True))


def test_spectral_norm_s_gradients_and_training() -> None:
    assert check_gradients(spectral().double().eval(), ROWS)
    same_losses_compiled(spectral, ROWS.astype(np.float32))


def test_spectral_norm_compiled_goes_on_with_u_and_v() -> None:
    found = []
    for native in (False, True):
        network, x = spectral(), P.tensor(ROWS.astype(np.float32))
        step = P.compile(network) if native else network
        for _ in range(3):
            step(x)
        found.append([value.numpy() for value in network.state_dict().values()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("make", [nn.Linear, lambda i, o: nn.Conv2d(i, o, 1)])
def test_a_forward_computes_the_weight_once(make: Callable[[int, int], nn.Module]) -> None:
    layer, times = nn.utils.spectral_norm(make(3, 4)), []
    layer.register_parametrization("weight", lambda module: times.append(1) or module.weight_orig)
    layer(P.ones(1, 3, 3, 3) if isinstance(layer, nn.Conv2d) else P.ones(2, 3))
    assert len(times) == 1


def test_two_forwards_before_one_backward_and_a_copy() -> None:
    """As a critic sees a real and a made batch: the second forward moves u and v, which the first one's gradient read."""
    network, x = spectral(), P.tensor(ROWS.astype(np.float32))
    (network(x).sum() - network(x * 2).sum()).backward()
    assert all(p.grad is not None for p in network.parameters())
    other = copy.deepcopy(network)
    other[0].weight_orig.assign(0)
    assert network[0].weight.abs().sum() > 0 and "weight" not in dict(network[0].named_parameters())
    with pytest.raises(OptionError, match=r"spectral_norm: Linear has no matrix 'bias'; expected.*weight"):
        nn.utils.spectral_norm(nn.Linear(2, 2), "bias")


@pytest.mark.parametrize(
    ("old", "new"), [("Rotary", "RotaryEmbedding"), ("LearnedPositions", "LearnedPositionalEmbedding")]
)
def test_a_layer_under_its_former_name_says_the_new_one(old: str, new: str) -> None:
    with pytest.raises(AttributeError, match=rf"{old}.*nn\.{new}"):
        getattr(nn, old)
