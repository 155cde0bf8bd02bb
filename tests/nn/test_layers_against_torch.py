"""Every layer, loss and initialiser beside PyTorch's: names, shapes, defaults, outputs, gradients; weights cross over.

On demand, with an interpreter that has PyTorch: `python -m pytest -m torch tests/nn`.
Each text is evaluated once with pellucid as T, once with PyTorch.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import pellucid as P

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

random = np.random.default_rng(0)
ROWS = random.normal(size=(6, 4)).astype(np.float32)
SEQUENCES = random.normal(size=(3, 4, 5)).astype(np.float32)
IMAGES = random.normal(size=(3, 4, 5, 6)).astype(np.float32)
MANY = random.normal(size=(32, 4, 5)).astype(np.float32)
INDICES = random.integers(0, 7, (3, 5))

LAYERS: dict[str, np.ndarray] = {
    "nn.Linear(4, 3)": ROWS,
    "nn.Linear(4, 3, bias=False)": ROWS[0],
    "nn.Linear(5, 2)": SEQUENCES,
    "nn.BatchNorm1d(4)": ROWS,
    "nn.BatchNorm1d(4, 1e-3, 0.3)": SEQUENCES,
    "nn.BatchNorm1d(4, momentum=None)": ROWS,
    "nn.BatchNorm1d(4, affine=False)": ROWS,
    "nn.BatchNorm1d(4, track_running_stats=False)": ROWS,
    "nn.BatchNorm2d(4)": IMAGES,
    "nn.LayerNorm(4)": ROWS,
    "nn.LayerNorm((4, 5), 1e-3)": SEQUENCES,
    "nn.LayerNorm([5, 6], bias=False)": IMAGES,
    "nn.LayerNorm(4, elementwise_affine=False)": ROWS,
    "nn.RMSNorm(5)": SEQUENCES,
    "nn.RMSNorm((4, 5), 1e-3)": SEQUENCES,
    "nn.RMSNorm(6, elementwise_affine=False)": IMAGES,
    "nn.LocalResponseNorm(3, 0.5, 0.6, 2.0)": IMAGES,
    "nn.LocalResponseNorm(4)": SEQUENCES,
    "nn.GroupNorm(2, 4)": IMAGES,
    "nn.GroupNorm(4, 4, 1e-3, affine=False)": SEQUENCES,
    "nn.GroupNorm(1, 4, bias=False)": ROWS,
    "nn.Conv1d(4, 3, 2)": SEQUENCES,
    "nn.Conv1d(4, 6, 3, 2, 1, 1, 2)": SEQUENCES,
    "nn.Conv1d(4, 2, 2, padding='same', dilation=3, bias=False)": SEQUENCES,
    "nn.Conv1d(4, 5, 2)": SEQUENCES[0],
    "nn.Conv2d(4, 3, 3)": IMAGES,
    "nn.Conv2d(4, 3, 3, 2, 1)": IMAGES,
    "nn.Conv2d(4, 2, (3, 2), (1, 2), (2, 0), (2, 1), 2)": IMAGES,
    "nn.Conv2d(4, 8, 1, groups=4, bias=False)": IMAGES,
    "nn.Conv2d(4, 2, (2, 4), padding='same')": IMAGES,
    "nn.Conv2d(4, 2, 3, 2, 'valid')": IMAGES,
    "nn.Conv2d(4, 2, 3)": IMAGES[0],
    "nn.ConvTranspose2d(4, 3, 3)": IMAGES,
    "nn.ConvTranspose2d(4, 3, 3, 2, 1, 1)": IMAGES,
    "nn.ConvTranspose2d(4, 6, (2, 3), (3, 2), (0, 1), (2, 1), 2, False)": IMAGES,
    "nn.ConvTranspose2d(4, 2, 2, dilation=2)": IMAGES[0],
    "nn.MaxPool1d(2)": SEQUENCES,
    "nn.MaxPool1d(3, 1, 1, 1)": SEQUENCES[0],
    "nn.MaxPool2d(2)": IMAGES,
    "nn.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0))": IMAGES,
    "nn.MaxPool2d(2, 1, 1, 2)": IMAGES[0],
    "nn.AvgPool1d(2)": SEQUENCES,
    "nn.AvgPool1d(3, 2, 1, count_include_pad=False)": SEQUENCES[0],
    "nn.AvgPool2d(2)": IMAGES,
    "nn.AvgPool2d((2, 3), 1, (1, 0), count_include_pad=False)": IMAGES,
    "nn.AvgPool2d(3, 2, 1)": IMAGES[0],
    "nn.AvgPool2d(2, divisor_override=3)": IMAGES,
    "nn.AdaptiveAvgPool2d(1)": IMAGES,
    "nn.AdaptiveAvgPool2d((3, None))": IMAGES,
    "nn.AdaptiveAvgPool2d((2, 7))": IMAGES[0],
    "nn.Upsample(scale_factor=2)": IMAGES,
    "nn.Upsample(scale_factor=(2, 3))": IMAGES,
    "nn.Upsample((10, 18))": IMAGES,
    "nn.Upsample(size=10)": SEQUENCES,
    "nn.RNNCell(4, 3)": ROWS,
    "nn.RNNCell(4, 3, False, 'relu')": ROWS[0],
    "nn.GRUCell(4, 3)": ROWS,
    "nn.GRUCell(4, 3, bias=False)": ROWS[0],
    "nn.Embedding(7, 3)": INDICES,
    "nn.Embedding(7, 3, padding_idx=2)": INDICES,
    "nn.Embedding(7, 3, padding_idx=-1)": INDICES,
    "nn.Dropout(0.0)": ROWS,
    "nn.Dropout(1.0)": ROWS,
    "nn.Dropout(0.3).eval()": ROWS,
    "nn.Flatten()": IMAGES,
    "nn.Flatten(1, 2)": IMAGES,
    "nn.Unflatten(1, (2, 2))": SEQUENCES,
    "nn.Unflatten(-1, (3, -1))": IMAGES,
    "nn.Identity(3)": ROWS,
    "nn.ReLU()": ROWS,
    "nn.ReLU(inplace=True)": ROWS,
    "nn.LeakyReLU()": ROWS,
    "nn.LeakyReLU(0.3, True)": ROWS,
    "nn.ELU()": ROWS,
    "nn.ELU(0.4)": ROWS,
    "nn.GELU()": ROWS,
    "nn.GELU('tanh')": ROWS,
    "nn.SiLU()": ROWS,
    "nn.Softplus()": ROWS * 10,
    "nn.Softplus(3.0, 2.0)": ROWS,
    "nn.Sigmoid()": ROWS,
    "nn.Tanh()": ROWS,
    "nn.Softmax(1)": SEQUENCES,
    "nn.Softmax(dim=-1)": ROWS,
    "nn.LogSoftmax(0)": ROWS,
    "nn.Sequential(nn.Flatten(), nn.Linear(20, 8, bias=False), nn.BatchNorm1d(8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2))": MANY,
    "nn.Sequential(nn.Embedding(7, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Flatten(), nn.Linear(20, 3))": INDICES,
}


def build(text: str, library: Any) -> Any:
    return eval(text, {"T": library, "nn": library.nn, "np": np})


def numbers(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach())


def agree(ours: Any, theirs: Any, what: str = "") -> None:
    assert tuple(ours.shape) == tuple(theirs.shape) and str(ours.dtype) == str(theirs.dtype).removeprefix("torch."), (
        what
    )
    found, expected = numbers(ours), numbers(theirs)
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=1) if expected.ndim else 1
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5 * largest, equal_nan=True), what


def to_ours(state: dict[str, Any]) -> dict[str, Any]:
    return {name: P.tensor(value.numpy()) for name, value in state.items()}


def to_theirs(state: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(np.array(value.array)) for name, value in state.items()}


def run(layer: Any, library: Any, array: np.ndarray) -> tuple[Any, Any]:
    """The output and the input's gradient, for a fixed weighting of the outputs."""
    x = library.tensor(array.copy())
    if array.dtype.kind == "f":
        x = x.requires_grad_()
    y = layer(x * 1 if array.dtype.kind == "f" else x)
    weights = np.random.default_rng(1).uniform(0.5, 1.5, tuple(y.shape)).astype(np.float32)
    if y.requires_grad:
        (y * library.tensor(weights)).sum().backward()
    return y, x.grad


@pytest.mark.parametrize("theirs_first", [False, True], ids=["ours to theirs", "theirs to ours"])
@pytest.mark.parametrize("text", LAYERS)
def test_weights_cross_over_and_the_layers_agree(text, theirs_first):
    P.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = build(text, P), build(text, torch)
    assert repr(ours) == repr(theirs)
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    if theirs_first:
        ours.load_state_dict(to_ours(theirs.state_dict()))
    else:
        theirs.load_state_dict(to_theirs(ours.state_dict()))
    for _ in range(2):  # twice, so that running statistics and accumulated gradients are compared as well
        (y, grad), (their_y, their_grad) = run(ours, P, LAYERS[text]), run(theirs, torch, LAYERS[text])
        agree(y, their_y, "output")
        assert (grad is None) == (their_grad is None)
        if grad is not None:
            agree(grad, their_grad, "input gradient")
    parameters, their_parameters = list(ours.named_parameters()), list(theirs.named_parameters())
    assert [n for n, _ in parameters] == [n for n, _ in their_parameters]
    for (name, p), (_, q) in zip(parameters, their_parameters, strict=True):
        agree(p.grad, q.grad, name)
    state, their_state = ours.state_dict(), theirs.state_dict()
    assert list(state) == list(their_state)
    for name in state:
        agree(state[name], their_state[name], name)
    agree(ours.eval()(P.tensor(LAYERS[text])), theirs.eval()(torch.tensor(LAYERS[text])), "eval")


LOSSES = [
    "nn.MSELoss()", "nn.MSELoss(reduction='sum')", "nn.MSELoss(reduction='none')", "nn.L1Loss()", "nn.HuberLoss()",
    "nn.HuberLoss('sum', 0.3)", "nn.SmoothL1Loss()", "nn.SmoothL1Loss(beta=0.3)", "nn.SmoothL1Loss(beta=0)",
    "nn.BCEWithLogitsLoss()", "nn.BCEWithLogitsLoss(pos_weight=T.tensor([1.0, 2.0, 3.0, 4.0]))",
    "nn.BCEWithLogitsLoss(weight=T.tensor([1.0, 2.0, 3.0, 4.0]), reduction='sum')",
]  # fmt: skip
CLASS_LOSSES = [
    "nn.CrossEntropyLoss()", "nn.CrossEntropyLoss(reduction='sum')", "nn.CrossEntropyLoss(reduction='none')",
    "nn.CrossEntropyLoss(label_smoothing=0.2)", "nn.CrossEntropyLoss(ignore_index=1)",
    "nn.CrossEntropyLoss(weight=T.tensor([1.0, 2.0, 0.5, 0.0]))",
    "nn.CrossEntropyLoss(weight=T.tensor([1.0, 2.0, 0.5, 3.0]), ignore_index=2, label_smoothing=0.1)",
    "nn.CrossEntropyLoss(weight=T.tensor([1.0, 2.0, 0.5, 3.0]), label_smoothing=0.1, reduction='none')",
    "nn.NLLLoss()", "nn.NLLLoss(weight=T.tensor([1.0, 2.0, 0.5, 0.2]), ignore_index=0)", "nn.NLLLoss(reduction='none')",
]  # fmt: skip
TARGETS = random.uniform(0.05, 0.95, (6, 4)).astype(np.float32)
POSITIVE = [
    "nn.BCELoss()", "nn.BCELoss(reduction='none')", "nn.KLDivLoss(reduction='batchmean')",
    "nn.KLDivLoss(reduction='sum')", "nn.KLDivLoss(reduction='none')",
]  # fmt: skip


def compare_loss(text: str, input: np.ndarray, target: np.ndarray) -> None:
    results = []
    for library in (P, torch):
        loss, x = build(text, library), library.tensor(input.copy()).requires_grad_()
        y = loss(x, library.tensor(target))
        (y * y).sum().backward()
        results.append((y, x.grad, repr(loss), list(loss.state_dict())))
    (y, grad, shown, keys), (their_y, their_grad, their_shown, their_keys) = results
    agree(y, their_y, "loss")
    agree(grad, their_grad, "gradient")
    assert shown == their_shown and keys == their_keys


@pytest.mark.parametrize("text", LOSSES)
def test_losses_of_numbers(text):
    compare_loss(text, ROWS, TARGETS)


@pytest.mark.parametrize("text", POSITIVE)
def test_losses_of_probabilities(text):
    compare_loss(text, random.permutation(TARGETS), TARGETS)


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (2, 4, 3, 2), (4,)], ids=str)
@pytest.mark.parametrize("text", CLASS_LOSSES)
def test_losses_of_classes(text, shape):
    input = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    target = np.random.default_rng(3).integers(0, 4, shape[:1] + shape[2:] if len(shape) > 1 else ())
    if shape == (4,):
        target = np.asarray(3)
    compare_loss(text, input, target)


@pytest.mark.parametrize("text", CLASS_LOSSES[:4])
def test_cross_entropy_of_probabilities(text):
    compare_loss(text, ROWS, TARGETS / TARGETS.sum(1, keepdims=True))


@pytest.mark.parametrize("text", LAYERS)
def test_weights_start_from_the_same_distribution(text):
    """Same bounds and deviations: the two libraries draw different numbers."""
    P.manual_seed(0)
    torch.manual_seed(0)
    scale = re.sub(r"(Linear|Embedding|Cell)\((\d), (\d)", r"\1(\g<2>00, \g<3>00", text)
    scale = re.sub(r"Conv(\w*)\(4, (\d)", r"Conv\1(40, \g<2>0", scale)
    ours, theirs = build(scale, P), build(scale, torch)
    for (name, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        p, q = numbers(p), numbers(q)
        if p.size < 1000:
            continue
        assert abs(p.std() - q.std()) <= 0.05 * q.std(), name
        assert abs(abs(p).max() - abs(q).max()) <= 0.2 * abs(q).max(), name


INITIALISERS = [
    "uniform_(w, -2, 3)", "normal_(w, 1, 2)", "xavier_uniform_(w, 2)", "xavier_normal_(w)", "kaiming_uniform_(w)",
    "kaiming_uniform_(w, a=2.2, mode='fan_out')", "kaiming_normal_(w, nonlinearity='relu')", "orthogonal_(w, 3)",
    "trunc_normal_(w, 0.5, 1.0, -1, 2)", "eye_(w)", "constant_(w, 3)", "ones_(w)", "zeros_(w)",
]  # fmt: skip


@pytest.mark.parametrize("text", INITIALISERS)
def test_initialisers_have_the_same_distribution(text):
    P.manual_seed(0)
    torch.manual_seed(0)
    p, q = (eval(f"init.{text}", {"init": T.nn.init, "w": T.zeros(300, 200)}) for T in (P, torch))
    p, q = numbers(p).astype(np.float64), numbers(q).astype(np.float64)
    assert abs(p.mean() - q.mean()) <= 0.02 * q.std() + 1e-6
    assert np.allclose(
        np.quantile(p, [0.05, 0.25, 0.5, 0.75, 0.95]),
        np.quantile(q, [0.05, 0.25, 0.5, 0.75, 0.95]),
        atol=0.03 * q.std(),
    )


@pytest.mark.parametrize("gain", ["linear", "relu", "tanh", "sigmoid", "selu", "leaky_relu", "conv2d"])
def test_gains(gain):
    assert P.nn.init.calculate_gain(gain) == torch.nn.init.calculate_gain(gain)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
def test_clipping(norm_type):
    results = []
    for T in (P, torch):
        parameters = [T.nn.Parameter(T.zeros(4)) for _ in range(3)]
        for p, g in zip(parameters, ROWS[:2], strict=False):
            p.grad = T.tensor(g)
        total = T.nn.utils.clip_grad_norm_(parameters, 0.7, norm_type)
        T.nn.utils.clip_grad_value_(parameters, 0.2)
        results.append((total, *(p.grad for p in parameters[:2])))
    for ours, theirs in zip(*results, strict=True):
        agree(ours, theirs)


def test_backward_hooks_see_the_same():
    results = []
    for T in (P, torch):
        layer, seen = T.nn.Linear(4, 3), []
        if results:
            layer.load_state_dict(to_theirs(results[0][0].state_dict()))
        layer.register_full_backward_hook(lambda m, gi, go, seen=seen: seen.extend([*gi, *go]))
        x = T.tensor(ROWS).requires_grad_()
        (layer(x * 2) ** 2).sum().backward()
        results.append((layer, seen))
    for ours, theirs in zip(results[0][1], results[1][1], strict=True):
        agree(ours, theirs)


def test_files_cross_over(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    text = "nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))"
    ours, theirs = build(text, P), build(text, torch)
    P.save(ours, tmp_path / "ours.safetensors")
    theirs.load_state_dict(safetensors.load_file(tmp_path / "ours.safetensors"))
    agree(ours(P.tensor(ROWS)), theirs(torch.tensor(ROWS)))
    safetensors.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    other = build(text, P)
    other.load_state_dict(P.load(tmp_path / "theirs.safetensors"))
    agree(other.eval()(P.tensor(ROWS)), theirs.eval()(torch.tensor(ROWS)))
    safetensors.save_file({"x": torch.tensor([1.5, -3.0], dtype=torch.bfloat16)}, tmp_path / "half.safetensors")
    assert P.load(tmp_path / "half.safetensors")["x"].tolist() == [1.5, -3]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_of_torch_save_is_refused_and_the_way_out_works(tmp_path, monkeypatch, legacy):
    pytest.importorskip("safetensors.torch")
    monkeypatch.chdir(tmp_path)
    theirs = torch.nn.Linear(3, 2)
    torch.save(theirs.state_dict(), "weights.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(P.errors.StateError) as caught:
        P.load("weights.pt")
    recipe = str(caught.value).partition("PyTorch is installed: ")[2]
    exec(recipe, {})
    ours = P.nn.Linear(3, 2)
    ours.load_state_dict(P.load("weights.safetensors"))
    agree(ours(P.ones(1, 3)), theirs(torch.ones(1, 3)))


# ---- recurrent layers ------------------------------------------------------------------------------------------------

RECURRENT = [
    "nn.RNN(5, 4)", "nn.RNN(5, 3, 2, 'relu')", "nn.RNN(5, 2, nonlinearity='tanh', bias=False, bidirectional=True)",
    "nn.LSTM(5, 4)", "nn.LSTM(5, 3, 2, batch_first=True, bidirectional=True)", "nn.LSTM(5, 2, 3, False)",
    "nn.GRU(5, 4)", "nn.GRU(5, 3, 2, True, True, 0.0, True)", "nn.GRU(5, 2, bias=False)", "nn.LSTM(5, 3, 2, dropout=1.0)",
]  # fmt: skip


def both(text: str) -> tuple[Any, Any]:
    """The same layer of the two libraries, the weights crossing over in both directions."""
    P.manual_seed(0)
    ours, theirs = build(text, P), build(text, torch)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(to_ours(theirs.state_dict()))
    theirs = build(text, torch)
    theirs.load_state_dict(to_theirs(ours.state_dict()))
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    return ours, theirs


def flat(nest: Any) -> list[Any]:
    return [leaf for part in nest for leaf in flat(part)] if isinstance(nest, tuple) else [nest]


def agree_in_all(ours: Any, theirs: Any, arrays: list[np.ndarray], call: Any) -> None:
    """Outputs, and the gradients of `arrays` and all Parameters for a fixed weighting of the outputs."""
    results = []
    for layer, library in ((ours, P), (theirs, torch)):
        inputs = [library.tensor(array.copy()).requires_grad_() for array in arrays]
        outputs = flat(call(layer, *inputs))
        weights = np.random.default_rng(1)
        total = 0
        for y in outputs:
            total = total + (y * library.tensor(weights.uniform(0.5, 1.5, tuple(y.shape)).astype(np.float32))).sum()
        total.backward()
        results.append([*outputs, *(x.grad for x in inputs), *(p.grad for p in layer.parameters())])
    for i, (one, other) in enumerate(zip(*results, strict=True)):
        assert (one is None) == (other is None), i
        if one is not None:
            agree(one, other, str(i))


@pytest.mark.parametrize("start", [False, True], ids=["from zero", "from hx"])
@pytest.mark.parametrize("single", [False, True], ids=["batch", "one sequence"])
@pytest.mark.parametrize("text", RECURRENT)
def test_recurrent_layers(text, single, start):
    ours, theirs = both(text)
    arrays = [SEQUENCES[0] if single else SEQUENCES]
    rows = ours.num_layers * (2 if ours.bidirectional else 1)
    batch = () if single else (3 if ours.batch_first else 4,)
    if start:
        shape = (rows, *batch, ours.hidden_size)
        arrays += [random.normal(size=shape).astype(np.float32) for _ in range(2 if "LSTM" in text else 1)]
    call = lambda layer, x, *hx: layer(x, hx if len(hx) > 1 else hx[0] if hx else None)
    agree_in_all(ours, theirs, arrays, call)


@pytest.mark.parametrize("text", ["nn.LSTMCell(4, 3)", "nn.LSTMCell(4, 2, bias=False)", "nn.GRUCell(4, 3)", "nn.RNNCell(4, 3)"])  # fmt: skip
def test_cells_from_a_state(text):
    ours, theirs = both(text)
    states = [random.normal(size=(6, ours.hidden_size)).astype(np.float32) for _ in range(2 if "LSTM" in text else 1)]
    agree_in_all(ours, theirs, [ROWS, *states], lambda cell, x, *hx: cell(x, hx if len(hx) > 1 else hx[0]))
    agree_in_all(ours, theirs, [ROWS[0]], lambda cell, x: cell(x))


@pytest.mark.parametrize("text", [text for text in RECURRENT if "1.0" not in text])
def test_lengths_do_what_packed_sequences_do(text):
    ours, theirs = both(text)
    first, total = ours.batch_first, SEQUENCES.shape[1 if ours.batch_first else 0]
    lengths = np.array([2, total, 1, total][: SEQUENCES.shape[0 if first else 1]])

    def call(layer: Any, x: Any) -> Any:
        if layer is ours:
            return layer(x, lengths=P.tensor(lengths))
        rnn = torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=first, enforce_sorted=False)
        y, final = layer(packed)
        return rnn.pad_packed_sequence(y, batch_first=first, total_length=total)[0], final

    agree_in_all(ours, theirs, [SEQUENCES], call)


@pytest.mark.parametrize("text", ["nn.LSTM(30, 40, 2)", "nn.GRU(30, 40, bidirectional=True)", "nn.RNN(30, 100)"])
def test_recurrent_weights_start_from_the_same_distribution(text):
    P.manual_seed(0)
    torch.manual_seed(0)
    for p, q in zip(build(text, P).parameters(), build(text, torch).parameters(), strict=True):
        p, q = numbers(p), numbers(q)
        assert p.size < 1000 or abs(p.std() - q.std()) <= 0.05 * q.std()
        assert abs(abs(p).max() - abs(q).max()) <= 0.1 * abs(q).max()
