"""Attribution: exact cases, completeness on every family, and controls that must fail."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from family_runs import FAMILIES
from untouched import untouched

import pellucid as torch
from pellucid import nn
from pellucid.errors import OptionError, ShapeError
from pellucid.inference.asked import RunExamples
from pellucid.inference.attributed import attribution_of
from pellucid.inference.baselines import baseline_of
from pellucid.inspect import Question, attribute, entries, mean_baseline
from pellucid.inspect.attribution import METHODS
from pellucid.report.attribution_view import attribution_sections
from pellucid.runs.run import load_run

GRADIENTS = ("integrated_gradients", "saliency", "input_x_gradient")


def numbers(*shape, seed=0, dtype=np.float32):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def small(inputs=6, outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, outputs))


def columns_of(count, name="input 0"):
    return {f"c{i}": [(name, 1, i)] for i in range(count)}


def check(found, name):
    return next(one for one in found.checks if one.name == name)


@pytest.mark.parametrize("method", ["integrated_gradients", "input_x_gradient", "occlusion", "shapley"])
def test_of_a_linear_network_it_is_weight_times_distance(method):
    network, x, base = nn.Linear(5, 2), numbers(1, 5), numbers(1, 5, seed=1)
    found = attribute(Question.of(network, x), 1, method, base)
    expected = network.weight.detach().numpy()[1] * (x - base).numpy()[0]
    assert np.allclose(found.figures["input 0"], expected, atol=1e-6)


def test_an_input_that_the_network_ignores_gets_exactly_zero():
    network = small()
    with torch.no_grad():
        network[0].weight.assign(network[0].weight * torch.tensor([1.0, 1, 0, 1, 1, 1]))
    for method in METHODS:
        figures = attribute(Question.of(network, numbers(1, 6)), method=method).figures["input 0"]
        # Runs in one batch may differ in the last bit; a gradient is exact.
        assert figures[2] == 0.0 if method in GRADIENTS else abs(figures[2]) < 1e-6
        assert (abs(figures) > 1e-4).sum() == 5


def test_two_copies_of_an_input_share_equally():
    network = small()
    with torch.no_grad():
        weight = network[0].weight.numpy().copy()
        weight[:, 4] = weight[:, 1]
        network[0].weight.assign(torch.tensor(weight))
    x = numbers(1, 6).numpy().copy()
    x[0, 4] = x[0, 1]
    for method in METHODS:
        figures = attribute(Question.of(network, torch.tensor(x)), method=method).figures["input 0"]
        assert figures[1] != 0
        assert np.isclose(figures[1], figures[4], rtol=1e-4)


def test_shapley_values_of_few_columns_are_those_of_all_orders():
    network = small(5, 2).double()
    x, base = numbers(1, 5, dtype=np.float64), numbers(1, 5, seed=3, dtype=np.float64)
    found = attribute(Question.of(network, x), 0, "shapley", base, columns=columns_of(5))
    worth = {}
    for present in itertools.product([False, True], repeat=5):
        row = np.where(present, x.numpy(), base.numpy())
        with torch.no_grad():
            worth[present] = float(network(torch.tensor(row)).numpy()[0, 0])
    expected = np.zeros(5)
    for order in itertools.permutations(range(5)):
        present = [False] * 5
        for player in order:
            before = worth[tuple(present)]
            present[player] = True
            expected[player] += (worth[tuple(present)] - before) / math.factorial(5)
    assert np.allclose(list(found.columns.values()), expected, atol=1e-9)
    assert check(found, "efficiency").holds
    sampled = attribute(Question.of(network, x), 0, "shapley", base, permutations=2000)
    assert np.allclose(sampled.figures["input 0"], expected, atol=0.02)
    assert not np.allclose(sampled.figures["input 0"], expected, atol=1e-9)


def test_integrated_gradients_add_up_and_the_product_with_one_gradient_does_not():
    question = Question.of(small(), numbers(1, 6) * 3)
    found = attribute(question, 1)
    difference = found.answer - found.base
    assert found.error <= 0.01 * abs(difference) + 1e-4
    assert check(found, "completeness").holds
    assert "input x gradient off by" in check(found, "completeness").control
    control = attribute(question, 1, "input_x_gradient")
    assert control.error > 0.01 * abs(difference) + 1e-4


def test_what_does_not_add_up_is_told_in_the_same_line():
    class Step(nn.Module):
        def forward(self, x):
            return (x > 0.5).float().sum(1) + 0.0 * x.sum(1)

    found = attribute(Question.of(Step(), torch.ones(1, 2)), n_steps=200)
    line = str(check(found, "completeness"))
    assert "off by 2 (100%) with 400 points" in line
    assert line.endswith("MISSED")


def test_points_are_doubled_until_they_add_up():
    class Wave(nn.Module):
        def forward(self, x):
            return (x * 40).sin().sum(1) + x.sum(1)

    question = Question.of(Wave(), torch.ones(1, 2))
    assert attribute(question, n_steps=8).n_steps > 8
    assert attribute(Question.of(nn.Linear(2, 1), torch.ones(1, 2)), n_steps=8).n_steps == 8


def test_the_strongest_parts_matter_more_than_others():
    found = attribute(Question.of(small(), numbers(1, 6)), 0)
    assert check(found, "deletion").holds
    assert "random ones" in check(found, "deletion").control
    network = nn.Linear(10, 1)
    with torch.no_grad():
        network.weight.assign(torch.tensor([[5.0] + [-0.1] * 9]))
        network.bias.assign(torch.tensor([0.0]))
    found = attribute(Question.of(network, torch.ones(1, 10)))
    assert "the strongest 2 of 10 places it falls by 4.9" in check(found, "deletion").said


def test_windows_of_a_picture_are_those_of_occlusion():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 7 * 6, 2))
    x = numbers(1, 2, 7, 6)
    found = attribute(Question.of(network, x), 1, "occlusion", window=3)
    total, times = np.zeros((2, 7, 6)), np.zeros((2, 7, 6))
    with torch.no_grad():
        whole = network(x).numpy()[0, 1]
        for i in range(7 - 2):  # a window of 3 moves by 1
            for j in range(6 - 2):
                away = x.numpy().copy()
                away[..., i : i + 3, j : j + 3] = 0
                total[:, i : i + 3, j : j + 3] += whole - network(torch.tensor(away)).numpy()[0, 1]
                times[:, i : i + 3, j : j + 3] += 1
    assert found.pictures == ("input 0",)
    assert np.allclose(found.figures["input 0"], total / times, atol=1e-5)
    assert found.map("input 0").shape == (7, 6)


def test_tokens_have_a_figure_each():
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = nn.Embedding(9, 4), nn.Linear(4, 3)

        def forward(self, tokens):
            return self.out(self.words(tokens).tanh().mean(1))

    torch.manual_seed(0)
    question = Question.of(Text(), torch.tensor([[1, 2, 3, 2]]))
    for method in METHODS:
        with untouched(question.network):
            found = attribute(question, 2, method)
        assert found.figures["input 0"].shape == (4,)
        assert np.isclose(found.figures["input 0"][1], found.figures["input 0"][3], rtol=1e-4)
    assert attribute(question, 2).error < 1e-4


class Row(nn.Module):
    """A number, a category and a text, as tables have them."""

    input_names = ("numbers", "categories", "text", "text_weights")

    def __init__(self):
        super().__init__()
        self.table, self.bags, self.out = nn.Embedding(4, 3), nn.EmbeddingBag(9, 3, mode="sum"), nn.Linear(8, 2)

    def forward(self, numbers, categories, text, weights):
        words = self.bags(text.flatten(0, 1), per_sample_weights=weights.flatten(0, 1))
        return self.out(torch.cat([numbers, self.table(categories).flatten(1), words], 1).tanh())


def a_row():
    torch.manual_seed(0)
    inputs = numbers(1, 2), torch.tensor([[2]]), torch.tensor([[[3, 5, 0]]]), torch.tensor([[[0.8, 0.4, 0.0]]])
    columns = {"size": [("numbers", 1, 0)], "age": [("numbers", 1, 1)], "city": [("categories", 1, 0)],
               "words": [("text", 1, 0), ("text_weights", 1, 0)]}  # fmt: skip
    return Question.of(Row(), inputs), columns


@pytest.mark.parametrize("method", METHODS)
def test_a_column_has_one_figure_whatever_it_is_read_as(method):
    question, columns = a_row()
    with untouched(question.network):
        found = attribute(question, 1, method, columns=columns)
    assert list(found.columns) == list(columns)
    assert all(found.columns.values())
    assert found.figures["text_weights"].shape == (1, 3)
    assert method in ("occlusion", "shapley") or found.figures["text_weights"][0, 2] == 0.0  # padding
    if method in ("integrated_gradients", "shapley"):
        assert np.isclose(sum(found.columns.values()), found.answer - found.base, atol=1e-3)
    if method == "occlusion":
        no_words = (*question.inputs[:3], question.inputs[3] * 0)
        with torch.no_grad():
            assert np.isclose(
                found.columns["words"], found.answer - question.network(*no_words).numpy()[0, 1], atol=1e-6
            )


def test_the_mean_baseline_is_that_of_numbers_and_of_what_is_looked_up():
    question, columns = a_row()
    many = (
        numbers(5, 2, seed=4),
        torch.tensor([[0], [0], [0], [1], [3]]),
        torch.zeros(5, 1, 3).long(),
        torch.zeros(5, 1, 3),
    )
    with untouched(question.network):
        baseline = mean_baseline(entries(question), many, "the mean of five")
    table = question.network.table.weight.detach().numpy()
    assert np.allclose(baseline.values["table"].numpy()[0, 0], (3 * table[0] + table[1] + table[3]) / 5, atol=1e-6)
    assert np.allclose(baseline.values["numbers"].numpy()[0], many[0].numpy().mean(0), atol=1e-6)
    found = attribute(question, baselines=baseline, columns=columns)
    assert "baseline: the mean of five" in str(found)
    assert np.isclose(sum(found.columns.values()), found.answer - found.base, atol=1e-3)


def test_wrong_wishes_are_refused():
    question = Question.of(small(), numbers(1, 6))
    with pytest.raises(OptionError, match="method: 'lime'; expected one of integrated_gradients"):
        attribute(question, method="lime")
    with pytest.raises(OptionError, match="target: 3; expected 0 to 2"):
        attribute(question, 3)
    with pytest.raises(ShapeError, match=r"baselines: 'input 0' is \(1, 5\); expected \(1, 6\)"):
        attribute(question, baselines=numbers(1, 5))
    with pytest.raises(OptionError, match="baselines: 'x'; expected names among input 0"):
        attribute(question, baselines={"x": numbers(1, 6)})
    with pytest.raises(OptionError, match="n_steps: 0"):
        attribute(question, n_steps=0)
    with pytest.raises(OptionError, match="expected orders of the 6 players"):
        attribute(question, method="shapley", permutations=np.zeros((2, 6), np.int64))


def test_a_network_that_fails_is_left_as_it_was():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.calls = nn.Linear(3, 2), 0

        def forward(self, x):
            if len(x) > 1:
                raise ValueError("stop")
            return self.layer(x)

    network = Failing()
    for method in METHODS:
        with untouched(network), pytest.raises(ValueError, match="stop"):
            attribute(Question.of(network, numbers(1, 3)), method=method)


def test_a_result_without_the_example_holds_no_map_of_a_picture():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    found = attribute(Question.of(network, numbers(1, 1, 4, 4)))
    assert "input 0" in found.to_dict()["figures"]
    private = dataclasses.replace(found, shows_example=False, labels=("secret",), cells={"a": "secret"}).to_dict()
    assert private["figures"] == {}
    assert "secret" not in str(private)
    assert "sums of its thirds" in str(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_attributed_completely_and_leaves_no_trace(family_run, family):
    examples = RunExamples(load_run(family_run(family)))
    for row in (2, 3, 5):
        asked = examples.ask(row)
        with untouched(asked.question.network):
            found = attribute(asked.question, baselines=baseline_of(examples, asked), columns=asked.columns)
        assert found.error <= 0.01 * abs(found.answer - found.base) + 1e-4, (family, row)
        assert np.isclose(found.answer, asked.answer()[1], rtol=1e-4, atol=1e-5)
        if found.columns:
            assert np.isclose(sum(found.columns.values()), found.answer - found.base, atol=found.error + 1e-5)
            assert list(found.columns) == list(asked.columns)


def test_a_table_by_another_baseline_and_for_another_answer(family_run):
    run = family_run("plain table")
    examples = RunExamples(load_run(run))
    asked = examples.ask(2)
    found = attribution_of(examples, asked, target="yes", baseline=str(run.parent / "people.csv"))
    other = attribution_of(examples, asked, target="no", baseline="zero")
    assert found.target_name == "yes"
    assert (found.target, other.target) == (1, 0)
    assert "the first example of" in str(found)
    first = examples.ask_new(str(run.parent / "people.csv"))
    with torch.no_grad():
        expected = first.question.output().numpy()[0, 1]
    assert np.isclose(found.base, expected, atol=1e-5)
    assert "baseline: zeros" in str(other)
    with pytest.raises(OptionError, match="--answer maybe: no answer of this network; expected one of 'no', 'yes'"):
        attribution_of(examples, asked, target="maybe")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_view_by_every_method(family_run, family):
    examples = RunExamples(load_run(family_run(family)))
    asked = examples.ask(3)
    for method in METHODS:
        with untouched(asked.question.network):
            found = attribution_of(examples, asked, method, with_examples=True)
            private = attribution_of(examples, asked, method)
            sections, hidden = attribution_sections(found, asked), attribution_sections(private, asked)
        assert found.checks
        assert all(one.holds for one in found.checks if one.name in ("completeness", "efficiency")), found.checks
        assert len(str(found).splitlines()) <= 40
        assert max(map(len, str(found).splitlines())) <= 130
        assert sections
        assert hidden
        if found.pictures:
            assert "data:image/png" in "".join(sections)
            assert "data:image/png" not in "".join(hidden)
            assert private.to_dict()["figures"] == {}
        if found.labels:
            assert "attributed" in "".join(sections)
            assert "attributed" not in "".join(hidden)
            assert "labels" not in private.to_dict()
