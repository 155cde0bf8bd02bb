"""Pooling and resizing against loops over the windows, their gradients against differences, and their complaints."""

import numpy as np
import pytest
from layer_checks import check_gradients, same_losses_compiled

import pellucid as P
from pellucid import nn
from pellucid.errors import DTypeError, OptionError, ShapeError

F = nn.functional
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 3, 7, 6))


def slide(x, keep, kernel, stride, padding=(0, 0), dilation=(1, 1)):
    """`keep(values)` of what the window sees of x at every position; never the padding itself."""
    (*_, height, width), (k, l) = x.shape, kernel
    rows = range(-padding[0], height + padding[0] - dilation[0] * (k - 1), stride[0])
    columns = range(-padding[1], width + padding[1] - dilation[1] * (l - 1), stride[1])
    y = np.zeros((*x.shape[:2], len(rows), len(columns)))
    for p, top in enumerate(rows):
        for q, left in enumerate(columns):
            i = [r for r in range(top, top + dilation[0] * k, dilation[0])[:k] if 0 <= r < height]
            j = [c for c in range(left, left + dilation[1] * l, dilation[1])[:l] if 0 <= c < width]
            y[:, :, p, q] = keep(x[:, :, i][..., j])
    return y


largest = lambda seen: seen.max((-2, -1))
mean = lambda seen: seen.mean((-2, -1))
LAYERS = {
    "MaxPool2d(2)": (largest, (2, 2), (2, 2)),
    "MaxPool2d((3, 2), (2, 1), (1, 0))": (largest, (3, 2), (2, 1), (1, 0)),
    "MaxPool2d(3, 1, 2, dilation=2)": (largest, (3, 3), (1, 1), (2, 2), (2, 2)),
    "AvgPool2d(3)": (mean, (3, 3), (3, 3)),
    "AvgPool2d((2, 3), 1)": (mean, (2, 3), (1, 1)),
    "AvgPool2d(3, 2, 1, count_include_pad=False)": (mean, (3, 3), (2, 2), (1, 1)),
    "AvgPool2d(3, 2, 1)": (lambda seen: seen.sum((-2, -1)) / 9, (3, 3), (2, 2), (1, 1)),
    "AvgPool2d(2, divisor_override=3)": (lambda seen: seen.sum((-2, -1)) / 3, (2, 2), (2, 2)),
}


@pytest.mark.parametrize("text", LAYERS)
def test_each_window(text):
    layer, expected = eval(f"nn.{text}"), slide(X, *LAYERS[text])
    np.testing.assert_allclose(layer(P.tensor(X)).array, expected, atol=1e-12)
    np.testing.assert_allclose(layer(P.tensor(X[0])).array, expected[0], atol=1e-12)
    assert not layer.state_dict() and check_gradients(layer, X[:1, :1])


@pytest.mark.parametrize(
    "text, keep", [("MaxPool1d(3, 2, 1)", largest), ("AvgPool1d(3, 2, 1, count_include_pad=False)", mean)]
)
def test_one_dimension(text, keep):
    layer, x = eval(f"nn.{text}"), X[:, :, 0]
    expected = slide(x[:, :, None], keep, (1, 3), (1, 2), (0, 1))[:, :, 0]
    np.testing.assert_allclose(layer(P.tensor(x)).array, expected, atol=1e-12)
    np.testing.assert_allclose(layer(P.tensor(x[0])).array, expected[0], atol=1e-12)
    assert check_gradients(layer, x[:1])


def test_a_mean_of_constants_is_the_constant_at_the_edges_too():
    x = P.full((1, 1, 5, 5), 3.0)
    assert set(nn.AvgPool2d(3, 2, 1, count_include_pad=False)(x).array.flat) == {3}
    assert nn.AvgPool2d(3, 2, 1)(x).array.min() == np.float32(12 / 9)


@pytest.mark.parametrize("size", [1, (7, 6), (7, 3), (3, 4), (2, None), (9, 7), (None, 1)], ids=str)
def test_adaptive_windows_share_out_the_input(size):
    layer = nn.AdaptiveAvgPool2d(size)
    p, q = (size, size) if isinstance(size, int) else (n or m for n, m in zip(size, (7, 6), strict=True))
    expected = np.zeros((2, 3, p, q))
    for i, j in np.ndindex(p, q):
        rows, columns = slice(i * 7 // p, -(-(i + 1) * 7 // p)), slice(j * 6 // q, -(-(j + 1) * 6 // q))
        expected[:, :, i, j] = X[:, :, rows, columns].mean((-2, -1))
    np.testing.assert_allclose(layer(P.tensor(X)).array, expected, atol=1e-12)
    np.testing.assert_allclose(layer(P.tensor(X[0])).array, expected[0], atol=1e-12)
    assert check_gradients(layer, X[:1, :1])


def test_upsample_repeats():
    assert nn.Upsample(scale_factor=2)(P.tensor([[[1.0, 2.0]]])).tolist() == [[[1, 1, 2, 2]]]
    for layer in (nn.Upsample(scale_factor=(2, 3)), nn.Upsample((14, 18)), nn.Upsample(scale_factor=(2.0, 3.0))):
        assert np.array_equal(layer(P.tensor(X)).array, np.kron(X, np.ones((2, 3))))
    assert check_gradients(nn.Upsample(scale_factor=3), X[:1, :2, :2, :2])


def test_the_first_of_equals_gets_the_gradient():
    x = P.ones(1, 1, 4, requires_grad=True)
    nn.MaxPool1d(2)(x).sum().backward()
    assert x.grad.tolist() == [[[1, 0, 1, 0]]]


@pytest.mark.parametrize(
    "text, message",
    [
        ("MaxPool2d(0)", "MaxPool2d: kernel_size=0; expected a whole number from 1 or two of them"),
        ("MaxPool1d((2, 2))", r"MaxPool1d: kernel_size=\(2, 2\); expected a whole number from 1; check"),
        ("AvgPool2d(2, 0)", "AvgPool2d: stride=0"),
        ("AvgPool2d(2, padding=-1)", "AvgPool2d: padding=-1; expected a whole number from 0"),
        ("MaxPool2d(2, dilation=0)", "MaxPool2d: dilation=0"),
        ("MaxPool2d(2, ceil_mode=True)", "MaxPool2d: ceil_mode=True; expected False; pad the input"),
        ("MaxPool2d(2, return_indices=True)", "MaxPool2d: return_indices=True; expected False"),
        ("AdaptiveAvgPool2d(0)", "AdaptiveAvgPool2d: output_size=.*expected a whole number from 1"),
        ("AdaptiveAvgPool2d((1, 2, 3))", "AdaptiveAvgPool2d: output_size="),
        ("Upsample()", "Upsample: .*either size or scale_factor"),
        ("Upsample(2, 2)", "Upsample: .*either size or scale_factor"),
        ("Upsample(2, mode='bilinear')", "Upsample: mode='bilinear'.*expected \"nearest\""),
    ],
)
def test_options_out_of_range(text, message):
    with pytest.raises(OptionError, match=message):
        eval(f"nn.{text}")


def test_what_does_not_fit_is_told_with_a_way_out():
    x = P.zeros(1, 1, 4, 4)
    with pytest.raises(
        OptionError, match=r"^MaxPool2d: padding=2 for kernel_size=2; expected at most half of the window"
    ):
        nn.MaxPool2d(2, padding=2)(x)
    with pytest.raises(ShapeError, match=r"^MaxPool2d: .*expected a window no larger than the input; pad the input"):
        nn.MaxPool2d(5)(x)
    with pytest.raises(ShapeError, match=r"avg_pool2d: input \(4, 4\); expected \(B, C, H, W\) or \(C, H, W\)"):
        nn.AvgPool2d(2)(x[0, 0])
    with pytest.raises(ShapeError, match=r"max_pool1d: input \(1, 1, 4, 4\); expected \(B, C, T\) or \(C, T\)"):
        nn.MaxPool1d(2)(x)
    with pytest.raises(DTypeError, match="input is list; expected a Tensor"):
        nn.AdaptiveAvgPool2d(1)([[1.0]])
    with pytest.raises(OptionError, match=r"interpolate: size=6 of input \(1, 1, 4, 4\); expected multiples"):
        nn.Upsample(6)(x)
    with pytest.raises(OptionError, match=r"scale_factor=\[1.5, 1.5\]; expected a whole number from 1"):
        F.interpolate(x, scale_factor=1.5)
    with pytest.raises(OptionError, match="ceil_mode=True; expected False"):
        F.avg_pool2d(x, 2, ceil_mode=True)


POOLS = ["MaxPool2d(2)", "MaxPool2d(3, 2, 1)", "AvgPool2d(3, 2, 1, count_include_pad=False)", "AdaptiveAvgPool2d(3)",
         "Upsample(scale_factor=2)"]  # fmt: skip


@pytest.mark.parametrize("text", POOLS)
def test_compiled_steps_give_the_eager_losses(text):
    build = lambda: nn.Sequential(nn.Conv2d(2, 3, 1), eval(f"nn.{text}"))
    same_losses_compiled(build, RANDOM.normal(size=(2, 2, 5, 6)).astype(np.float32))
