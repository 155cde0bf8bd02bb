"""Normalization layers: batch, layer, group, RMS and local response; the arithmetic stands in `functional/` (floor 4)."""

from __future__ import annotations

from collections.abc import Sequence

from .. import functional as F
from ..arguments import int64
from ..core.value import DTypeLike
from ..creation import ones, tensor, zeros
from ..errors import OptionError, ShapeError, format_shape
from ..tensor import DeviceLike, Parameter, Tensor
from .linear import check_input, positive_int
from .module import Module


class _BatchNorm(Module):
    """Each channel of x (B, C, *) normalised over the batch (Ioffe and Szegedy 2015); abstract over the axes allowed.

    running_mean, running_var (C,): moved by `momentum` towards each training batch's (by their plain average with
    momentum=None), used by `eval()`.
    """

    axes: tuple[int, ...] = ()
    form = ""

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, device: DeviceLike | None = None, dtype: DTypeLike | None = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_features = positive_int(num_features, type(self).__name__, "num_features")
        self.eps, self.momentum, self.affine, self.track_running_stats = eps, momentum, affine, track_running_stats
        self.register_parameter("weight", Parameter(ones(num_features, dtype=dtype)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(num_features, dtype=dtype)) if affine and bias else None)
        tracked = track_running_stats
        self.register_buffer("running_mean", zeros(num_features, dtype=dtype) if tracked else None)
        self.register_buffer("running_var", ones(num_features, dtype=dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", tensor(0, dtype=int64) if tracked else None)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.weight.dtype if self.affine else None)
        if x.ndim not in self.axes or x.shape[1] != self.num_features:
            raise ShapeError(
                f"input {format_shape(x.shape)}; expected {self.form} with C = {self.num_features}; "
                "check num_features and the axes"
            )
        moving = self.training and self.track_running_stats
        momentum = self.momentum or 0.0
        if moving:
            count = self.num_batches_tracked + 1
            momentum = 1 / count if self.momentum is None else momentum
        y = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, momentum, self.eps,
        )  # fmt: skip
        if moving:
            self.num_batches_tracked.assign(count)
        return y

    def _describe(self) -> str:
        return f"{type(self).__name__} {self.num_features}"

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.affine and self.bias is not None}, "
                f"track_running_stats={self.track_running_stats}")  # fmt: skip


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (B, C) or (B, C, T)."""

    axes, form = (2, 3), "(B, C) or (B, C, T)"


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (B, C, H, W)."""

    axes, form = (4,), "(B, C, H, W)"


class LayerNorm(Module):
    """Each example normalised over its last axes, `normalized_shape` (Ba et al. 2016)."""

    undecayed = ("weight", "bias")  # scales and shifts, of two axes too

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
        device: DeviceLike | None = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = tuple(positive_int(size, "LayerNorm", "normalized_shape") for size in shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        shape, affine = self.normalized_shape, elementwise_affine
        self.register_parameter("weight", Parameter(ones(*shape, dtype=dtype)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(*shape, dtype=dtype)) if affine and bias else None)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.weight.dtype if self.elementwise_affine else None)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def _describe(self) -> str:
        return f"{type(self).__name__} {','.join(map(str, self.normalized_shape))}"

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"


class RMSNorm(Module):
    """Each example divided by its root mean square over its last axes (Zhang and Sennrich 2019)."""

    undecayed = ("weight",)

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True,
        device: DeviceLike | None = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = tuple(positive_int(size, "RMSNorm", "normalized_shape") for size in shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        weight = Parameter(ones(*self.normalized_shape, dtype=dtype)) if elementwise_affine else None
        self.register_parameter("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.weight.dtype if self.elementwise_affine else None)
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def _describe(self) -> str:
        return f"{type(self).__name__} {','.join(map(str, self.normalized_shape))}"

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Each example (C, *) normalised over each of `num_groups` groups of its channels (Wu and He 2018)."""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device: DeviceLike | None = None,
        dtype: DTypeLike | None = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_groups = positive_int(num_groups, "GroupNorm", "num_groups")
        self.num_channels = positive_int(num_channels, "GroupNorm", "num_channels")
        if num_channels % num_groups:
            raise OptionError(f"GroupNorm: num_channels={num_channels}, num_groups={num_groups}; "
                              "expected a number of groups that divides the channels; change one")  # fmt: skip
        self.eps, self.affine = eps, affine
        self.register_parameter("weight", Parameter(ones(num_channels, dtype=dtype)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(num_channels, dtype=dtype)) if affine and bias else None)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.weight.dtype if self.affine else None)
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(
                f"input {format_shape(x.shape)}; expected (B, C, *) with C = {self.num_channels}; check num_channels"
            )
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def _describe(self) -> str:
        return f"{type(self).__name__} {self.num_channels}, {self.num_groups} groups"

    def extra_repr(self) -> str:
        return (f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
                f"bias={self.affine and self.bias is not None}")  # fmt: skip


class LocalResponseNorm(Module):
    """Each number of x (B, C, *) held down by those of `size` channels around it (Krizhevsky et al. 2012)."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = positive_int(size, "LocalResponseNorm", "size")
        self.alpha, self.beta, self.k = alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        check_input(x)
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
