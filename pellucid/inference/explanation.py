"""Why did it say so? One answer of a run's network, all that is known of it together (floor 8).

The answer and how sure it is; how often such sureness was right on validation rows; what of the input mattered; which weights are
to blame if it is wrong; the training examples nearest to it; the least change that turns it. Each part says what it cannot tell.

Shapes: N examples, K outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.problem import Examples, Inputs
from ..errors import PellucidError
from ..evaluation.evaluator import answers_of, inverse_transform
from ..evaluation.formatting import format_number
from ..evaluation.sureness import Sureness, sureness_of_class, sureness_of_number
from ..inspect.attribution import Attribution
from ..inspect.blame import Blame, blame
from ..inspect.counterfactual import Counterfactual, counterfactual, unknown_column
from ..inspect.result import Check, Result, Table
from ..inspect.undisturbed import undisturbed
from ..models.base import map_batches
from ..models.heads.generation import ImageGenerator
from ..models.heads.language import LanguageModel
from ..tensor import Tensor
from .asked import Asked, RunExamples
from .attributed import attribution_of
from .learned import places_of_rows
from .neighbours import nearest

MOST_JUDGED = 2000  # validation rows by which sureness is counted
MOST_KNOWN = 20_000  # training rows that are compared
SHOWN = 3  # answers, neighbours
MOST_PARTS, MOST_BLAMED, MOST_CHECKS = 6, 4, 1  # rows and checks of a part, so that all fit a screen


@dataclass(frozen=True)
class Neighbour:
    """A training example. name: where it stands, `row 17` of the file or `train 17`.      target: what the data say of it, as a
    person reads it."""

    name: str
    distance: float
    target: str


@dataclass(frozen=True)
class Explanation(Result):
    """name: of the example.      answer: as a person reads it.      right: what the data say, None where that is not known.

    likeliest: answers with their probabilities, the likeliest first; of a number empty.
    blamed: of a wrong answer, the weights without which the loss would be lower.
    missing: a line for each part that there is none of, and why.
    """

    name: str
    answer: str
    right: str | None
    likeliest: tuple[tuple[str, float], ...]
    sureness: Sureness | None
    attribution: Attribution | None
    blamed: Blame | None
    neighbours: tuple[Neighbour, ...]
    change: Counterfactual | None
    missing: tuple[str, ...] = ()

    @property
    def checks(self) -> Sequence[Check]:  # type: ignore[override]
        parts = (self.attribution, self.blamed, self.change)
        return [check for one in parts if one is not None for check in one.checks[:MOST_CHECKS]]

    @property
    def wrong(self) -> bool:
        """Whether the data say another class; a number is always a little off."""
        return self.right is not None and self.right != self.answer

    def headline(self) -> str:
        told = (
            ""
            if self.right is None
            else "; the data say the same"
            if not self.wrong
            else f"; the data say {self.right}"
        )
        sure = f"\n{self.sureness}" if self.sureness is not None else ""
        return f"{self.name}: the network says {self.answer}{told}{sure}"

    def tables(self) -> Sequence[Table]:
        found = []
        if len(self.likeliest) > 1:
            found.append(Table("Answers", ("answer", "probability"), self.likeliest))
        if self.attribution is not None:
            found += [_first(one, MOST_PARTS) for one in self.attribution.tables()]
        if self.blamed is not None and self.blamed.rows:
            found.append(_first(self.blamed.tables()[0], MOST_BLAMED))
        if self.neighbours:
            rows = [(n.name, n.target, n.distance) for n in self.neighbours]
            found.append(Table("Nearest training examples", ("example", "the data say", "distance"), rows))
        if self.change is not None:
            found += [dataclasses.replace(one, title=self.change.headline()) for one in self.change.tables()]
        return found

    def without_data(self) -> Explanation:
        """Neither the right answer, nor what other rows say, nor from what to what a column changes, nor what a picture shows."""
        change, attribution = self.change, self.attribution
        if change is not None:
            change = dataclasses.replace(change, values=tuple((column, "", "") for column, _, _ in change.values))
        if attribution is not None:
            drawn = attribution.pictures
            figures = {} if drawn else attribution.figures
            attribution = dataclasses.replace(attribution, cells={}, labels=(), shows_example=False, figures=figures)
        neighbours = tuple(dataclasses.replace(one, target="") for one in self.neighbours)
        return dataclasses.replace(self, right=None, neighbours=neighbours, change=change, attribution=attribution)

    def remarks(self) -> Sequence[str]:
        return (*(self.change.remarks() if self.change is not None else ()), *self.missing)


def explanation(
    examples: RunExamples, asked: Asked, fixed: Sequence[str] = (), with_examples: bool = True
) -> Explanation:
    """What there is to know of one answer of a run.

    fixed: columns that cannot change. with_examples: whether the attribution as JSON may show the example.
    Raises OptionError for a name that is no column's.
    """
    missing = [f"the right answer is not known: {asked.note}"] if asked.note else []

    def tried(what: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except PellucidError as error:
            missing.append(f"{what}: {error}")
            return None

    for name in fixed:
        if name not in asked.columns:
            raise unknown_column(name, asked.columns)
    teller = _Teller(examples, asked)
    answer, right, likeliest = teller.answer()
    wrong = right is not None and right != answer
    return Explanation(
        asked.name, answer, right, likeliest,
        tried("sureness", teller.sureness),
        tried("what counted", lambda: attribution_of(examples, asked, with_examples=with_examples)),
        tried("to blame", lambda: blame(asked.question, "weights", MOST_BLAMED)) if wrong else None,
        tried("nearest", teller.neighbours) or (),
        tried("least change", lambda: teller.change(fixed)),
        tuple(missing),
    )  # fmt: skip


def _first(one: Table, most: int) -> Table:
    """A table cut to its first rows."""
    return dataclasses.replace(one, rows=one.rows[:most])


@dataclass(frozen=True)
class _Teller:
    """The parts of an explanation of one answer."""

    examples: RunExamples
    asked: Asked

    def outputs(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities (N, K), or numbers (N,) in the target's units, for the arrays that the network reads."""
        network, preprocessor = self.examples.network, self.examples.preprocessor
        with undisturbed(network):
            raw = map_batches(
                len(arrays[0]), network.eval_batch_size,
                lambda rows: network(*(Tensor(np.asarray(a[rows.start : rows.stop])) for a in arrays)).numpy(),
            )  # fmt: skip
        return answers_of(raw, preprocessor, arrays, self.examples.run.config.margin)

    def answer(self) -> tuple[str, str | None, tuple[tuple[str, float], ...]]:
        """The answer, the right one, and the likeliest with their probabilities."""
        asked, network = self.asked, self.examples.network
        if isinstance(network, ImageGenerator):
            return f"{asked.answer()[1]:.4g} ({network.answer_name})", None, ()
        if isinstance(network, LanguageModel):
            with undisturbed(network):
                probabilities = np.exp(asked.question.output().numpy()[0].astype(np.float64))
        else:
            output = self.outputs([value.numpy() for value in asked.question.inputs])[0]
            if asked.classes is None:
                number = output if output.ndim == 0 else output[1]
                return format_number(float(number)), self._right_number(), ()
            probabilities = output
        assert asked.classes is not None
        order = np.argsort(-probabilities, kind="stable")[:SHOWN]
        likeliest = tuple((repr_of(asked.classes[int(i)]), float(probabilities[i])) for i in order)
        if self.examples.preprocessor.task == "multilabel":
            named = [asked.classes[int(i)] for i in np.flatnonzero(self.examples.said(probabilities[None])[0])]
            return ", ".join(named) or "no label", self._right_labels(), likeliest
        index = (
            int(self.examples.said(probabilities[None])[0]) if not isinstance(network, LanguageModel) else int(order[0])
        )
        right = None if asked.right is None else repr_of(asked.classes[asked.right])
        return repr_of(asked.classes[index]), right, likeliest

    def _right_number(self) -> str | None:
        target = self.asked.question.target
        if target is None:
            return None
        inputs = [value.numpy() for value in self.asked.question.inputs]
        return format_number(float(inverse_transform(self.examples.preprocessor, target.numpy(), inputs)[0]))

    def _right_labels(self) -> str | None:
        target, classes = self.asked.question.target, self.asked.classes
        if target is None or classes is None:
            return None
        return ", ".join(classes[int(i)] for i in np.flatnonzero(target.numpy()[0] > 0)) or "no label"

    def sureness(self) -> Sureness | None:
        network, asked = self.examples.network, self.asked
        if isinstance(network, ImageGenerator | LanguageModel) or self.examples.preprocessor.task == "multilabel":
            return None
        judged = self.examples.judged(MOST_JUDGED)
        known = self.outputs(judged.arrays(network))
        own = self.outputs([value.numpy() for value in asked.question.inputs])[0]
        if asked.classes is not None:
            said = self.examples.said
            return sureness_of_class(float(own[said(own[None])[0]]), known, said(known), judged.target)
        target = inverse_transform(self.examples.preprocessor, judged.target, judged.arrays(network))
        middle = lambda output: output if output.ndim == 1 else output[:, 1]
        return sureness_of_number(float(middle(own[None])[0]), middle(known), target)

    def neighbours(self) -> tuple[Neighbour, ...]:
        if isinstance(self.examples.network, ImageGenerator | LanguageModel):
            return ()
        known, rows = self._known()
        row = {
            name: value.numpy()
            for name, value in zip(self.asked.question.names, self.asked.question.inputs, strict=True)
        }
        found, distances = nearest(row, known.inputs, SHOWN + 1)
        itself = self.asked.row if self.asked.part == "train" else None
        told = [
            Neighbour(
                places_of_rows(self.examples.data, [int(rows[i])])[0], float(distance), self._target_text(known, int(i))
            )
            for i, distance in zip(found, distances, strict=True)
            if rows[i] + 1 != itself
        ]
        return tuple(told[:SHOWN])

    def _known(self) -> tuple[Examples, np.ndarray]:
        """Training examples to compare with, and their numbers in the part."""
        train = self.examples.data.examples("train")
        rows = np.unique(np.linspace(0, len(train) - 1, min(len(train), MOST_KNOWN)).round().astype(np.int64))
        return (train if len(rows) == len(train) else train.take(rows)), rows

    def _target_text(self, known: Examples, i: int) -> str:
        preprocessor = self.examples.preprocessor
        if preprocessor.classes is None:
            inputs = [array[i : i + 1] for array in known.arrays(self.examples.network)]
            return format_number(float(inverse_transform(preprocessor, known.target[i : i + 1], inputs)[0]))
        if known.target.ndim == 2:
            return ", ".join(preprocessor.classes[int(k)] for k in np.flatnonzero(known.target[i] > 0)) or "no label"
        return preprocessor.classes[int(known.target[i])]

    def change(self, fixed: Sequence[str]) -> Counterfactual | None:
        asked = self.asked
        if not asked.columns or asked.classes is None or self.examples.preprocessor.task != "classification":
            return None
        known, rows = self._known()
        names = asked.question.names
        row = {name: value.numpy() for name, value in zip(names, asked.question.inputs, strict=True)}

        def answers(inputs: Inputs) -> np.ndarray:
            return self.outputs([inputs[name] for name in names])

        index = int(self.examples.said(answers(row))[0])

        def gain(probabilities: np.ndarray) -> np.ndarray:
            others = np.delete(probabilities, index, axis=1).max(1)
            turned = self.examples.said(probabilities) != index
            gains: np.ndarray = np.where(turned, 1 + others, others - 1)
            return gains

        read = {name: [part for part in parts if part[0] in names] for name, parts in asked.columns.items()}
        found = counterfactual(answers, row, read, {name: known.inputs[name] for name in names}, gain, fixed)
        return self._told(found, rows, index)

    def _told(self, found: Counterfactual, rows: np.ndarray, index: int) -> Counterfactual:
        """The change with its values as a person knows them."""
        asked = self.asked
        assert asked.classes is not None
        own = asked.raw if isinstance(asked.raw, dict) else {}
        donors = [self.examples.data.raw_example("train", int(rows[change.donor])) for change in found.changes]
        values = tuple(
            (
                change.column,
                str(own.get(change.column, "")),
                str(donor[change.column]) if isinstance(donor, dict) else "",
            )
            for change, donor in zip(found.changes, donors, strict=True)
        )
        after = "" if found.after is None else asked.classes[int(self.examples.said(found.after[None])[0])]
        return dataclasses.replace(found, values=values, turned=(asked.classes[index], after))


def repr_of(name: str) -> str:
    """A class as a line shows it: blanks and line ends in quotes."""
    return repr(name) if name != name.strip() or not name else name
