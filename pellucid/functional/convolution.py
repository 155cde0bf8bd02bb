"""Convolution, pooling, padding, resizing and warping, composed of operations (floor 3).

Names and arguments are PyTorch's, and users find these in `functional/`. What can be done in one dimension is done as
two of height 1. Letters: B batch, C input and O output channels, H W (or T) input size, P Q output size, K L kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arguments import Sizes, sizes_of
from ..creation import full, ones, where
from ..errors import DTypeError, OptionError, ShapeError, format_shape
from ..ops import contraction, movement
from ..tensor import Tensor, matmul

# ---- convolution -----------------------------------------------------------------------------------------------------


def _examples(x: Tensor, axes: int, what: str, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """`compute(x)` for x with `axes` axes, (B, C, *); one example (C, *) is a batch of one."""
    if x.ndim == axes:
        return compute(x)
    if x.ndim != axes - 1:
        form = "C, T" if axes == 3 else "C, H, W"
        raise ShapeError(f"{what}: input {format_shape(x.shape)}; expected (B, {form}) or ({form}); reshape it")
    return compute(x.unsqueeze(0)).squeeze(0)


def _around(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sizes | str, dilation: Sequence[int]
) -> tuple[Tensor, tuple[int, ...]]:
    """x (B, C, H, W) and the padding to convolve it with, in numbers; the odd one of "same" goes behind, onto x."""
    if not isinstance(padding, str):
        return x, sizes_of(padding, 2, "padding")
    if padding == "valid":
        return x, (0, 0)
    if padding != "same" or stride != (1, 1):
        raise OptionError(
            f'padding={padding!r} with stride {stride}; expected "valid", "same" with stride 1, or numbers; '
            "padding=(kernel_size - 1) // 2 keeps the size at stride 1 and divides it at others"
        )
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if any(n % 2 for n in total):
        x = pad(x, (0, total[1] % 2, 0, total[0] % 2))
    return x, (total[0] // 2, total[1] // 2)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """x (B, C, H, W) or (C, H, W), weight (O, C/groups, K, L) -> (B, O, P, Q).

    padding: numbers of zeros on each side, "valid" for none, or "same" for P, Q = H, W (stride 1).
    """
    s, d = sizes_of(stride, 2, "stride", 1), sizes_of(dilation, 2, "dilation", 1)

    def compute(x: Tensor) -> Tensor:
        x, p = _around(x, weight.shape[2:], s, padding, d)
        y = contraction.convolution(x, weight, stride=s, padding=p, dilation=d, groups=groups)
        return y if bias is None else y + bias.reshape(1, -1, 1, 1)

    return _examples(x, 4, "conv2d", compute)


def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """x (B, C, T) or (C, T), weight (O, C/groups, K) -> (B, O, P): a convolution of height 1."""
    s, d = sizes_of(stride, 1, "stride", 1), sizes_of(dilation, 1, "dilation", 1)
    p = padding if isinstance(padding, str) else (0, *sizes_of(padding, 1, "padding"))
    return _examples(x, 3, "conv1d", lambda x: conv2d(
        x.unsqueeze(2), weight.unsqueeze(2), bias, (1, *s), p, (1, *d), groups
    ).squeeze(2))  # fmt: skip


def conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes | str = 0, output_padding: Sizes = 0,
    groups: int = 1, dilation: Sizes = 1,
) -> Tensor:  # fmt: skip
    """x (B, C, P, Q) or (C, P, Q), weight (C, O/groups, K, L) -> (B, O, H, W): the transpose of a convolution.

    output_padding: rows and columns more than the smallest H, W that a convolution takes to P, Q; below stride.
    """
    s, d = sizes_of(stride, 2, "stride", 1), sizes_of(dilation, 2, "dilation", 1)
    p, extra = sizes_of(padding, 2, "padding"), sizes_of(output_padding, 2, "output_padding")

    def compute(x: Tensor) -> Tensor:
        size = tuple(
            (n - 1) * s[i] - 2 * p[i] + d[i] * (k - 1) + 1 + extra[i]
            for i, (n, k) in enumerate(zip(x.shape[2:], weight.shape[2:], strict=True))
        )
        y = contraction.convolution_input_gradient(x, weight, size=size, stride=s, padding=p, dilation=d, groups=groups)
        return y if bias is None else y + bias.reshape(1, -1, 1, 1)

    return _examples(x, 4, "conv_transpose2d", compute)


def pad(x: Tensor, padding: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """`padding` = (left, right, top, bottom, ...): numbers added before and after, from the last axis backwards."""
    if mode != "constant" or len(padding) % 2 or len(padding) > 2 * x.ndim or min(padding, default=0) < 0:
        raise OptionError(
            f'pad: {tuple(padding)}, mode {mode!r}; expected pairs of numbers from 0 and mode "constant"; slice to crop'
        )
    sides = [(0, 0)] * x.ndim
    for i in range(len(padding) // 2):
        sides[-1 - i] = (padding[2 * i], padding[2 * i + 1])
    shape = tuple(before + size + after for size, (before, after) in zip(x.shape, sides, strict=True))
    slices = tuple((before, size, 1) for size, (before, _) in zip(x.shape, sides, strict=True))
    y = movement.pad(x, shape=shape, slices=slices)
    if not value:
        return y
    return where(movement.pad(full(x.shape, True), shape=shape, slices=slices), y, y.in_own_dtype(value))


# ---- pooling and resizing --------------------------------------------------------------------------------------------


def _windows(
    x: Tensor, kernel: Sizes, stride: Sizes | None, padding: Sizes, dilation: Sizes, ceil_mode: bool, fill: float
) -> Tensor:  # fmt: skip
    """x (B, C, H, W) -> (B, C, P, Q, K, L): the patch under each window, with `fill` around x."""
    k, p = sizes_of(kernel, 2, "kernel_size", 1), sizes_of(padding, 2, "padding")
    s, d = k if stride is None else sizes_of(stride, 2, "stride", 1), sizes_of(dilation, 2, "dilation", 1)
    if ceil_mode:
        raise OptionError("ceil_mode=True; expected False: a window lies inside the input; pad the input first")
    if any(2 * n > e * (m - 1) + 1 for n, m, e in zip(p, k, d, strict=True)):
        raise OptionError(f"padding={padding!r} for kernel_size={kernel!r}; expected at most half of the window; "
                          "some windows would see nothing but padding; make it smaller")  # fmt: skip
    if any(p):
        x = pad(x, (p[1], p[1], p[0], p[0]), value=fill)
    return contraction.unfold(x, kernel=k, stride=s, dilation=d)


def max_pool2d(
    x: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1, ceil_mode: bool = False
) -> Tensor:  # fmt: skip
    """x (B, C, H, W) or (C, H, W) -> (B, C, P, Q): the largest number under each window; the first of equal ones gets the gradient."""
    return _examples(x, 4, "max_pool2d", lambda x: _windows(
        x, kernel_size, stride, padding, dilation, ceil_mode, -math.inf
    ).flatten(-2).max(-1).values)  # fmt: skip


def max_pool1d(
    x: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1, ceil_mode: bool = False
) -> Tensor:  # fmt: skip
    """x (B, C, T) or (C, T) -> (B, C, P): the largest under each window."""
    k, s, p, d = _flat(kernel_size, stride, padding, dilation)
    return _examples(x, 3, "max_pool1d", lambda x: max_pool2d(x.unsqueeze(2), k, s, p, d, ceil_mode).squeeze(2))


def _flat(
    kernel: Sizes, stride: Sizes | None, padding: Sizes, dilation: Sizes = 1
) -> tuple[Sizes, Sizes | None, Sizes, Sizes]:
    """A window over one axis as one of height 1."""
    k, p, d = (
        sizes_of(kernel, 1, "kernel_size", 1),
        sizes_of(padding, 1, "padding"),
        sizes_of(dilation, 1, "dilation", 1),
    )
    return (1, *k), None if stride is None else (1, *sizes_of(stride, 1, "stride", 1)), (0, *p), (1, *d)


def avg_pool2d(
    x: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """x (B, C, H, W) or (C, H, W) -> (B, C, P, Q): the mean under each window.

    count_include_pad: zeros of the padding count as numbers; divisor_override: divide each sum by this instead.
    """

    x.check_floating("avg_pool")

    def compute(x: Tensor) -> Tensor:
        def total(x: Tensor) -> Tensor:
            return _windows(x, kernel_size, stride, padding, 1, ceil_mode, 0.0).sum((-2, -1))

        if divisor_override is not None:
            return total(x) / divisor_override
        if count_include_pad:
            return total(x) / math.prod(sizes_of(kernel_size, 2, "kernel_size", 1))
        return total(x) / total(ones(1, 1, *x.shape[2:], dtype=x.dtype))

    return _examples(x, 4, "avg_pool2d", compute)


def avg_pool1d(
    x: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """x (B, C, T) or (C, T) -> (B, C, P): the mean under each window."""
    k, s, p, _ = _flat(kernel_size, stride, padding)
    return _examples(
        x, 3, "avg_pool1d", lambda x: avg_pool2d(x.unsqueeze(2), k, s, p, ceil_mode, count_include_pad).squeeze(2)
    )


def adaptive_avg_pool2d(x: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """x (B, C, H, W) or (C, H, W) -> (B, C, P, Q) with (P, Q) = output_size: means over windows that share out H and W.

    Window i of P goes from floor(i H / P) to ceil((i + 1) H / P); None for P or Q keeps the size.
    """

    def compute(x: Tensor) -> Tensor:
        *outer, h, w = x.shape
        given = output_size if isinstance(output_size, tuple | list) else (output_size,) * 2
        p, q = sizes_of([(h, w)[i % 2] if n is None else n for i, n in enumerate(given)], 2, "output_size", 1)
        if h % p == 0 and w % q == 0:
            return x.reshape(*outer, p, h // p, q, w // q).mean((3, 5))
        return matmul(_sharing(p, h, x.dtype), matmul(x, _sharing(q, w, x.dtype).T))

    return _examples(x, 4, "adaptive_avg_pool2d", compute)


def _sharing(windows: int, size: int, dtype: np.dtype) -> Tensor:
    """(P, H): row i takes the mean of window i."""
    rows = np.zeros((windows, size), dtype)
    for i, row in enumerate(rows):
        start, end = i * size // windows, -(-(i + 1) * size // windows)
        row[start:end] = 1 / (end - start)
    return Tensor(rows)


def interpolate(
    x: Tensor,
    size: Sizes | None = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """x (B, C, *) with each number repeated `scale_factor` times along every further axis, or up to `size`."""
    axes = x.ndim - 2
    if mode != "nearest" or align_corners is not None:
        raise OptionError(f'interpolate: mode={mode!r}, align_corners={align_corners}; expected "nearest" and None; '
                          "leave them out")  # fmt: skip
    if axes < 1 or (size is None) == (scale_factor is None):
        raise OptionError(f"interpolate: input {format_shape(x.shape)}, size={size}, scale_factor={scale_factor}; "
                          "expected (B, C, *) and either size or scale_factor; give one of the two")  # fmt: skip
    if size is None:
        given = scale_factor if isinstance(scale_factor, tuple | list) else (scale_factor,) * axes
        factors = sizes_of([int(n) if n == int(n) else n for n in given], axes, "scale_factor", 1)
    else:
        sizes = sizes_of(size, axes, "size", 1)
        if any(n % m for n, m in zip(sizes, x.shape[2:], strict=True)):
            raise OptionError(f"interpolate: size={size!r} of input {format_shape(x.shape)}; "
                              "expected multiples of its sizes; choose another size, or pad")  # fmt: skip
        factors = tuple(n // m for n, m in zip(sizes, x.shape[2:], strict=True))
    for axis, factor in enumerate(factors, start=2):
        x = x if factor == 1 else x.repeat_interleave(factor, axis)
    return x


# ---- warping ---------------------------------------------------------------------------------------------------------


def affine_grid(theta: Tensor, size: tuple[int, ...] | list[int], align_corners: bool | None = None) -> Tensor:
    """theta (B, 2, 3), size (B, C, P, Q) -> (B, P, Q, 2): theta (x, y, 1), the places that `grid_sample` reads.

    x and y run from -1 to 1 over the width and the height: between the centres of the outermost pixels with
    align_corners, else between their outer edges (Jaderberg et al. 2015).
    """
    batch, _, p, q = sizes_of(size, 4, "affine_grid: size", 1)
    if theta.shape != (batch, 2, 3) or theta.dtype.kind != "f":
        raise ShapeError(f"affine_grid: theta {format_shape(theta.shape)} {theta.dtype}, size {tuple(size)}; "
                         f"expected floating-point numbers ({batch}, 2, 3); check the batch, or expand theta")  # fmt: skip
    x = _centres(q, align_corners, theta.dtype).reshape(1, 1, q, 1)
    y = _centres(p, align_corners, theta.dtype).reshape(1, p, 1, 1)
    to_x, to_y, shift = (part.reshape(batch, 1, 1, 2) for part in theta.unbind(2))
    return x * to_x + y * to_y + shift  # (B, P, Q, 2)


def _centres(count: int, align_corners: bool | None, dtype: np.dtype) -> Tensor:
    """The centres of `count` pixels between -1 and 1; a single one is in the middle."""
    edge = 0.0 if count == 1 else 1.0 if align_corners else 1 - 1 / count
    return Tensor(np.linspace(-edge, edge, count, dtype=dtype))


def grid_sample(
    x: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Tensor:
    """x (B, C, H, W), grid (B, P, Q, 2) -> (B, C, P, Q): x at the places (x, y) of the grid; see `affine_grid`.

    mode: "bilinear" between the four pixels around, or "nearest" (of which the grid gets no gradient). padding_mode:
    what lies outside is "zeros", or the nearest pixel of the "border".
    """
    _check_grid(x, grid, mode, padding_mode)
    sizes = (x.shape[3], x.shape[2])  # in the grid's order
    flat = [place.reshape(grid.shape[0], 1, -1) for place in grid.unbind(3)]  # (B, 1, P*Q) for all channels
    places = [_in_pixels(*pair, padding_mode, align_corners) for pair in zip(flat, sizes, strict=True)]
    if mode == "nearest":
        y = _pixels(x, *(place.detach().round() for place in places))
    else:
        y = _between_pixels(x, *places)
    return y.reshape(*x.shape[:2], *grid.shape[1:3])


def _between_pixels(x: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """x (B, C, H, W) at places (B, 1, N), by the four pixels around each: (B, C, N)."""
    left, top = column.detach().floor(), row.detach().floor()
    right, below = column - left, row - top  # shares, 0 to 1
    upper = _pixels(x, left, top) * (1 - right) + _pixels(x, left + 1, top) * right
    lower = _pixels(x, left, top + 1) * (1 - right) + _pixels(x, left + 1, top + 1) * right
    return upper * (1 - below) + lower * below


def _check_grid(x: Tensor, grid: Tensor, mode: str, padding_mode: str) -> None:
    if mode not in ("bilinear", "nearest") or padding_mode not in ("zeros", "border"):
        raise OptionError(f'grid_sample: mode={mode!r}, padding_mode={padding_mode!r}; expected "bilinear" or "nearest", '
                          'and "zeros" or "border"; leave them out for the first of each')  # fmt: skip
    if x.dtype != grid.dtype or x.dtype.kind != "f":
        raise DTypeError(f"grid_sample: input {x.dtype}, grid {grid.dtype}; expected one floating dtype; convert one")
    if x.ndim != 4 or grid.ndim != 4 or grid.shape[3] != 2 or x.shape[0] != grid.shape[0] or 0 in x.shape[2:]:
        raise ShapeError(f"grid_sample: input {format_shape(x.shape)}, grid {format_shape(grid.shape)}; expected (B, C, H, W), not "
                         "empty, and (B, P, Q, 2); make the grid with affine_grid")  # fmt: skip


def _in_pixels(place: Tensor, size: int, padding_mode: str, align_corners: bool | None) -> Tensor:
    """-1 ... 1 as a place along `size` pixels, whose centres lie at 0 ... size - 1."""
    place = (place + 1) / 2 * (size - 1) if align_corners else ((place + 1) * size - 1) / 2
    if padding_mode == "zeros":
        return place
    inside = (place > 0) & (place < size - 1)  # at the border itself there is no gradient any more, as in PyTorch
    return where(inside, place, place.detach().clamp(0, size - 1))


def _pixels(x: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """x (B, C, H, W) at whole columns and rows (B, 1, N), 0 for what lies outside: (B, C, N)."""
    batch, channels, height, width = x.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = (where(inside, place, 0).int() for place in (column, row))
    index = (row * width + column).expand(batch, channels, -1)
    return where(inside, x.flatten(2).gather(2, index), 0)
