"""Blame: what is measured is what leaving a part out does, in every kind of layer, and the network stays as it was."""

import copy

import numpy as np
import pytest
from family_runs import FAMILIES
from untouched import untouched

import pellucid as torch
from pellucid import nn
from pellucid.errors import OptionError
from pellucid.inference.asked import RunExamples
from pellucid.inspect import Question, blame, patched
from pellucid.inspect.ablation import entry_name
from pellucid.inspect.ranks import spearman
from pellucid.models.transformer import Config, Transformer
from pellucid.nn import functional as F
from pellucid.runs.run import load_run


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


@pytest.fixture
def question(network):
    return Question.of(network, torch.tensor([[0.5, -1.0, 2.0, 0.0]]), 1)


def by_writing(question, scored=lambda q, y: q.loss(y)):
    """{name of a weight: its effect}, each written as 0 into a copy in float64."""
    network = copy.deepcopy(question.network).double().eval()
    inputs = [x.double() if x.dtype.kind == "f" else x for x in question.inputs]
    run = network.answer if hasattr(network, "answer") else network
    effects = {}
    with torch.no_grad():
        now = scored(question, run(*inputs)).item()
        for name, parameter in network.named_parameters():
            numbers = parameter.numpy().copy()
            for k in range(numbers.size):
                less = numbers.copy()
                less.flat[k] = 0
                parameter.assign(less)
                effects[entry_name(name, numbers.shape, k)] = scored(question, run(*inputs)).item() - now
            parameter.assign(numbers)
    return effects


def same_effects(found, expected):
    rows = {row.name: row.effect for row in (*found.rows, *found.against)}
    assert set(rows) <= set(expected)
    assert all(np.isclose(effect, expected[name], rtol=1e-6, atol=1e-10) for name, effect in rows.items())
    return rows


def test_all_weights_of_an_mlp(network, question):
    with untouched(network):
        found = blame(question, top=1000)
    expected = by_writing(question)
    rows = same_effects(found, expected)
    assert set(rows) == set(expected)
    assert (found.method, found.parts, found.measured) == ("exact", len(expected), len(expected))
    effects = [row.effect for row in found.rows]
    assert effects == sorted(effects)
    (g,) = torch.autograd.grad(question.loss(network(*question.inputs)).sum(), network[2].weight)
    first = {row.name: row.estimate for row in found.rows}
    assert np.isclose(first["2.weight[3,1]"], -(g * network[2].weight).detach().numpy()[3, 1], rtol=1e-4)
    assert all(check.holds for check in found.checks)
    assert [check.name for check in found.checks] == ["first order", "removal"]
    assert found.rows[0].name in found.headline()
    assert "not what training" in str(found)


def test_ranked_by_gradient_the_first_rows_are_measured(network, question):
    found = blame(question, top=5, method="gradient")
    exact = blame(question, top=5, method="exact")
    assert found.method == "gradient"
    assert found.rows == exact.rows  # 50 rows are measured of 74


def test_a_mean_over_answers_is_the_mean_of_each(network, question):
    other = Question.of(network, torch.tensor([[1.0, 1.0, -2.0, 3.0]]), 2)
    for method in ("exact", "gradient"):
        together = blame([question, other], top=1000, method=method)
        first, second = (same_effects(blame(one, top=1000), by_writing(one)) for one in (question, other))
        assert together.examples == 2
        for row in together.rows:
            assert np.isclose(row.effect, (first[row.name] + second[row.name]) / 2, atol=1e-12)


def test_the_margin_is_of_the_best_wrong_score(network, question):
    def margin(q, y):
        scores = y.numpy()[0]
        return torch.tensor([max(scores[0], scores[2]) - scores[1]], dtype=torch.float64)

    same_effects(blame(question, top=1000, measure="margin"), by_writing(question, margin))


def test_embeddings_attention_and_shared_weights():
    torch.manual_seed(1)
    network = Transformer(7, Config(num_layers=1, num_heads=2, d_model=4, context_length=4, d_ff=8))
    for parameter in network.parameters():
        parameter.data = torch.randn(*parameter.shape) * 0.5
    question = Question.of(network, torch.tensor([[1, 2, 3, 2]]), 4)
    with untouched(network):
        found = blame(question, top=5000, method="exact")
    rows = same_effects(found, by_writing(question))
    assert rows["wte.weight[4,0]"] != 0  # not read, but the answer's weights are the same
    with untouched(network):
        heads = blame(question, of="heads")
    assert [check.name for check in heads.checks if check.holds] == ["patching"]
    for row in heads.rows:
        layer, _, head = row.name.split()
        other = copy.deepcopy(network).double()
        projection = other.get_submodule(layer).c_proj.weight
        numbers = projection.detach().numpy().copy()
        numbers[:, 2 * int(head) : 2 * int(head) + 2] = 0
        with torch.no_grad():
            now = question.loss(other.answer(*question.inputs)).item()
            projection.assign(numbers)
            assert np.isclose(row.effect, question.loss(other.answer(*question.inputs)).item() - now, atol=1e-12)
    layers = {row.name: row.done for row in blame(question, of="layers").rows}
    assert (layers["h.0"], layers["h.0.mlp"], layers["ln_f"]) == ("skipped", "output set to 0", "skipped")


def test_norms_convolutions_and_frozen_weights():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    network(torch.randn(8, 1, 4, 4))  # running statistics
    network[0].weight.requires_grad_(False)
    question = Question.of(network, torch.randn(1, 1, 4, 4), 0)
    with untouched(network):
        found = blame(question, top=1000, method="exact")
    assert set(same_effects(found, by_writing(question))) == set(by_writing(question))


def test_units_are_those_of_patches(network, question):
    with untouched(network):
        found = blame(question, of="units", top=100)
    assert {row.layer for row in found.rows} == {"1", "3"}
    assert found.parts == 11
    for row in found.rows:
        unit = int(row.name[2:-1])
        with (
            torch.no_grad(),
            patched(network, {row.layer: lambda y, unit=unit: y * (torch.arange(y.shape[1]) != unit)}),
        ):
            less = question.loss(question.output()).item()
        with torch.no_grad():
            assert np.isclose(row.effect, less - question.loss(question.output()).item(), atol=1e-6)


def test_a_channel_is_one_unit():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()
    found = blame(Question.of(network, torch.randn(1, 1, 4, 4), 0), of="units")
    assert sorted(row.name for row in found.rows) == ["2[0]", "2[1]", "2[2]"]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = nn.Linear(3, 3)

    def forward(self, x):
        return x + self.branch(x)


def test_a_block_is_skipped_and_a_branch_gives_zero():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 3), Residual(), nn.Linear(3, 2))
    found = blame(Question.of(network, torch.ones(1, 3), 0), of="layers")
    done = {row.name: row.done for row in found.rows}
    assert done == {"0": "skipped", "1": "skipped", "1.branch": "output set to 0", "2": "output set to 0"}
    effects = {row.name: row.effect for row in found.rows}
    assert np.isclose(effects["1"], effects["1.branch"])


class MeetsTheBatch(nn.Module):
    """Its answer to an example depends on those beside it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        y = self.first(x).tanh()
        return self.last(y + y.mean(0))


def test_where_a_batch_would_mislead_parts_are_removed_one_at_a_time():
    torch.manual_seed(0)
    question = Question.of(MeetsTheBatch(), torch.tensor([[1.0, -2.0, 0.5]]), 1)
    same_effects(blame(question, top=100), by_writing(question))
    assert blame(question, of="units").parts == 4


def test_a_forward_of_ones_own_is_measured_in_place(network, question):
    own = Question(network, question.inputs, question.target, ("x",), lambda x: network(x) * 2, F.cross_entropy)
    own = Question(network, own.inputs, own.target, own.names, own.forward, lambda y, t: F.cross_entropy(y, t, reduction="none"))  # fmt: skip
    with untouched(network):
        found = blame(own, top=1000, method="exact")
    expected = by_writing(question, lambda q, y: q.loss(y * 2))
    for row in found.rows:
        assert np.isclose(row.effect, expected[row.name], atol=1e-5)


def test_the_same_answer_gives_the_same_bits(question):
    first, second = blame(question, method="gradient"), blame(question, method="gradient")
    assert first.to_dict() == second.to_dict()


class Breaks(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.calls = nn.Linear(2, 2), []

    def forward(self, x):
        self.calls.append(1)
        if len(self.calls) > 2:
            raise ValueError("stop")
        return self.inner(x)


def test_an_error_on_the_way_leaves_no_trace():
    network = Breaks()
    with untouched(network), pytest.raises(ValueError, match="stop"):
        blame(Question.of(network, torch.ones(1, 2), 0), of="layers")
    network = Breaks()
    own = Question(network, (torch.ones(1, 2),), torch.tensor([0]), ("x",), lambda x: network(x), lambda y, t: F.cross_entropy(y, t, reduction="none"))  # fmt: skip
    with untouched(network), pytest.raises(ValueError, match="stop"):
        blame(own, method="exact")


def test_what_cannot_be_blamed_is_told(network, question):
    with pytest.raises(OptionError, match="of='weight'; expected one of weights, units, heads, layers. Did you mean 'weights'"):  # fmt: skip
        blame(question, of="weight")
    with pytest.raises(OptionError, match="Sequential has no attention heads"):
        blame(question, of="heads")
    with pytest.raises(OptionError, match="target: not given"):
        blame(Question.of(network, question.inputs[0]))
    with pytest.raises(OptionError, match='"margin" needs the right class'):
        blame(Question.of(network, question.inputs[0], torch.zeros(1, 3)), measure="margin")
    with pytest.raises(OptionError, match="to one network"):
        blame([])


def test_ranks_as_in_scipy():
    from scipy.stats import spearmanr

    chance = np.random.default_rng(0)
    a, b = chance.integers(0, 9, 50).astype(float), chance.normal(size=50)
    assert np.isclose(spearman(a, b), spearmanr(a, b).statistic, atol=1e-12)
    assert np.isnan(spearman(a, np.ones(50)))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_blamed_and_untouched(family_run, family):
    question = RunExamples(load_run(family_run(family))).ask(3).question
    with untouched(question.network):
        for of in ("weights", "units", "heads", "layers"):
            if of == "heads" and family != "transformer":
                with pytest.raises(OptionError, match="has no attention heads"):
                    blame(question, of=of)
                continue
            found = blame(question, of=of)
            assert found.parts >= found.measured >= min(found.parts, 1)
            assert all(check.holds for check in found.checks if check.tag == "proven")
            assert str(found)
            assert found.to_dict()["of"] == of
