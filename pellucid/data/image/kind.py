"""Images as a kind of data: folders and archives of pictures, and data sets in MNIST's form (floor 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ..base import Content, DataKind, DataOption, NewExamples, PredictionForm, Source
from ..files import existing_file
from ..folders import ExampleFile, expand, is_archive
from ..labelled_files import check_broken, files_to_score, listed
from ..problem import DataModule
from .decode import as_seen
from .idx import pairs_in
from .image_set import ImageSet, read_images
from .load import PICTURES, load_digits, load_idx, load_pictures
from .preprocess import ImagePreprocessor


class ImageKind(DataKind):
    """Labelled images. What a picture file becomes is decided by the preprocessor's `framing`."""

    name = "image"
    title = "images, whose labels are known"
    container = "a folder of pictures"
    folder_form = "MNIST's files, or a folder of pictures for each class"
    noun = "picture"
    endings = PICTURES.endings
    options = (
        DataOption(
            "size",
            (int,),
            "Pixels a side that pictures are brought to (else theirs; at most 64 where they differ).",
            "N",
        ),
    )
    default_family = "cnn"
    inputs = ("image", "pixels")
    prediction = PredictionForm.FILES
    preprocessor = ImagePreprocessor

    def recognises(self, content: Content, options: Mapping[str, Any]) -> bool:
        if content.is_file:
            return False
        return bool(_idx_pairs(content.path)) or content.share(self.endings) > 0.5

    def accepted_options(self, source: Source) -> tuple[str, ...]:
        return ("size",) if _has_picture_files(source) else ()

    def load(self, source: Source) -> DataModule:
        if source.dataset is not None and source.dataset.name == "digits":
            return load_digits(source)
        if not _has_picture_files(source):
            return load_idx(source, source.path if source.dataset is None else source.path.parent)
        return load_pictures(source, source.options.get("size"))

    def family_for(self, data: DataModule) -> str:
        """An MLP for data in MNIST's form, which it learns in seconds; a CNN for pictures."""
        assert isinstance(data.preprocessor, ImagePreprocessor)
        return self.default_family if data.preprocessor.framing == "crop" else "mlp"

    def read_new(self, preprocessor: ImagePreprocessor, sources: Sequence[Source]) -> NewExamples:
        """Picture files, and all pictures in folders and archives, whatever lies between; or one labelled data set."""
        first = sources[0]
        if len(sources) == 1 and (first.dataset is not None or _idx_pairs(first.path)):
            return self.read_labelled(preprocessor, first)
        chosen = [(source.path, expand(source.path, PICTURES)) for source in sources]
        images = _read(preprocessor, [file for _, files in chosen for file in files])
        broken = set(images.broken)
        for path, files in chosen:
            if all(file.name in broken for file in files):
                if files and files[0].content == path:
                    preprocessor.read_picture(path, path)  # raises, and says why it cannot be read
                raise DataError(f"{path}: no pictures in it that can be read; expected PNG, JPEG or the like; name another folder")  # fmt: skip
        return _new_examples(preprocessor, images)

    def read_labelled(self, preprocessor: ImagePreprocessor, source: Source) -> NewExamples:
        if not _has_picture_files(source):
            return self._read_arrays(preprocessor, source)
        path = source.path
        if not path.is_dir() and not is_archive(existing_file(path, "folder or archive of pictures")):
            raise DataError(f"{path}: one file; expected a folder or archive of pictures, a folder for each class, or a directory with "
                            "MNIST's files; for a picture, use pellucid predict")  # fmt: skip
        files = files_to_score(path, PICTURES, preprocessor.classes)
        images = _read(preprocessor, files)
        check_broken(path, images.broken, len(files), self.noun)
        number = {label: i for i, label in enumerate(preprocessor.classes)}
        return _new_examples(preprocessor, images, np.array([number[files[i].label] for i in images.rows], np.int64))

    def _read_arrays(self, preprocessor: ImagePreprocessor, source: Source) -> NewExamples:
        """The test split of a data set without picture files, of the same size and classes."""
        data = self.load(source)
        theirs = data.preprocessor
        assert isinstance(theirs, ImagePreprocessor)
        if theirs.size != preprocessor.size or theirs.classes != preprocessor.classes:
            raise DataError(f"{source.spec}: images {_by(theirs)}, {len(theirs.classes)} classes; expected images {_by(preprocessor)} with the "
                            f"classes {', '.join(preprocessor.classes)}, as in training; choose data of that form")  # fmt: skip
        images = data.test.inputs["image"]
        names = [f"{data.name} test {i + 1}" for i in range(len(images))]
        return NewExamples(preprocessor.encode(images), names, lambda i: as_seen(images[i]), target=data.test.target)


def _idx_pairs(path: Path) -> dict[str, tuple[Path, Path]]:
    """MNIST's files in a folder; none where it is no folder. Raises DataError for half a pair."""
    return pairs_in(path) if path.is_dir() else {}


def _has_picture_files(source: Source) -> bool:
    if source.dataset is not None:
        return any(file.path.endswith((".zip", ".tar.gz")) for file in source.dataset.files)
    return not _idx_pairs(source.path)


def _by(preprocessor: ImagePreprocessor) -> str:
    """`28x28`, and the channels where there are several."""
    return "x".join(str(n) for i, n in enumerate(preprocessor.size) if i or n > 1)


def _read(preprocessor: ImagePreprocessor, files: Sequence[ExampleFile]) -> ImageSet:
    read = None if preprocessor.framing == "crop" else lambda file: preprocessor.read_picture(file.content, file.name)
    return read_images(files, preprocessor.size, read=read)


def _new_examples(
    preprocessor: ImagePreprocessor, images: ImageSet, target: np.ndarray | None = None
) -> NewExamples:  # fmt: skip
    notes = [f"pictures that cannot be read: {listed(images.broken)}"] if images.broken else []
    return NewExamples(preprocessor.encode(images.images), images.names, images.view, target=target, notes=notes)
