"""Pictures: any file becomes what the network's training images looked like, or says why not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pellucid.data.image.preprocess import ImagePreprocessor
from pellucid.errors import DataError

MNIST = ImagePreprocessor((1, 28, 28), list("0123456789"), [0.0], [80.0], framing="ink")


def read_picture(path, preprocessor):
    """The one channel of a picture file brought to size."""
    (image,) = preprocessor.read_picture(path, path)
    return image


def seven(ink=0, paper=255, size=(200, 300), at=(60, 80), pen=14, mode="L"):
    """A seven drawn with a pen: 80 wide, 120 tall."""
    picture = Image.new(mode, size, paper)
    x, y = at
    ImageDraw.Draw(picture).line([(x, y), (x + 80, y), (x + 30, y + 120)], fill=ink, width=pen, joint="curve")
    return picture


@pytest.fixture
def save(tmp_path):
    def write(picture, name="a.png", **options):
        path = tmp_path / name
        picture.save(path, **options)
        return path

    return write


def box(image):
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def mass(image):
    return [(image.sum(axis=1 - axis) * np.arange(28)).sum() / image.sum() for axis in (0, 1)]


def test_a_drawing_is_prepared_as_mnist_was(save):
    image = read_picture(save(seven()), MNIST)
    assert image.shape == (28, 28) and image.dtype == np.uint8
    assert max(box(image)) == 20 and image.max() == 255 and np.median(image) == 0
    np.testing.assert_allclose(mass(image), [13.5, 13.5], atol=0.51)


def variants():
    yield "light on dark", seven(255, 0), {}
    yield "grey on grey", seven(70, 200), {}
    yield "elsewhere", seven(at=(10, 150)), {}
    yield "colour", seven((0, 0, 0), (255, 255, 255), mode="RGB"), {}
    yield "palette", seven((0, 0, 0), (255, 255, 255), mode="RGB").convert("P"), {}
    yield "black and white", seven().convert("1"), {}
    yield "black on nothing", seven((0, 0, 0, 255), (0, 0, 0, 0), mode="RGBA"), {}
    yield "white on nothing", seven((255, 255, 255, 255), (255, 255, 255, 0), mode="RGBA"), {}
    yield "grey with alpha", seven((0, 255), (255, 0), mode="LA"), {}
    yield "sixteen bits", Image.fromarray(np.asarray(seven(), dtype=np.uint16) * 257), {}
    yield "floats", Image.fromarray(np.asarray(seven(), dtype=np.float32) / 255), {"name": "a.tiff"}


@pytest.mark.parametrize(("picture", "options"), [v[1:] for v in variants()], ids=[v[0] for v in variants()])
def test_the_same_drawing_in_many_forms(save, picture, options):
    expected = read_picture(save(seven(), "plain.png"), MNIST).astype(int)
    assert np.abs(read_picture(save(picture, **options), MNIST).astype(int) - expected).max() <= 3


def test_a_photo_with_noise_and_shade(save):
    page = (
        np.asarray(seven(60, 210), dtype=float)
        + np.linspace(-12, 12, 200)
        + np.random.default_rng(0).normal(0, 3, (300, 200))
    )
    photo = read_picture(save(Image.fromarray(page.clip(0, 255).astype(np.uint8)), "a.jpg", quality=85), MNIST)
    clean = read_picture(save(seven(), "b.png"), MNIST)
    assert np.corrcoef(photo.ravel(), clean.ravel())[0, 1] > 0.97


def test_a_photo_lying_on_its_side(save):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it upright
    turned = save(seven().transpose(Image.Transpose.ROTATE_90), "a.jpg", exif=exif, quality=95)
    clean = read_picture(save(seven(), "b.png"), MNIST)
    assert np.corrcoef(read_picture(turned, MNIST).ravel(), clean.ravel())[0, 1] > 0.98


def test_a_fine_pen_is_made_as_thick_as_in_training(save):
    thick = ImagePreprocessor((1, 28, 28), list("0123456789"), framing="ink", stroke_width=1.8)
    fine, broad = save(seven(pen=2)), save(seven(pen=14), "b.png")
    assert read_picture(fine, thick).sum() > 1.5 * read_picture(fine, MNIST).sum()
    np.testing.assert_array_equal(read_picture(broad, thick), read_picture(broad, MNIST))  # that is thick enough


def test_one_of_the_training_images_stays_nearly_what_it_was(save):
    image = read_picture(save(seven(), "b.png"), MNIST)
    again = read_picture(save(Image.fromarray(image)), MNIST)
    assert np.corrcoef(image.ravel(), again.ravel())[0, 1] > 0.98


def test_a_large_picture_and_a_tiny_one(save):
    large = read_picture(save(seven().resize((4000, 6000))), MNIST)
    tiny = np.zeros((3, 3), np.uint8)
    tiny[1, 1] = 255
    assert max(box(large)) == 20
    assert box(read_picture(save(Image.fromarray(tiny), "b.png"), MNIST)) == (20, 20)


def test_other_images_are_resized_whole_and_not_inverted(save):
    clothes = ImagePreprocessor((1, 28, 28), ["shirt"], framing="pad")
    image = read_picture(save(Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (100, 1)))), clothes)
    assert image.shape == (28, 28) and image[14, 2] < 30 and image[14, 25] > 160
    assert len(set(image[0].tolist())) == 1  # filled up above and below


def test_fit_reads_the_training_images():
    drawn = np.zeros((50, 28, 28), np.uint8)
    drawn[:, 4:24, 10:16] = 255
    known = ImagePreprocessor.fit_arrays(drawn, ["1"])
    assert known.framing == "ink" and known.box == 20 / 28 and abs(known.std[0] - drawn.std()) < 1e-9
    assert known.stroke_width == pytest.approx(6, rel=0.3)
    photos = np.random.default_rng(0).integers(0, 256, (50, 28, 28)).astype(np.uint8)
    assert ImagePreprocessor.fit_arrays(photos, ["1"]).framing == "pad"
    assert ImagePreprocessor.fit_arrays(np.zeros((5, 8, 8), np.uint8), ["1"]).std == [
        255
    ]  # blank images divide by no zero


@pytest.mark.parametrize(
    "raw", [np.zeros((2, 1, 8, 8), np.uint8), np.zeros((28, 28), np.uint8), np.zeros((1, 1, 28, 28))]
)
def test_other_shapes_and_types_are_refused(raw):
    with pytest.raises(DataError, match=r"expected uint8 \(N, 1, 28, 28\)"):
        MNIST.encode(raw)


def refused(path, words):
    with pytest.raises(DataError) as caught:
        read_picture(path, MNIST)
    assert str(path) in str(caught.value) and words in str(caught.value)


def test_files_that_are_no_pictures(save, tmp_path):
    refused(tmp_path / "none.png", "no such file")
    refused(tmp_path, "cannot be read")
    (tmp_path / "text.png").write_text("hello")
    refused(tmp_path / "text.png", "not a picture that can be read")
    whole = save(seven()).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.png", "cut off or damaged")
    (tmp_path / "empty.png").write_bytes(b"")
    refused(tmp_path / "empty.png", "not a picture")


@pytest.mark.parametrize("paper", [0, 128, 255])
def test_a_blank_picture(save, paper):
    refused(save(Image.new("L", (50, 50), paper)), "nothing is drawn on it")
