"""The recurrent family: what it computes, how it starts, that text is read on where it was left, and that it learns."""

import numpy as np
import pytest

import pellucid as pl
from pellucid import optim
from pellucid.data.input_spec import SeriesSpec, TextSpec
from pellucid.data.loader import IGNORE_INDEX
from pellucid.errors import OptionError
from pellucid.models import lstm
from pellucid.training.optimizers import hidden_matrices


def text(**options):
    return lstm.build(
        TextSpec(11), 11, "language", lstm.Config(hidden_sizes=(8, 6), embedding_dim=5, context_length=12, **options)
    )


def series(**options):
    config = lstm.Config(**{"hidden_sizes": (7,), **options})
    return lstm.build(SeriesSpec(9, 3), 1, "regression", config)


def tokens(*shape, seed=0):
    return pl.tensor(np.random.default_rng(seed).integers(0, 11, shape))


def numbers(*shape, seed=0):
    return pl.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("cell", lstm.CELLS)
def test_text_gives_logits_of_each_next_token_and_never_looks_ahead(cell):
    network = text(cell=cell)
    x = tokens(3, 12)
    logits = network(x).detach().numpy()
    assert logits.shape == (3, 12, 11) and (network.vocab_size, network.context_length) == (11, 12)
    other = x.detach().numpy().copy()
    other[:, 7:] = 0
    np.testing.assert_allclose(network(pl.tensor(other)).detach().numpy()[:, :7], logits[:, :7], atol=1e-6)


@pytest.mark.parametrize("cell", lstm.CELLS)
def test_text_goes_on_from_the_state_it_left(cell):
    network, x = text(cell=cell).eval(), tokens(2, 9)
    whole = network(x).detach().numpy()
    first, state = network.next_logits(x[:, :5])
    np.testing.assert_allclose(first.detach().numpy(), whole[:, 4], atol=1e-6)
    for t in range(5, 9):
        logits, state = network.next_logits(x[:, t : t + 1], state)
        np.testing.assert_allclose(logits.detach().numpy(), whole[:, t], atol=1e-6)
    likeliest = network.generate(x.detach().numpy()[0], 3, temperature=0)
    longer = np.concatenate([x.detach().numpy()[0], likeliest[:2]])
    assert likeliest[2] == network(pl.tensor(longer[None])).detach().numpy()[0, -1].argmax()


def test_text_is_judged_in_long_windows_whose_beginning_only_warms_the_state():
    network = text().eval()
    assert (network.eval_context_length, network.burn_in) == (48, 12)
    x, y = tokens(2, 48), tokens(2, 48, seed=1).detach().numpy().copy()
    y[:, :12] = IGNORE_INDEX
    judged = network.evaluation_step(x, pl.tensor(y))
    shares = pl.functional.softmax(network(x), 2).detach().numpy()
    expected = -np.log(np.take_along_axis(shares[:, 12:], y[:, 12:, None], 2)).sum((1, 2))
    np.testing.assert_allclose(judged["loss"].detach().numpy(), expected, rtol=1e-5)
    assert judged["count"].tolist() == [36, 36]


@pytest.mark.parametrize("shortcut", [True, False])
def test_series_gives_a_number_for_each_window(shortcut):
    network, x = series(shortcut=shortcut), numbers(4, 9, 3)
    assert network(x).shape == (4,) and network.input_names == ("series",)
    assert ("shortcut.weight" in network.state_dict()) is shortcut
    classes = lstm.build(SeriesSpec(9, 3), 5, "classification", lstm.Config(hidden_sizes=(7,)))
    assert classes(x).shape == (4, 5)


def test_the_head_is_the_layer_that_answers_beside_a_shortcut_too():
    network = series(shortcut=True)
    assert list(network.state_dict())[-2:] == ["head.weight", "head.bias"]
    moved = hidden_matrices(network)
    assert any(p is network.shortcut.weight for p in moved) and all(p is not network.head.weight for p in moved)


@pytest.mark.parametrize("prompt", [[], [[1, 2]]])
def test_nothing_is_written_after_nothing(prompt):
    with pytest.raises(OptionError, match=r"prompt: \(.*\); expected tokens \(T,\), at least one"):
        text().generate(np.array(prompt, np.int64), 3)


def test_writing_ends_with_the_token_it_is_to_stop_at():
    network = text().eval()
    whole = network.generate(np.array([1]), 30, generator=pl.Generator(0)).tolist()
    stop = whole[7]
    some = network.generate(np.array([1]), 30, stop=stop, generator=pl.Generator(0)).tolist()
    assert len(whole) == 30 and some == whole[: whole.index(stop) + 1]


def test_a_series_shortcut_is_a_straight_line_through_its_window():
    network, x = series(shortcut=True), numbers(4, 9, 3)
    recurrent = network(x).detach().numpy()  # the line starts at zero
    line = numbers(1, 27, seed=1)
    network.shortcut.weight.data = line
    expected = recurrent + x.detach().numpy().reshape(4, 27) @ line.detach().numpy()[0]
    np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3)])
def test_each_gate_starts_orthogonal_and_the_one_that_keeps_starts_open(cell, gates):
    layer = series(cell=cell).recurrent.layers[0]
    across, bias = layer.weight_hh_l0.detach().numpy(), layer.bias_ih_l0.detach().numpy()
    for gate in np.split(across, gates):
        np.testing.assert_allclose(gate @ gate.T, np.eye(7), atol=1e-5)
    assert (bias[7:14] == 1).all() and (np.abs(bias[:7]) <= 1 / np.sqrt(7)).all()
    assert not layer.bias_hh_l0.detach().numpy().any()


def test_dropout_acts_in_training_only():
    network, x = series(dropout=0.5), numbers(4, 9, 3)
    assert (network(x).detach().numpy() != network(x).detach().numpy()).any()
    network.eval()
    np.testing.assert_array_equal(network(x).detach().numpy(), network(x).detach().numpy())


@pytest.mark.parametrize("kind", ["text", "series"])
def test_a_compiled_step_learns_as_the_eager_one(kind):
    losses = []
    for compiled in (False, True):
        pl.manual_seed(0)
        network = text() if kind == "text" else series()
        batch = (tokens(4, 12), tokens(4, 12, seed=1)) if kind == "text" else (numbers(4, 9, 3), numbers(4, seed=1))
        optimizer = optim.Adam(network.parameters(), lr=0.02)

        def step(*batch, network=network, optimizer=optimizer):
            optimizer.zero_grad()
            loss = network.training_step(*batch)["loss"]
            loss.backward()
            optimizer.step()
            return loss.detach()

        run = pl.compile(step) if compiled else step
        losses.append([run(*batch).item() for _ in range(40)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3, atol=1e-5)
    assert losses[1][-1] < 0.8 * losses[1][0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden_sizes": ()}, "hidden_sizes: none; expected at least one whole number"),
        ({"hidden_sizes": (8, 0)}, "hidden_sizes: 8,0; expected at least one whole number"),
        ({"cell": "lsmt"}, "cell: 'lsmt'; expected one of lstm, gru.*lstm"),
        ({"dropout": 1.0}, "dropout: 1.0; expected 0 up to"),
        ({"embedding_dim": 0}, "embedding_dim: 0; expected a whole number from 1"),
        ({"context_length": 0}, "context_length: 0; expected a whole number from 1"),
    ],
)
def test_a_wrong_configuration_is_refused(options, words):
    with pytest.raises(OptionError, match=words):
        lstm.Config(**options)
