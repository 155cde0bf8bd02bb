"""affine_grid and grid_sample: against a loop over pixels, PyTorch and finite differences; eager and compiled."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid import functional as F
from pellucid.autograd import grad, gradcheck
from pellucid.errors import DTypeError, OptionError, ShapeError
from pellucid.tensor import Tensor

SIZES = [((3, 2, 5, 7), (4, 6)), ((2, 3, 8, 8), (8, 8)), ((1, 1, 1, 1), (3, 3)), ((2, 3, 1, 4), (3, 2))]
WAYS = list(itertools.product(["bilinear", "nearest"], ["zeros", "border"], [True, False]))


def inputs(shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images and turned, stretched and shifted frames for them, which reach well beyond the border."""
    random = np.random.default_rng((seed, *shape))
    theta = np.eye(2, 3) + 0.4 * random.normal(size=(shape[0], 2, 3))
    return random.normal(size=shape).astype(dtype), theta.astype(dtype)


def pixel(image: np.ndarray, row: float, column: float, border: bool) -> float:
    h, w = image.shape
    if border:
        row, column = min(max(row, 0), h - 1), min(max(column, 0), w - 1)
    return image[int(row), int(column)] if 0 <= row < h and 0 <= column < w else 0.0


def read(image: np.ndarray, x: float, y: float, mode: str, padding: str, aligned: bool) -> float:
    """One number of the result, as it is told in words."""
    h, w = image.shape
    column, row = (
        ((x + 1) / 2 * (w - 1), (y + 1) / 2 * (h - 1)) if aligned else ((x + 1) * w / 2 - 0.5, (y + 1) * h / 2 - 0.5)
    )
    if mode == "nearest":
        return pixel(image, round(row), round(column), padding == "border")
    left, top = math.floor(column), math.floor(row)
    return sum(
        (1 - abs(row - r)) * (1 - abs(column - c)) * pixel(image, r, c, padding == "border")
        for r in (top, top + 1) for c in (left, left + 1)
    )  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(("shape", "size"), SIZES, ids=str)
def test_each_pixel_is_what_the_grid_points_at(shape: Any, size: Any, way: Any) -> None:
    image, theta = inputs(shape)
    grid = F.affine_grid(P.tensor(theta), (*shape[:2], *size), align_corners=way[2])
    found = F.grid_sample(P.tensor(image), grid, *way)
    assert grid.shape == (shape[0], *size, 2) and found.shape == (*shape[:2], *size)
    expected = [[[[read(channel, x, y, *way) for x, y in line] for line in places] for channel in channels]
                for channels, places in zip(image, grid.tolist(), strict=True)]  # fmt: skip
    np.testing.assert_allclose(found.array, expected, atol=1e-12)


@pytest.mark.parametrize("aligned", [True, False])
def test_the_identity_gives_the_image_and_a_shift_moves_it(aligned: bool) -> None:
    image, _ = inputs((2, 3, 5, 8))
    x, theta = P.tensor(image), P.tensor(np.tile(np.eye(2, 3), (2, 1, 1)))
    np.testing.assert_allclose(
        F.grid_sample(x, F.affine_grid(theta, x.shape, aligned), align_corners=aligned).array, image, atol=1e-12
    )
    one = 2 / 7 if aligned else 2 / 8  # a pixel
    moved = F.grid_sample(
        x, F.affine_grid(theta + P.tensor([[0.0, 0, one], [0, 0, 0]]), x.shape, aligned), align_corners=aligned
    )
    np.testing.assert_allclose(moved.array[..., :-1], image[..., 1:], atol=1e-6)
    assert abs(moved.array[..., -1]).max() < 1e-5  # from outside


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_gradients(way: Any) -> None:
    image, theta = inputs((2, 2, 3, 4), seed=3)
    warp = lambda x, t: F.grid_sample(x, F.affine_grid(t, (2, 2, 3, 2), align_corners=way[2]), *way)
    t = P.tensor(theta, requires_grad=way[0] == "bilinear")
    assert gradcheck(warp, [P.tensor(image, requires_grad=True), t], order=2)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_compiled_as_eager(way: Any) -> None:
    def step(x: Tensor, theta: Tensor) -> Any:
        y = F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=way[2]), *way)
        return y, *grad((y * y).sum(), [x, theta] if way[0] == "bilinear" else [x])

    args = [P.tensor(a, requires_grad=True) for a in inputs((4, 3, 9, 11), np.float32)]
    for ours, theirs in zip(P.compile(step)(*args), step(*args), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_nan_and_far_places_are_read_without_harm() -> None:
    x = P.ones(1, 1, 2, 2)
    grid = P.tensor([[[[math.nan, 0.0], [1e30, 0.0], [-math.inf, 0.0], [0.0, 0.0]]]])
    for function in (F.grid_sample, P.compile(F.grid_sample)):
        nan, far, infinite, inside = function(x, grid).flatten().tolist()
        assert math.isnan(nan) and far == 0 and math.isnan(infinite) and inside == 1
        assert function(x, grid, padding_mode="border").flatten().tolist()[1:] == [1, 1, 1]


def test_what_is_refused() -> None:
    x, grid = P.ones(2, 1, 3, 3), P.zeros(2, 4, 4, 2)
    with pytest.raises(OptionError, match='mode=\'bicubic\'.*expected "bilinear" or "nearest"'):
        F.grid_sample(x, grid, "bicubic")
    with pytest.raises(OptionError, match='padding_mode=\'reflection\'.*"zeros" or "border"'):
        F.grid_sample(x, grid, padding_mode="reflection")
    with pytest.raises(ShapeError, match=r"grid_sample: input \(2, 1, 3, 3\), grid \(1, 4, 4, 2\)"):
        F.grid_sample(x, grid[:1])
    with pytest.raises(DTypeError, match="input float32, grid float64; expected one floating dtype"):
        F.grid_sample(x, grid.double())
    with pytest.raises(ShapeError, match=r"affine_grid: theta \(2, 3\) float32, size \(2, 1, 3, 3\)"):
        F.affine_grid(P.ones(2, 3), x.shape)


@pytest.mark.torch
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(("shape", "size"), SIZES, ids=str)
def test_values_and_gradients_are_pytorch_s(shape: Any, size: Any, way: Any) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for library, functional in ((P, F), (torch, torch.nn.functional)):
        x, theta = (library.tensor(a).requires_grad_() for a in inputs(shape))
        grid = functional.affine_grid(theta, (*shape[:2], *size), align_corners=way[2])
        y = functional.grid_sample(x, grid, *way)
        (y * y).sum().backward()
        found.append([grid.detach(), y.detach(), x.grad, *([theta.grad] if way[0] == "bilinear" else [])])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-8, atol=1e-10)
