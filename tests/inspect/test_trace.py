"""Trace: the numbers of one step of training against backward passes, differences, optimizers and arithmetic by hand."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from family_runs import FAMILIES
from untouched import untouched

import pellucid as torch
from pellucid import functional as F
from pellucid import nn, optim
from pellucid.cli import cli
from pellucid.errors import OptionError
from pellucid.inference.asked import RunExamples
from pellucid.inspect import Question, chain_rule, trace
from pellucid.inspect.chain_rule import Tape
from pellucid.inspect.trace import LEAST, central_difference, copied
from pellucid.report.trace_view import trace_page
from pellucid.runs.run import load_run


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.out = nn.Conv2d(4, 5, 3), nn.Linear(20, 3)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        x = F.gelu(self.norm(self.pool(self.first(x))))
        return self.out(F.relu(self.second(x)).flatten(1))


class Recurrence(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.lstm, self.out = nn.Embedding(7, 5), nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 7)

    def forward(self, tokens):
        return self.out(self.lstm(self.words(tokens))[0][:, -1])


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(7, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.out = nn.Linear(8, 7)

    def forward(self, tokens):
        return self.out(self.block(self.words(tokens))[:, -1])


def perceptron():
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 3))


def questions():
    """A network of each kind with one example; untrained, as a trace needs no training."""
    torch.manual_seed(0)
    x, image, tokens = torch.randn(1, 6), torch.randn(1, 1, 8, 8), torch.tensor([[1, 4, 4, 2, 6]])
    return {
        "mlp": Question.of(perceptron(), x, 1),
        "cnn": Question.of(Convolutions(), image, 2),
        "lstm": Question.of(Recurrence(), tokens, 3),
        "transformer": Question.of(Attending(), tokens, 3),
    }


KINDS = ("mlp", "cnn", "lstm", "transformer")


@pytest.fixture
def question(request):
    return questions()[request.param]


def hand_made():
    """2 inputs, 2 sigmoids, 1 output: small enough for arithmetic by hand."""
    network = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1))
    network[0].weight.assign(torch.tensor([[0.5, -1.0], [2.0, 0.25]]))
    network[0].bias.assign(torch.tensor([0.1, -0.2]))
    network[2].weight.assign(torch.tensor([[1.5, -0.5]]))
    network[2].bias.assign(torch.tensor([0.3]))
    return network


def test_the_four_moves_are_those_of_arithmetic_by_hand():
    x, target = np.array([0.4, -0.7]), 1.2
    network = hand_made()
    w1, b1, w2, b2 = (p.detach().numpy().astype(np.float64) for p in network.parameters())
    z = w1 @ x.astype(np.float32) + b1
    y = 1 / (1 + np.exp(-z))
    out = float((w2 @ y)[0] + b2[0])
    t = float(np.float32(target))
    found = trace(
        Question.of(network, torch.tensor(x[None]).float(), torch.tensor([[target]])),
        "0.weight[1,0]",
        learning_rate=0.1,
    )
    assert found.loss == pytest.approx((out - t) ** 2, rel=1e-12)
    f = found.factors
    assert f.z == pytest.approx(z[1])
    assert f.y == pytest.approx(y[1])
    assert f.arriving == pytest.approx(2 * (out - t) * w2[0, 1], rel=1e-12)
    assert f.slope == pytest.approx(y[1] * (1 - y[1]), rel=1e-12)
    assert f.local == np.float32(0.4)
    assert found.gradient == pytest.approx(f.arriving * f.slope * f.local, rel=1e-12)
    assert found.paths.count == 1
    assert found.paths.top[0].weights == (w2[0, 1],)
    assert found.step.new == np.float32(np.float32(2.0) - np.float32(0.1) * np.float32(found.step.gradient))
    assert f"({out:.6g} - {t:.6g})^2" in found.formula
    text = str(found)
    assert [text.index(move) for move in ("1 forward", "2 loss", "3 backward", "4 step")] == sorted(
        text.index(move) for move in ("1 forward", "2 loss", "3 backward", "4 step")
    )
    assert found.step.after_one < found.step.loss
    assert found.step.after_all < found.step.after_one
    assert "overshoots" not in text
    far = trace(Question.of(network, torch.tensor(x[None]).float(), torch.tensor([[target]])), learning_rate=0.5)
    assert far.step.after_all > far.loss
    assert "The step of all weights overshoots" in str(far)


@pytest.mark.parametrize("question", KINDS, indirect=True)
def test_every_check_holds_and_nothing_changes(question):
    network = question.network
    weights = {name: p.shape for name, p in network.named_parameters()}
    with untouched(network):
        for name, shape in weights.items():
            found = trace(question, (name, tuple(size // 2 for size in shape)))
            assert all(check.holds for check in found.checks), found
            assert sum(p.contribution for p in found.places) == pytest.approx(found.gradient, rel=1e-10, abs=1e-18)


@pytest.mark.parametrize("question", KINDS, indirect=True)
def test_the_new_weight_is_that_of_sgd_bit_for_bit(question):
    found = trace(question, learning_rate=0.3)
    network = copied(question).network
    copy = type(question)(network, question.inputs, question.target, question.names, network, question.losses)
    sgd = optim.SGD(network.parameters(), lr=0.3)
    network.eval()
    copy.loss(copy.output()).mean().backward()
    sgd.step()
    path, index = re.fullmatch(r"(.*)\[(.*)\]", found.weight).groups()
    stepped = network.get_parameter(path).detach().numpy()[tuple(map(int, index.split(",")))]
    assert stepped.dtype == np.float32
    assert float(stepped) == found.step.new
    assert found.step.new != found.step.old


def test_an_optimizer_of_its_own_takes_its_first_step():
    question = questions()["mlp"]
    found = trace(question, "2.weight[0,1]", 0.01, lambda network: [optim.Adam(network.parameters(), lr=0.01)])
    assert found.step.optimizer == "Adam"
    assert found.step.own == pytest.approx(found.step.old - 0.01 * np.sign(found.gradient), abs=1e-5)
    assert "Adam, which rescales each gradient" in str(found)


def test_without_a_weight_it_is_the_most_blamed_of_the_first_layer():
    question = questions()["mlp"]
    network = question.network
    question.loss(question.output()).sum().backward()
    blame = np.abs(network[0].weight.grad.numpy() * network[0].weight.detach().numpy())
    i, j = np.unravel_index(blame.argmax(), blame.shape)
    assert trace(question).weight == f"0.weight[{i},{j}]"


def test_zero_gradients_say_why():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    network[0].bias.assign(torch.tensor([9.0, -9.0, 9.0, 9.0]))
    numbers = network[2].weight.detach().numpy().copy()
    numbers[:, 2] = 0
    network[2].weight.assign(torch.tensor(numbers))
    x = torch.tensor([[0.5, 0.0, -0.3]])
    question = Question.of(network, x, 0)
    for weight, words in (
        ("0.weight[0,1]", "the input that it multiplies is 0"),
        ("0.weight[1,0]", "its unit is off"),
        ("0.weight[2,0]", "the loss does not see its unit"),
    ):
        found = trace(question, weight)
        assert found.gradient == 0, weight
        assert words in found.why, weight
        assert found.step.new == found.step.old
        assert all(check.holds for check in found.checks)
    assert not trace(question, "0.weight[0,0]").why
    network[0].weight.requires_grad_(False)
    frozen = trace(question, "0.weight[0,0]")
    assert frozen.gradient != 0
    assert "frozen" in frozen.why
    assert frozen.step.new == frozen.step.old
    words = trace(questions()["lstm"], "words.weight[0,1]")  # token 0 is not in the text
    assert words.factors is None
    assert "nothing that the loss depends on reads it" in words.why


def test_pooling_that_takes_another_place_is_told():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 1, 1, bias=False), nn.Linear(1, 2)

        def forward(self, x):
            return self.out(F.max_pool2d(self.conv(x), 2).flatten(1))

    torch.manual_seed(0)
    network = Pooled()
    network.conv.weight.assign(torch.tensor([[[[1.0]]]]))
    found = trace(Question.of(network, torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 1), "conv.weight[0,0,0,0]")
    assert [p.name for p in found.places] == [
        "row 0, column 0",
        "row 0, column 1",
        "row 1, column 0",
        "row 1, column 1",
    ]
    assert [p.contribution != 0 for p in found.places] == [False, False, False, True]


def test_steps_and_positions_of_shared_weights_are_named():
    question = questions()["lstm"]
    assert [p.name for p in trace(question, "lstm.weight_hh_l0[2,3]").places] == [f"step {k}" for k in range(1, 6)]
    assert [p.name for p in trace(question, "lstm.weight_ih_l0[2,3]").places] == [f"position {k}" for k in range(5)]
    assert [p.name for p in trace(question, "words.weight[4,1]").places] == ["position 1", "position 2"]
    gate = trace(question, "lstm.weight_hh_l0[2,3]")
    assert gate.factors.sources[1].startswith("the slope of sigmoid at z = ")
    assert gate.factors.z is not None


def test_paths_end_earlier_where_there_are_too_many(monkeypatch):
    question = questions()["mlp"]
    whole = trace(question, "0.weight[0,0]")
    live = trace(question).paths
    assert whole.paths.count == live.count == 16 * 3
    monkeypatch.setattr("pellucid.inspect.paths.MOST_PATHS", 20)
    found = trace(question)
    assert (found.paths.count, found.paths.whole) == (16, 48)
    assert found.paths.total == pytest.approx(live.total, rel=1e-12)
    assert "too many" in str(found)


def test_a_wrong_slope_fails_the_checks(monkeypatch):
    """The control: had the slopes been left out, the checks would say so."""
    monkeypatch.setattr(Tape, "slopes", lambda self, total, out: np.full(total.shape, 0.9))
    found = trace(questions()["mlp"])
    assert [check.holds for check in found.checks] == [True, False, False, True]
    assert "MISSED" in str(found)


def test_a_forgotten_place_fails_the_checks(monkeypatch):
    places = Tape.places

    def without_the_largest(self, weight, index):
        return sorted(places(self, weight, index), key=lambda p: abs(p.contribution))[:-1]

    monkeypatch.setattr(Tape, "places", without_the_largest)
    found = trace(questions()["cnn"])
    assert not found.checks[0].holds


def test_wrong_weights_are_refused_with_the_names_there_are():
    question = questions()["mlp"]
    with untouched(question.network):
        for weight, words in (
            ("5.weight[0,0]", r"no '5.weight' in Sequential; expected one of 0.weight \(24, 6\), 0.bias \(24,\)"),
            (
                "0.weight",
                r"expected an index into 0.weight \(24, 6\), counted from 0; write for example 0.weight\[23,5\]",
            ),
            ("0.weight[24,0]", "expected an index"),
            ("0.weight[1]", "expected an index"),
            ("0.weight[-1,0]", "expected an index"),
            ("0.weight[a,0]", "no '0.weight.a,0.'|expected an index"),
            (("0.weight", (0, 6)), "expected an index"),
        ):
            with pytest.raises(OptionError, match=words):
                trace(question, weight)
        with pytest.raises(OptionError, match="target: not given"):
            trace(Question.of(question.network, question.inputs))


def test_other_losses_and_networks_without_weights():
    x = torch.tensor([[0.2, 0.4]])
    with pytest.raises(OptionError, match="depends on none of its weights"):
        trace(Question.of(nn.ReLU(), x, torch.tensor([[1.0, 1.0]])))
    own = Question.of(nn.Linear(2, 2), x, torch.tensor([[1.0, 0.0]]), losses=lambda y, t: (y - t).abs().sum(1))
    found = trace(own)
    assert found.formula.startswith("the loss of the network's 2 outputs = ")
    labels = Question.of(nn.Linear(2, 2), x, torch.tensor([[1.0, 0.0]]), losses=lambda y, t: F.binary_cross_entropy_with_logits(y, t, reduction="none").mean(1))  # fmt: skip
    assert trace(labels).formula.startswith("(-log(")


def test_the_inputs_dtype_is_the_users():
    question = questions()["mlp"]
    double = copied(question, np.float64)
    assert double.inputs[0].dtype == np.float64
    assert question.inputs[0].dtype == np.float32
    assert next(question.network.parameters()).dtype == np.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_traced_without_a_trace(family_run, family):
    asked = RunExamples(load_run(family_run(family))).ask(3)
    with untouched(asked.question.network):
        found = trace(asked.question)
    assert all(check.holds for check in found.checks), found
    assert found.layers
    assert len(str(found).splitlines()) <= 37  # a screen, with three lines of the command
    assert max(map(len, str(found).splitlines())) <= 100
    assert trace_page(found, asked.name, "").sections


def test_a_table_of_folds_has_paths_through_one_fold(family_run):
    asked = RunExamples(load_run(family_run("table"))).ask(3)
    question = asked.question
    fold, unit = 2, 0
    question.loss(question.output()).sum().backward()
    g = question.network.layers[0].weight.grad.numpy()[fold]
    unit, j = (int(i) for i in np.unravel_index(np.abs(g).argmax(), g.shape))
    question.network.zero_grad()
    found = trace(question, f"layers.0.weight[{fold},{unit},{j}]")
    assert found.gradient == pytest.approx(g[unit, j], rel=0.05)  # of a sure answer, in float32
    assert found.paths is not None
    assert all(check.holds for check in found.checks)


def test_the_new_weight_is_that_of_train(family_run):
    run = load_run(family_run("mlp"))
    question = RunExamples(run).ask(3).question
    lr = run.config.settings.lr
    found = trace(question, learning_rate=lr)
    network = run.network().eval()
    sgd = optim.SGD(network.parameters(), lr=lr)
    network.training_step(*question.inputs, question.target)["loss"].backward()
    sgd.step()
    path, index = re.fullmatch(r"(.*)\[(.*)\]", found.weight).groups()
    assert float(network.get_parameter(path).detach().numpy()[tuple(map(int, index.split(",")))]) == found.step.new


def test_the_command_prints_a_screen_and_writes_a_page(family_run):
    run = family_run("mlp")
    result = CliRunner().invoke(cli, ["trace", str(run), "--example", "3", "--step-size", "0.1"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) <= 40
    assert [line[:2] for line in lines if re.match("[1-4] [a-z]", line)] == ["1 ", "2 ", "3 ", "4 "]
    assert lines[-1].startswith("next    pellucid ")
    page = (run / "inspect" / "trace.html").read_text()
    assert page.index("1 forward") < page.index("2 loss") < page.index("3 backward") < page.index("4 step")
    assert "holds no row, picture or text of your data" in page
    assert "data:image" not in page
    assert "<svg" in page
    assert " style=" not in page.partition("<svg")[2].partition("</svg>")[0]
    numbers = json.loads((run / "inspect" / "trace.json").read_text())
    assert numbers["step"]["learning_rate"] == 0.1
    result = CliRunner().invoke(cli, ["trace", str(run), "--weight", "layers.0.weight[3,20]", "--json"])
    said = json.loads(result.output)
    assert said["weight"] == "layers.0.weight[3,20]"
    assert said["step"]["optimizer"] == "Adam"
    for wrong, words in (("--weight", "no 'layers.9.weight' in MLP"), ("--step-size", "--step-size")):
        result = CliRunner().invoke(cli, ["trace", str(run), wrong, "layers.9.weight" if wrong == "--weight" else "0"])
        assert result.exit_code == 2
        assert words in result.output


@pytest.mark.slow
@pytest.mark.parametrize("question", KINDS, indirect=True)
def test_two_hundred_live_weights(question):
    """Sums and products to 1e-10, factors to 1e-14, differences within 1e-6 and 1e-9, signs of 99.9% above 1e-6."""
    double = copied(question, np.float64)
    random = np.random.default_rng(0)
    double.network.eval()
    output = double.output()
    loss = double.loss(output).sum()
    loss.backward(retain_graph=True)
    live = [
        (name, tuple(int(i) for i in index))
        for name, p in double.network.named_parameters()
        for index in np.argwhere(p.grad.numpy())
    ]
    picked = [live[i] for i in random.choice(len(live), min(200, len(live)), replace=False)]
    right = counted = 0
    for name, index in picked:
        found = trace(question, (name, index))
        assert all(check.holds for check in found.checks), found
        if abs(found.gradient) > 1e-6:
            counted += 1
            fresh = copied(question, np.float64)
            right += np.sign(central_difference(fresh, name, index)) == np.sign(found.gradient)
    assert len(picked) == 200
    assert right >= 0.999 * counted
    assert LEAST == 1e-9
    assert chain_rule.MOST_PATHS == 100_000
