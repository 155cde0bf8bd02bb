"""attention_maps: every attention of a network by its path, without a trace of having looked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid import functional as F
from pellucid import nn
from pellucid.errors import OptionError
from pellucid.functional.attention import attention_watcher
from pellucid.inspect import attention_maps
from pellucid.tensor import Tensor


class Twice(nn.Module):
    """Attends twice itself, the second time causally, with two queries sharing a key's head."""

    def forward(self, x: Tensor) -> Tensor:
        q = x.unflatten(2, (4, 2)).transpose(1, 2)  # (B, 4, T, 2)
        y = F.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
        return F.scaled_dot_product_attention(y, q[:, :2], q[:, :2], is_causal=True, enable_gqa=True).mean((1, 3))


def network() -> nn.Sequential:
    P.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
    return nn.Sequential(nn.Linear(3, 8), nn.TransformerEncoder(layer, 2), Twice())


def test_maps_of_a_whole_network_by_path() -> None:
    model, x = network(), P.randn(2, 5, 3)
    maps = attention_maps(model, x)
    assert list(maps) == ["1.layers.0.self_attn", "1.layers.1.self_attn", "2", "2 (2)"]
    assert [m.shape for m in maps.values()] == [(2, 2, 5, 5)] * 2 + [(2, 4, 5, 5)] * 2
    for m in maps.values():
        assert not m.requires_grad and (m.sum(-1) - 1).abs().amax() < 1e-5
    assert (maps["2 (2)"].triu(1) == 0).all() and (maps["2"].triu(1) > 0).any()
    hidden = model[0](x)
    _, expected = model[1].layers[0].self_attn(hidden, hidden, hidden, average_attn_weights=False)
    assert maps["1.layers.0.self_attn"].allclose(expected, atol=1e-6)


def test_nothing_is_changed_by_looking() -> None:
    model, x = network(), P.randn(2, 5, 3)
    P.manual_seed(4)
    expected = model(x).detach().numpy()
    P.manual_seed(4)
    attention_maps(model, x)
    assert model.training and model[1].layers[0].dropout.training and attention_watcher.get() is None
    np.testing.assert_array_equal(model(x).detach().numpy(), expected)
    model.eval()
    seen: list[Any] = []
    token = attention_watcher.set(seen.append)
    watched = model(x)
    attention_watcher.reset(token)
    assert len(seen) == 4
    P.compile(model)(x)
    assert len(seen) == 4 and watched.shape == (2, 5)


def test_a_layer_alone_and_a_network_without_attention() -> None:
    layer, x = nn.MultiheadAttention(8, 2), P.randn(5, 2, 8)
    assert list(attention_maps(layer, x, x, x, need_weights=False)) == ["MultiheadAttention"]
    with pytest.raises(
        OptionError, match="attention_maps: Linear called no attention; expected layers that go through"
    ):
        attention_maps(nn.Linear(3, 2), P.ones(1, 3))
