"""Images as a kind of data: folders and archives of pictures, and data sets in MNIST's form (floor 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError
from ..base import Content, DataOption, NewExamples, OptionValue, Source
from ..file_kind import LABEL_OPTIONS, FileKind
from ..folders import ExampleFile
from ..problem import DataModule
from .decode import as_seen
from .idx import pairs_in
from .image_set import ImageSet, read_images
from .load import PICTURES, load_digits, load_idx, load_pictures
from .preprocess import ImagePreprocessor


class ImageKind(FileKind[ImagePreprocessor]):
    """Labelled images. What a picture file becomes is decided by the preprocessor's `framing`."""

    name = "image"
    title = "images, whose labels are known"
    container = "a folder of pictures"
    folder_form = "MNIST's files, or a folder of pictures for each class"
    type = PICTURES
    noun = PICTURES.noun
    endings = PICTURES.endings
    formats = "PNG, JPEG or the like"
    options = (
        *LABEL_OPTIONS,
        DataOption(
            "image_size",
            (int,),
            "Resize images to N x N pixels (by default they keep their size, at most 64 where sizes differ).",
            "N",
            heading="Reading",
        ),
    )
    default_family = "cnn"
    inputs = ("image", "pixels")
    preprocessor = ImagePreprocessor

    def recognises(self, content: Content, options: Mapping[str, OptionValue]) -> bool:
        return bool(_idx_pairs(content.path)) or super().recognises(content, options)

    def accepted_options(self, source: Source) -> tuple[str, ...]:
        return super().accepted_options(source) if _has_picture_files(source) else ()

    def load(self, source: Source) -> DataModule:
        if source.dataset is not None and source.dataset.name == "digits":
            return load_digits(source)
        if not _has_picture_files(source):
            return load_idx(source, source.path if source.dataset is None else source.path.parent)
        return load_pictures(source, source.options.get("image_size"))

    def family_for(self, data: DataModule) -> str:
        """An MLP for data in MNIST's form, which it learns in seconds; a CNN for pictures."""
        assert isinstance(data.preprocessor, ImagePreprocessor)
        return self.default_family if data.preprocessor.framing == "crop" else "mlp"

    def decode(self, preprocessor: ImagePreprocessor, files: Sequence[ExampleFile]) -> ImageSet:
        read = None if preprocessor.framing == "crop" else lambda file: self.decode_one(preprocessor, file)
        return read_images(files, preprocessor.size, read=read)

    def decode_one(self, preprocessor: ImagePreprocessor, file: ExampleFile) -> np.ndarray:
        return preprocessor.read_picture(file.content, file.name)

    def read_new(self, preprocessor: ImagePreprocessor, sources: Sequence[Source]) -> NewExamples:
        """As `FileKind` does; of a folder with MNIST's files, the test images."""
        if len(sources) == 1 and not _has_picture_files(sources[0]):
            return self.read_labelled(preprocessor, sources[0])
        return super().read_new(preprocessor, sources)

    def read_labelled(self, preprocessor: ImagePreprocessor, source: Source) -> NewExamples:
        assert isinstance(preprocessor, ImagePreprocessor)
        if not _has_picture_files(source):
            return self._read_arrays(preprocessor, source)
        return super().read_labelled(preprocessor, source)

    def _read_arrays(self, preprocessor: ImagePreprocessor, source: Source) -> NewExamples:
        """The test split of a data set without picture files, of the same size and classes."""
        data = self.load(source)
        theirs = data.preprocessor
        assert isinstance(theirs, ImagePreprocessor)
        if theirs.size != preprocessor.size or theirs.classes != preprocessor.classes:
            raise DataError(f"{source.spec}: images {_by(theirs)}, {len(theirs.classes)} classes; expected images {_by(preprocessor)} with the "
                            f"classes {', '.join(preprocessor.classes)}, as in training; choose data of that form")  # fmt: skip
        images = data.examples("test").inputs["image"]
        names = [f"{data.name} test {i + 1}" for i in range(len(images))]
        return NewExamples(
            preprocessor.encode(images), names, lambda i: as_seen(images[i]), target=data.examples("test").target
        )


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
