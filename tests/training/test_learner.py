"""What the optimizers of a run move, and what they decay."""

import pytest

import pellucid as pl
from pellucid import nn
from pellucid.data.input_spec import ImageSpec, SeriesSpec, TableSpec, TextSpec
from pellucid.errors import OptionError
from pellucid.models import cnn, diffusion, gan, lstm, mlp, transformer
from pellucid.models.blocks import table_input
from pellucid.models.zoo.lenet import LeNet1989
from pellucid.nn.utils import spectral_norm
from pellucid.runs.settings import Settings
from pellucid.training.optimizers import decayed_parameters, make_optimizers


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


class Kernel(nn.Module):
    """A matrix that is not called weight, a table of biases, and a vector that is."""

    undecayed = ("offsets",)

    def __init__(self):
        super().__init__()
        self.kernel, self.offsets, self.weight = (nn.Parameter(pl.zeros(*shape)) for shape in ((3, 3), (4, 3), (3,)))


def decayed_names(net):
    decayed = {id(p) for p in decayed_parameters(net)}
    return {name for name, p in net.named_parameters() if id(p) in decayed}


def test_a_layers_roles_decide_what_is_decayed_and_not_the_names_of_its_parameters():
    assert decayed_names(nn.Sequential(Kernel())) == {"0.kernel"}


TABLE = TableSpec(2, [[0.0, 1.0, 2.0], [0.0, 3.0]], [3, 2])
NETWORKS = {
    "mlp, a table": (mlp, TABLE, {}),
    "mlp, periodic": (mlp, TABLE, {"numeric_embedding": "periodic"}),
    "mlp, images": (mlp, ImageSpec((8, 8)), {}),
    "cnn": (cnn, ImageSpec((8, 8)), {"channels": (4, 6), "whiten": 2, "residual": True}),
    "lstm, text": (lstm, TextSpec(5), {"hidden_sizes": (4, 4), "embedding_dim": 3}),
    "lstm, series": (lstm, SeriesSpec(9, 3), {"hidden_sizes": (4,), "cell": "gru", "shortcut": True}),
    "transformer": (transformer, TextSpec(5), {"d_model": 8, "num_heads": 2}),
    "gan": (gan, ImageSpec((8, 8)), {"latent": 4, "width": 4, "critic_width": 4}),
    "diffusion": (diffusion, ImageSpec((8, 8)), {"width": 8, "patch": 1}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_family_decays_its_weights_and_nothing_else(name):
    family, inputs, options = NETWORKS[name]
    net = family.build(
        inputs, 3, "language" if isinstance(inputs, TextSpec) else "classification", family.Config(**options)
    )
    weights = {name for name, p in net.named_parameters() if p.ndim > 1 and "weight" in name.rpartition(".")[2]}
    assert decayed_names(net) == weights


def test_the_biases_of_lenets_feature_maps_are_not_decayed():
    assert {name for name in decayed_names(LeNet1989()) if name.endswith("bias")} == set()


@pytest.mark.parametrize(
    "layer",
    [table_input.PiecewiseLinearEmbedding([[0.0, 1.0]], 2), table_input.PeriodicEmbedding(1, 2), LeNet1989().h1],
)
def test_what_a_layer_calls_undecayed_is_there(layer):
    assert layer.undecayed and all(layer.get_parameter(name).ndim > 1 for name in layer.undecayed)


def test_a_misspelt_undecayed_name_is_refused():
    class Layer(nn.Module):
        undecayed = ("ofsets",)

        def __init__(self) -> None:
            super().__init__()
            self.offsets = nn.Parameter(pl.zeros(2, 2))

    with pytest.raises(OptionError, match=r"Layer.undecayed: 'ofsets' is no Parameter.*Did you mean 'offsets'"):
        decayed_parameters(nn.Sequential(Layer()))


@pytest.mark.parametrize("layer", [nn.LayerNorm((3, 4)), nn.LayerNorm((3, 4), bias=False), nn.RMSNorm((3, 4))])
def test_scales_of_two_axes_are_not_decayed(layer):
    assert decayed_parameters(nn.Sequential(layer)) == []
