"""Folders and archives of pictures: which train, which test, what becomes of their pixels, and what is refused."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from pellucid.data import datasets as shelf
from pellucid.data import folders, labelled_files
from pellucid.data.image import image_set
from pellucid.data.image.decode import measure, read_pixels
from pellucid.data.image.image_set import LazyImages
from pellucid.data.image.preprocess import ImagePreprocessor
from pellucid.data.kinds import preprocessor_from_json
from pellucid.data.load import load_problem
from pellucid.data.loader import DataLoader
from pellucid.errors import DataError, OptionError


def noise(seed, height=24, width=24, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def fill(folder, classes=("cat", "dog"), each=20, first=0, ending="png", **form):
    """`each` pictures in each class folder, no two alike."""
    for k, name in enumerate(classes):
        for i in range(each):
            save(folder / name / f"{i:03}.{ending}", noise(first + 1000 * k + i, **form))
    return folder


def sizes(problem):
    return [len(problem.train), len(problem.validation), len(problem.test)]


def all_images(problem):
    return np.concatenate([part.inputs["image"] for part in (problem.train, problem.validation, problem.test)])


def refused(path, words, **options):
    with pytest.raises(DataError, match=words):
        load_problem(str(path), **options)


# ---- parts ---------------------------------------------------------------------------------------------------------------


def test_a_folder_for_each_class(tmp_path):
    problem = load_problem(str(fill(tmp_path / "pets", ("dog", "cat", "emu"))))
    assert (problem.name, problem.kind, problem.task) == ("pets", "image", "classification")
    assert sizes(problem) == [42, 9, 9] and problem.preprocessor.classes == ["cat", "dog", "emu"]
    assert np.bincount(problem.test.target).tolist() == [3, 3, 3] and problem.train.target.dtype == np.int64
    images = problem.train.inputs["image"]
    assert images.dtype == np.uint8 and images.shape == (42, 3, 24, 24)
    assert problem.notes == ["pets: 60 pictures, colour, 3 classes (cat, dog, emu); 24x24", "split: 70/15/15 by class"]
    by_pixels = {noise(1000 * k + i).tobytes(): k for k in range(3) for i in range(20)}  # 0: dog, 1: cat, 2: emu
    for i in range(9):
        shown = problem.raw_example("test", i)
        assert shown.shape == (24, 24, 3)
        assert by_pixels[shown.tobytes()] == (1, 0, 2)[problem.test.target[i]]


def test_statistics_are_those_of_the_training_pictures(tmp_path):
    problem = load_problem(str(fill(tmp_path / "pets")))
    spec = problem.preprocessor.input_spec()
    images = problem.train.inputs["image"].astype(np.float64)
    assert spec.size == (3, 24, 24)
    np.testing.assert_allclose(spec.mean, images.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(spec.std, images.std((0, 2, 3)), rtol=1e-12)


def test_parts_that_the_folders_name(tmp_path):
    fill(tmp_path / "pets" / "Train", each=40)
    fill(tmp_path / "pets" / "test", each=7, first=50_000)
    problem = load_problem(str(tmp_path / "pets"))
    assert sizes(problem) == [68, 12, 14]
    assert problem.notes[1] == "split: test the 14 of its own, validation 12 of the training pictures by class"
    fill(tmp_path / "pets" / "val", each=5, first=60_000)
    assert sizes(load_problem(str(tmp_path / "pets"))) == [80, 10, 14]


def test_a_validation_folder_alone_has_a_test_part_split_off(tmp_path):
    fill(tmp_path / "pets" / "train", each=40)
    fill(tmp_path / "pets" / "valid", each=5, first=60_000)
    assert sizes(load_problem(str(tmp_path / "pets"))) == [68, 10, 12]


def test_a_test_folder_without_classes_is_left_aside(tmp_path):
    fill(tmp_path / "pets" / "train")
    for i in range(3):
        save(tmp_path / "pets" / "test" / f"{i}.png", noise(90_000 + i))
    problem = load_problem(str(tmp_path / "pets"))
    assert sum(sizes(problem)) == 40 and "file: left aside, files in no class folder: 3" in problem.notes


def test_train_may_be_a_class(tmp_path):
    problem = load_problem(str(fill(tmp_path / "vehicles", ("bus", "test", "train"))))
    assert problem.preprocessor.classes == ["bus", "test", "train"] and sum(sizes(problem)) == 60
    refused(fill(tmp_path / "unlabelled", ("test", "train")), "40 pictures and no class folders")


def test_the_seed_decides_the_split(tmp_path):
    folder = str(fill(tmp_path / "pets"))
    one, same, other = load_problem(folder), load_problem(folder, seed=0), load_problem(folder, seed=1)
    np.testing.assert_array_equal(one.test.inputs["image"], same.test.inputs["image"])
    assert not np.array_equal(one.test.inputs["image"], other.test.inputs["image"])
    assert one.fingerprint == other.fingerprint
    save(tmp_path / "pets" / "cat" / "more.png", noise(77))
    assert load_problem(folder).fingerprint != one.fingerprint


def test_its_source_loads_it_again_from_anywhere(tmp_path, monkeypatch):
    fill(tmp_path / "pets", height=40, width=30)
    monkeypatch.chdir(tmp_path)
    problem = load_problem("pets", image_size=16, seed=3)
    monkeypatch.chdir(tmp_path / "pets")
    again = load_problem(**json.loads(json.dumps(problem.source)))
    assert again.fingerprint == problem.fingerprint and again.preprocessor == problem.preprocessor
    np.testing.assert_array_equal(again.test.inputs["image"], problem.test.inputs["image"])


# ---- copies --------------------------------------------------------------------------------------------------------------


def test_copies_are_never_on_two_sides(tmp_path):
    folder = fill(tmp_path / "pets", each=30)
    for i in range(25):
        save(folder / "cat" / f"copy{i}.png", noise(i))
    problem = load_problem(str(folder))
    images = all_images(problem)
    assert len(images) == 60 == len(np.unique(images, axis=0))
    assert "rows: left out, files that are copies of others, byte for byte: 25" in problem.notes


def test_a_copy_under_another_class_leaves_out_both(tmp_path):
    folder = fill(tmp_path / "pets", each=30)
    save(folder / "dog" / "a cat.png", noise(4))
    problem = load_problem(str(folder))
    assert len(all_images(problem)) == 59
    assert not (all_images(problem) == noise(4).transpose(2, 0, 1)).all((1, 2, 3)).any()
    assert any("under two classes, so both are left out: 1" in note for note in problem.notes)


def test_what_is_tested_on_is_taken_out_of_training(tmp_path):
    fill(tmp_path / "pets" / "train", each=40)
    fill(tmp_path / "pets" / "test", each=10)  # the first ten of the same
    problem = load_problem(str(tmp_path / "pets"))
    assert len(problem.test) == 20 and sum(sizes(problem)) == 80
    assert "rows: left out, files of train that are copies of others, byte for byte: 20" in problem.notes


# ---- archives ------------------------------------------------------------------------------------------------------------


def pack(folder, path):
    names = sorted(p for p in folder.rglob("*") if p.is_file())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.write(name, name.relative_to(folder.parent).as_posix())
    else:
        with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
            archive.add(folder, folder.name)
    return path


@pytest.mark.parametrize("name", ["pets.zip", "pets.tar", "pets.tar.gz", "Pets.TGZ"])
def test_an_archive_is_the_folder_in_it(tmp_path, name):
    folder = fill(tmp_path / "wrap" / "pets")
    problem = load_problem(str(pack(folder.parent, tmp_path / name)))  # in two wrapping folders
    plain = load_problem(str(folder))
    assert problem.name == name.split(".")[0] and problem.preprocessor == plain.preprocessor
    np.testing.assert_array_equal(problem.test.inputs["image"], plain.test.inputs["image"])
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["wrap"], "nothing is unpacked"


def test_members_of_an_archive_that_are_passed_over(tmp_path, monkeypatch):
    folder = fill(tmp_path / "pets")
    save(folder / "cat" / "big.bmp", noise(1, 200, 200))
    monkeypatch.setattr(folders, "LARGEST_FILE", 50_000)
    (folder / "cat" / "._1.png").write_text("resource fork")
    (folder / "__MACOSX").mkdir()
    save(folder / "__MACOSX" / "x.png", noise(5))
    (folder / "cat" / "notes.txt").write_text("x")
    with tarfile.open(tmp_path / "pets.tar", "w") as archive:
        archive.add(folder, "pets")
        for name in ("../../up.png", "/etc/root.png"):
            data = (folder / "cat" / "000.png").read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("pets/cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    problem = load_problem(str(tmp_path / "pets.tar"))
    assert len(all_images(problem)) == 40
    assert set(problem.notes[2:]) == {
        "file: left aside, files larger than 0 MB: 1",
        "file: left aside, files whose names do not end as a picture's do: 1",
        "file: left aside, files named as if outside the archive: 2",
        "file: left aside, files that are links: 1",
    }
    assert not (tmp_path.parent / "up.png").exists()


@pytest.mark.parametrize("name", ["pets.zip", "pets.tar.gz"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_an_archive_cut_short(tmp_path, name, share):
    path = pack(fill(tmp_path / "pets"), tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(path, "the archive is cut off or damaged; expected a whole .zip, .tar, .tar.gz or .tgz file")


def test_an_archive_too_large_for_memory(tmp_path, monkeypatch):
    path = pack(fill(tmp_path / "pets"), tmp_path / "pets.zip")
    monkeypatch.setattr(folders, "LARGEST_ARCHIVE", 10_000)
    refused(path, "too much to keep in memory; .* unpack it, and name the folder")


def test_links_that_lead_round_in_circles(tmp_path):
    folder = fill(tmp_path / "pets")
    (folder / "cat" / "round").symlink_to(folder, target_is_directory=True)
    assert len(all_images(load_problem(str(folder)))) == 40


# ---- pixels --------------------------------------------------------------------------------------------------------------


def test_pictures_of_one_size_keep_every_pixel(tmp_path):
    problem = load_problem(str(fill(tmp_path / "pets", height=20, width=31)))
    assert problem.preprocessor.size == (3, 20, 31)
    assert {noise(1000 * k + i, 20, 31).tobytes() for k in range(2) for i in range(20)} == {
        image.transpose(1, 2, 0).tobytes() for image in all_images(problem)
    }


@pytest.mark.parametrize(("median", "side"), [(50, 48), (7, 8), (300, 64)])
def test_mixed_sizes_are_brought_to_that_of_the_median(tmp_path, median, side):
    for k, name in enumerate(("cat", "dog")):
        for i in range(20):
            save(tmp_path / "pets" / name / f"{i}.png", noise(99 * k + i, median, median + i))
    problem = load_problem(str(tmp_path / "pets"))
    assert problem.preprocessor.size == (3, side, side)
    assert f"{median} to {median + 19} pixels a side, brought to {side}x{side}" in problem.notes[0]
    assert load_problem(str(tmp_path / "pets"), image_size=20).preprocessor.size == (3, 20, 20)


def test_photos_of_one_size_are_brought_down(tmp_path):
    problem = load_problem(str(fill(tmp_path / "pets", height=150, width=200, each=10)))
    assert problem.preprocessor.size == (3, 64, 64)


def test_the_shorter_side_is_scaled_and_the_middle_kept(tmp_path):
    stripes = np.zeros((40, 120, 3), np.uint8)
    stripes[:, 40:80] = 200  # the middle third, as wide as the picture is high
    for array in (stripes, stripes.transpose(1, 0, 2).copy()):
        assert (read_pixels(save(tmp_path / "x.png", array), "x", (3, 20, 20)) == 200).mean() > 0.85


def test_grey_where_all_are_grey_even_if_saved_in_colour(tmp_path):
    fill(tmp_path / "plain", channels=1)
    for k, name in enumerate(("cat", "dog")):
        for i in range(20):
            save(tmp_path / "dyed" / name / f"{i:03}.png", np.stack([noise(1000 * k + i, channels=1)] * 3, -1))
    plain, dyed = load_problem(str(tmp_path / "plain")), load_problem(str(tmp_path / "dyed"))
    assert plain.preprocessor.size == dyed.preprocessor.size == (1, 24, 24)
    np.testing.assert_array_equal(plain.test.inputs["image"], dyed.test.inputs["image"])
    assert dyed.preprocessor == plain.preprocessor and plain.raw_example("test", 0).shape == (24, 24)


def test_the_training_pictures_decide_whether_there_are_colours(tmp_path):
    fill(tmp_path / "pets" / "train", each=40, channels=1)
    fill(tmp_path / "pets" / "test", each=5, first=70_000)
    assert load_problem(str(tmp_path / "pets")).test.inputs["image"].shape == (10, 1, 24, 24)
    fill(tmp_path / "pets" / "train", each=20, first=80_000)  # in place of half of them
    assert load_problem(str(tmp_path / "pets")).test.inputs["image"].shape == (10, 3, 24, 24)


def forms():
    """The same picture, a dark square on white, saved in many forms; and how near to it they come."""
    array = np.full((32, 32, 3), 255, np.uint8)
    array[8:24, 8:24] = (40, 80, 120)
    picture = Image.fromarray(array)
    grey = np.asarray(picture.convert("L"))
    clear = np.dstack([array, np.where((array == 255).all(2), 0, 255).astype(np.uint8)])
    clear[..., :3][clear[..., 3] == 0] = 0  # black, but nothing of it is to be seen
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    return array, {
        "a.png": (picture, {}, 0), "a.bmp": (picture, {}, 0), "a.gif": (picture.quantize(), {}, 0), "a.ppm": (picture, {}, 0),
        "a.tiff": (picture, {}, 0), "a.webp": (picture, {"lossless": True}, 0), "a.jpg": (picture, {"quality": 98}, 8),
        "cmyk.jpg": (picture.convert("CMYK"), {"quality": 98}, 8), "alpha.png": (Image.fromarray(clear, "RGBA"), {}, 0),
        "turned.jpg": (turned, {"exif": exif, "quality": 98}, 8), "turned.png": (turned, {"exif": exif}, 0),
        "deep.png": (Image.fromarray(grey.astype(np.uint16) * 257), {}, "grey"),
        "deep.tiff": (Image.fromarray(grey.astype(np.int32) * 257), {}, "grey"),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(forms()[1]))
def test_the_same_picture_in_many_forms(tmp_path, name):
    array, cases = forms()
    picture, options, near = cases[name]
    picture.save(tmp_path / name, **options)
    pixels = read_pixels(tmp_path / name, name, (3, 32, 32)).astype(int).transpose(1, 2, 0)
    if near == "grey":
        array, near = np.stack([np.asarray(Image.fromarray(array).convert("L"))] * 3, -1), 0
    assert np.abs(pixels - array).mean() <= near
    assert np.abs(pixels - array)[12:20, 12:20].max() <= near
    assert measure((tmp_path / name).read_bytes(), name)[0] == (32, 32)


@pytest.mark.parametrize("scale", [1 / 255, 1.0, 257.0])
def test_how_bright_pictures_of_fractions_are_is_kept(tmp_path, scale):
    """Each by its own largest value, a dark picture would be as light as any other."""
    means = []
    for name, level in (("dark", 60), ("light", 240)):
        values = np.full((12, 12), level, np.float32) + np.random.default_rng(0).integers(-9, 9, (12, 12))
        Image.fromarray((values * scale).astype(np.float32)).save(tmp_path / f"{name}.tiff")
        means.append(read_pixels(tmp_path / f"{name}.tiff", name, (1, 12, 12)).mean())
    np.testing.assert_allclose(means, [60, 240], atol=1)


def test_a_picture_lying_on_its_side_is_measured_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    for name in ("a.jpg", "a.png"):
        path = save(tmp_path / name, noise(0, 20, 30), exif=exif)
        assert measure(path, name)[0] == (30, 20) and read_pixels(path, name, (3, 30, 20)).shape == (3, 30, 20)


# ---- what cannot be read -------------------------------------------------------------------------------------------------


def test_a_few_broken_files_are_named_and_left_out(tmp_path):
    folder = fill(tmp_path / "pets", each=150, height=8, width=8)
    (folder / "cat" / "bad1.png").write_bytes(b"no picture")
    whole = save(folder / "dog" / "bad2.jpg", noise(5, 64, 64)).read_bytes()
    (folder / "dog" / "bad2.jpg").write_bytes(whole[: len(whole) // 2])  # its header is sound
    problem = load_problem(str(folder))
    assert len(all_images(problem)) == 300
    assert "file: left out, pictures that cannot be read: cat/bad1.png, dog/bad2.jpg" in problem.notes
    for i in range(5):
        (folder / "cat" / f"worse{i}.gif").write_bytes(b"GIF89a")
    refused(
        folder, r"pets: 6 of 307 pictures cannot be read: cat/bad1.png, .*\(6 in all\); expected at most 1% of them"
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about damage
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "tiff", "bmp", "webp"])
def test_damaged_bytes_are_a_picture_or_an_error_of_ours(tmp_path, ending):
    whole = save(tmp_path / f"a.{ending}", noise(0)).read_bytes()
    chance = np.random.default_rng(1)
    for _ in range(150):
        data = bytearray(whole)
        for place in chance.integers(0, len(data), 4):
            data[place] = chance.integers(0, 256)
        try:
            assert read_pixels(bytes(data[: chance.integers(1, len(data) + 1)]), "x", (3, 8, 8)).shape == (3, 8, 8)
        except DataError as error:
            assert str(error).startswith("x: ")


def test_a_program_in_postscript_is_no_picture(tmp_path):
    path = save(tmp_path / "a.eps", noise(0)).rename(tmp_path / "a.png")
    with pytest.raises(DataError, match="not a picture"):
        read_pixels(path, path, (3, 8, 8))


def wrong(folder):
    fill(folder / "empty class")
    (folder / "empty class" / "emu").mkdir()
    fill(folder / "one class", ("cat",), 30)
    fill(folder / "few", each=9)
    fill(folder / "strange" / "train")
    fill(folder / "strange" / "test", ("cat", "dgo"), 5, first=70_000)
    for i in range(30):
        save(folder / "no classes" / f"{i}.png", noise(i))
    return {
        "empty class": "no pictures in the class folder emu; .* add some, or take the folder away",
        "one class": r"one class \(cat\); expected a folder for each class",
        "few": "18 pictures to train on; expected 20 at least",
        "strange": r"test has the class 'dgo', which train has not; expected cat, dog. Did you mean 'dog'\?",
        "no classes": "30 pictures and no class folders; expected a folder for each class",
    }


def test_folders_that_cannot_be_learned_from(tmp_path):
    for name, words in wrong(tmp_path).items():
        refused(tmp_path / name, f"{name}: {words}")


def test_an_archive_without_pictures(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    refused(tmp_path / "x.zip", "no pictures; expected a folder for each class")


def test_options_that_pictures_do_not_take(tmp_path):
    folder = fill(tmp_path / "pets")
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 30)
    for path, options, words in (
        (folder, {"target": "x"}, "--target x: .* holds pictures and no table"),
        (folder, {"image_size": 2}, "^image_size: 2; expected pixels a side, 4 to 1024"),
        (
            tmp_path / "a.csv",
            {"image_size": 8, "target": "b"},
            "--image-size: .* holds a table of separate rows; expected a folder of pictures",
        ),
        ("digits", {"image_size": 8}, "--image-size: digits holds images, whose labels are known"),
    ):
        with pytest.raises(OptionError, match=words):
            load_problem(str(path), **options)


# ---- preprocessor, and folders larger than memory ------------------------------------------------------------------------


def test_the_preprocessor_in_json_and_what_it_refuses():
    known = ImagePreprocessor((3, 8, 9), ["a", "b"], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert preprocessor_from_json(json.loads(json.dumps(known.to_json()))) == known
    images = np.zeros((2, 3, 8, 9), np.uint8)
    assert known.encode(images)["image"] is images
    for raw in (images[0], images[:, :1], images.astype(np.float32), images.transpose(0, 1, 3, 2)):
        with pytest.raises(DataError, match=r"expected uint8 \(N, 3, 8, 9\)"):
            known.encode(raw)


def test_a_picture_for_prediction_is_made_as_those_of_training(tmp_path):
    folder = fill(tmp_path / "pets", height=40, width=50, ending="jpg")
    problem = load_problem(str(folder))
    image = problem.preprocessor.read_picture(folder / "cat" / "000.jpg", "000.jpg")
    assert (all_images(problem) == image).all((1, 2, 3)).sum() == 1


@pytest.mark.parametrize(("most", "lazy"), [(60_000, (True, False, False)), (10_000, (True, True, True))])
def test_what_does_not_fit_in_memory_is_read_batch_by_batch(tmp_path, monkeypatch, most, lazy):
    folder = str(fill(tmp_path / "pets"))
    whole = load_problem(folder)
    monkeypatch.setattr(image_set, "MAX_MEMORY", most)
    monkeypatch.setattr(image_set, "BLOCK", 7)
    monkeypatch.setattr(labelled_files, "THREADED_SIZE", 10)  # so that threads are used
    problem = load_problem(folder)
    parts = (problem.train, problem.validation, problem.test)
    assert tuple(isinstance(part.inputs["image"], LazyImages) for part in parts) == lazy
    assert problem.preprocessor == whole.preprocessor and problem.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(np.asarray(problem.train.inputs["image"]), whole.train.inputs["image"])
    np.testing.assert_array_equal(problem.raw_example("train", 3), whole.raw_example("train", 3))

    class Network:
        input_names = ("image",)

    loaders = [DataLoader(p.train.dataset(Network), 8, shuffle=True, seed=5) for p in (problem, whole)]
    assert loaders[0].gather_op is None and loaders[1].gather_op is not None
    for one, other in zip(*loaders, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    for path in (tmp_path / "pets").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"\.png: no such file"):
        loaders[0].batch(np.arange(8))


@pytest.mark.skipif(not shelf.find("cifar10").at_hand, reason="cifar10 is not on this machine (PELLUCID_DATA)")
def test_cifar10():
    problem = load_problem("cifar10")
    assert sizes(problem) == [45_000, 5_000, 10_000] and problem.preprocessor.size == (3, 32, 32)
    assert problem.preprocessor.classes[:3] == ["airplane", "automobile", "bird"]
    assert np.bincount(problem.test.target).tolist() == [1000] * 10
    assert np.bincount(problem.train.target).tolist() == [4500] * 10
    np.testing.assert_allclose(problem.preprocessor.mean, [125.3, 123.0, 113.9], atol=0.5)
    np.testing.assert_allclose(problem.preprocessor.std, [63.0, 62.1, 66.7], atol=1)
