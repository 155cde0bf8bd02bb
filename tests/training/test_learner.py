"""What the optimizers of a run move, and what they decay."""

import pytest

from pellucid import nn
from pellucid.nn.utils import spectral_norm
from pellucid.runs.settings import Settings
from pellucid.training.optimizers import make_optimizers


def network():
    return nn.Sequential(
        nn.Embedding(5, 4), nn.LSTM(4, 3, batch_first=True), nn.MultiheadAttention(4, 2), nn.LayerNorm(3),
        spectral_norm(nn.Linear(3, 3)), nn.Linear(3, 2),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_matrices_are_decayed_and_vectors_are_not(name):
    net = network()
    optimizers = make_optimizers(net, Settings(optimizer=name, weight_decay=0.25))
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    names = {id(p): key for key, p in net.named_parameters()}
    found = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    vectors = {
        "1.bias_ih_l0",
        "1.bias_hh_l0",
        "2.in_proj_bias",
        "2.out_proj.bias",
        "3.weight",
        "3.bias",
        "4.bias",
        "5.bias",
    }
    matrices = {
        "0.weight",
        "1.weight_ih_l0",
        "1.weight_hh_l0",
        "2.in_proj_weight",
        "2.out_proj.weight",
        "4.weight_orig",
        "5.weight",
    }
    assert found == dict.fromkeys(vectors, 0.0) | dict.fromkeys(matrices, 0.25)


def test_muon_moves_the_hidden_matrices():
    net = network()
    muon, adamw = make_optimizers(net, Settings(optimizer="muon"))
    names = {id(p): key for key, p in net.named_parameters()}
    moved = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    assert moved == {"1.weight_ih_l0", "1.weight_hh_l0", "2.in_proj_weight", "2.out_proj.weight", "4.weight_orig"}
    assert moved.isdisjoint(names[id(p)] for group in adamw.param_groups for p in group["params"])
