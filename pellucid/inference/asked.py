"""From a run to a question: its network and one of its examples, or a new row, picture or text, as views take them (floor 8).

Shapes: N examples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.loader import IGNORE_INDEX
from ..data.problem import DataModule, Examples, Inputs, Parts, TokenSequence
from ..errors import DataError, OptionError
from ..evaluation.evaluator import answers_of, scoring_of
from ..inspect.question import Question, said, score
from ..inspect.undisturbed import undisturbed
from ..models.base import Model
from ..models.heads.generation import ImageGenerator
from ..models.heads.language import LanguageModel
from ..runs.run import Run
from ..tensor import Tensor
from .predictor import Predictions, Predictor
from .text_scorer import TextScorer

CONTEXT = 32  # tokens of running text before the one that is asked about


@dataclass(frozen=True)
class Asked:
    """A question to a run's network, and what a person knows of it.

    name: of the example, `test 17` or a file's.      raw: as a person knows it: a row (column -> text), an image uint8 (H, W) or
    (H, W, 3), a text; None where it cannot be shown.      classes: names of the answers, None where an answer is a number.
    columns: of a table, where each column stands in the inputs.      part, row: where the example stands, None for new data.
    named: from logits (N, K) to the class that is named for each (N,), by the run's threshold where it has one.
    note: why the right answer is not known, although the data have a column for it.
    """

    run: Run
    question: Question
    name: str
    raw: Any = field(default=None, repr=False)
    classes: Sequence[str] | None = None
    columns: dict[str, Parts] = field(default_factory=dict, repr=False)
    part: str | None = None
    row: int | None = None
    named: Callable[[np.ndarray], np.ndarray] | None = field(default=None, repr=False)
    note: str = ""

    @property
    def right(self) -> int | None:
        """The index of the right class; None where it is not known or the answer is a number."""
        target = self.question.target
        if target is None or self.classes is None or target.ndim != 1 or target.dtype.kind not in "iu":
            return None
        return int(target.item())

    def answer(self) -> tuple[int, float]:
        """The index of what the network says, and the score of it."""
        with undisturbed(self.question.network):
            output = self.question.output()
        index = said(output) if self.named is None else int(self.named(output.numpy())[0])
        return index, float(score(output, index).item())

    def class_name(self, index: int) -> str:
        """What an index of the answers stands for."""
        return self.classes[index] if self.classes is not None else "the predicted number"


class RunExamples:
    """A run's network, its data where they can be loaded, and questions about them. Everything is loaded once, when needed."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.preprocessor = run.preprocessor()
        self.network: Model = run.network()
        self._data: DataModule | None = None

    @property
    def data(self) -> DataModule:
        """The run's own data, loaded again. Raises DataError where they have changed since."""
        if self._data is None:
            data = self.run.load_problem()
            self.run.check_fingerprint(data)
            self._data = data
        return self._data

    @property
    def classes(self) -> Sequence[str] | None:
        if isinstance(self.network, LanguageModel):
            tokenizer = self.preprocessor.tokenizer  # type: ignore[attr-defined]
            return [tokenizer.decode(np.array([token])) for token in range(self.network.vocab_size)]
        return None if isinstance(self.network, ImageGenerator) else self.preprocessor.classes

    def ask(self, row: int, part: str = "test") -> Asked:
        """About the example `row`, counted from 1, of a part. Raises OptionError where there is none."""
        split = {"train": self.data.train, "validation": self.data.validation, "test": self.data.test}[part]
        if isinstance(split, TokenSequence):
            return self._ask_text(split, row, part)
        if not 1 <= row <= len(split):
            raise OptionError(
                f"--example {row}: the {part} part has {len(split):,} examples; expected 1 to {len(split):,}; choose one of them"
            )
        if isinstance(self.network, LanguageModel):
            return self._ask_line(split, row, part)
        names = self.data.names.get(part)
        raw = None if part not in self.data.raw else self.data.raw_example(part, row - 1)
        name = names[row - 1] if names else f"{part} {row}"
        return self._asked(split.inputs, split.target, row - 1, name, raw, part)

    def ask_new(self, data: str, row: int = 1, read: str | None = None) -> Asked:
        """About row or file `row`, counted from 1, of new data, or about what follows a text. Raises DataError or OptionError."""
        if isinstance(self.network, LanguageModel):
            return self._ask_about_text(TextScorer(self.run).text(data, read), data)
        predictor, note = Predictor(self.run), ""
        try:
            found, i = _part_of(predictor, data, row, read, labelled=True)
        except DataError as error:
            found, i = _part_of(predictor, data, row, read, labelled=False)
            target = self.preprocessor.target_name
            note = str(error) if found.table is not None and target in found.table.names else ""
        raw: Any = found.view(i) if found.view is not None else None
        if found.table is not None:
            cells = {name: column[i] for name, column in zip(found.table.names, found.table.columns, strict=True)}
            raw = {name: "" if cell is None else str(cell) for name, cell in cells.items()}
        name = found.names[i] if i < len(found.names) else str(row)
        name = f"row {name}" if name.isdigit() else name
        return dataclasses.replace(self._asked(found.inputs, found.target, i, name, raw, None), note=note)

    def ask_text(self, text: str) -> Asked:
        """About the token that follows `text`, of a language model. Raises OptionError for another network."""
        if not isinstance(self.network, LanguageModel):
            raise OptionError(f"--text: {self.run.name} reads no text; expected a language model; leave it out")
        return self._ask_about_text(text, "the text")

    def _ask_about_text(self, text: str, name: str) -> Asked:
        tokens = np.asarray(self.preprocessor.tokenizer.encode(text), np.int64)  # type: ignore[attr-defined]
        if not len(tokens):
            raise OptionError(
                f"{name}: no characters; expected a text whose next token is asked about; write more of it"
            )
        return self._ask_about_tokens(tokens, None, name, None, None)

    def _ask_text(self, split: TokenSequence, row: int, part: str) -> Asked:
        """About token `row` of running text, after those before it."""
        if not 2 <= row <= len(split):
            raise OptionError(
                f"--example {row}: the {part} part has {len(split):,} tokens; expected 2 to {len(split):,}, as the first has none "
                "before it; choose one of them"
            )
        before = np.asarray(split.tokens[max(0, row - 1 - CONTEXT) : row - 1], np.int64)
        return self._ask_about_tokens(before, int(split.tokens[row - 1]), f"{part} token {row}", part, row)

    def _ask_line(self, split: Examples, row: int, part: str) -> Asked:
        """About the token of a line that the network expected least, after those before it."""
        network = self.network
        assert isinstance(network, LanguageModel)
        tokens, target = split.inputs["tokens"][row - 1], split.target[row - 1]
        with undisturbed(network):
            nats = network.token_losses(Tensor(tokens[None]), Tensor(target[None])).numpy()[0]
        place = int(np.argmax(np.where(target == IGNORE_INDEX, -1, nats)))
        name = f"{part} {row}, token {place + 1}"
        return self._ask_about_tokens(np.asarray(tokens[: place + 1], np.int64), int(target[place]), name, part, row)

    def _ask_about_tokens(
        self, tokens: np.ndarray, target: int | None, name: str, part: str | None, row: int | None
    ) -> Asked:
        network = self.network
        assert isinstance(network, LanguageModel)
        tokens = tokens[-(network.max_length or network.context_length) :]
        question = Question.of(network, Tensor(tokens[None]), target)
        spelled = [self.preprocessor.tokenizer.decode(np.array([token])) for token in tokens]  # type: ignore[attr-defined]
        return Asked(self.run, question, name, spelled, self.classes, {}, part, row)

    def _asked(self, inputs: Inputs, target: np.ndarray | None, i: int, name: str, raw: Any, part: str | None) -> Asked:
        rows = slice(i, i + 1)
        arrays = [Tensor(np.asarray(inputs[name][rows])) for name in self.network.input_names]
        names = self.network.input_names
        right = None if target is None else Tensor(np.asarray(target[rows]))
        if isinstance(self.network, ImageGenerator):  # what is asked is how well an image fits its class
            classes = Tensor(np.zeros(1, np.int64)) if right is None else right
            arrays, names, right = [*arrays, classes], (*names, "class"), classes
        question = Question.of(self.network, tuple(arrays), right)
        question = dataclasses.replace(question, names=tuple(names))
        columns = self.preprocessor.column_parts()
        named = self.named if self.preprocessor.task == "classification" and self.classes is not None else None
        return Asked(self.run, question, name, raw, self.classes, columns, part, None if part is None else i + 1, named)

    def named(self, logits: np.ndarray) -> np.ndarray:
        """The class (N,) that is named for logits (N, K), as `predict` names it."""
        return self.said(answers_of(logits, self.preprocessor, ()))

    def said(self, output: np.ndarray) -> np.ndarray:
        """The class index (N,) that is named for probabilities (N, K); of several labels whether each is, (N, L)."""
        return scoring_of(self.run.config, self.preprocessor).said(output)

    def judged(self, most: int) -> Examples:
        """Rows whose answers tell how good the network is: validation rows, of a bagged network each with its fold."""
        data, folds = self.data, getattr(self.run.config.network, "bag_folds", 0)
        if folds > 1 and data.bagged is not None:
            data = data.bagged(folds)[1]
        return _some(data.examples("validation"), most)

    def part(self, name: str, most: int | None = None) -> Examples:
        """The encoded examples of a part, of many the first `most` evenly spread. Raises DataError for running text."""
        examples = self.data.examples(name)
        return examples if most is None else _some(examples, most)


def _part_of(predictor: Predictor, data: str, row: int, read: str | None, labelled: bool) -> tuple[Predictions, int]:
    """The part of new data that holds row `row`, counted from 1, and its place there from 0; large data are read in parts."""
    before = 0
    for found in predictor.predict_in_parts([data], read, labelled):
        if 1 <= row <= before + len(found.output):
            return found, row - before - 1
        before += len(found.output)
    raise OptionError(f"--example {row}: {data} has {before:,} examples; expected 1 to {before:,}; choose one of them")


def _some(examples: Examples, most: int) -> Examples:
    """At most `most` of them, evenly spread."""
    if len(examples) <= most:
        return examples
    return examples.take(np.unique(np.linspace(0, len(examples) - 1, most).round().astype(np.int64)))
