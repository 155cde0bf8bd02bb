"""Matrix product, general contraction (dot_general), convolution, and unfold/fold for pooling (floor 2).

A contraction multiplies two arrays and sums over axes that they share. The matrix product is one; the compiler rewrites
convolutions as others. Convolution, its input gradient and its weight gradient are three operations, each linear in both of
its arguments, and the gradients of each are the other two. The input gradient is transposed convolution.

Letters: B batch, C input channels, O output channels, G groups, H W input size, P Q output size, K L kernel size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..core.op import Attributes, Op, Sample, SampleInputs
from ..core.value import Shaped, Spec, Value
from ..errors import format_shape
from .movement import permute
from .reduce import sum_to

Pair = tuple[int, int]


def swap_last(x: Value) -> Value:
    """The last two axes exchanged."""
    axes = tuple(range(x.ndim))
    return permute(x, axes=(*axes[:-2], axes[-1], axes[-2]))


class MatMul(Op):
    """a (..., M, K) @ b (..., K, N) -> (..., M, N); the leading axes broadcast. ShapeError where sizes disagree."""

    kind = "contraction"
    saves_output = False

    def infer(self, a: Shaped, b: Shaped) -> Spec:
        if a.ndim < 2 or b.ndim < 2:
            raise self.fail(
                f"{format_shape(a.shape)} @ {format_shape(b.shape)}",
                "expected two axes or more on each side",
                "unsqueeze the vector",
            )
        if a.shape[-1] != b.shape[-2]:
            raise self.fail(
                f"{format_shape(a.shape)} @ {format_shape(b.shape)}, last axis {a.shape[-1]} against {b.shape[-2]}",
                "expected the last axis of the left to equal the second last of the right",
                "check the sizes, or transpose one side",
            )
        try:
            batch = a.shape[:-2] if a.shape[:-2] == b.shape[:-2] else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError:
            raise self.fail(
                f"{format_shape(a.shape)} @ {format_shape(b.shape)}",
                "the leading axes differ and neither is 1",
                "expand one side",
            ) from None
        return Spec((*batch, a.shape[-2], b.shape[-1]), a.dtype)

    def forward(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.matmul(a, b)

    def batched(self, attributes: Attributes, size: int) -> Attributes | None:
        return attributes

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        pairs: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
            ((2, 3), (3, 4)),
            ((1, 1), (1, 1)),
            ((0, 3), (3, 2)),
            ((2, 0), (0, 2)),
            ((5, 2, 3), (5, 3, 1)),
            ((2, 3), (4, 3, 2)),
            ((3, 1, 2, 2), (4, 2, 3)),
        ]
        for left, right in pairs:
            yield [random.normal(size=left), random.normal(size=right)], {}
        yield [random.normal(size=(3, 2)).T, random.normal(size=(4, 3)).T], {}


matmul: Op = MatMul(
    "matmul",
    [
        lambda g, y, a, b: sum_to(matmul(g, swap_last(b)), a.shape),
        lambda g, y, a, b: sum_to(matmul(swap_last(a), g), b.shape),
    ],
)


class DotGeneral(Op):
    """einsum of two arrays: y[...] = sum of a[...] b[...] over the axes that `y` does not name, one letter for each axis.

    A letter of a or b that is not in y is in both, so every sum is over a shared axis. Raises ShapeError for letters that do
    not fit the shapes.
    """

    kind = "contraction"
    saves_output = False

    def infer(self, a_value: Shaped, b_value: Shaped, *, a: str, b: str, y: str) -> Spec:
        sizes: dict[str, int] = {}
        for letters, value in ((a, a_value), (b, b_value)):
            named = {letter: value.shape[axis] for axis, letter in enumerate(letters[: value.ndim])}
            fits = all(sizes.get(letter, size) == size for letter, size in named.items())
            if len(set(letters)) != len(letters) or len(letters) != value.ndim or not fits:
                raise self.fail(
                    f"{a},{b}->{y} on {format_shape(a_value.shape)} and {format_shape(b_value.shape)}",
                    "expected one letter for each axis, and equal sizes for equal letters",
                    "check the letters against the shapes",
                )
            sizes |= named
        if len(set(y)) != len(y) or not set(y) <= set(sizes) or not set(a) ^ set(b) <= set(y):
            raise self.fail(
                f"{a},{b}->{y}", "expected a sum over axes that both sides have", "sum the other axes beforehand"
            )
        return Spec(tuple(sizes[letter] for letter in y), a_value.dtype)

    def forward(self, a_array: np.ndarray, b_array: np.ndarray, *, a: str, b: str, y: str) -> np.ndarray:
        return np.einsum(f"{a},{b}->{y}", a_array, b_array, optimize=True)

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        for letters, sizes in [
            (("ik", "kj", "ij"), {"i": 2, "k": 3, "j": 4}),
            (("bik", "bjk", "ij"), {"b": 3, "i": 2, "k": 2, "j": 3}),
            (("bckl", "ockl", "bo"), {"b": 2, "c": 2, "k": 3, "l": 1, "o": 3}),
            (("gi", "gj", "jgi"), {"g": 2, "i": 3, "j": 2}),
            (("i", "i", ""), {"i": 4}),
            (("ik", "k", "i"), {"i": 2, "k": 0}),
        ]:
            a, b, y = letters
            arrays = [random.normal(size=tuple(sizes[letter] for letter in side)) for side in (a, b)]
            yield arrays, {"a": a, "b": b, "y": y}


dot_general: Op = DotGeneral(
    "dot_general",
    [
        lambda g, out, p, q, a, b, y: dot_general(g, q, a=y, b=b, y=a),
        lambda g, out, p, q, a, b, y: dot_general(p, g, a=a, b=y, y=b),
    ],
)


# ---- convolution -----------------------------------------------------------------------------------------------------


def _unfold(x: np.ndarray, kernel: Pair, output: Pair, stride: Pair, padding: Pair, dilation: Pair) -> np.ndarray:
    """A view (B, C, P, Q, K, L) of zero-padded x (B, C, H, W): the patch under the kernel at every output position."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    b, c, h, w = x.strides
    strides = (b, c, h * stride[0], w * stride[1], h * dilation[0], w * dilation[1])
    return as_strided(x, (*x.shape[:2], *output, *kernel), strides, writeable=False)


def _fold(patches: np.ndarray, size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> np.ndarray:
    """The transpose of `_unfold`: patches (B, C, P, Q, K, L) summed into (B, C, H, W), one kernel tap at a time."""
    batch, channels, p, q, kernel_h, kernel_w = patches.shape
    x = np.zeros((batch, channels, size[0] + 2 * padding[0], size[1] + 2 * padding[1]), patches.dtype)
    for i in range(kernel_h):
        for j in range(kernel_w):
            top, left = i * dilation[0], j * dilation[1]
            x[:, :, top : top + p * stride[0] : stride[0], left : left + q * stride[1] : stride[1]] += patches[
                ..., i, j
            ]
    return x[:, :, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


class Convolution(Op):
    """Base of the three: stride, zero padding and dilation are pairs for (height, width); `groups` is a number."""

    kind = "contraction"
    saves_output = False

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        cases = [  # x (B, C, H, W), weight (O, C/G, K, L), stride, padding, dilation, G
            ((2, 3, 5, 4), (4, 3, 3, 2), (1, 1), (0, 0), (1, 1), 1),
            ((1, 2, 6, 5), (2, 2, 3, 3), (2, 1), (1, 2), (1, 1), 1),
            ((2, 4, 5, 6), (6, 2, 2, 3), (1, 2), (1, 0), (2, 1), 2),
            ((1, 3, 4, 4), (3, 1, 2, 2), (3, 3), (0, 0), (1, 1), 3),
        ]
        for x_shape, w_shape, stride, padding, dilation, groups in cases:
            x, w = random.normal(size=x_shape), random.normal(size=w_shape)
            common = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
            kernel, size = w_shape[2:], x_shape[2:]
            p, q = output_size(size, kernel, stride, padding, dilation)
            g = random.normal(size=(x_shape[0], w_shape[0], p, q))
            yield self.sample(x, w, g, common, size, kernel)

    def sample(
        self, x: np.ndarray, w: np.ndarray, g: np.ndarray, common: Attributes, size: Pair, kernel: Pair
    ) -> Sample:
        """The two inputs of this operation and its attributes, from those of a convolution x * w with gradient g."""
        raise NotImplementedError


def output_size(size: Sequence[int], kernel: Sequence[int], stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """(P, Q), the positions of the kernel along each axis; not positive where the kernel does not fit."""
    p, q = (
        (n + 2 * pad - d * (k - 1) - 1) // s + 1
        for n, k, s, pad, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    return p, q


class ConvForward(Convolution):
    """x (B, C, H, W) * weight (O, C/G, K, L) -> (B, O, P, Q). ShapeError where channels or sizes do not fit."""

    def infer(self, x: Shaped, w: Shaped, *, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Spec:
        if x.ndim != 4 or w.ndim != 4:
            raise self.fail(
                f"input {format_shape(x.shape)}, weight {format_shape(w.shape)}",
                "expected (B, C, H, W) and (O, C/groups, K, L)",
                "add the missing axis",
            )
        if x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
            raise self.fail(
                f"input {format_shape(x.shape)} has {x.shape[1]} channels, weight {format_shape(w.shape)} with {groups} groups",
                f"expected {w.shape[1] * groups} channels",
                "check in_channels and groups",
            )
        p, q = output_size(x.shape[2:], w.shape[2:], stride, padding, dilation)
        if p < 1 or q < 1:
            raise self.fail(
                f"kernel {w.shape[2:]} with dilation {dilation} on input {format_shape(x.shape)}, padding {padding}",
                "expected a kernel no larger than the padded input",
                "pad the input or shrink the kernel",
            )
        return Spec((x.shape[0], w.shape[0], p, q), x.dtype)

    def forward(
        self, x: np.ndarray, w: np.ndarray, *, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> np.ndarray:
        output = output_size(x.shape[2:], w.shape[2:], stride, padding, dilation)
        patches = _unfold(x, w.shape[2:], output, stride, padding, dilation)
        pieces = [
            np.tensordot(group, weight, axes=((1, 4, 5), (1, 2, 3)))  # (B, P, Q, O/G)
            for group, weight in zip(np.split(patches, groups, 1), np.split(w, groups), strict=True)
        ]
        return np.ascontiguousarray(np.concatenate(pieces, -1).transpose(0, 3, 1, 2))

    def sample(
        self, x: np.ndarray, w: np.ndarray, g: np.ndarray, common: Attributes, size: Pair, kernel: Pair
    ) -> Sample:
        return [x, w], common


class ConvInputGradient(Convolution):
    """g (B, O, P, Q), weight (O, C/G, K, L) -> (B, C, H, W) with `size` = (H, W): dL/dx, and transposed convolution."""

    def infer(
        self, g: Shaped, w: Shaped, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> Spec:
        if g.ndim != 4 or w.ndim != 4 or g.shape[1] != w.shape[0]:
            raise self.fail(
                f"input {format_shape(g.shape)}, weight {format_shape(w.shape)}",
                "expected (B, O, P, Q) and (O, C/groups, K, L) with the same O",
                "check in_channels",
            )
        if output_size(size, w.shape[2:], stride, padding, dilation) != g.shape[2:]:
            raise self.fail(
                f"size {size} for input {format_shape(g.shape)}",
                "expected a size that convolves back to it",
                "check output_padding, which must be below stride",
            )
        return Spec((g.shape[0], w.shape[1] * groups, *size), g.dtype)

    def forward(
        self, g: np.ndarray, w: np.ndarray, *, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> np.ndarray:
        pieces = [
            np.tensordot(group, weight, axes=((1,), (0,)))  # (B, P, Q, C/G, K, L)
            for group, weight in zip(np.split(g, groups, 1), np.split(w, groups), strict=True)
        ]
        patches = np.concatenate(pieces, 3).transpose(0, 3, 1, 2, 4, 5)  # (B, C, P, Q, K, L)
        return _fold(patches, size, stride, padding, dilation)

    def sample(
        self, x: np.ndarray, w: np.ndarray, g: np.ndarray, common: Attributes, size: Pair, kernel: Pair
    ) -> Sample:
        return [g, w], {**common, "size": size}


class ConvWeightGradient(Convolution):
    """g (B, O, P, Q), x (B, C, H, W) -> (O, C/G, K, L) with `kernel` = (K, L): dL/dweight."""

    def infer(
        self, g: Shaped, x: Shaped, *, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> Spec:
        return Spec((g.shape[1], x.shape[1] // groups, *kernel), g.dtype)

    def forward(
        self, g: np.ndarray, x: np.ndarray, *, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> np.ndarray:
        patches = _unfold(x, kernel, g.shape[2:], stride, padding, dilation)
        pieces = [
            np.tensordot(group, patch, axes=((0, 2, 3), (0, 2, 3)))  # (O/G, C/G, K, L)
            for group, patch in zip(np.split(g, groups, 1), np.split(patches, groups, 1), strict=True)
        ]
        return np.concatenate(pieces, 0)

    def sample(
        self, x: np.ndarray, w: np.ndarray, g: np.ndarray, common: Attributes, size: Pair, kernel: Pair
    ) -> Sample:
        return [g, x], {**common, "kernel": kernel}


convolution: Op = ConvForward(
    "convolution",
    [
        lambda g, y, x, w, **attributes: convolution_input_gradient(g, w, size=x.shape[2:], **attributes),
        lambda g, y, x, w, **attributes: convolution_weight_gradient(g, x, kernel=w.shape[2:], **attributes),
    ],
)
convolution_input_gradient: Op = ConvInputGradient(
    "convolution_input_gradient",
    [
        lambda h, y, g, w, size, **attributes: convolution(h, w, **attributes),
        lambda h, y, g, w, size, **attributes: convolution_weight_gradient(g, h, kernel=w.shape[2:], **attributes),
    ],
)
convolution_weight_gradient: Op = ConvWeightGradient(
    "convolution_weight_gradient",
    [
        lambda h, y, g, x, kernel, **attributes: convolution(x, h, **attributes),
        lambda h, y, g, x, kernel, **attributes: convolution_input_gradient(g, h, size=x.shape[2:], **attributes),
    ],
)


# ---- unfold and fold: the windows of pooling -----------------------------------------------------------------------------


class Unfold(Op):
    """im2col: x (B, C, H, W) -> (B, C, P, Q, K, L), the patch under a moving window at every position, without padding.

    Raises ShapeError where the window is larger than the input.
    """

    kind = "movement"
    linear = True
    cheap = True
    saves_inputs = False
    saves_output = False
    is_view = True

    def infer(self, x: Shaped, *, kernel: Pair, stride: Pair, dilation: Pair) -> Spec:
        if x.ndim != 4:
            raise self.fail(
                f"input {format_shape(x.shape)}", "expected (B, C, H, W)", "add the missing axis with unsqueeze"
            )
        p, q = output_size(x.shape[2:], kernel, stride, (0, 0), dilation)
        if p < 1 or q < 1:
            raise self.fail(
                f"window {kernel} on input {format_shape(x.shape)}",
                "expected a window no larger than the input",
                "pad the input or shrink the window",
            )
        return Spec((*x.shape[:2], p, q, *kernel), x.dtype)

    def forward(self, x: np.ndarray, *, kernel: Pair, stride: Pair, dilation: Pair) -> np.ndarray:
        output = output_size(x.shape[2:], kernel, stride, (0, 0), dilation)
        return _unfold(x, kernel, output, stride, (0, 0), dilation)

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(1, 2, 4, 5))], {"kernel": (2, 2), "stride": (2, 2), "dilation": (1, 1)}
        yield [random.normal(size=(2, 1, 5, 5))], {"kernel": (3, 2), "stride": (1, 2), "dilation": (1, 2)}


class Fold(Op):
    """col2im: patches (B, C, P, Q, K, L) added up where they lay -> (B, C, H, W) with `size` = (H, W); the transpose of unfold."""

    kind = "movement"
    saves_inputs = False
    saves_output = False

    def infer(self, x: Shaped, *, size: Pair, stride: Pair, dilation: Pair) -> Spec:
        return Spec((*x.shape[:2], *size), x.dtype)

    def forward(self, x: np.ndarray, *, size: Pair, stride: Pair, dilation: Pair) -> np.ndarray:
        return _fold(x, size, stride, (0, 0), dilation)

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(1, 2, 2, 2, 2, 2))], {"size": (4, 5), "stride": (2, 2), "dilation": (1, 1)}
        yield [random.normal(size=(2, 1, 3, 2, 3, 2))], {"size": (5, 5), "stride": (1, 2), "dilation": (1, 2)}


unfold: Op = Unfold(
    "unfold",
    [lambda g, y, x, kernel, stride, dilation: fold(g, size=x.shape[2:], stride=stride, dilation=dilation)],
)
fold: Op = Fold(
    "fold",
    [lambda g, y, x, size, stride, dilation: unfold(g, kernel=x.shape[4:], stride=stride, dilation=dilation)],
)
