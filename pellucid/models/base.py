"""The base of every model family: what training and evaluation ask of a network (floor 5).

Training knows no family. A step runs each `Phase` of the network: its `training_step` forward, the loss backward into the
parameters of its module, then their optimizer. Validation and test add up what `evaluation_step` gives for each example.
The three kinds of output stand in `heads/`.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields
from dataclasses import field as dataclass_field
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from .. import nn
from ..data.input_spec import ImageSpec, InputSpec, SeriesSpec, TableSpec, TextSpec
from ..errors import OptionError
from ..grad_mode import no_grad
from ..tensor import Tensor

StepOutput = dict[str, Tensor]


Spec = TypeVar("Spec", ImageSpec, TableSpec, SeriesSpec, TextSpec)


def require_spec(family: str, inputs: InputSpec, kind: type[Spec]) -> Spec:
    """`inputs`, where they are of the form that `family` reads. Raises OptionError for another."""
    if not isinstance(inputs, kind):
        raise wrong_spec(family, inputs, kind)
    return inputs


def wrong_spec(family: str, inputs: InputSpec, *kinds: type[InputSpec]) -> OptionError:
    """The error for `inputs` of none of the forms that `family` reads."""
    titles = " or ".join(kind.title for kind in kinds)
    return OptionError(
        f"model: {family} for {inputs.title}; expected {titles}; choose a family that reads {inputs.title}"
    )


@dataclass(frozen=True)
class Phase:
    """One optimization phase of a training step: a loss, and the module whose parameters it trains.

    name: prefix of the phase's values in the log, as in `critic_loss`; "" where the step has one phase only.
    training_step: maps a batch to {"loss": (), ...}; other entries are logged beside the loss.
    """

    name: str
    module: nn.Module
    training_step: Callable[..., StepOutput]


class Model(nn.Module):
    """A network that can be trained. A batch is the arrays that `input_names` names, in that order, then the target."""

    input_names: tuple[str, ...] = ()
    eval_batch_size = 2048  # the most examples in one batch of evaluation or prediction
    starts_fitted = False  # whether its first weights answer already, so that they are validated too

    def initialize_from_data(self, *batch: Tensor) -> None:
        """Set what depends on data and is not learned, from some training examples before the first step; nothing by default."""

    def phases(self) -> list[Phase]:
        """Optimization phases of one training step, in order; more than one only for adversarial training."""
        return [Phase("", self, self.training_step)]

    def answer(self, *inputs: Tensor) -> Tensor:
        """What views explain, (B, K) or (B,), of the arrays that `input_names` names: by default the output."""
        output: Tensor = self(*inputs)
        return output

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """How wrong an `answer` is, (B,)."""
        raise NotImplementedError(f"{type(self).__name__} does not define losses(output, target)")

    def training_step(self, *batch: Tensor) -> StepOutput:
        """Of a training batch: "loss" (), the number to minimize, and others to log, all means over the batch."""
        raise NotImplementedError(f"{type(self).__name__} does not define training_step(*batch)")

    def learned_losses(self, *batch: Tensor) -> Tensor:
        """Of a training batch: what training lowers for each row, (B,), in evaluation mode; for views of training examples."""
        values = self.evaluation_step(*batch)
        return values["loss"] / values["count"].clamp(min=1) if "count" in values else values["loss"]

    def evaluation_step(self, *batch: Tensor) -> StepOutput:
        """Of an evaluation batch: values (B,), each summed over the example's scored positions; "loss" is always there.

        "count" (B,) gives the number of scored positions; it is left out where each example has one.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define evaluation_step(*batch)")


class Hyperparameters(Protocol):
    """A dataclass of plain values: the `Config` of a family, or Settings."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


TYPE_NAMES = {int: "a whole number", float: "a number", str: "a word", tuple: "a list", bool: "true or false"}


def added(default: Any) -> Any:
    """The default of a field that a `Config` did not always have: it is written and compared only where it says something else.

    A run saved before the field existed is then still the run that its files belong to.
    """
    return dataclass_field(default=default, metadata={"added": True})


def written_fields(config: Hyperparameters) -> dict[str, Any]:
    """The fields of `config` as a saved run has them, by name."""
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    return {
        f.name: values[f.name] for f in fields(config) if not f.metadata.get("added") or values[f.name] != f.default
    }


def check_field_types(config: Hyperparameters) -> None:
    """Raise OptionError where a field of the dataclass `config` has another type than its default: a word for a number."""
    for field in fields(config):
        value, kind = getattr(config, field.name), type(field.default)
        accepted = {int: (int, np.integer), float: (int, float, np.number), tuple: (tuple, list, str)}.get(kind, kind)
        fits = isinstance(value, accepted)
        if field.default is not MISSING and (not fits or (isinstance(value, bool) and kind is not bool)):
            raise OptionError(
                f"{field.name}: {value!r} is a {type(value).__name__}; expected {TYPE_NAMES.get(kind, kind.__name__)}; "
                f"write {field.default}"
            )


def map_batches(n: int, most: int, function: Callable[[range], np.ndarray]) -> np.ndarray:
    """`function(rows)` over all n rows, at most `most` at a time, concatenated along the first axis; without gradients."""
    # Batches of equal size need one compiled program. The last one may repeat rows of the one before it.
    size = -(-n // -(-n // most))
    starts = [min(i, n - size) for i in range(0, n, size)]
    with no_grad():
        batches = [function(range(i, i + size)) for i in starts]
    return np.concatenate([*batches[:-1], batches[-1][len(batches) * size - n :]])
