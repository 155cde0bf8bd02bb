"""Convolution layers against the sum they stand for, their gradients against differences, and their complaints."""

import numpy as np
import pytest
from layer_checks import check_gradients, same_losses_compiled

import pellucid as P
from pellucid import nn
from pellucid.errors import DTypeError, OptionError, ShapeError
from pellucid.inspect import summary

RANDOM = np.random.default_rng(0)


def correlate(x, w, b, stride, padding, dilation, groups):
    """The sum over the kernel at every position, one number at a time; padding as ((top, bottom), (left, right))."""
    x = np.pad(x, ((0, 0), (0, 0), *padding))
    (batch, _, height, width), (out, inner, k, l) = x.shape, w.shape
    rows = range(0, height - dilation[0] * (k - 1), stride[0])
    columns = range(0, width - dilation[1] * (l - 1), stride[1])
    y = np.zeros((batch, out, len(rows), len(columns)))
    for n, o, (p, top), (q, left) in ((n, o, i, j) for n in range(batch) for o in range(out)
                                      for i in enumerate(rows) for j in enumerate(columns)):  # fmt: skip
        start = o // (out // groups) * inner
        patch = x[
            n,
            start : start + inner,
            top : top + dilation[0] * k : dilation[0],
            left : left + dilation[1] * l : dilation[1],
        ]
        y[n, o, p, q] = (patch[:, :k, :l] * w[o]).sum() + (0 if b is None else b[o])
    return y


IMAGES = {  # settings -> what they mean: stride, padding, dilation
    "4, 6, 3": ((1, 1), ((0, 0), (0, 0)), (1, 1)),
    "4, 6, (3, 2), bias=False": ((1, 1), ((0, 0), (0, 0)), (1, 1)),
    "4, 6, 3, 2, 1": ((2, 2), ((1, 1), (1, 1)), (1, 1)),
    "4, 6, 2, (1, 3), (2, 0), (2, 1), 2": ((1, 3), ((2, 2), (0, 0)), (2, 1)),
    "4, 8, 1, groups=4": ((1, 1), ((0, 0), (0, 0)), (1, 1)),
    "4, 2, 3, padding='valid', stride=2": ((2, 2), ((0, 0), (0, 0)), (1, 1)),
    "4, 2, 3, padding='same'": ((1, 1), ((1, 1), (1, 1)), (1, 1)),
    "4, 2, (2, 4), padding='same'": ((1, 1), ((0, 1), (1, 2)), (1, 1)),
    "4, 2, (2, 3), padding='same', dilation=3": ((1, 1), ((1, 2), (3, 3)), (3, 3)),
}


@pytest.mark.parametrize("text", IMAGES)
def test_conv2d_is_the_sum_it_stands_for(text):
    stride, padding, dilation = IMAGES[text]
    layer = eval(f"nn.Conv2d({text}, dtype=P.float64)")
    x = RANDOM.normal(size=(2, 4, 7, 6))
    bias = None if layer.bias is None else layer.bias.array
    expected = correlate(x, layer.weight.array, bias, stride, padding, dilation, layer.groups)
    np.testing.assert_allclose(layer(P.tensor(x)).array, expected, atol=1e-12)
    np.testing.assert_allclose(layer(P.tensor(x[1])).array, expected[1], atol=1e-12)  # one image without a batch


@pytest.mark.parametrize("text", ["4, 6, 3", "4, 6, 3, 2, 1, 2, 2", "4, 6, 2, padding='same'", "4, 6, 5, padding=(2,)"])
def test_conv1d_is_a_convolution_of_height_1(text):
    layer = eval(f"nn.Conv1d({text}, dtype=P.float64)")
    x = RANDOM.normal(size=(2, 4, 9))
    padding = (0, layer.kernel_size[0] - 1) if layer.padding == "same" else (layer.padding[0],) * 2
    expected = correlate(
        x[:, :, None], layer.weight.array[:, :, None], layer.bias.array, (1, *layer.stride), ((0, 0), padding),
        (1, *layer.dilation), layer.groups,
    )[:, :, 0]  # fmt: skip
    np.testing.assert_allclose(layer(P.tensor(x)).array, expected, atol=1e-12)
    np.testing.assert_allclose(layer(P.tensor(x[0])).array, expected[0], atol=1e-12)


@pytest.mark.parametrize(
    "text, shape",
    [("4, 6, 3", (2, 6, 7, 6)), ("4, 6, 2, 2", (2, 6, 10, 8)), ("4, 2, (3, 4), (2, 3), 1, (1, 2), 2", (2, 2, 10, 13)),
     ("4, 4, 2, dilation=2, groups=4, bias=False", (2, 4, 7, 6))],
)  # fmt: skip
def test_conv_transpose2d_spreads_each_number_over_its_patch(text, shape):
    layer = eval(f"nn.ConvTranspose2d({text}, dtype=P.float64)")
    x, w = RANDOM.normal(size=(2, 4, 5, 4)), layer.weight.array
    (s, t), (p, q), (d, e) = layer.stride, layer.padding, layer.dilation
    k, l = layer.kernel_size
    y = np.zeros((2, shape[1], shape[2] + 2 * p + d * k, shape[3] + 2 * q + e * l))  # with room to spread into
    inner = 4 // layer.groups
    for c, i, j in np.ndindex(4, 5, 4):
        outputs = slice(c // inner * w.shape[1], (c // inner + 1) * w.shape[1])
        patch = y[:, outputs, i * s : i * s + d * k : d, j * t : j * t + e * l : e]
        patch += x[:, c, i, j][:, None, None, None] * w[c]
    y = y[:, :, p : p + shape[2], q : q + shape[3]] + (0 if layer.bias is None else layer.bias.array[:, None, None])
    np.testing.assert_allclose(layer(P.tensor(x)).array, y, atol=1e-12)
    np.testing.assert_allclose(layer(P.tensor(x[0])).array, y[0], atol=1e-12)


@pytest.mark.parametrize(
    "text, shape",
    [
        ("Conv1d(2, 3, 2, 2, 1)", (1, 2, 5)),
        ("Conv2d(2, 2, 2, padding='same', groups=2)", (2, 2, 3, 3)),
        ("Conv2d(1, 2, (2, 1), 2, (1, 0))", (1, 3, 2)),
        ("ConvTranspose2d(2, 2, 3, 2, 1, 1)", (1, 2, 2, 3)),
    ],
)
def test_gradients(text, shape):
    layer = eval(f"nn.{text[:-1]}, dtype=P.float64)")
    assert check_gradients(layer, RANDOM.normal(size=shape))


def test_weights_start_within_their_bound_and_by_the_seed():
    P.manual_seed(1)
    layer, other = nn.Conv2d(8, 32, 5, groups=2), nn.ConvTranspose2d(32, 8, 5)
    assert layer.weight.shape == (32, 4, 5, 5) and other.weight.shape == (32, 8, 5, 5) and other.bias.shape == (8,)
    for values, fan_in in ((layer.weight, 100), (layer.bias, 100), (other.weight, 200), (other.bias, 200)):
        bound, largest = 1 / np.sqrt(fan_in), abs(values.array).max()
        assert 0.8 * bound < largest <= bound
    P.manual_seed(1)
    again = nn.Conv2d(8, 32, 5, groups=2)
    assert np.array_equal(layer.weight.array, again.weight.array) and np.array_equal(layer.bias.array, again.bias.array)
    assert list(layer.state_dict()) == ["weight", "bias"] and nn.Conv1d(1, 1, 1, bias=False).bias is None


@pytest.mark.parametrize(
    "text, message",
    [
        ("Conv2d(0, 2, 3)", "Conv2d: in_channels=0; expected a whole number from 1"),
        ("Conv2d(1, 2, 0)", r"Conv2d: kernel_size=0; expected a whole number from 1 or two of them, \(height, width\)"),
        ("Conv2d(1, 2, (3, 3, 3))", r"Conv2d: kernel_size=\(3, 3, 3\)"),
        ("Conv1d(1, 2, 3, stride=0)", "Conv1d: stride=0; expected a whole number from 1; check"),
        ("Conv2d(1, 2, 3, padding=-1)", "Conv2d: padding=-1; expected a whole number from 0"),
        ("Conv2d(1, 2, 3, dilation=1.5)", "Conv2d: dilation=1.5"),
        ("Conv2d(4, 6, 3, groups=4)", "groups=4 for 4 channels in and 6 out; expected a number that divides both"),
        ("Conv2d(1, 2, 3, padding_mode='reflect')", "padding_mode='reflect'; expected \"zeros\"; pad the input"),
        ("Conv2d(1, 2, 3, padding='full')", 'padding=\'full\', stride=.*expected "valid", "same" with stride 1'),
        ("Conv2d(1, 2, 3, 2, padding='same')", r"padding='same', stride=\(2, 2\); .*\(kernel_size - 1\) // 2"),
        ("ConvTranspose2d(1, 2, 3, padding='same')", "ConvTranspose2d: padding='same'.*expected numbers"),
        ("ConvTranspose2d(1, 2, 3, output_padding=-1)", "ConvTranspose2d: output_padding=-1"),
    ],
)
def test_options_out_of_range(text, message):
    with pytest.raises(OptionError, match=message):
        eval(f"nn.{text}")


@pytest.mark.parametrize(
    "text, shape, message",
    [
        ("Conv2d(1, 8, 3)", (32, 28, 28), r"^Conv2d 1→8, kernel 3x3: input \(32, 28, 28\); expected \(B, 1, H, W\) or "
         r"\(1, H, W\); add the channel axis, with x.unsqueeze\(1\)"),
        ("Conv2d(3, 8, 3)", (2, 28, 28, 3), r"the channels come before the positions: x.movedim\(-1, 1\)"),
        ("Conv2d(3, 8, 3)", (2, 4, 9, 9), r"expected \(B, 3, H, W\).*or make this one Conv2d\(4, 8, ...\)"),
        ("Conv2d(3, 8, 3)", (3, 9), r"input \(3, 9\); expected \(B, 3, H, W\) or \(3, H, W\); check the data"),
        ("Conv1d(3, 8, 3)", (2, 9, 3), r"^Conv1d 3→8, kernel 3: .*expected \(B, 3, T\) or \(3, T\); the channels come"),
        ("ConvTranspose2d(3, 8, 3)", (2, 4, 9, 9), r"expected \(B, 3, P, Q\)"),
        ("Conv2d(1, 8, 5)", (1, 1, 4, 4), "expected a kernel no larger than the padded input; pad the input"),
        ("ConvTranspose2d(1, 8, 3, 2, output_padding=2)", (1, 1, 4, 4), "check output_padding, which must be below"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_a_way_out(text, shape, message):
    with pytest.raises(ShapeError, match=message):
        eval(f"nn.{text}")(P.zeros(shape))


def test_what_is_no_float32_tensor_is_told():
    with pytest.raises(DTypeError, match=r"input is ndarray; expected a Tensor"):
        nn.Conv2d(1, 1, 1)(np.zeros((1, 1, 2, 2)))
    with pytest.raises(DTypeError, match=r"is uint8; expected float32.*\.float\(\)"):
        nn.Conv2d(1, 1, 1)(P.zeros(1, 1, 2, 2, dtype=P.uint8))


def digits_network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 2, padding="same"),
        nn.GroupNorm(2, 6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


def test_summary_of_a_convolutional_network():
    found = summary(digits_network(), (2, 1, 8, 8))
    kinds = [(row.kind, row.outputs[0], row.parameters) for row in found.rows]
    assert kinds[0] == ("Conv2d", (2, 4, 8, 8), 40) and kinds[3] == ("MaxPool2d", (2, 4, 4, 4), 0)
    assert kinds[4] == ("Conv2d", (2, 6, 4, 4), 102) and kinds[7] == ("AdaptiveAvgPool2d", (2, 6, 1, 1), 0)


@pytest.mark.parametrize(
    "build, shape",
    [
        (digits_network, (3, 1, 8, 8)),
        (lambda: nn.Conv1d(2, 3, 3, 2, 1, groups=1), (2, 2, 7)),
        (lambda: nn.Conv2d(4, 4, 3, 2, 1, 1, 2), (2, 4, 5, 6)),
        (lambda: nn.ConvTranspose2d(3, 2, 3, 2, 1, 1), (2, 3, 4, 3)),
        (lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 1, 3, padding="same")), (2, 2, 3, 3)),
    ],
    ids=["network", "1d", "groups", "transposed", "upsampled"],
)
def test_compiled_steps_give_the_eager_losses(build, shape):
    same_losses_compiled(build, RANDOM.normal(size=shape).astype(np.float32))
