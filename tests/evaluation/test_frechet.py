"""How like drawn images are to real ones: each measure where the answer is known."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from pellucid.errors import ShapeError
from pellucid.evaluation import frechet as like
from pellucid.evaluation.generation import pixel_features


def normal(count, mean, deviation, seed=0):
    """Features whose mean and covariance are exact."""
    x = np.random.default_rng(seed).normal(size=(count, len(mean)))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x * deviation + mean


def test_the_frechet_distance_of_normal_distributions_with_independent_features():
    a, b = normal(50, [0, 0, 0], [1, 2, 3]), normal(80, [1, 0, -2], [1, 1, 5], seed=1)
    assert like.frechet_distance(a, b) == pytest.approx(1 + 4 + 0 + 1 + 4)
    assert like.frechet_distance(a, a) == pytest.approx(0, abs=1e-10)


def test_the_frechet_distance_with_any_covariance_is_that_by_the_matrix_root():
    random = np.random.default_rng(0)
    a, b = (
        random.normal(size=(40, 6)) @ random.normal(size=(6, 6)),
        random.normal(size=(30, 6)) @ random.normal(size=(6, 6)),
    )
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    away = a.mean(0) - b.mean(0)
    expected = away @ away + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert like.frechet_distance(a, b) == pytest.approx(expected)
    assert like.frechet_distance(b, a) == pytest.approx(expected)


def test_features_that_never_vary_are_no_trouble():
    a = np.concatenate([normal(50, [0, 0], [1, 1]), np.zeros((50, 3))], 1).astype(np.float32)
    assert like.frechet_distance(a, a + np.float32(1)) == pytest.approx(5, rel=1e-5)


@pytest.mark.parametrize("shapes", [((5,), (5,)), ((5, 2), (5, 3)), ((1, 2), (5, 2))])
def test_features_that_do_not_match_are_refused(shapes):
    with pytest.raises(ShapeError, match="frechet_distance"):
        like.frechet_distance(*(np.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("block", [2**25, 7])
def test_the_nearest_image_is_the_one_that_comparing_all_would_find(monkeypatch, block):
    monkeypatch.setattr(like, "BLOCK", block)
    random = np.random.default_rng(0)
    images, among = random.random((9, 4, 4)), random.random((30, 4, 4))
    images[3] = among[17]
    away = np.sqrt(((images[:, None] - among[None]) ** 2).sum((2, 3)))
    distances, places = like.nearest(images, among)
    np.testing.assert_allclose(distances, away.min(1), atol=1e-6)
    assert (places == away.argmin(1)).all() and distances[3] == 0


class Lazy:
    """Images that are read when they are asked for; `most` is how many there were at once."""

    def __init__(self, images):
        self.images, self.shape, self.most = images, images.shape, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        rows = self.images[key]
        self.most = max(self.most, len(rows))
        return rows


def test_images_that_are_read_when_asked_for_are_never_all_there(monkeypatch):
    random = np.random.default_rng(0)
    drawn, train, test = (random.integers(0, 256, (n, 1, 28, 20)).astype(np.uint8) for n in (60, 5000, 3000))
    monkeypatch.setattr(like, "BLOCK", 2**20)
    judge = {"features": pixel_features, "logits": lambda x: np.zeros((len(x), 2))}
    labels = np.zeros(60, np.int64)
    lazy = Lazy(train), Lazy(test)
    assert like.sample_quality(drawn, labels, *lazy, **judge, compared=50) == like.sample_quality(
        drawn, labels, train, test, **judge, compared=50
    )
    assert max(part.most for part in lazy) <= 2048
    expected = train.reshape(5000, 14, 2, 10, 2).mean((2, 4)).reshape(5000, -1)
    np.testing.assert_allclose(pixel_features(lazy[0]), expected, rtol=1e-6)


def test_likeness_of_real_images_copies_and_noise():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 900)
    images = (np.eye(3, 16)[labels] * 4 + random.normal(0, 0.3, (900, 16))).reshape(900, 4, 4).astype(np.float32)
    train, test, rest = images[:500], images[500:700], images[700:]
    judge = {"features": lambda x: x.reshape(len(x), -1)[:, :5], "logits": lambda x: x.reshape(len(x), -1)[:, :3]}
    real = like.sample_quality(rest, labels[700:], train, test, **judge)
    assert (real.count, real.accuracy, len(real.class_shares)) == (200, 1.0, 3) and sum(
        real.class_shares
    ) == pytest.approx(1)
    assert 0.2 < real.frechet_relative < 5
    assert real.nearest_drawn.mean == pytest.approx(real.nearest_test.mean, rel=0.05)
    copies = like.sample_quality(train[:200], labels[:200], train, test, **judge)
    assert copies.nearest_drawn.mean == 0 < copies.nearest_test.quantiles[0]
    noise = like.sample_quality(random.normal(size=(200, 4, 4)).astype(np.float32), labels[:200], train, test, **judge)
    assert noise.frechet_relative > 50 and noise.accuracy < 0.7
    with pytest.raises(ShapeError, match="all of one size"):
        like.sample_quality(rest[:, 1:], labels[700:], train, test, **judge)
