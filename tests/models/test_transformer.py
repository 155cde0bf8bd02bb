"""The Transformer: against a plain one in NumPy, token by token against whole windows, compiled, and GPT-2's files."""

import json

import numpy as np
import pytest

import pellucid as P
from pellucid import nn
from pellucid.data.input_spec import TextSpec
from pellucid.errors import DataError, OptionError, ShapeError, StateError
from pellucid.inspect import summary
from pellucid.models import transformer
from pellucid.models.transformer import Config
from pellucid.models.zoo import gpt2

SMALL = Config(num_layers=2, num_heads=2, d_model=8, context_length=6)
OTHER = {"positions": "rotary", "norm": "rms", "activation": "silu", "bias": False, "tie_embeddings": False, "d_ff": 12}
VARIANTS = [{}, OTHER, {"positions": "rotary"}, {"activation": "gelu"}]


def small(vocabulary=11, **changed):
    """A network whose weights differ enough from zero that every part of it matters."""
    P.manual_seed(0)
    config = Config(**{**vars(SMALL), **changed})
    network = transformer.build(TextSpec(vocabulary), vocabulary, "language", config)
    random = np.random.default_rng(0)
    for parameter in network.parameters():
        parameter.assign(random.normal(size=parameter.shape) * 0.5 + (parameter.ndim == 1))
    return network


def tokens(*shape, seed=1):
    return P.tensor(np.random.default_rng(seed).integers(0, 11, shape))


def plainly(state, config, text):
    """GPT-2's arithmetic for one text (T,), a head and a query at a time."""
    w = {name: value.numpy().astype(np.float64) for name, value in state.items()}

    def norm(x, name):
        y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return y * w[f"{name}.weight"] + w[f"{name}.bias"]

    def product(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x, d = w["wte.weight"][text] + w["wpe.weight"][: len(text)], config.d_model // config.num_heads
    for layer in (f"h.{number}" for number in range(config.num_layers)):
        q, k, v = np.split(product(norm(x, f"{layer}.ln_1"), f"{layer}.attn.c_attn"), 3, -1)
        mixed = np.zeros_like(x)
        for head in range(config.num_heads):
            own = slice(head * d, (head + 1) * d)
            for t in range(len(text)):
                scores = k[: t + 1, own] @ q[t, own] / np.sqrt(d)
                shares = np.exp(scores - scores.max())
                mixed[t, own] = shares / shares.sum() @ v[: t + 1, own]
        x = x + product(mixed, f"{layer}.attn.c_proj")
        y = product(norm(x, f"{layer}.ln_2"), f"{layer}.mlp.c_fc")
        y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        x = x + product(y, f"{layer}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


def test_its_logits_are_those_of_plain_arithmetic():
    network, text = small(), tokens(2, 6)
    expected = np.stack([plainly(network.state_dict(), SMALL, row) for row in text.numpy()])
    np.testing.assert_allclose(network(text).detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_weights_have_gpt2s_names():
    block = {
        "ln_1.weight": (8,), "ln_1.bias": (8,), "attn.c_attn.weight": (24, 8), "attn.c_attn.bias": (24,),
        "attn.c_proj.weight": (8, 8), "attn.c_proj.bias": (8,), "ln_2.weight": (8,), "ln_2.bias": (8,),
        "mlp.c_fc.weight": (32, 8), "mlp.c_fc.bias": (32,), "mlp.c_proj.weight": (8, 32), "mlp.c_proj.bias": (8,),
    }  # fmt: skip
    expected = {"wte.weight": (11, 8), "wpe.weight": (6, 8), "ln_f.weight": (8,), "ln_f.bias": (8,)}
    expected |= {f"h.{number}.{name}": shape for number in range(2) for name, shape in block.items()}
    assert {name: value.shape for name, value in small().state_dict().items()} == expected
    assert small(tie_embeddings=False).state_dict()["lm_head.weight"].shape == (11, 8)


def test_weights_start_as_in_gpt2():
    P.manual_seed(0)
    network = transformer.build(
        TextSpec(500), 500, "language", Config(num_layers=8, num_heads=2, d_model=64, context_length=100)
    )
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2:
            expected = 0.02 / 4 if "c_proj" in name else 0.02
            assert parameter.detach().numpy().std() == pytest.approx(expected, rel=0.05), name
        else:
            assert (parameter.detach().numpy() == ("ln_" in name and name.endswith("weight"))).all()


@pytest.mark.parametrize("changed", VARIANTS)
def test_nothing_that_comes_later_is_seen(changed):
    network, text = small(**changed), tokens(1, 6)
    other = text.clone()
    other[0, 4] = (other[0, 4] + 1) % 11
    with P.no_grad():
        first, second = network(text).numpy(), network(other).numpy()
    np.testing.assert_allclose(first[:, :4], second[:, :4], atol=1e-6)
    assert (abs(first - second)[:, 4:] > 1e-3).any(-1).all()


@pytest.mark.parametrize("changed", [{}, OTHER])
@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1, 1), (3, 1, 2), (2, 4)])
def test_tokens_fed_piece_by_piece_give_the_logits_of_the_whole(changed, pieces):
    network, text = small(**changed).eval(), tokens(3, 6)
    state, start = None, 0
    with P.no_grad():
        whole = network(text).numpy()
        for piece in pieces:
            logits, state = network.next_logits(text[:, start : start + piece], state)
            start += piece
            np.testing.assert_allclose(logits.numpy(), whole[:, start - 1], atol=1e-5)


@pytest.mark.parametrize("changed", [{}, OTHER, {"context_length": 1}])
def test_writing_gives_the_text_that_reading_each_window_anew_gives(changed):
    network = small(**changed).eval()
    context = network.context_length
    text, start = [1, 2, 3], 0
    start = max(len(text) - context, 0)
    with P.no_grad():
        for _ in range(25):
            if len(text) - start > context:
                start = len(text) - max(context // 2, 1)
            text.append(int(network(P.tensor(np.array([text[start:]])))[0, -1].argmax()))
    assert network.generate(np.array([1, 2, 3]), 25, temperature=0).tolist() == text[3:]
    assert len(set(text[3:])) > 1 or context == 1


def test_a_new_token_costs_one_position():
    network = small().eval()
    lengths = []
    network.h[0].register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[1]))
    network.generate(np.array([1, 2]), 8, temperature=0)
    assert lengths == [2, 1, 1, 1, 1, 3, 1, 1]


@pytest.mark.parametrize("changed", [*VARIANTS, {"dropout": 0.2, "attention_dropout": 0.2}])
def test_compiled_training_gives_the_losses_of_eager_training(changed):
    text, target = tokens(4, 6), tokens(4, 6, seed=2)
    target[0, 3:] = -100

    def losses(compiled):
        network = small(**changed)
        optimizer = P.optim.AdamW(network.parameters(), lr=1e-2)

        def step(text, target):
            loss = network.training_step(text, target)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        step = P.compile(step) if compiled else step
        P.manual_seed(3)
        return [step(text, target).item() for _ in range(4)]

    plain = losses(False)
    assert plain[-1] < plain[0]
    assert losses(True) == pytest.approx(plain, rel=1e-4)


def test_judged_sums_are_those_of_the_loss():
    network = small().eval()
    text, target = tokens(3, 6), tokens(3, 6, seed=2)
    target[1, :4] = -100
    with P.no_grad():
        judged = network.evaluation_step(text, target)
        mean = network.training_step(text, target)["loss"].item()
    assert judged["count"].tolist() == [6, 2, 6]
    assert judged["loss"].numpy().sum() / 14 == pytest.approx(mean, rel=1e-5)
    assert (network.eval_context_length, network.burn_in) == (6, 3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_layers": 0}, "num_layers: 0"),
        ({"d_model": 10, "num_heads": 4}, "4 heads fit d_model 8"),
        ({"d_model": 6, "num_heads": 2, "positions": "rotary"}, "heads of 3 channels"),
        ({"positions": "rotory"}, "Did you mean 'rotary'"),
        ({"activation": "gelu_tan"}, "Did you mean 'gelu_tanh'"),
        ({"dropout": 1.0}, "dropout: 1.0"),
    ],
)
def test_a_wrong_configuration_is_named(values, words):
    with pytest.raises(OptionError, match=words):
        Config(**values)


def test_a_text_longer_than_the_context_is_refused():
    with pytest.raises(ShapeError, match=r"tokens \(1, 7\); expected \(B, T\) with T up to context_length, 6"):
        small()(tokens(1, 7))


# ---- sizes and files of GPT-2 ----------------------------------------------------------------------------------------

COUNTS = {
    "gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200,
    "gpt3": 174_604_259_328,
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_the_published_sizes_have_the_published_counts(name):
    with nn.init.init_empty_weights():
        network = gpt2.from_size(name)
    told = summary(network)
    assert told.parameters == COUNTS[name] == sum(p.numel() for p in network.parameters())
    assert f"{COUNTS[name]:,} parameters" in str(told) and told.rows[0].outputs == ()


def test_an_unknown_size_suggests_the_near_one():
    with pytest.raises(OptionError, match="Did you mean 'gpt2-xl'"):
        gpt2.from_size("gpt2-x")


def written(folder, network, prefix="", extra=(), **told):
    """A checkpoint as it is published: the matrices of a block are (in, out)."""
    state = {
        prefix + name: value.T if name.startswith("h.") and value.ndim == 2 else value
        for name, value in network.state_dict().items()
        if not name.startswith("lm_head")
    }
    P.save(state | dict(extra), folder / "model.safetensors")
    if told:
        (folder / "config.json").write_text(json.dumps(told))


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_checkpoint_of_gpt2_is_read(tmp_path, prefix):
    network, masks = small(), {f"{prefix}h.{n}.attn.bias": P.ones(1, 1, 6, 6) for n in range(2)}
    masks |= {f"{prefix}h.0.attn.masked_bias": P.tensor(-1e4), "lm_head.weight": network.wte.weight.detach()}
    written(tmp_path, network, prefix, masks, n_head=2, activation_function="gelu_new", resid_pdrop=0.1)
    for place in (tmp_path, tmp_path / "model.safetensors"):
        read = gpt2.load_gpt2(place)
        assert not read.training and read.lm_head is None and read.drop.p == 0.1
        assert read(tokens(2, 6)).equal(network(tokens(2, 6)))


def test_without_a_configuration_a_head_has_64_channels_and_a_head_of_its_own_is_kept(tmp_path):
    network = small(d_model=128, d_ff=20, tie_embeddings=False)
    written(tmp_path, network, extra={"lm_head.weight": network.lm_head.weight.detach()})
    read = gpt2.load_gpt2(tmp_path)
    assert read.h[0].attn.num_heads == 2
    assert read(tokens(2, 6)).equal(network(tokens(2, 6)))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"n_head": 3}, "expected d_model to be a multiple of num_heads"),
        ({"n_head": 2, "layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06; expected 1e-05"),
        ({"n_head": 2, "activation_function": "mish"}, "activation: 'mish'"),
        ({"n_head": 2, "activation_function": []}, "correct the config.json"),
        ({"n_head": 2, "resid_pdrop": "much"}, "correct the config.json"),
    ],
)
def test_a_configuration_this_network_cannot_follow_is_refused(tmp_path, told, words):
    written(tmp_path, small(), **told)
    with pytest.raises(StateError, match=words):
        gpt2.load_gpt2(tmp_path)


def test_files_that_are_no_gpt2_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        gpt2.load_gpt2(tmp_path / "gpt2.safetensors")
    P.save({"weight": P.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(StateError, match="wte.weight: missing among 1 tensors"):
        gpt2.load_gpt2(tmp_path / "other.safetensors")
    network = small()
    del network.h[1].mlp.c_proj.bias
    written(tmp_path, network, n_head=2)
    with pytest.raises(StateError, match=r"model.safetensors.*h.1.mlp.c_proj.bias is missing"):
        gpt2.load_gpt2(tmp_path)
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(StateError, match="not a JSON object"):
        gpt2.load_gpt2(tmp_path)
