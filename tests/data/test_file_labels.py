"""Labels of files in no class folders: from names, from a table beside them; what is counted, told and refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pellucid.data.file_labels import name_label
from pellucid.data.kinds import KINDS
from pellucid.data.load import load_problem, open_source
from pellucid.data.problem import DataModule
from pellucid.errors import DataError, OptionError

COLOURS = {"cat": (220, 40, 40), "dog": (40, 40, 220)}


def draw(path: Path, label: str, i: int) -> None:
    """A picture of the label's colour; no two are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([i, len(label) + ord(label[0])]).integers(-20, 21, (12, 16, 3))
    Image.fromarray((np.array(COLOURS.get(label, (90, 200, 90))) + noise).astype(np.uint8)).save(path)


def flat(folder: Path, form: str = "{label}.{i}.png", each: int = 20, labels: tuple[str, ...] = ("cat", "dog")) -> Path:
    for label in labels:
        for i in range(each):
            draw(folder / form.format(label=label, i=i), label, i)
    return folder


def with_table(folder: Path, rows: str, header: str = "file,label\n") -> Path:
    for i in range(40):
        draw(folder / "images" / f"{i}.png", ("cat", "dog")[i % 2], i)
    (folder / "labels.csv").write_text(header + rows)
    return folder


def table_rows(form: str = "{i}.png,{label}", count: int = 40) -> str:
    return "".join(form.format(i=i, label=("cat", "dog")[i % 2]) + "\n" for i in range(count))


def check_colours(problem: DataModule) -> None:
    """Every picture's class is that of its colour."""
    classes = problem.preprocessor.classes
    assert classes == ["cat", "dog"]
    for split in ("train", "validation", "test"):
        examples = problem.examples(split)
        pixels = np.stack([examples.inputs["image"][i] for i in range(len(examples))]).astype(float)
        bluer = pixels[:, 2].mean((1, 2)) > pixels[:, 0].mean((1, 2))
        np.testing.assert_array_equal(bluer, examples.target == 1)


def note_of(problem: DataModule, words: str) -> str:
    return next(note for note in problem.notes if words in note)


@pytest.mark.parametrize(
    ("name", "label"),
    [("cat.1.jpg", "cat"), ("cat_01.png", "cat"), ("cat (3).jpg", "cat"), ("cat12.jpeg", "cat"), ("great_dane-007.png", "great_dane"),
     ("cat_2021_03.jpg", "cat"), ("cat.jpg", None), ("0001.jpg", None), ("3-4.png", None), ("größe 2.png", "größe")],
)  # fmt: skip
def test_the_label_is_what_stands_before_the_number(name: str, label: str | None) -> None:
    assert name_label(name) == label


@pytest.mark.parametrize(
    "form", ["{label}.{i}.png", "{label}_{i:03}.png", "{label} ({i}).png", "images/{label}{i}.png"]
)
def test_forty_one_pictures_in_one_folder_are_labelled_by_their_names(tmp_path: Path, form: str) -> None:
    folder = flat(tmp_path / "pets", form)
    draw(folder / form.format(label="cat", i=20), "cat", 20)
    problem = load_problem(str(folder))
    check_colours(problem)
    assert sum(len(problem.examples(split)) for split in ("train", "validation", "test")) == 41
    note = note_of(problem, "labels:")
    assert note.startswith("labels: from the names of the files (cat") and "--labels" in note and len(note) <= 110


def test_names_are_no_labels_unless_two_come_again(tmp_path: Path) -> None:
    for k, labels in enumerate([("cat",), ("IMG", "DSC")]):
        folder = flat(tmp_path / str(k), labels=labels)
        with pytest.raises(
            DataError, match=r"no class folders; expected a folder for each class, .* names such as cat\.1\.jpg"
        ):
            load_problem(str(folder))
    assert load_problem(str(tmp_path / "1"), labels="names").preprocessor.classes == ["DSC", "IMG"]
    with pytest.raises(DataError, match="no labels in the names of its 20 pictures; expected two"):
        load_problem(str(tmp_path / "0"), labels="names")
    with pytest.raises(DataError, match="no class folders"):
        load_problem(str(flat(tmp_path / "pets")), labels="folders")


def test_a_picture_whose_label_comes_once_is_left_aside_and_told(tmp_path: Path) -> None:
    folder = flat(tmp_path / "pets")
    draw(folder / "horse.1.png", "horse", 0)
    problem = load_problem(str(folder))
    check_colours(problem)
    assert note_of(problem, "no label that comes again").endswith(": 1")


def test_class_folders_come_before_names(tmp_path: Path) -> None:
    for label, other in (("cat", "x"), ("dog", "y")):
        for i in range(20):
            draw(tmp_path / "pets" / label / f"{other}.{i}.png", label, i)
    check_colours(load_problem(str(tmp_path / "pets")))
    assert load_problem(str(tmp_path / "pets"), labels="names").preprocessor.classes == ["x", "y"]


def test_splits_of_flat_folders_are_kept(tmp_path: Path) -> None:
    folder = flat(tmp_path / "pets" / "train").parent
    flat(folder / "test", "{label}.{i}9.png", each=5)
    for i in range(5):
        draw(folder / "test" / f"{i}.png", "cat", 100 + i)
    problem = load_problem(str(folder))
    check_colours(problem)
    assert len(problem.examples("test")) == 10 and all("test" in name for name in problem.names["test"])


@pytest.mark.parametrize(
    "form",
    ["{i}.png,{label}", "{i},{label}", "images/{i}.png,{label}", ".\\images\\{i}.PNG,{label}", "{i}.png;{label}"],
)
def test_a_table_beside_the_pictures_labels_them(tmp_path: Path, form: str) -> None:
    separator = ";" if ";" in form else ","
    folder = with_table(tmp_path / "pets", table_rows(form), f"file{separator}label\n")
    for problem in (
        load_problem(str(folder)),
        load_problem(str(folder / "labels.csv")),
        load_problem(str(folder / "labels.csv"), target="label"),
    ):
        if form == "{i},{label}" or problem.kind == "image":
            check_colours(problem)
        assert problem.name == "pets" and "labels.csv, for 40" in note_of(problem, "labels:")
        assert not any("whose names do not end" in note for note in problem.notes)


def test_a_table_in_an_archive_labels_its_pictures(tmp_path: Path) -> None:
    folder = with_table(tmp_path / "pets", table_rows())
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, path.relative_to(folder))
    check_colours(load_problem(str(tmp_path / "pets.zip")))


def test_rows_without_a_file_and_files_without_a_row_are_counted(tmp_path: Path) -> None:
    rows = table_rows(count=36) + "gone.png,cat\nlost.png,dog\n0.png,dog\n"
    problem = load_problem(str(with_table(tmp_path / "pets", rows)))
    check_colours(problem)
    assert note_of(problem, "name no file").startswith(
        "labels: 2 of 39 rows of labels.csv name no file that is there (gone.png first)"
    )
    assert "1 files have two labels" in note_of(problem, "two labels")
    assert note_of(problem, "without a label in labels.csv").endswith(": 5")


def test_a_change_of_the_labels_changes_the_fingerprint(tmp_path: Path) -> None:
    folder = with_table(tmp_path / "pets", table_rows())
    before = load_problem(str(folder)).fingerprint
    (folder / "labels.csv").write_text("file,label\n" + table_rows().replace("0.png,cat", "0.png,dog", 1))
    assert load_problem(str(folder)).fingerprint != before


def test_several_columns_ask_for_the_target(tmp_path: Path) -> None:
    folder = with_table(tmp_path / "pets", table_rows("{i}.png,{i},{label}"), "file,weight,species\n")
    with pytest.raises(
        OptionError, match=r"--target: missing; labels.csv has the columns file, weight, species; .* --target 'species'"
    ):
        load_problem(str(folder))
    check_colours(load_problem(str(folder), target="species"))
    with pytest.raises(
        DataError, match="weight has 40 different values for 40 files; expected classes that come again"
    ):
        load_problem(str(folder), target="weight")


def test_what_no_table_tells_is_refused(tmp_path: Path) -> None:
    folder = flat(tmp_path / "pets")
    with pytest.raises(OptionError, match="--labels nix.csv: no such table"):
        load_problem(str(folder), labels="nix.csv")
    with pytest.raises(OptionError, match="--target label: .* holds pictures and no table"):
        load_problem(str(folder), target="label")
    (tmp_path / "other.csv").write_text("file,label\na,b\nc,d\n")
    with pytest.raises(DataError, match=r"other.csv: none of its columns \(file, label\) names the pictures"):
        load_problem(str(folder), labels=str(tmp_path / "other.csv"))


def test_new_files_are_scored_by_the_labels_of_training(tmp_path: Path) -> None:
    problem = load_problem(str(flat(tmp_path / "pets")))
    draw(tmp_path / "new" / "cat.1.png", "cat", 50)
    draw(tmp_path / "new" / "dog.1.png", "dog", 51)
    kind = KINDS["image"]
    found = kind.read_labelled(problem.preprocessor, open_source(str(tmp_path / "new"), kind))
    assert found.target is not None and found.target.tolist() == [0, 1]
    folder = with_table(tmp_path / "more", table_rows())
    for place in (folder, folder / "labels.csv"):
        again = kind.read_labelled(problem.preprocessor, open_source(str(place), kind))
        assert again.target is not None and len(again.target) == 40
    assert len(kind.read_new(problem.preprocessor, [open_source(str(folder / "labels.csv"), kind)]).names) == 40


def test_heic_is_named_with_what_to_do(tmp_path: Path) -> None:
    heic = b"\0\0\0\x18ftypheic" + b"\0" * 40
    (tmp_path / "phone").mkdir()
    for i in range(3):
        (tmp_path / "phone" / f"cat.{i}.HEIC").write_bytes(heic)
    with pytest.raises(DataError, match=r"3 of 3 pictures, cat.0.HEIC first, are in HEIC.* sips -s format jpeg"):
        load_problem(str(tmp_path / "phone"))
    with pytest.raises(DataError, match="cat.0.HEIC: a picture in HEIC"):
        load_problem(str(tmp_path / "phone" / "cat.0.HEIC"))
    problem = load_problem(str(flat(tmp_path / "phone")))
    assert note_of(problem, "HEIC").endswith("files in HEIC, which is not read: 3")
    renamed = tmp_path / "photo.jpg"  # as phones send them
    renamed.write_bytes(heic)
    kind = KINDS["image"]
    for path in (renamed, tmp_path / "phone" / "cat.0.HEIC"):
        with pytest.raises(DataError, match="a picture in HEIC"):
            kind.read_new(problem.preprocessor, [open_source(str(path), kind)])


def test_sounds_are_labelled_by_their_names_too(tmp_path: Path) -> None:
    import wave

    for label, step in (("low", 1), ("high", 9)):
        for i in range(15):
            path = tmp_path / "calls" / f"{label}_{i}.wav"
            path.parent.mkdir(exist_ok=True)
            with wave.open(str(path), "wb") as file:
                file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
                file.writeframes((1000 * np.sin(np.arange(2000 + i) * step / 10)).astype("<i2").tobytes())
    assert load_problem(str(tmp_path / "calls")).preprocessor.classes == ["high", "low"]
