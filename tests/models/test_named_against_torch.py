"""The named networks beside torchvision's and transformers', with the same weights: names, shapes, logits.

On demand, with an interpreter that has the two: `python -m pytest -m torch tests/models`.
"""

from __future__ import annotations

import numpy as np
import pytest

import pellucid as P
from pellucid.models.zoo import alexnet, bert, gpt2, resnet

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
RANDOM = np.random.default_rng(0)


def tied(name):
    return pytest.importorskip(name, reason=f"{name} is not installed; it has the network to compare with")


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "alexnet"])
def test_torchvisions_networks(name):
    torch.manual_seed(0)
    theirs = getattr(tied("torchvision").models, name)(num_classes=7)
    ours = alexnet.AlexNet(7) if name == "alexnet" else getattr(resnet, name)(7)
    with torch.no_grad():
        for buffer in theirs.buffers():  # statistics that are not those of a new network
            if buffer.ndim:
                buffer.add_(torch.rand_like(buffer))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = RANDOM.normal(size=(2, 3, 96, 96)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(x)).numpy()
    found = ours.eval()(P.tensor(x)).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(abs(expected).max(), 1))


@pytest.mark.parametrize("configured", [True, False])
def test_a_gpt2_saved_by_transformers(tmp_path, configured):
    transformers = tied("transformers")
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=301, n_positions=40, n_embd=128, n_layer=3, n_head=2)
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # biases and norms away from where they start
            parameter.add_(torch.randn_like(parameter) * 0.05)
    theirs.save_pretrained(tmp_path)
    if not configured:
        (tmp_path / "config.json").unlink()
    ours = gpt2.load_gpt2(tmp_path)
    tokens = RANDOM.integers(0, 301, (2, 40))
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
        written = theirs.generate(torch.tensor(tokens[:1, :5]), max_new_tokens=20, do_sample=False, pad_token_id=0)
    np.testing.assert_allclose(ours(P.tensor(tokens)).detach().numpy(), expected, atol=1e-4)
    assert ours.generate(tokens[0, :5], 20, temperature=0).tolist() == written[0, 5:].tolist()


def test_transformers_bert():
    transformers = tied("transformers")
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 64, "intermediate_size": 96}
    theirs = transformers.BertModel(transformers.BertConfig(vocab_size=101, max_position_embeddings=20, **sizes)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    ours = bert.BERT(bert.Config(2, 2, 64, 96, 20, 101)).eval()
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items() if "_ids" not in key})
    tokens, kinds = RANDOM.integers(0, 101, (3, 20)), RANDOM.integers(0, 2, (3, 20))
    mask = (np.arange(20) < [[20], [7], [1]]).astype(np.int64)
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens), torch.tensor(mask), torch.tensor(kinds))
    states, pooled = ours(P.tensor(tokens), P.tensor(mask), P.tensor(kinds))
    np.testing.assert_allclose(states.detach().numpy(), expected.last_hidden_state.numpy(), atol=1e-4)
    np.testing.assert_allclose(pooled.detach().numpy(), expected.pooler_output.numpy(), atol=1e-4)


@pytest.mark.parametrize("sizes", ["base", "large"])
def test_the_names_of_berts_published_sizes(sizes):
    transformers = tied("transformers")
    layers = {"base": {}, "large": {"num_hidden_layers": 24, "num_attention_heads": 16, "hidden_size": 1024,
                                    "intermediate_size": 4096}}[sizes]  # fmt: skip
    with torch.device("meta"):
        theirs = transformers.BertModel(transformers.BertConfig(**layers))
    with P.nn.init.init_empty_weights():
        ours = bert.BERT({"base": bert.BASE, "large": bert.LARGE}[sizes])
    shapes = lambda network: {name: tuple(value.shape) for name, value in network.named_parameters()}
    assert shapes(ours) == shapes(theirs)
