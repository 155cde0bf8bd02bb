"""Each layer and loss against a few lines of NumPy, its gradient against differences, and its complaints."""

import math

import numpy as np
import pytest
from layer_checks import check_gradients, same_losses_compiled

import pellucid as P
from pellucid import nn
from pellucid.autograd import gradcheck
from pellucid.errors import DTypeError, IndexRangeError, OptionError, ShapeError

X = np.array([[-2.0, -0.5, 0.0, 0.3], [1.0, 4.0, -1.0, 30.0]], np.float32)
erf = np.vectorize(math.erf)


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


ACTIVATIONS = {
    "ReLU()": lambda x: np.where(x > 0, x, 0),
    "LeakyReLU(0.2)": lambda x: np.where(x > 0, x, 0.2 * x),
    "ELU(0.5)": lambda x: np.where(x > 0, x, 0.5 * (np.exp(np.minimum(x, 0)) - 1)),
    "GELU()": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "GELU('tanh')": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "SiLU()": lambda x: x / (1 + np.exp(-x)),
    "Softplus(2.0)": lambda x: np.log1p(np.exp(2 * x)) / 2,
    "Sigmoid()": lambda x: 1 / (1 + np.exp(-x)),
    "Tanh()": np.tanh,
    "Step()": lambda x: np.where(x > 0, 1.0, 0.0),
    "Softmax(0)": lambda x: softmax(x, 0),
    "Softmax()": lambda x: softmax(x, -1),
    "LogSoftmax(1)": lambda x: np.log(softmax(x.astype(np.float64), 1)),
    "Identity(3, anything=4)": lambda x: x,
    "Flatten(0)": lambda x: x.reshape(-1),
    "Flatten()": lambda x: x,
    "Unflatten(1, (2, -1))": lambda x: x.reshape(2, 2, 2),
}


@pytest.mark.parametrize("text", ACTIVATIONS)
def test_layers_without_weights(text):
    layer = eval(f"nn.{text}")
    assert np.allclose(layer(P.tensor(X)).array, ACTIVATIONS[text](X), rtol=1e-5, atol=1e-6)
    assert not list(layer.parameters()) and layer.state_dict() == {}
    assert check_gradients(layer, np.random.default_rng(0).normal(size=(2, 4)))


# ---- Linear ------------------------------------------------------------------------------------------------------------


def test_linear():
    P.manual_seed(0)
    layer = nn.Linear(4, 3)
    assert layer.weight.shape == (3, 4) and layer.bias.shape == (3,)
    for x in (X, X[0], np.stack([X, X])):
        assert np.allclose(layer(P.tensor(x)).array, x @ layer.weight.array.T + layer.bias.array, rtol=1e-5, atol=1e-5)
    assert nn.Linear(np.int64(2), 1).in_features == 2
    assert check_gradients(nn.Linear(4, 3, dtype=P.float64), X)


def test_linear_starts_within_its_bound():
    P.manual_seed(1)
    layer = nn.Linear(400, 300)
    for values in (layer.weight.array, layer.bias.array):
        assert abs(values).max() <= 1 / 20 and abs(values).max() > 0.9 / 20
    assert abs(layer.weight.array.std() - 1 / 20 / math.sqrt(3)) < 1e-3
    assert not np.array_equal(layer.weight.array, nn.Linear(400, 300).weight.array)
    P.manual_seed(1)
    assert np.array_equal(layer.weight.array, nn.Linear(400, 300).weight.array)


@pytest.mark.parametrize(
    "shape, fix",
    [
        ((32, 783), r"check the data, or the size of the layer before, or make this one Linear\(783, 100\)"),
        ((32, 28, 28), r"flatten the examples first, with nn.Flatten\(\)"),
        ((32, 1, 28, 28), r"flatten the examples first"),
        ((784, 1), r"transpose it, with x.T"),
        ((), "check the data"),
    ],
)
def test_linear_says_what_to_do_about_a_wrong_shape(shape, fix):
    layer = nn.Linear(784, 100)
    with pytest.raises(ShapeError, match=r"^Linear 784→100: input \(.*\), last axis must be 784; " + fix):
        layer(P.zeros(shape))


def test_linear_says_what_to_do_about_a_wrong_type():
    layer = nn.Linear(2, 1)
    with pytest.raises(
        DTypeError, match=r"input \(3, 2\) is float64; expected float32, as the weights are; .*\.float\(\)"
    ):
        layer(P.zeros(3, 2, dtype=P.float64))
    with pytest.raises(DTypeError, match=r"is int64; expected float32"):
        layer(P.tensor([[1, 2]]))
    with pytest.raises(
        DTypeError, match=r"Linear 2→1: input is list; expected a Tensor; make it one with pellucid.tensor"
    ):
        layer([[1.0, 2.0]])
    with pytest.raises(DTypeError, match=r"expected float64.*convert one of them with \.to\(float64\)"):
        layer.double()(P.zeros(3, 2))


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: nn.Linear(0, 2), "Linear: in_features=0; expected a whole number from 1"),
        (lambda: nn.Linear(2, 1.5), r"Linear: out_features=1.5"),
        (lambda: nn.Embedding(3, -1), "Embedding: embedding_dim=-1"),
        (lambda: nn.Embedding(3, 1, padding_idx=3), "padding_idx=3; expected -3 to 2"),
        (lambda: nn.BatchNorm1d(True), "BatchNorm1d: num_features=True"),
        (lambda: nn.LayerNorm((3, 0)), "LayerNorm: normalized_shape=0"),
        (lambda: nn.RMSNorm((3, 0)), "RMSNorm: normalized_shape=0"),
        (lambda: nn.GroupNorm(0, 4), "GroupNorm: num_groups=0"),
        (
            lambda: nn.GroupNorm(3, 4),
            "GroupNorm: num_channels=4, num_groups=3; expected a number of groups that divides",
        ),
        (lambda: nn.Dropout(1.5), "Dropout: p=1.5; expected a probability from 0 to 1"),
        (lambda: nn.MSELoss(reduction="avg"), 'MSELoss: reduction=\'avg\'; expected one of "mean", "sum", "none"'),
    ],
)
def test_options_out_of_range(build, message):
    with pytest.raises(OptionError, match=message):
        build()


# ---- Embedding, Dropout ----------------------------------------------------------------------------------------------


def test_embedding():
    layer = nn.Embedding(5, 3, padding_idx=-5)
    index = np.array([[1, 4, 0], [1, 1, 0]])
    y = layer(P.tensor(index))
    assert np.array_equal(y.array, layer.weight.array[index]) and not y[0, 2].array.any()
    y.sum().backward()
    assert layer.weight.grad[:, 0].tolist() == [0, 3, 0, 0, 1]  # the padding row is not trained
    big = nn.Embedding(2000, 50).weight.array
    assert abs(big.mean()) < 0.02 and abs(big.std() - 1) < 0.02


def test_embedding_refuses_what_is_no_row():
    layer = nn.Embedding(5, 3)
    with pytest.raises(IndexRangeError, match=r"Embedding 5→3: input \(2,\) holds 5; expected row numbers 0 to 4"):
        layer(P.tensor([0, 5]))
    with pytest.raises(
        IndexRangeError, match="holds -1"
    ):  # no counting from the end: -1 is a mark of something missing
        layer(P.tensor([0, -1]))
    with pytest.raises(DTypeError, match=r"is float32; expected int64 row numbers, 0 to 4; convert with .long\(\)"):
        layer(P.tensor([0.0]))
    assert layer(P.zeros(0, dtype=P.int64)).shape == (0, 3)


def test_dropout():
    P.manual_seed(0)
    layer, x = nn.Dropout(0.25), P.ones(200, 200)
    y = layer(x).array
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.01
    assert not np.array_equal(y, layer(x).array)
    assert np.array_equal(layer.eval()(x).array, x.array)
    x = P.ones(100, requires_grad=True)
    y = layer.train()(x)
    y.sum().backward()
    assert np.array_equal(x.grad.array, y.array)  # the same mask on the way back
    assert nn.Dropout(1.0)(P.ones(3)).tolist() == [0, 0, 0]


# ---- normalisation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, shape", [(nn.BatchNorm1d, (8, 3)), (nn.BatchNorm1d, (4, 3, 5)), (nn.BatchNorm2d, (4, 3, 2, 2))]
)
def test_batch_norm(kind, shape):
    x = np.random.default_rng(0).normal(2, 3, shape).astype(np.float32)
    axes, column = tuple(i for i in range(x.ndim) if i != 1), (1, 3, *(1,) * (x.ndim - 2))
    mean, var, n = x.mean(axes), x.var(axes), x.size // 3
    layer = kind(3)
    layer.weight.assign(np.array([1.0, 2.0, 3.0]))
    layer.bias.assign(np.array([0.0, 1.0, -1.0]))
    weight, bias = layer.weight.array.reshape(column), layer.bias.array.reshape(column)
    expected = (x - mean.reshape(column)) / np.sqrt(var.reshape(column) + 1e-5) * weight + bias
    assert np.allclose(layer(P.tensor(x)).array, expected, atol=1e-5)
    assert np.allclose(layer.running_mean.array, 0.1 * mean, atol=1e-6)
    assert np.allclose(layer.running_var.array, 0.9 + 0.1 * var * n / (n - 1), atol=1e-5)
    assert layer.num_batches_tracked.item() == 1
    before = layer.running_mean.array
    running = (x - before.reshape(column)) / np.sqrt(layer.running_var.array.reshape(column) + 1e-5) * weight + bias
    assert np.allclose(layer.eval()(P.tensor(x)).array, running, atol=1e-5)
    assert layer.running_mean.array is before and layer.num_batches_tracked.item() == 1


def test_batch_norm_state_is_assigned_in_place():
    """A tracer finds state by the Tensors that are assigned, so they must stay the same objects."""
    layer = nn.BatchNorm1d(2)
    state = dict(layer.named_buffers())
    versions = {name: t.version for name, t in state.items()}
    layer(P.randn(4, 2))
    assert all(t is state[name] and t.version > versions[name] for name, t in layer.named_buffers())


def test_batch_norm_variants():
    x = P.tensor(X)
    averaging = nn.BatchNorm1d(4, momentum=None)
    averaging(x), averaging(x * 3)
    assert np.allclose(averaging.running_mean.array, X.mean(0) * 2, atol=1e-5)  # the plain average of 1x and 3x
    untracked = nn.BatchNorm1d(4, track_running_stats=False).eval()
    assert untracked.running_mean is None and list(untracked.state_dict()) == ["weight", "bias"]
    assert np.allclose(untracked(x).array.mean(0), 0, atol=1e-5)  # the batch's own statistics, in eval() too
    assert list(nn.BatchNorm1d(4, affine=False).state_dict()) == ["running_mean", "running_var", "num_batches_tracked"]
    assert nn.BatchNorm1d(4, bias=False).bias is None
    layer = nn.BatchNorm1d(3, dtype=P.float64)
    assert check_gradients(layer, np.random.default_rng(1).normal(size=(5, 3)))
    assert check_gradients(layer.eval(), np.random.default_rng(1).normal(size=(5, 3)))


def test_batch_norm_refuses_and_stays_as_it_was():
    layer = nn.BatchNorm1d(4)
    with pytest.raises(ShapeError, match=r"BatchNorm1d 4: .*1 value a channel; expected at least 2 in training"):
        layer(P.ones(1, 4))
    assert layer.num_batches_tracked.item() == 0 and layer.running_mean.tolist() == [0] * 4
    assert layer.eval()(P.ones(1, 4)).shape == (1, 4)
    with pytest.raises(ShapeError, match=r"input \(2, 5\); expected \(B, C\) or \(B, C, T\) with C = 4"):
        layer(P.ones(2, 5))
    with pytest.raises(ShapeError, match=r"expected \(B, C, H, W\) with C = 3"):
        nn.BatchNorm2d(3)(P.ones(2, 3))


def test_layer_norm():
    x = np.random.default_rng(0).normal(2, 3, (2, 3, 4)).astype(np.float32)
    for shape, axes in ((4, (-1,)), ((3, 4), (-2, -1))):
        layer = nn.LayerNorm(shape)
        layer.bias.assign(layer.bias + 1)
        expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5) + 1
        assert np.allclose(layer(P.tensor(x)).array, expected, atol=1e-5)
    assert list(nn.LayerNorm(4, bias=False).state_dict()) == ["weight"]
    assert list(nn.LayerNorm(4, elementwise_affine=False).state_dict()) == []
    with pytest.raises(ShapeError, match=r"LayerNorm 3,4: layer_norm: input \(2, 4\); expected it to end in \(3, 4\)"):
        nn.LayerNorm((3, 4))(P.ones(2, 4))
    assert check_gradients(nn.LayerNorm(4, dtype=P.float64), x[0])


def test_rms_norm():
    x = np.random.default_rng(0).normal(2, 3, (2, 3, 4)).astype(np.float32)
    for shape, axes in ((4, -1), ((3, 4), (-2, -1))):
        layer = nn.RMSNorm(shape, 0.1)
        layer.weight.assign(layer.weight * 2)
        expected = 2 * x / np.sqrt((x * x).mean(axes, keepdims=True) + 0.1)
        assert np.allclose(layer(P.tensor(x)).array, expected, atol=1e-5)
    assert list(nn.RMSNorm(4).state_dict()) == ["weight"] and nn.RMSNorm(4, elementwise_affine=False).weight is None
    assert nn.RMSNorm(4)(P.zeros(2, 4)).tolist() == [[0] * 4] * 2  # the smallest eps keeps it from 0 / 0
    with pytest.raises(ShapeError, match=r"RMSNorm 3,4: rms_norm: input \(2, 4\); expected it to end in \(3, 4\)"):
        nn.RMSNorm((3, 4))(P.ones(2, 4))
    with pytest.raises(ShapeError, match="expected it to end in"):
        nn.RMSNorm((3, 4))(P.ones(4))
    assert check_gradients(nn.RMSNorm(4, dtype=P.float64), x[0])


def test_group_norm():
    x = np.random.default_rng(0).normal(2, 3, (2, 6, 3, 2)).astype(np.float32)
    layer = nn.GroupNorm(3, 6, eps=0.1)
    layer.weight.assign(np.arange(6.0))
    layer.bias.assign(np.arange(6.0) - 3)
    groups, column = x.reshape(2, 3, 12), np.arange(6.0).reshape(6, 1, 1)
    normal = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 0.1)
    assert np.allclose(layer(P.tensor(x)).array, normal.reshape(x.shape) * column + column - 3, atol=1e-5)
    plain = nn.GroupNorm(1, 6, affine=False)
    assert not plain.state_dict() and np.allclose(plain(P.tensor(x)).array.mean((1, 2, 3)), 0, atol=1e-6)
    assert nn.GroupNorm(2, 4, bias=False).bias is None and nn.GroupNorm(2, 4)(P.ones(0, 4)).shape == (0, 4)
    with pytest.raises(ShapeError, match=r"GroupNorm 6, 3 groups: input \(2, 5\); expected \(B, C, \*\) with C = 6"):
        layer(P.ones(2, 5))
    with pytest.raises(ShapeError, match=r"group_norm: input \(2, 5\), 2 groups; expected"):
        nn.functional.group_norm(P.ones(2, 5), 2)
    assert check_gradients(nn.GroupNorm(2, 4, dtype=P.float64), x[:1, :4])


@pytest.mark.parametrize("size", [1, 3, 4, 9])
def test_local_response_norm(size):
    x = np.random.default_rng(0).normal(size=(2, 5, 3, 2))
    expected = np.empty_like(x)
    for c in range(5):
        around = x[:, max(c - size // 2, 0) : c + (size - 1) // 2 + 1]
        expected[:, c] = x[:, c] / (2 + 0.5 / size * (around**2).sum(1)) ** 0.75
    layer = nn.LocalResponseNorm(size, alpha=0.5, k=2.0)
    np.testing.assert_allclose(layer(P.tensor(x)).array, expected, rtol=1e-12)
    assert not layer.state_dict() and check_gradients(layer, x[:1])
    same_losses_compiled(lambda: nn.Sequential(nn.Conv2d(5, 4, 1), layer), x.astype(np.float32))


def test_local_response_norm_complains():
    with pytest.raises(ShapeError, match=r"input \(2, 3\), size 5; expected \(B, C, \*\)"):
        nn.LocalResponseNorm(5)(P.ones(2, 3))
    with pytest.raises(OptionError, match="LocalResponseNorm: size=0"):
        nn.LocalResponseNorm(0)


# ---- losses -----------------------------------------------------------------------------------------------------------

A = np.array([[0.2, -1.0, 3.0], [1.5, 0.5, -0.5]], np.float32)
B = np.array([[0.0, 1.0, 0.5], [0.25, 0.9, 1.0]], np.float32)
CLASSES = np.array([2, 0])
LOG_P = np.log(softmax(A, 1))
SIGMOID = 1 / (1 + np.exp(-A))
LOSSES = {
    "MSELoss": ({}, A, B, (A - B) ** 2),
    "L1Loss": ({}, A, B, abs(A - B)),
    "HuberLoss": ({"delta": 0.5}, A, B, np.where(abs(A - B) < 0.5, (A - B) ** 2 / 2, 0.5 * (abs(A - B) - 0.25))),
    "SmoothL1Loss": ({"beta": 0.5}, A, B, np.where(abs(A - B) < 0.5, (A - B) ** 2, abs(A - B) - 0.25)),
    "CrossEntropyLoss": ({}, A, CLASSES, -LOG_P[[0, 1], CLASSES]),
    "NLLLoss": ({}, LOG_P, CLASSES, -LOG_P[[0, 1], CLASSES]),
    "BCEWithLogitsLoss": ({}, A, B, -B * np.log(SIGMOID) - (1 - B) * np.log(1 - SIGMOID)),
    "BCELoss": ({}, SIGMOID, B, -B * np.log(SIGMOID) - (1 - B) * np.log(1 - SIGMOID)),
    "KLDivLoss": ({}, LOG_P, B + 0.1, (B + 0.1) * (np.log(B + 0.1) - LOG_P)),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, reduction):
    options, input, target, expected = LOSSES[name]
    expected = {"mean": expected.mean(), "sum": expected.sum(), "none": expected}[reduction]
    loss = getattr(nn, name)(reduction=reduction, **options)
    assert np.allclose(loss(P.tensor(input), P.tensor(target)).array, expected, rtol=1e-5, atol=1e-6)
    x = P.tensor(input.astype(np.float64), requires_grad=True)
    assert gradcheck(lambda x: loss(x, P.tensor(target)), [x])


def test_cross_entropy_options():
    weight = np.array([1.0, 2.0, 4.0], np.float32)
    logits, target = P.tensor(A), P.tensor(CLASSES)
    each = -LOG_P[[0, 1], CLASSES]
    assert np.allclose(nn.CrossEntropyLoss(weight=P.tensor(weight))(logits, target).item(), (each * [4, 1]).sum() / 5)
    assert np.allclose(nn.CrossEntropyLoss(ignore_index=0)(logits, target).item(), each[0])
    smooth = 0.9 * each + 0.1 * -LOG_P.mean(1)
    assert np.allclose(nn.CrossEntropyLoss(label_smoothing=0.1)(logits, target).item(), smooth.mean())
    soft = softmax(B, 1)
    assert np.allclose(nn.CrossEntropyLoss()(logits, P.tensor(soft)).item(), -(soft * LOG_P).sum(1).mean())
    assert list(nn.CrossEntropyLoss(weight=P.tensor(weight)).state_dict()) == ["weight"]
    with pytest.raises(DTypeError, match="CrossEntropyLoss.weight was set to list; expected a Tensor"):
        nn.CrossEntropyLoss(weight=[1.0, 2.0])
    assert np.allclose(nn.KLDivLoss(reduction="batchmean")(P.tensor(LOG_P), P.tensor(B + 0.1)).item(),
                       LOSSES["KLDivLoss"][3].sum() / 2)  # fmt: skip


def test_a_loss_never_broadcasts():
    with pytest.raises(ShapeError, match=r"^MSELoss: mse_loss: input \(4, 1\), target \(4,\); .*squeeze\(-1\)"):
        nn.MSELoss()(P.ones(4, 1), P.ones(4))
