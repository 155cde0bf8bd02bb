"""Recurrent layers against loops over single positions, their gradients against differences, and their complaints."""

import numpy as np
import pytest
from layer_checks import check_gradients, same_losses_compiled

import pellucid as P
from pellucid import nn
from pellucid.errors import DTypeError, IndexRangeError, OptionError, ShapeError
from pellucid.inspect import summary

RANDOM = np.random.default_rng(0)
T, B, C, H = 5, 3, 2, 4
X = RANDOM.normal(size=(T, B, C))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def advance(kind, weights, x, state):
    """The next state after x (B, C), the formulas as the papers have them; weights by the names of a cell."""
    h = state[0]
    inside = x @ weights["weight_ih"].T + weights.get("bias_ih", 0)
    past = h @ weights["weight_hh"].T + weights.get("bias_hh", 0)
    if kind == "LSTM":
        i, f, g, o = np.split(inside + past, 4, 1)
        c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if kind == "GRU":
        (xr, xz, xn), (hr, hz, hn) = np.split(inside, 3, 1), np.split(past, 3, 1)
        z = sigmoid(xz + hz)
        return ((1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h,)
    return (np.maximum(inside + past, 0) if kind == "relu" else np.tanh(inside + past),)


def walk(layer, x, lengths=None, start=None):
    """Output (T, B, D H) and states (L D, B, H) of a layer in NumPy, example by example and position by position."""
    kind = "relu" if getattr(layer, "nonlinearity", "") == "relu" else type(layer).__name__
    lengths = [len(x)] * x.shape[1] if lengths is None else lengths
    state = {name: value.array for name, value in layer.state_dict().items()}
    count = 2 if kind == "LSTM" else 1
    finals, below = [], x
    for layer_number in range(layer.num_layers):
        outputs = []
        for direction in ["", "_reverse"][: 1 + layer.bidirectional]:
            suffix = f"_l{layer_number}{direction}"
            weights = {name.removesuffix(suffix): value for name, value in state.items() if name.endswith(suffix)}
            y = np.zeros((*x.shape[:2], layer.hidden_size))
            last = np.zeros((count, x.shape[1], layer.hidden_size))
            for b, length in enumerate(lengths):
                now = tuple(
                    np.zeros((count, 1, layer.hidden_size)) if start is None else start[:, len(finals), b : b + 1]
                )
                for t in reversed(range(length)) if direction else range(length):
                    now = advance(kind, weights, below[t, b : b + 1], now)
                    y[t, b] = now[0][0]
                last[:, b] = np.stack(now)[:, 0]
            finals.append(last)
            outputs.append(y)
        below = np.concatenate(outputs, -1)
    return below, np.stack(finals, 1)  # (T, B, D H), (states, L D, B, H)


LAYERS = [
    "RNN(2, 4)", "RNN(2, 4, 2, 'relu', bidirectional=True)", "RNN(2, 4, bias=False)",
    "LSTM(2, 4)", "LSTM(2, 4, 2)", "LSTM(2, 4, 2, bidirectional=True)", "LSTM(2, 4, bias=False)",
    "GRU(2, 4)", "GRU(2, 4, 2, bidirectional=True)", "GRU(2, 4, 1, False)",
]  # fmt: skip


def build(text, **options):
    kind, arguments = text.split("(", 1)
    return eval(f"nn.{kind}({arguments[:-1]}, **options)", {"nn": nn, "options": options})


def states(found):
    return np.stack([part.array for part in (found if isinstance(found, tuple) else (found,))])


@pytest.mark.parametrize("text", LAYERS)
def test_every_position_and_the_last_state(text):
    layer = build(text, dtype=P.float64)
    y, final = layer(P.tensor(X))
    expected, last = walk(layer, X)
    np.testing.assert_allclose(y.array, expected, atol=1e-12)
    np.testing.assert_allclose(states(final), last, atol=1e-12)


@pytest.mark.parametrize("text", LAYERS)
def test_from_a_given_state_in_every_form(text):
    layer = build(text, dtype=P.float64)
    count, rows = (2 if "LSTM" in text else 1), layer.num_layers * (1 + layer.bidirectional)
    start = RANDOM.normal(size=(count, rows, B, H))
    hx = tuple(P.tensor(part) for part in start) if count == 2 else P.tensor(start[0])
    expected, last = walk(layer, X, start=start)
    y, final = layer(P.tensor(X), hx)
    np.testing.assert_allclose(y.array, expected, atol=1e-12)
    np.testing.assert_allclose(states(final), last, atol=1e-12)
    other = build(text, dtype=P.float64, batch_first=True)
    other.load_state_dict(layer.state_dict())
    y, final = other(P.tensor(X.swapaxes(0, 1)), hx)
    np.testing.assert_allclose(y.array, expected.swapaxes(0, 1), atol=1e-12)
    np.testing.assert_allclose(states(final), last, atol=1e-12)
    for one in (layer, other):  # one sequence without a batch
        y, final = one(P.tensor(X[:, 1]), tuple(part[:, 1] for part in hx) if count == 2 else hx[:, 1])
        np.testing.assert_allclose(y.array, expected[:, 1], atol=1e-12)
        np.testing.assert_allclose(states(final), last[:, :, 1], atol=1e-12)


@pytest.mark.parametrize("text", LAYERS)
def test_lengths_are_sequences_of_their_own(text):
    layer, lengths = build(text, dtype=P.float64), [2, 5, 0]
    expected, last = walk(layer, X, lengths)
    y, final = layer(P.tensor(X), lengths=P.tensor(lengths))
    np.testing.assert_allclose(y.array, expected, atol=1e-12)
    np.testing.assert_allclose(states(final), last, atol=1e-12)
    alone, end = layer(P.tensor(X[:2, :1]))  # what lies behind an example's end changes nothing
    np.testing.assert_allclose(y.array[:2, :1], alone.array, atol=1e-12)
    np.testing.assert_allclose(states(final)[:, :, :1], states(end), atol=1e-12)


@pytest.mark.parametrize("text", ["RNN(2, 2)", "LSTM(2, 2, bidirectional=True)", "GRU(2, 2, 2)"])
def test_gradients(text):
    def call(layer, **options):
        def function(x, *hx):
            y, final = layer(x, hx if len(hx) > 1 else hx[0], **options)
            parts = final if isinstance(final, tuple) else (final,)
            return P.cat([y.reshape(-1), *(part.reshape(-1) for part in parts)])

        return function

    layer = build(text, dtype=P.float64)
    rows = layer.num_layers * (1 + layer.bidirectional)
    start = RANDOM.normal(size=(2 if "LSTM" in text else 1, rows, 2, 2))
    assert check_gradients(layer, X[:3, :2], *start, call=call(layer))
    assert check_gradients(build(text, dtype=P.float64), X[:3, :2], *start, call=call(layer, lengths=P.tensor([1, 3])))


@pytest.mark.parametrize("text", ["RNNCell(2, 4)", "RNNCell(2, 4, False, 'relu')", "LSTMCell(2, 4)", "GRUCell(2, 4)"])
def test_cells_are_one_position(text):
    cell = build(text, dtype=P.float64)
    kind = "relu" if "relu" in text else text.split("Cell")[0]
    weights = {name: value.array for name, value in cell.state_dict().items()}
    start = RANDOM.normal(size=(2 if kind == "LSTM" else 1, B, H))
    given = [P.tensor(part) for part in start]
    found = cell(P.tensor(X[0]), tuple(given) if kind == "LSTM" else given[0])
    np.testing.assert_allclose(states(found), np.stack(advance(kind, weights, X[0], start)), atol=1e-12)
    zeros = np.zeros((len(start), 1, H))
    expected = np.stack(advance(kind, weights, X[0][:1], zeros))
    np.testing.assert_allclose(states(cell(P.tensor(X[0, 0]))), expected[:, 0], atol=1e-12)  # one example
    assert check_gradients(cell, X[0], call=lambda x: states_sum(cell(x)))


def states_sum(found):
    return found[0] + 2 * found[1] if isinstance(found, tuple) else found


def test_a_layer_is_its_cell_along_the_sequence():
    layer, cell = nn.GRU(C, H), nn.GRUCell(C, H)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x, h = P.tensor(X.astype(np.float32)), None
    for t, expected in enumerate(layer(x)[0]):
        h = cell(x[t], h)
        np.testing.assert_allclose(h.array, expected.array, rtol=1e-5, atol=1e-6)


def test_names_shapes_and_the_seed():
    P.manual_seed(5)
    layer = nn.LSTM(3, 25, 2, bidirectional=True)
    shapes = {name: value.shape for name, value in layer.state_dict().items()}
    assert list(shapes)[:5] == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ih_l0_reverse"]
    assert len(shapes) == 16 and shapes["weight_ih_l0"] == (100, 3) and shapes["weight_hh_l1_reverse"] == (100, 25)
    assert shapes["weight_ih_l1"] == (100, 50) and shapes["bias_hh_l1"] == (100,)
    for value in layer.parameters():
        assert 0.15 < abs(value.array).max() <= 0.2
    P.manual_seed(5)
    again = nn.LSTM(3, 25, 2, bidirectional=True)
    assert all(np.array_equal(a.array, b.array) for a, b in zip(layer.parameters(), again.parameters(), strict=True))
    assert repr(layer) == "LSTM(3, 25, num_layers=2, bidirectional=True)"
    assert list(nn.GRUCell(2, 3).state_dict()) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


def test_dropout_lies_between_layers_and_in_training_only():
    layer, x = nn.GRU(C, H, 2, dropout=0.5), P.tensor(X.astype(np.float32))
    P.manual_seed(0)
    one, other = layer(x)[0].array, layer(x)[0].array
    assert not np.array_equal(one, other)
    calm = layer.eval()(x)[0].array
    assert np.array_equal(calm, layer(x)[0].array)
    np.testing.assert_allclose(calm, walk(layer, X)[0], atol=1e-5)
    silent = nn.GRU(C, H, 2, dropout=1.0)
    silent.weight_hh_l0.assign(silent.weight_hh_l0 + 1)  # whatever the first layer says, the second hears zeros
    np.testing.assert_allclose(silent(x)[0].array, walk(second(silent), np.zeros((T, B, H)))[0], atol=1e-6)
    with pytest.warns(UserWarning, match="dropout=0.5 with num_layers=1 does nothing: it acts between layers"):
        nn.GRU(C, H, dropout=0.5)


def second(layer):
    """The second layer of two alone."""
    top = nn.GRU(H, H)
    top.load_state_dict({name.replace("_l1", "_l0"): v for name, v in layer.state_dict().items() if "_l1" in name})
    return top


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: nn.RNN(0, 2), "RNN: input_size=0; expected a whole number from 1"),
        (lambda: nn.GRU(1, 2.5), "GRU: hidden_size=2.5"),
        (lambda: nn.LSTM(1, 2, 0), "LSTM: num_layers=0"),
        (lambda: nn.LSTM(1, 2, dropout=2), "LSTM: dropout=2; expected a probability from 0 to 1"),
        (lambda: nn.LSTM(1, 2, proj_size=1), "LSTM: proj_size=1; expected 0; put nn.Linear after"),
        (lambda: nn.RNN(1, 2, 1, "gelu"), 'RNN: nonlinearity=\'gelu\'; expected "tanh" or "relu"'),
        (lambda: nn.RNNCell(1, 2, nonlinearity="x"), "RNNCell: nonlinearity='x'"),
        (lambda: nn.LSTMCell(1, -1), "LSTMCell: hidden_size=-1"),
    ],
)
def test_options_out_of_range(build, message):
    with pytest.raises(OptionError, match=message):
        build()


@pytest.mark.parametrize(
    "text, shapes, message",
    [
        (
            "LSTM(2, 4)",
            [(5, 3, 7)],
            r"^LSTM 2→4: input \(5, 3, 7\); expected \(T, B, C\) or \(T, C\) with C = 2.*LSTM\(7, ...\)",
        ),
        ("LSTM(2, 4, batch_first=True)", [(7,)], r"input \(7,\); expected \(B, T, C\) or \(T, C\)"),
        ("GRU(1, 4)", [(7, 3)], r"add the axis of size 1, with x.unsqueeze\(-1\)"),
        ("RNN(2, 4)", [(0, 3, 2)], r"input \(0, 3, 2\); expected .*none of them 0"),
        ("GRU(2, 4, 2)", [(5, 3, 2), (1, 3, 4)], r"^GRU 2→4: h0 is \(1, 3, 4\); expected \(2, 3, 4\); reshape it"),
        ("GRU(2, 4)", [(5, 2), (1, 1, 4)], r"h0 is \(1, 1, 4\); expected \(1, 4\)"),
        ("LSTM(2, 4)", [(5, 3, 2), (1, 3, 4)], r"hx is Tensor; expected the two Tensors \(h0, c0\); pass both"),
        ("LSTMCell(2, 4)", [(5, 3)], r"^LSTMCell 2→4: input \(5, 3\); expected \(B, C\) or \(C,\) with C = 2"),
        ("GRUCell(2, 4)", [(5, 2), (4,)], r"h0 is \(4,\); expected \(5, 4\)"),
    ],
)
def test_shapes_that_do_not_fit(text, shapes, message):
    with pytest.raises(ShapeError, match=message):
        build(text)(*(P.zeros(shape) for shape in shapes))


def test_lengths_that_do_not_fit():
    layer, x = nn.GRU(C, H), P.zeros(T, B, C)
    with pytest.raises(IndexRangeError, match=r"^GRU 2→4: lengths holds 6; expected 0 to 5, the positions there are"):
        layer(x, lengths=P.tensor([1, 6, 2]))
    with pytest.raises(ShapeError, match=r"lengths is \(2,\); expected \(3,\); pass one for each example"):
        layer(x, lengths=P.tensor([1, 2]))
    for wrong in ([1, 2, 3], P.ones(3)):
        with pytest.raises(DTypeError, match="lengths is (list|float32); expected an int64 Tensor"):
            layer(x, lengths=wrong)
    with pytest.raises(DTypeError, match=r"input \(5, 3, 2\) is float64; expected float32"):
        layer(x.double())
    with pytest.raises(DTypeError, match=r"is float64; expected float32"):
        layer(x, P.zeros(1, B, H, dtype=P.float64))


def test_summary_of_a_recurrent_network():
    found = summary(nn.LSTM(C, H, 2, bidirectional=True), (T, B, C))
    assert [(row.path, row.kind, row.outputs) for row in found.rows] == [
        ("LSTM", "LSTM", ((T, B, 2 * H), (4, B, H), (4, B, H)))
    ]
    assert found.parameters == 2 * 4 * H * (C + H + 2) + 2 * 4 * H * (2 * H + H + 2)


class Classifier(nn.Module):
    """The last output of a recurrent layer, through a Linear."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(layer.hidden_size, 1)

    def forward(self, x, lengths=None):
        return self.head(self.layer(x, lengths=lengths)[0][-1])


@pytest.mark.parametrize("text", ["RNN(2, 4)", "LSTM(2, 3)", "LSTM(2, 3, 2)", "GRU(2, 4)"])
def test_compiled_steps_give_the_eager_losses(text):
    same_losses_compiled(lambda: Classifier(build(text)), X.astype(np.float32))


@pytest.mark.parametrize("text", ["GRU(2, 3, bidirectional=True)", "LSTM(2, 2, bidirectional=True)"])
def test_compiled_steps_with_lengths(text):
    same_losses_compiled(lambda: build(text), X.astype(np.float32), None, P.tensor([2, 5, 3]))


def test_compiled_steps_of_a_cell():
    same_losses_compiled(lambda: nn.LSTMCell(2, 3), X[0].astype(np.float32))
