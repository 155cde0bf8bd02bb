"""Loss functions (floor 3).

Composites like those in `functional/`, from where they are called. Names, arguments and reductions are PyTorch's.
Letters: N examples, K classes; `*` any further axes.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from ..arguments import axis_of
from ..core.origin import module_path
from ..creation import where
from ..errors import DTypeError, OptionError, ShapeError, format_shape
from ..ops import elementwise
from ..ops.composite import CustomGradient
from ..ops.index import check_index, take
from ..tensor import Tensor
from .activations import softplus


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise OptionError(f'reduction={reduction!r}; expected "mean", "sum" or "none"; leave it out for the mean')


def _same_shape(input: Tensor, target: Tensor, loss: str) -> None:
    """Raise ShapeError for unequal shapes: (N, 1) against (N,) would broadcast and compare every example with every other."""
    if input.shape == target.shape:
        return
    fix = "reshape one of them"
    if input.numel() == target.numel():
        fix = "write input.squeeze(-1)" if input.ndim > target.ndim else "write target.squeeze(-1)"
    raise ShapeError(
        f"{loss}: input {format_shape(input.shape)}, target {format_shape(target.shape)}; expected equal shapes; {fix}"
    )


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(input - target)^2, of equal shapes. Raises ShapeError otherwise."""
    _same_shape(input, target, "mse_loss")
    away = input - target
    return _reduced(away * away, reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|input - target|, of equal shapes. Raises ShapeError otherwise."""
    _same_shape(input, target, "l1_loss")
    return _reduced(abs(input - target), reduction)


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Half the square up to `delta`, a straight line beyond (Huber 1964)."""
    _same_shape(input, target, "huber_loss")
    away = abs(input.as_floating() - target)
    near = away.clamp(max=delta)  # min(|x|, delta): the square of a large difference may overflow
    return _reduced(near * (away - near * 0.5), reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """The Huber loss divided by beta; plain L1 at beta 0."""
    if beta == 0:
        return l1_loss(input, target, reduction)
    return huber_loss(input, target, reduction, beta) / beta


def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """-log softmax(input) at the target: input (N, K, *) logits (or (K,)), target int64 (N, *), or probabilities (N, K, *).

    weight (K,): a factor per class, by which the mean is weighted; targets equal to `ignore_index` do not count;
    label_smoothing: that share of the target spread evenly over the classes (Szegedy et al. 2015).
    """
    if not 0 <= label_smoothing <= 1:
        raise OptionError(f"cross_entropy: label_smoothing = {label_smoothing}; expected 0 to 1; 0.1 is usual")
    if input.made_by == "softmax":
        _warn_once(
            "softmax before cross-entropy: cross_entropy takes logits and applies log-softmax itself; "
            "a softmax in front "
            "flattens the gradient; remove it from the network"
        )
    if input.ndim == 1:
        whole = cross_entropy(input.unsqueeze(0), target.unsqueeze(0), weight, ignore_index, reduction, label_smoothing)
        return whole.squeeze(0) if reduction == "none" else whole
    _check_weight(weight, input.shape[1], "cross_entropy")
    log_p = input.log_softmax(1)
    if target.dtype.kind == "f":
        return _soft_cross_entropy(log_p, target, weight, reduction, label_smoothing)
    target = _checked_classes(input, target, ignore_index)
    loss = _negative_log(log_p, target, weight, ignore_index)
    if label_smoothing:
        spread = -(log_p if weight is None else log_p * _per_class(weight, log_p)).mean(1)
        loss = loss * (1 - label_smoothing) + where(target == ignore_index, 0, spread) * label_smoothing
    return _weighted_mean(loss, target, weight, ignore_index, reduction)


def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-input at the target: input (N, K, *) log-probabilities, target int64 (N, *)."""
    if input.ndim == 1:
        whole = nll_loss(input.unsqueeze(0), target.unsqueeze(0), weight, ignore_index, reduction)
        return whole.squeeze(0) if reduction == "none" else whole
    _check_weight(weight, input.shape[1], "nll_loss")
    target = _checked_classes(input, target, ignore_index)
    loss = _negative_log(input, target, weight, ignore_index)
    return _weighted_mean(loss, target, weight, ignore_index, reduction)


def _per_class(weight: Tensor, log_p: Tensor) -> Tensor:
    """(K,) so that it broadcasts along the classes of (N, K, *)."""
    return weight.reshape(1, -1, *(1,) * (log_p.ndim - 2))


def _checked_classes(input: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    if target.dtype.kind not in "iu":
        raise DTypeError(
            f"cross_entropy: target is {target.dtype}; expected int64 class numbers, or float probabilities; "
            "convert with .long()"
        )
    expected = (input.shape[0], *input.shape[2:])
    if target.shape != expected:
        fix = (
            "write target.squeeze(-1)"
            if target.shape == (*expected, 1)
            else "pass one class number an example, 0 to K-1"
        )
        raise ShapeError(
            f"cross_entropy: input {format_shape(input.shape)}, target {format_shape(target.shape)}; "
            f"expected a target {format_shape(expected)}; {fix}"
        )
    message = (f"cross_entropy: a target is {{}}; expected 0 to {input.shape[1] - 1} for {input.shape[1]} classes; "
               "number the classes from 0, or give the last layer more outputs")  # fmt: skip
    return check_index(target.long(), low=0, high=input.shape[1], spare=ignore_index, message=message)


def _negative_log(log_p: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int) -> Tensor:
    """-log p at each target, times its class weight; 0 where it is ignored. (N, *)"""
    counted = target != ignore_index
    at = where(counted, target, 0).long()
    loss = -log_p.gather(1, at.unsqueeze(1)).squeeze(1)
    if weight is not None:
        loss = loss * take(weight, at)
    return where(counted, loss, 0)


def _check_weight(weight: Tensor | None, classes: int, loss: str) -> None:
    if weight is not None and weight.shape != (classes,):
        raise ShapeError(
            f"{loss}: weight {format_shape(weight.shape)}; expected ({classes},), one for each class; check it"
        )


def _weighted_mean(loss: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str) -> Tensor:
    if reduction != "mean":
        return _reduced(loss, reduction)
    counted = target != ignore_index
    if weight is None:
        return loss.sum() / counted.sum()
    return loss.sum() / where(counted, take(weight, where(counted, target, 0).long()), 0).sum()


def _soft_cross_entropy(
    log_p: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    if target.shape != log_p.shape:
        raise ShapeError(f"cross_entropy: probabilities {format_shape(target.shape)} for input {format_shape(log_p.shape)}; "
"expected equal shapes, "
                         "or int64 class numbers; convert those with .long()")  # fmt: skip
    target = target * (1 - label_smoothing) + label_smoothing / log_p.shape[1]
    terms = target * log_p if weight is None else target * log_p * _per_class(weight, log_p)
    loss = -terms.sum(1)
    return loss.sum() / loss.numel() if reduction == "mean" else _reduced(loss, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-target log s(x) - (1 - target) log(1 - s(x)) for logits x, in the form that never overflows."""
    _same_shape(input, target, "binary_cross_entropy_with_logits")
    target = target.as_floating()
    positive = 1.0 if pos_weight is None else (pos_weight - 1) * target + 1
    loss = (1 - target) * input + positive * softplus(-input, threshold=math.inf)
    return _reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """The same for probabilities; each logarithm is held at -100 or above, as in PyTorch."""
    _same_shape(input, target, "binary_cross_entropy")
    if input.dtype.kind != "f":
        raise DTypeError(f"binary_cross_entropy: input is {input.dtype}; expected probabilities; convert with .float()")
    loss = _bernoulli(input, target.to(input.dtype))
    return _reduced(loss if weight is None else loss * weight, reduction)


def _bernoulli_loss(p: Tensor, target: Tensor) -> Tensor:
    p, target = (_probabilities(x, what) for x, what in ((p, "an input"), (target, "a target")))
    return (target - 1) * (-p).log1p().clamp(min=-100) - target * p.log().clamp(min=-100)


def _bernoulli_gradient(g: Tensor, y: Tensor, p: Tensor, target: Tensor) -> list[Tensor]:
    slope = (p - target) / ((1 - p) * p).clamp(min=1e-12)  # finite at 0 and 1, where the logarithm is held
    return [g * slope, g * ((-p).log1p().clamp(min=-100) - p.log().clamp(min=-100))]


def _probabilities(p: Tensor, what: str) -> Tensor:
    message = (f"binary_cross_entropy: {what} is {{}}; expected probabilities, 0 to 1; apply sigmoid first, or use "
               "binary_cross_entropy_with_logits")  # fmt: skip
    beyond = float(np.nextafter(np.asarray(1, p.dtype), np.asarray(2, p.dtype)))
    return check_index(p, low=0.0, high=beyond, spare=None, message=message)


_bernoulli = CustomGradient("binary_cross_entropy", _bernoulli_loss, _bernoulli_gradient)


def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target (log target - input) for log-probabilities `input`; "batchmean" divides by the batch, as the definition does."""
    _same_shape(input, target, "kl_div")
    if log_target:
        loss = target.exp() * (target - input)
    else:
        positive = target > 0
        loss = where(positive, target * (where(positive, target, 1).log() - input), 0)
    return loss.sum() / input.shape[0] if reduction == "batchmean" else _reduced(loss, reduction)


def cosine_similarity(a: Tensor, b: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between a and b along `dim` of their common shape; each length counts as `eps` at least."""
    shape = elementwise.where.broadcast([a.shape, b.shape])
    a, b = a.expand(shape), b.expand(shape)
    axis = axis_of(a, dim, "cosine_similarity")
    return (a * b).sum(axis) / (a.norm(2, axis).clamp(min=eps) * b.norm(2, axis).clamp(min=eps))


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        path = module_path.get()
        warnings.warn(f"{path}: {message}" if path else message, UserWarning, stacklevel=3)
