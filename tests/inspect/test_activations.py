"""Caches, patches, entries and the walk along the tape: they read what the network computes, and leave no trace."""

import numpy as np
import pytest
from family_runs import FAMILIES
from untouched import untouched

import pellucid as torch
from pellucid import nn
from pellucid.autograd import grad, walk
from pellucid.errors import GradientError, OptionError, ShapeError
from pellucid.inference.asked import RunExamples
from pellucid.inspect import Question, entries, patched, restored, run_with_cache, undisturbed
from pellucid.inspect.entries import along
from pellucid.inspect.question import score
from pellucid.runs.run import load_run


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


@pytest.fixture
def x():
    return torch.tensor([[0.5, -1.0, 2.0]])


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        return self.inner(self.inner(x))


def test_a_cache_holds_what_the_layers_gave(network, x):
    with untouched(network):
        output, cache = run_with_cache(network, x)
    assert list(cache) == ["0", "1", "2", ""]
    assert np.array_equal(cache["1"].numpy(), np.tanh(cache["0"].numpy()))
    assert np.array_equal(cache[""].numpy(), output.numpy())
    assert not cache["0"].requires_grad
    assert list(run_with_cache(network, x, layers=["1"])[1]) == ["1"]


def test_gradients_stand_beside_the_outputs(network, x):
    with untouched(network):
        _, cache = run_with_cache(network, x, grads_of=lambda output: output[0, 1])
    weight = network[2].weight.detach().numpy()
    assert np.allclose(cache.grads["1"].numpy(), weight[1:2], atol=1e-7)
    assert np.allclose(cache.grads["0"].numpy(), weight[1:2] * (1 - cache["1"].numpy() ** 2), atol=1e-6)


def test_a_layer_called_twice_has_two_names():
    network = Twice()
    x = torch.ones(1, 2)
    output, cache = run_with_cache(network, x)
    assert list(cache) == ["inner", "inner (2)", ""]
    with torch.no_grad(), patched(network, {"inner": cache["inner"] * 0}):
        assert not network(x).numpy().any()  # every call
    with torch.no_grad(), patched(network, {"inner (1)": cache["inner"] * 0}):
        assert np.allclose(network(x).numpy(), network.inner.bias.numpy())
    with torch.no_grad(), patched(network, {"inner (2)": lambda y: y * 2}):
        assert np.array_equal(network(x).numpy(), 2 * output.numpy())
        assert np.array_equal(network(x).numpy(), 2 * output.numpy())


def test_a_patch_replaces_and_an_unused_or_wrong_one_is_told(network, x):
    output, cache = run_with_cache(network, x)
    with torch.no_grad(), untouched(network), patched(network, {"1": torch.zeros(1, 4)}):
        assert np.array_equal(network(x).numpy()[0], network[2].bias.numpy())
    with torch.no_grad(), patched(network, dict(cache)):
        assert np.array_equal(network(x).numpy(), output.numpy())
    with pytest.raises(ShapeError, match=r"patched: '1' gets \(1, 3\); expected a Tensor \(1, 4\)"), patched(network, {"1": torch.zeros(1, 3)}):  # fmt: skip
        network(x)
    with pytest.raises(OptionError, match="'1' was never called inside the block"), patched(network, {"1": cache["1"]}):
        pass
    with pytest.raises(OptionError, match="no layer '3'"), patched(network, {"3": cache["1"]}):
        pass
    with pytest.raises(OptionError, match="no layer 'relu'"):
        run_with_cache(network, x, layers=["relu"])
    assert not network[1]._hooks


def test_a_patch_is_seen_by_a_compiled_function(network, x):
    run = torch.compile(network)
    with torch.no_grad():
        plain = run(x).numpy()
        with patched(network, {"1": torch.zeros(1, 4)}):
            assert np.allclose(run(x).numpy()[0], network[2].bias.numpy())
        assert np.array_equal(run(x).numpy(), plain)


def test_written_weights_are_restored_also_after_an_error(network):
    with untouched(network), pytest.raises(ValueError, match="stop"), restored(network):
        network[0].weight.assign(network[0].weight * 0)
        network.train()
        torch.rand(3)
        raise ValueError("stop")


def test_the_walk_gives_every_gradient_of_the_tape(network, x):
    loss = network(x).square().sum()
    with untouched(network):
        steps = walk(loss)
    assert steps[0].node.op.name == "sum"
    sums = [g for step in steps for parent, g in zip(step.node.parents, step.leaving, strict=True) if parent is network[0].weight]  # fmt: skip
    (expected,) = grad(loss, network[0].weight, retain_graph=True)
    assert len(sums) == 1
    assert np.allclose(sums[0].numpy(), expected.numpy())
    loss.backward()  # the tape is still there
    with pytest.raises(GradientError, match="expected a single number"):
        walk(network(x))


def test_positions_are_no_entries():
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places, self.out = nn.Embedding(9, 4), nn.Embedding(5, 4), nn.Linear(4, 9)

        def forward(self, tokens):
            return self.out((self.words(tokens) + self.places(torch.arange(tokens.shape[1]))).mean(1))

    network = Text()
    found = entries(Question.of(network, torch.tensor([[1, 2, 3]]), 4))
    assert list(found) == ["words"]
    assert found["words"].of == "input 0"
    assert found["words"].value.shape == (1, 3, 4)


def test_whole_numbers_without_an_embedding_are_refused():
    class Sums(nn.Module):
        def forward(self, x):
            return x.float().sum(1)

    with pytest.raises(OptionError, match="reads whole numbers without an nn.Embedding"):
        entries(Question.of(Sums(), torch.tensor([[1, 2, 3]])))


def test_a_question_is_of_one_example(network):
    with pytest.raises(OptionError, match=r"a Tensor \(2, 3\); expected one example"):
        Question.of(network, torch.zeros(2, 3))
    question = Question.of(network, torch.zeros(1, 3))
    with pytest.raises(OptionError, match="target: not given"):
        question.loss(question.output())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_through_its_entries_and_leaves_no_trace(family_run, family):
    examples = RunExamples(load_run(family_run(family)))
    asked = examples.ask(3)
    question = asked.question
    with untouched(question.network):
        index, value = asked.answer()
        found = entries(question)
        assert found
        with undisturbed(question.network):
            points = {
                name: along(entry, found.baseline()[name], np.array([0.0, 0.5, 1.0])) for name, entry in found.items()
            }
            answers = found.forward(points)
            assert answers.shape[0] == 3
            assert np.isclose(score(answers, index).numpy()[2], value, rtol=1e-4, atol=1e-5)
            assert not np.isclose(answers.numpy()[0], answers.numpy()[2]).all()
        output, cache = run_with_cache(question.network, *question.inputs, forward=question.forward, grads_of=lambda y: score(y, index).sum())  # fmt: skip
        moved = {path: cache[path] for path, g in cache.grads.items() if path and g is not None}
        assert moved
        with undisturbed(question.network), patched(question.network, moved):
            assert np.array_equal(question.forward(*question.inputs).numpy(), output.detach().numpy())
