"""What kinds of data share whose examples are files in class folders, seen by the network as images (floor 4).

A folder says the class of each file; the array of a file is uint8 (C, H, W): a picture, or what a sound is made into.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import DataError
from .base import Content, DataKind, DataOption, NewExamples, OptionValue, P, PredictionForm, Source
from .file_labels import names_files
from .files import existing_file
from .folders import ExampleFile, FileType, expand, is_archive
from .image.image_set import ImageSet
from .labelled_files import LabelledFiles, check_broken, files_to_score, labels_place, listed
from .problem import SPLITS, DataModule, Examples, Preprocessor, RawExample
from .table.kind import COLUMN_OPTIONS

LABEL_OPTIONS = (
    COLUMN_OPTIONS[0],  # --target, of a table that names files
    DataOption(
        "labels", (str,), "Where the labels of files stand: folders, names (cat.1.jpg), or a table of files and labels.", "WAY|FILE", heading="Reading"
    ),
)  # fmt: skip


class FileKind(DataKind[P]):
    """A kind of labelled files. It is recognised by the endings of more than half of the files in a folder or archive."""

    type: ClassVar[FileType]
    formats: ClassVar[str]  # of its files, for messages
    prediction = PredictionForm.FILES

    @abstractmethod
    def decode(self, preprocessor: P, files: Sequence[ExampleFile]) -> ImageSet:
        """The files that can be read, as the network sees them."""

    @abstractmethod
    def decode_one(self, preprocessor: P, file: ExampleFile) -> np.ndarray:
        """One file, uint8 (C, H, W). Raises DataError, which says why it cannot be read."""

    def recognises(self, content: Content, options: Mapping[str, OptionValue]) -> bool:
        if content.is_file:
            return content.share(frozenset(self.type.foreign)) == 1 or names_files(content.path, self.type)
        return content.share(self.endings | self.type.foreign.keys()) > 0.5

    def open(self, content: Content) -> tuple[str, list[Path]]:
        """Of a table that names files, the folder's name."""
        return content.path.resolve().parent.name if content.is_file else content.stem, [content.path]

    def read_new(self, preprocessor: P, sources: Sequence[Source]) -> NewExamples:
        """Files, and all of the type in folders and archives, whatever lies between; or one data set known by name."""
        if len(sources) == 1 and sources[0].dataset is not None:
            return self.read_labelled(preprocessor, sources[0])
        chosen = [(source.path, expand(labels_place(source, self.type)[0], self.type)) for source in sources]
        images = self.decode(preprocessor, [file for _, files in chosen for file in files])
        broken = set(images.broken)
        for path, files in chosen:
            if all(file.name in broken for file in files):
                if files and files[0].content == path:
                    self.decode_one(preprocessor, files[0])  # raises, and says why
                raise DataError(
                    f"{path}: no {self.noun}s in it that can be read; expected {self.formats}; name another folder"
                )
        return self._new_examples(preprocessor, images)

    def read_labelled(self, preprocessor: P, source: Source) -> NewExamples:
        path, classes = source.path, preprocessor.classes or []
        if names_files(path, self.type):
            pass
        elif not path.is_dir() and not is_archive(existing_file(path, f"folder or archive of {self.noun}s")):
            raise DataError(f"{path}: one file; expected a folder or archive of {self.noun}s, a folder for each class; for a {self.noun}, "
                            "use pellucid predict")  # fmt: skip
        files = files_to_score(source, self.type, classes)
        images = self.decode(preprocessor, files)
        check_broken(path, images.broken, len(files), self.noun)
        number = {label: i for i, label in enumerate(classes)}
        return self._new_examples(
            preprocessor, images, np.array([number[files[i].label] for i in images.rows], np.int64)
        )

    def _new_examples(
        self, preprocessor: P, images: ImageSet, target: np.ndarray | None = None
    ) -> NewExamples:  # fmt: skip
        notes = [f"file: {self.noun}s that cannot be read: {listed(images.broken)}"] if images.broken else []
        return NewExamples(preprocessor.encode(images.images), images.names, images.view, target=target, notes=notes)


def data_module(
    source: Source, files: LabelledFiles[Any], images: Sequence[ImageSet], preprocessor: Preprocessor, summary: str
) -> DataModule:
    """The data module of decoded files. images: a set for each of SPLITS."""
    labels = [files.labels(split, one.rows) for split, one in zip(SPLITS, images, strict=True)]
    train, validation, test = (
        Examples(preprocessor.encode(one.images), own) for one, own in zip(images, labels, strict=True)
    )
    views: dict[str, RawExample] = {split: one.view for split, one in zip(SPLITS, images, strict=True)}
    names = {split: one.names for split, one in zip(SPLITS, images, strict=True)}
    return DataModule(
        source.name, preprocessor.kind, "classification", preprocessor, train, validation, test, files.all_notes(summary),
        files.fingerprint, source.record, views, names,
    )  # fmt: skip
