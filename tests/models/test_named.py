"""Networks of the field's history: their parameters are those the papers and checkpoints count, and they train."""

import tracemalloc

import numpy as np
import pytest

import pellucid as P
from pellucid import nn
from pellucid.errors import OptionError, ShapeError
from pellucid.inspect import summary
from pellucid.models.zoo import alexnet, bert, gpt2, lenet, resnet

COUNTS = {
    "lenet 1989": (lenet.LeNet1989, 9_760),
    "alexnet 2012": (alexnet.AlexNet2012, 60_965_224),
    "alexnet": (alexnet.AlexNet, 61_100_840),
    "resnet18": (resnet.resnet18, 11_689_512),
    "resnet34": (resnet.resnet34, 21_797_672),
    "resnet50": (resnet.resnet50, 25_557_032),
    "resnet101": (resnet.resnet101, 44_549_160),
    "resnet152": (resnet.resnet152, 60_192_808),
    "bert base": (lambda: bert.BERT(bert.BASE), 109_482_240),
    "bert large": (lambda: bert.BERT(bert.LARGE), 335_141_888),
}
SMALL_BERT = bert.Config(num_layers=2, num_heads=2, d_model=8, d_ff=12, context_length=6, vocab_size=11, dropout=0.0)


def images(*shape):
    return P.tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("name", COUNTS)
def test_the_count_is_the_published_one(name):
    make, expected = COUNTS[name]
    with nn.init.init_empty_weights():
        network = make()
    assert sum(p.numel() for p in network.parameters()) == expected == summary(network).parameters


def test_gpt3_is_built_and_counted_without_its_memory():
    tracemalloc.start()
    try:
        with nn.init.init_empty_weights():
            network = gpt2.from_size("gpt3")
        count, size = summary(network).parameters, summary(network).bytes
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (count, size) == (174_604_259_328, 4 * 174_604_259_328)
    assert peak < 20e6


def test_a_skeleton_has_the_names_shapes_and_kinds_of_the_network_and_takes_its_weights():
    make = lambda: bert.BERT(SMALL_BERT)
    with nn.init.init_empty_weights():
        bare = make()
    P.manual_seed(0)
    full = make()
    kinds = lambda network: {name: (v.shape, v.dtype, v.requires_grad) for name, v in network.named_parameters()}
    assert kinds(bare) == kinds(full)
    assert all(p.array.strides == (0,) * p.ndim for p in bare.parameters())
    bare.load_state_dict(full.state_dict())
    text = P.tensor([[1, 2, 3]])
    assert bare.eval()(text)[0].equal(full.eval()(text)[0])


def test_outside_a_skeleton_weights_are_drawn_again():
    with nn.init.init_empty_weights():
        inside = nn.Embedding(5, 3, padding_idx=0)
    outside = nn.Embedding(5, 3, padding_idx=0)
    assert not inside.weight.detach().numpy().any() and outside.weight.detach().numpy()[1:].all()
    inside.reset_parameters()
    assert inside.weight.detach().numpy()[1:].all()


def test_a_skeletons_layers_compute_with_what_they_hold():
    with nn.init.init_empty_weights():
        layer = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2))
    assert layer(images(3, 4)).detach().numpy().tolist() == [[0, 0]] * 3


# ---- LeNet -----------------------------------------------------------------------------------------------------------


def test_lenet_counts_layer_by_layer_as_in_the_paper():
    network = lenet.LeNet1989()
    counts = [sum(p.numel() for p in part.parameters()) for part in network.children()]
    assert counts == [1068, 2592, 5790, 310]
    assert network(images(2, 16, 16)).shape == network(images(2, 1, 16, 16)).shape == (2, 10)
    with pytest.raises(ShapeError, match=r"expected \(B, 16, 16\)"):
        network(images(2, 28, 28))


def test_lenets_second_layer_sees_eight_maps_of_twelve():
    layer = lenet.FeatureMaps(12, 8, 4)
    x = images(1, 12, 8, 8)
    padded = np.pad(x.numpy()[0], ((0, 0), (2, 2), (2, 2)), constant_values=-1.0)
    expected = np.zeros((12, 4, 4))
    for j in range(12):
        for p in range(4):
            for q in range(4):
                for place in range(8):
                    window = padded[(j + place) % 12, 2 * p : 2 * p + 5, 2 * q : 2 * q + 5]
                    expected[j, p, q] += (window * layer.weight.detach().numpy()[j, place]).sum()
    expected = 1.7159 * np.tanh(2 / 3 * expected)
    np.testing.assert_allclose(layer(x).detach().numpy()[0], expected, atol=1e-5)


def test_the_squashing_keeps_one_at_one():
    assert lenet.scaled_tanh(P.tensor([-1.0, 0.0, 1.0])).numpy() == pytest.approx([-1, 0, 1], abs=1e-4)


# ---- residual networks and AlexNet ------------------------------------------------------------------------------------

LEARNERS = {
    "lenet": (lenet.LeNet1989, (4, 16, 16)),
    "basic": (lambda: resnet.stage(resnet.BasicBlock, 3, 4, 2, 2), (3, 3, 9, 9)),
    "bottleneck": (lambda: resnet.stage(resnet.Bottleneck, 3, 4, 2, 2), (3, 3, 9, 9)),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_compiled_training_gives_the_losses_of_eager_training(name):
    make, shape = LEARNERS[name]
    x, target = images(*shape), P.tensor(np.arange(shape[0]))

    def losses(compiled):
        P.manual_seed(0)
        network = make()
        optimizer = P.optim.SGD(network.parameters(), lr=0.01)

        def step(x, target):
            loss = nn.functional.cross_entropy(network(x).flatten(1), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        step = P.compile(step) if compiled else step
        return [step(x, target).item() for _ in range(4)]

    plain = losses(False)
    assert plain[-1] < plain[0]
    assert losses(True) == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("block", [resnet.BasicBlock, resnet.Bottleneck])
def test_a_residual_network_halves_the_image_five_times(block):
    network = resnet.ResNet(block, (1, 1, 1, 1), 5).eval()
    shapes = [row.outputs[0] for row in summary(network, (1, 3, 64, 64)).rows if row.kind == "Conv2d"]
    assert shapes[0] == (1, 64, 32, 32) and shapes[-1][1:] == (512 * block.expansion, 2, 2)
    assert network(images(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize("block", [resnet.BasicBlock, resnet.Bottleneck])
def test_a_block_whose_last_norm_gives_nothing_gives_what_it_got(block):
    """The identity that residual networks start from, up to the ReLU."""
    layer, x = block(4 * block.expansion, 4), images(2, 4 * block.expansion, 5, 5)
    last = layer.bn2 if block is resnet.BasicBlock else layer.bn3
    nn.init.zeros_(last.weight)
    assert layer(x).equal(x.relu())


def test_alexnets_halves_do_not_see_each_other():
    """Of the second convolution's outputs, the first half depends on the first half of its inputs only."""
    with nn.init.init_empty_weights():
        second = next(m for m in alexnet.AlexNet2012(2).features if isinstance(m, nn.Conv2d) and m.groups == 2)
    second.reset_parameters()
    x = images(1, 96, 6, 6)
    other = x.clone()
    other[:, 48:] = 0.0
    same = (second(x).detach().numpy() == second(other).detach().numpy()).all((0, 2, 3))
    assert same[:128].all() and not same[128:].any()


def test_bert_looks_both_ways_but_not_at_padding():
    P.manual_seed(0)
    network = bert.BERT(SMALL_BERT).eval()
    text, mask = P.tensor([[1, 2, 3, 4]]), P.tensor([[1, 1, 1, 0]])
    other, later = P.tensor([[1, 2, 3, 9]]), P.tensor([[1, 2, 7, 4]])
    with P.no_grad():
        whole, pooled = network(text, mask)
        assert pooled.shape == (1, 8) and whole.shape == (1, 4, 8)
        assert network(other, mask)[0][:, :3].allclose(whole[:, :3], atol=1e-6)
        assert not network(later, mask)[0][:, 0].allclose(whole[:, 0], atol=1e-3)
        segments = network(text, mask, P.tensor([[0, 0, 1, 1]]))[0]
    assert not segments.allclose(whole, atol=1e-3)


def test_bert_refuses_what_it_cannot_hold():
    with pytest.raises(ShapeError, match="T up to context_length, 6"):
        bert.BERT(SMALL_BERT)(P.zeros(1, 7, dtype=P.int64))
    with pytest.raises(OptionError, match="expected d_model to be a multiple of num_heads"):
        bert.Config(num_heads=5)
