"""A finished run and new data: rows or pictures in, scores or answers out (floor 6).

Everything goes through the preprocessor saved with the run, so new data are read exactly as the training data were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.datasets import find, locate
from ..data.files import existing_file, sha256
from ..data.image.decode import IMAGE_ENDINGS
from ..data.image.decode_many import ImageSet, listed, read_images
from ..data.image.folders import ExampleFile, is_archive, list_pictures
from ..data.image.preprocess import read_picture
from ..data.image.problem import labelled_pictures
from ..data.load import load_problem, read_rows_for_prediction
from ..data.table.preprocess import preprocessor_from_json
from ..data.table.read import Table
from ..errors import DataError, NonFiniteError
from ..evaluation.compiled import Forward
from ..evaluation.evaluator import answers, in_units, score
from ..evaluation.metrics import Metrics
from ..nn import Module
from ..runs.run import Run
from .forecast import read_series


@dataclass
class Predictions:
    """output: (N, K) probabilities or (N,) numbers. names: of each row or picture. seen(i): picture i as the network saw
    it, uint8 (H, W), in colour (H, W, 3). table: the rows that came in. target: encoded, where it was there and asked for.
    notes: what was left out."""

    output: np.ndarray
    names: list[str]
    seen: Callable[[int], np.ndarray] | None = None
    table: Table | None = None
    target: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


class Predictor:
    """A run's network and preprocessor, loaded once."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.preprocessor: Any = preprocessor_from_json(run.config["preprocessor"])
        self.network: Module = run.network()
        self.forward = Forward(self.network, eager=run.config["settings"]["eager"])

    @property
    def classes(self) -> list[str] | None:
        return self.preprocessor.classes

    def own_test(self) -> Predictions:
        """The run's own test part, loaded again. Raises DataError where the data have changed since."""
        problem = load_problem(**self.run.config["source"])
        self.run.check_unchanged(problem)
        names = problem.names.get("test") or [f"test {i + 1}" for i in range(len(problem.test.target))]
        return Predictions(self._answer(problem.test.inputs), names, target=problem.test.target)

    def scored(self, data: str) -> Predictions:
        """Other data with the right answers in them."""
        if self.preprocessor.kind == "images":
            found = self._image_set(data)
        elif self.preprocessor.kind == "series":
            return self._steps(data)
        elif self.preprocessor.kind == "pictures":
            found = self._picture_set(data)
        else:
            found = self.rows(data)
            assert found.table is not None
            found.target = self.preprocessor.encode_target(found.table)
        return found

    def _steps(self, data: str) -> Predictions:
        """The steps of another series that have a whole window before them, with what came; of one known by name, those of
        its test part."""
        known = self.preprocessor
        line = known.read(read_series(data, known))
        if len(line) <= known.window:
            raise DataError(f"{data}: {len(line):,} steps; expected more than {known.window}, the window that {self.run.name} "
                            "looks at; give more rows")  # fmt: skip
        found, rows = known.examples(line), known.target_rows(line)
        if not len(rows):
            raise DataError(f"{data}: {known.target_name} is missing in every step after the first {known.window}, the window that "
                            f"{self.run.name} looks at; expected values to score; fill them, or give more rows")  # fmt: skip
        if find(data) is not None:  # what it is tested on stands last
            test = load_problem(data, target=known.target_name, time=known.clock.name, window=known.window).test
            found, rows = found.take(np.arange(len(rows))[-len(test) :]), rows[-len(test) :]
        names = [known.clock.text(time) for time in line.times[rows]]
        return Predictions(self._answer(found.inputs), names, target=found.target)

    def rows(self, data: str) -> Predictions:
        """The rows of a table, or the test part of a set known by name."""
        table = read_rows_for_prediction(Path(data), self.preprocessor) if find(data) is None else self._test_rows(data)
        return Predictions(
            self._answer(self.preprocessor.encode(table)), [str(i + 1) for i in range(len(table))], table=table
        )

    def _test_rows(self, data: str) -> Table:
        problem = load_problem(data, seed=self.run.config["settings"]["seed"])
        if problem.kind != "table":
            raise DataError(
                f"{data}: a data set of {problem.kind}; expected a table, as {self.run.name} was trained on one; name a table"
            )
        rows = [problem.raw_example("test", i) for i in range(len(problem.test.target))]
        columns = [np.array([row[name] or None for row in rows], dtype=object) for name in rows[0]]
        return Table(Path(data), list(rows[0]), columns, True)

    def images(self, data: list[str]) -> Predictions:
        """Pictures, or the test images of one set known by name or its directory."""
        if self.preprocessor.kind == "pictures":
            return self._picture_set(data[0]) if len(data) == 1 and find(data[0]) is not None else self._pictures(data)
        if len(data) == 1 and (find(data[0]) is not None or Path(data[0]).is_dir()) and not _pictures(Path(data[0])):
            return self._image_set(data[0])
        paths = [path for name in data for path in (_pictures(Path(name)) or [Path(name)])]
        images = np.stack([read_picture(path, self.preprocessor) for path in paths])
        return Predictions(
            self._answer(self.preprocessor.encode(images)), [str(path) for path in paths], images.__getitem__
        )

    def _image_set(self, data: str) -> Predictions:
        if find(data) is None and Path(data).is_file():
            raise DataError(f"{data}: one file; expected images with their labels: a name from `pellucid datasets`, or a directory with "
                            "MNIST's files; for a picture, use pellucid predict")  # fmt: skip
        problem = load_problem(data, seed=self.run.config["settings"]["seed"])
        spec, own = problem.preprocessor.input_spec(), self.preprocessor.input_spec()
        if spec.get("image") != own["image"] or problem.preprocessor.classes != self.classes:
            came = (
                f"images {_by(spec)}, {len(problem.preprocessor.classes or [])} classes"
                if "image" in spec
                else "a table"
            )
            raise DataError(f"{data}: {came}; expected images {_by(own)} with the classes {', '.join(self.classes or [])}, as "
                            f"{self.run.name} was trained on; choose data of that form")  # fmt: skip
        images = np.stack([np.asarray(problem.raw_example("test", i)) for i in range(len(problem.test.target))])
        names = [f"{problem.name} test {i + 1}" for i in range(len(images))]
        return Predictions(
            self._answer(self.preprocessor.encode(images)), names, images.__getitem__, target=problem.test.target
        )

    def _picture_set(self, data: str) -> Predictions:
        """Pictures with their classes: those of a folder or archive, or of a set known by name; the test part where there is one."""
        dataset, path = find(data), Path(data)
        if dataset is not None and dataset.kind != "pictures":
            raise DataError(
                f"{data}: a data set of {dataset.kind}; expected pictures, as {self.run.name} was trained on; name a folder of them"
            )
        if dataset is not None:
            path = next(iter(locate(dataset).values()))
        elif not path.is_dir() and not is_archive(existing_file(path, "folder or archive of pictures")):
            raise DataError(f"{data}: one file; expected a folder or archive of pictures, a folder for each class; for a picture, use "
                            "pellucid predict")  # fmt: skip
        return self._seen(*labelled_pictures(path, self.preprocessor))

    def _pictures(self, data: list[str]) -> Predictions:
        """Picture files, and all pictures in folders and archives, whatever lies between."""
        asked = [(path, _listed(path)) for path in map(Path, data)]
        pictures = [picture for _, some in asked for picture in some]
        gallery = read_images(pictures, self.preprocessor.size)
        broken = set(gallery.broken)
        for path, some in asked:
            if all(picture.name in broken for picture in some):
                if some and some[0].content == path:
                    self.preprocessor.read_picture(path)  # which says why it cannot
                raise DataError(f"{path}: no pictures in it that can be read; expected PNG, JPEG or the like; name another folder")  # fmt: skip
        return self._seen(gallery)

    def _seen(self, gallery: ImageSet, target: np.ndarray | None = None) -> Predictions:
        notes = [f"pictures that cannot be read: {listed(gallery.broken)}"] if gallery.broken else []
        output = self._answer(self.preprocessor.encode(gallery.images))
        return Predictions(output, gallery.names, gallery.seen, target=target, notes=notes)

    def _answer(self, inputs: dict[str, Any]) -> np.ndarray:
        output = answers(self.forward, self.preprocessor, [inputs[name] for name in self.network.order])
        bad = int((~np.isfinite(output.reshape(len(output), -1)).all(1)).sum())
        if bad:
            raise NonFiniteError(
                f"{self.run.name}: its network gives NaN or infinity for {bad:,} of {len(output):,} examples; expected finite "
                "numbers; its training blew up: train again with a lower --lr"
            )
        return output

    def truth(self, found: Predictions) -> np.ndarray:
        """The targets of `found` as the data wrote them, (N,)."""
        assert found.target is not None
        return in_units(self.preprocessor, found.target)

    def score(self, found: Predictions) -> Metrics:
        assert found.target is not None
        return score(self.preprocessor, found.output, found.target)

    def unseen_values(self, found: Predictions) -> list[str]:
        """What was left out, and columns with values the network has never seen, a line each."""
        return [*found.notes, *([] if found.table is None else self.preprocessor.unseen_values(found.table))]


def caveats(run: Run, data: str | None) -> list[str]:
    """What a reader of scores of `run` should know: training not finished, or `data` it has learned from."""
    notes = []
    if run.result() is None:
        notes.append(f"{run.name} is not finished ({len(run.history())} of {run.config['settings']['epochs']} epochs): "
                     f"its scores will change; go on with: pellucid train --resume {run.name}")  # fmt: skip
    own = run.config["source"].get("path")
    if data is not None and own and Path(data).exists() and _same(Path(data), Path(own)):
        notes.append(f"{data} is what {run.name} was trained on, so this score flatters it; `pellucid evaluate {run.name}` "
                     "scores the rows it has never seen")  # fmt: skip
    return notes


def _same(one: Path, other: Path) -> bool:
    """Whether two files are the same one, or hold the same bytes; of directories, whether they are one."""
    if not other.exists() or one.is_dir() != other.is_dir():
        return False
    return one.samefile(other) or (
        one.is_file() and (one.stat().st_size == other.stat().st_size and sha256([one]) == sha256([other]))
    )


def _by(spec: dict[str, Any]) -> str:
    return "x".join(map(str, spec["image"]))


def _pictures(path: Path) -> list[Path]:
    """The pictures in a directory."""
    return sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_ENDINGS) if path.is_dir() else []


def _listed(path: Path) -> list[ExampleFile]:
    """The pictures that `path` stands for: itself, or all in a folder or archive."""
    if not path.is_dir() and not is_archive(path):
        return [ExampleFile(str(path), "", path)]
    return [
        ExampleFile(str(path.joinpath(*place)), "", content) for place, content in list_pictures(path).files.items()
    ]
