"""Views of networks that are unlike the library's own: what they say is computed by hand, or they refuse."""

import numpy as np
import pytest
from untouched import untouched

import pellucid as torch
from pellucid import functional as F
from pellucid import inspect, nn
from pellucid.errors import NonFiniteError, OptionError
from pellucid.inspect import Question, TrainingRows, WeightSet, tracin
from pellucid.inspect.counterfactual import counterfactual


class Net(nn.Module):
    """`layers` by name, and a forward that is given."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs):
        return self.run(self, *inputs)


def numbers(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def by_hand(question, name):
    """The effect of each number of a Parameter, written into the network."""
    parameter = question.network.get_parameter(name)
    kept = parameter.detach().numpy().copy()
    loss = lambda: float(question.loss(question.output()).sum().item())
    found = []
    with torch.no_grad():
        now = loss()
        for k in range(kept.size):
            moved = kept.copy()
            moved.reshape(-1)[k] = 0
            parameter.assign(torch.tensor(moved))
            found.append(loss() - now)
        parameter.assign(torch.tensor(kept))
    return np.reshape(found, kept.shape)


def assert_effects(question, name):
    effects = {row.name: row.effect for row in inspect.blame(question, top=1000, method="exact").rows}
    expected = by_hand(question, name)
    for index in np.ndindex(expected.shape):
        assert effects[f"{name}[{','.join(map(str, index))}]"] == pytest.approx(expected[index], abs=1e-5)


def test_a_loss_that_is_not_finite_is_not_blamed_on_anything():
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(NonFiniteError, match="blame: the loss of this answer is nan; expected a finite number"):
        inspect.blame(Question.of(network, torch.tensor([[np.nan, 1.0]]), 1))


def test_a_hook_of_the_users_own_is_part_of_what_is_blamed():
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    network[0].register_forward_hook(lambda module, inputs, output: output * 3)
    assert_effects(Question.of(network, numbers(1, 4), 2), "0.weight")


def test_a_layer_whose_output_is_thrown_away_but_whose_weight_is_read():
    def run(self, x):
        self.a(x)
        return self.b(torch.tanh(x) @ self.a.weight)

    network = Net(run, a=nn.Linear(4, 4), b=nn.Linear(4, 3))
    assert_effects(Question.of(network, numbers(1, 4), 2), "a.weight")


class OwnConv(nn.Conv1d):
    pass


@pytest.mark.parametrize(
    ("network", "shape", "units"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Flatten(), nn.Linear(30, 3)), (1, 2, 3, 4), 5),
        (lambda: nn.Sequential(OwnConv(2, 5, 1), nn.Tanh(), nn.Flatten(), nn.Linear(30, 3)), (1, 2, 6), 5),
        (lambda: Net(lambda s, x: s.b(torch.tanh(s.a(x.permute(1, 0, 2))).mean(0)), a=nn.Linear(4, 5), b=nn.Linear(5, 3)), (1, 6, 4), 5),
        (lambda: Net(lambda s, x: s.b(s.g(F.relu(s.a(x))).flatten(1)), a=nn.Conv1d(2, 4, 1), g=nn.GroupNorm(2, 4), b=nn.Linear(24, 3)), (1, 2, 6), 8),
    ],
    ids=["linear of pictures", "own convolution", "time first", "norm after a function"],
)  # fmt: skip
def test_units_are_the_channels_of_a_layer(network, shape, units):
    assert inspect.blame(Question.of(network(), numbers(*shape), 1), of="units", top=100).parts == units


@pytest.mark.parametrize("view", [inspect.trace, inspect.attribute], ids=["trace", "attribute"])
def test_a_network_that_reads_the_dtype_is_not_explained_as_another(view):
    def run(self, x):
        return self.l(x.float() / 255 if x.dtype == np.uint8 else x)

    question = Question.of(Net(run, l=nn.Linear(4, 3)), np.array([[10, 200, 30, 255]], np.uint8), 1)
    with pytest.raises(OptionError, match="expected one answer"):
        view(question)


@pytest.mark.parametrize("view", [inspect.trace, inspect.attribute, inspect.blame], ids=["trace", "attribute", "blame"])
@pytest.mark.parametrize("wrap", [lambda y: (y, y), lambda y: {"out": y}, lambda y: [y]], ids=["tuple", "dict", "list"])
def test_an_answer_that_is_no_tensor_is_refused(view, wrap):
    question = Question.of(Net(lambda self, x: wrap(self.l(x)), l=nn.Linear(4, 3)), numbers(1, 4), 1)
    with pytest.raises(OptionError, match=r"answers with .*network\(x\)\[0\]"):
        view(question)


@pytest.mark.parametrize("of", ["weights", "units", "layers"])
def test_a_loss_that_is_a_mean_is_blamed_like_one_that_is_not(of):
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    each = inspect.blame(Question.of(network, numbers(1, 4), 1), of=of)
    mean = inspect.blame(Question.of(network, numbers(1, 4), 1, nn.CrossEntropyLoss()), of=of)
    assert [row.name for row in mean.rows] == [row.name for row in each.rows]
    assert [row.effect for row in mean.rows] == pytest.approx([row.effect for row in each.rows], abs=1e-6)


def test_a_loss_of_another_shape_is_refused():
    question = Question.of(nn.Linear(4, 3), numbers(1, 4), numbers(1, 3), lambda o, t: (o - t) ** 2)
    with pytest.raises(OptionError, match="expected the loss of each"):
        inspect.trace(question)


def test_a_loss_that_is_flat_is_told_so():
    network = nn.Linear(2, 1, bias=False)
    network.weight.assign(torch.tensor([[1.0, 2.0]]))
    why = inspect.trace(Question.of(network, torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0]]))).why
    assert "the loss is flat at this answer" in why


def test_a_large_loss_is_not_said_to_miss_its_central_difference():
    network = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    found = inspect.trace(Question.of(network, torch.tensor([[1.0, 2.0]]), torch.tensor([[300000.0]])))
    assert all(check.holds for check in found.checks)


class Counts(nn.Module):
    """Writes a buffer whenever it is called."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        with torch.no_grad():
            self.calls.assign(self.calls + 1)
        return self.l(x)


@pytest.mark.parametrize(
    "view",
    [lambda q: inspect.run_with_cache(q.network, *q.inputs), inspect.attribute, lambda q: inspect.blame(q, of="layers"), inspect.trace],
    ids=["run_with_cache", "attribute", "blame", "trace"],
)  # fmt: skip
def test_a_buffer_that_forward_writes_is_what_it_was(view):
    network = Counts()
    with untouched(network):
        view(Question.of(network, numbers(1, 4), 1))


def test_an_embedding_may_be_called_as_the_input_is():
    network = Net(
        lambda self, t: self.o(torch.tanh(self.tokens(t).sum(1))), tokens=nn.Embedding(6, 4), o=nn.Linear(4, 3)
    )
    network.input_names = ("tokens",)
    found = inspect.attribute(Question.of(network, np.array([[1, 2, 2]], np.int32), 2))
    assert abs(found.figures["tokens"].sum() - (found.answer - found.base)) < 0.01 * abs(found.answer - found.base)


def test_two_halves_that_are_nan_do_not_agree():
    x = np.ones((1, 15), np.float32)
    x[0, 3] = np.nan
    found = inspect.attribute(Question.of(nn.Linear(15, 3), x, 1), method="shapley")
    assert not next(check for check in found.checks if check.name.startswith("two halves")).holds


def rows_of(run, reduction):
    network = Net(run, a=nn.Linear(4, 3))
    x, y = numbers(5, 5, 4), np.arange(5) % 3
    batch = lambda i: (torch.tensor(x.numpy()[i]), torch.tensor(y[i]))
    rows = TrainingRows(5, batch, lambda a, b: F.cross_entropy(network(a), b, reduction=reduction))
    sets = [WeightSet({name: value.detach().numpy().copy() for name, value in network.state_dict().items()}, 0.1)]
    return network, rows, lambda: network(x[:1])[:, 1], sets


@pytest.mark.parametrize(
    ("run", "reduction"),
    [
        (lambda self, x: self.a(x.permute(1, 0, 2)).tanh().mean(0), "none"),
        (lambda self, x: self.a(x.reshape(-1, 4)).reshape(x.shape[0], -1, 3).tanh().mean(1), "none"),
        (lambda self, x: self.a(x).tanh().mean(1), "mean"),
    ],
    ids=["time first", "flat", "mean"],
)
def test_influence_of_rows_that_cannot_be_told_apart_is_refused(run, reduction):
    network, *rest = rows_of(run, reduction)
    with untouched(network), pytest.raises(OptionError, match="influence: "):
        tracin(network, *rest)


@pytest.mark.parametrize("k", [0, -1])
def test_curvature_wants_a_product(k):
    with pytest.raises(OptionError, match="k: "):
        inspect.curvature(nn.Linear(4, 3), (numbers(8, 4), np.arange(8) % 3), k=k)


@pytest.mark.parametrize("view", [inspect.curvature, inspect.loss_slice], ids=["curvature", "slice"])
def test_a_loss_that_is_nan_has_no_landscape(view):
    x = np.full((8, 4), np.nan, np.float32)
    network = nn.Linear(4, 3)
    with untouched(network), pytest.raises(OptionError, match="finite"):
        view(network, (x, np.arange(8) % 3))


@pytest.mark.parametrize("points", [0, 1])
def test_a_line_has_two_ends(points):
    network = nn.Linear(4, 3)
    with pytest.raises(OptionError, match="points: "):
        inspect.loss_line(network, network, (numbers(8, 4), np.arange(8) % 3), points=points)


def test_one_column_is_changed_where_one_value_of_it_is_enough():
    known = {"x": np.stack([np.linspace(0, 1, 1001), np.linspace(0, 1, 1001)], 1)}
    near = lambda rows: (np.abs(rows["x"][:, 0] - 0.5035) < 0.001) | (rows["x"].min(1) > 0.9)
    found = counterfactual(
        lambda rows: near(rows).astype(float), {"x": np.zeros((1, 2))}, {"a": [("x", 1, 0)], "b": [("x", 1, 1)]}, known, lambda y: y - 0.5
    )  # fmt: skip
    assert [change.column for change in found.changes] == ["a"]
    assert found.distance == pytest.approx(0.503, abs=1e-9)
