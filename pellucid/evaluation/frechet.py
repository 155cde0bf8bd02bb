"""Frechet distance and other measures of sample quality: how like drawn images are to real ones (floor 7).

Features and logits come from a feature network, any classifier of such images, given as two functions of arrays. Training and test images may be what is indexed like an array and reads its rows only then.
Shapes: N drawn images, M test images, T training images, F features, K classes; an image (H, W) or (C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import ShapeError, format_shape

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BLOCK = 2**25  # numbers of training images, or of distances to them, that exist at once


@dataclass(frozen=True)
class Spread:
    """The mean of some numbers, and their QUANTILES."""

    mean: float
    quantiles: tuple[float, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        return cls(float(values.mean()), tuple(np.quantile(values, QUANTILES).tolist()))


@dataclass(frozen=True)
class SampleQuality:
    """What `sample_quality` measures.

    frechet: between the features of `count` drawn images and of all test images.      count: the fewer of N and T.
    frechet_real: the same with `count` training images, chosen at random, in place of the drawn: what real images come to.
        The feature network has learned from them, and not from the test images, which is part of it.
    class_shares (K,): of drawn images classified as each class.      accuracy: of drawn images classified as their label.
    nearest_drawn, nearest_test: Euclidean distances, in units of the encoding, to the nearest training image. Drawn images
        that lie much nearer than test images do are copies.
    """

    count: int
    frechet: float
    frechet_real: float
    class_shares: tuple[float, ...]
    accuracy: float
    nearest_drawn: Spread
    nearest_test: Spread

    @property
    def frechet_relative(self) -> float:
        return self.frechet / self.frechet_real


def sample_quality(
    drawn: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray,
    features: Callable[[np.ndarray], np.ndarray], logits: Callable[[np.ndarray], np.ndarray],
    *, compared: int = 1000, seed: int = 0,
) -> SampleQuality:  # fmt: skip
    """Compare drawn images (N, ...), wanted to be of the classes `labels` (N,), with training (T, ...) and test images (M, ...).

    features, logits: of the feature network, (B, F) and (B, K) of any images.      compared: of the drawn and of the test images, how
    many are held against every training image.      seed: of the random choice of training images.
    """
    _check_images(drawn, train, test)
    count = min(len(drawn), len(train))
    rows = np.random.default_rng(seed).choice(len(train), count, replace=False)
    real, classified = features(test), logits(drawn)
    classes = classified.argmax(1)
    held = min(compared, len(test))
    some = drawn[:compared], test[np.arange(held) * len(test) // held]  # evenly: a folder's test part may come by class
    distances = nearest(np.concatenate(some), train)[0]
    return SampleQuality(
        count=count,
        frechet=frechet_distance(features(drawn[:count]), real),
        frechet_real=frechet_distance(features(train[np.sort(rows)]), real),
        class_shares=tuple((np.bincount(classes, minlength=classified.shape[1]) / len(classes)).tolist()),
        accuracy=float((classes == labels).mean()),
        nearest_drawn=Spread.of(distances[:-held]),
        nearest_test=Spread.of(distances[-held:]),
    )


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Between the normal distributions with the means and covariances of features (N, F) and (M, F), squared.

    |m - n|^2 + tr(A + B - 2 (A B)^(1/2)) (Dowson and Landau 1982; of an Inception network's features, the FID of Heusel et al.
    2017). The trace of the root is that of (R B R)^(1/2) with R = A^(1/2): both are symmetric, so their eigenvalues will do.
    Raises ShapeError for fewer than two examples, or features that do not match.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ShapeError(f"frechet_distance: features {format_shape(a.shape)} and {format_shape(b.shape)}; expected (N, F) and (M, F), at least "
                         "two examples each; flatten what comes after the first axis")  # fmt: skip
    a, b = a.astype(np.float64), b.astype(np.float64)
    away = a.mean(0) - b.mean(0)
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    return float(away @ away + np.trace(first) + np.trace(second) - 2 * shared)


def nearest(images: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `images` (N, ...) the Euclidean distance (N,) to the nearest of `among` (T, ...), and which that is (N,)."""
    _check_images(images, among)
    x = flat(images)
    smallest, index = np.full(len(x), np.inf, np.float32), np.zeros(len(x), np.int64)
    rows = max(1, BLOCK // max(x.shape))
    for start in range(0, len(among), rows):
        y = flat(among[start : start + rows])
        # |x|^2 is the same for all that x is compared with, so it does not decide.
        apart = np.square(y).sum(1) - 2 * (x @ y.T)
        here = apart.min(1)
        index = np.where(here < smallest, start + apart.argmin(1), index)
        smallest = np.minimum(here, smallest)
    return np.linalg.norm(x - flat(among[index]), axis=1), index  # from the differences: exact for a copy, too


def flat(images: np.ndarray) -> np.ndarray:
    """Images (N, ...) as float32 (N, F)."""
    return np.asarray(images, np.float32).reshape(len(images), -1)


def _check_images(*parts: np.ndarray) -> None:
    if any(not len(part) or part.shape[1:] != parts[0].shape[1:] for part in parts):
        raise ShapeError(
            f"sample_quality: images {', '.join(format_shape(part.shape) for part in parts)}; expected some of each, all of one size; "
            "encode all of them by the same preprocessor"
        )
