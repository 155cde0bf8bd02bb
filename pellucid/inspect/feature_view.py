"""`features(network, inputs)`: the units of one layer by what drives them, and the filters of the first layer (floor 6).

Shapes: N examples, U units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import OptionError
from ..files import Json
from ..nn import Module
from ..tensor import Tensor
from .control import shuffled_weights
from .features import (
    Maximized,
    TopExamples,
    activations,
    by_unit,
    check_unit,
    filters,
    maximize,
    strongest,
    unit_layers,
    unreadable,
)
from .features import purity as purity_of
from .result import Check, Result, Table

SHOWN = 8  # units


@dataclass(frozen=True)
class Features(Result):
    """layer: whose units these are, `units` of them and `dead` that never move.      tops: of the most active, the first first.

    pictures: inputs that drive these units; None where the network reads no pixels.      box: their scale.
    filters: of the first layer (N, C, h, w), or None.      purity, untrained_purity: mean over the units; None without classes.
    words: of each unit, in a few words, what its strongest examples are; neither in `to_dict` nor on a page unless asked for.
    probes: what a linear model reads from each layer, where that was asked for.      classes: their names.
    """

    layer: str
    units: int
    dead: int
    tops: tuple[TopExamples, ...]
    pictures: Maximized | None
    box: tuple[float, float]
    filters: np.ndarray | None
    purity: float | None
    untrained_purity: float | None
    n: int
    classes: tuple[str, ...] = ()
    probes: Result | None = None
    words: tuple[str, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()

    def headline(self) -> str:
        first = f"{self.layer or 'The output'} has {self.units} units, {self.dead} of which never move over {self.n:,} examples."
        if self.purity is not None and self.untrained_purity is not None:
            first += f" The 25 strongest examples of a unit share a class to {self.purity:.0%}; untrained {self.untrained_purity:.0%}."
        return first if self.probes is None else f"{first} {self.probes.headline()}"

    def tables(self) -> Sequence[Table]:
        rows = []
        for i, top in enumerate(self.tops):
            row: list[Any] = [top.unit, float(top.values[0]), float(top.values[-1])]
            if top.purity is not None:
                commonest = top.commonest
                name = self.classes[commonest] if commonest is not None and commonest < len(self.classes) else commonest
                row += [top.purity, name]
            if self.pictures is not None:
                row.append(float(self.pictures.values[i]))
            rows.append([*row, *([self.words[i]] if self.words else [])])
        head = [
            "unit",
            "strongest",
            f"{len(self.tops[0].rows)}th",
            *(["purity", "class"] if self.purity is not None else []),
        ]
        head += ["made picture"] if self.pictures is not None else []
        head += ["strongest examples"] if self.words else []
        title = f"The most active units of {self.layer or 'the output'} and their strongest examples"
        return [Table(title, tuple(head), rows), *(self.probes.tables() if self.probes is not None else ())]

    @property
    def checks(self) -> Sequence[Check]:  # type: ignore[override]
        checks = []
        if self.purity is not None and self.untrained_purity is not None:
            said = f"{self.purity:.3f} over {self.units - self.dead} units, 25 examples each"
            checks.append(
                Check(
                    "purity",
                    "measured",
                    said,
                    self.purity > self.untrained_purity,
                    f"untrained {self.untrained_purity:.3f}",
                )
            )
        if self.pictures is not None:
            beats = int(sum(v > t.values[0] for v, t in zip(self.pictures.values, self.tops, strict=True)))
            said = f"the made picture exceeds the best of {self.n:,} examples for {beats} of {len(self.tops)} units"
            start = int(sum(v > t.values[0] for v, t in zip(self.pictures.start, self.tops, strict=True)))
            checks.append(Check("maximize", "suggestive", said, beats > start, f"its random start for {start}"))
        return [*checks, *(self.probes.checks if self.probes is not None else ())]

    def remarks(self) -> Sequence[str]:
        end = "What a unit means, if anything, is open: examples and pictures that drive it are suggestive."
        return (*self.notes, end, *(self.probes.remarks() if self.probes is not None else ()))

    def to_dict(self) -> dict[str, Json]:
        """All numbers; the words about examples are left out."""
        numbers = super().to_dict()
        numbers.pop("words")
        return numbers


def features(
    network: Module,
    inputs: Any,
    labels: np.ndarray | None = None,
    *,
    layer: str | None = None,
    units: Sequence[int] | None = None,
    size: Sequence[int] | None = None,
    box: tuple[float, float] | None = None,
    untrained: Module | None = None,
    forward: Callable[..., Any] | None = None,
    k: int = 9,
    classes: Sequence[str] = (),
) -> Features:
    """The most active units of a layer over `inputs`, an array or a tuple of them (N, ...), and what drives them.

    layer: by default the last hidden one.      units: by default the 8 that vary most.      labels: classes (N,).
    size: of the pictures (H, W) or (C, H, W) that the network reads, by default those of inputs (N, C, H, W).
    box: the least and largest number of a pixel, by default those of the inputs.      untrained: a network of the same form,
    by default this one with its weights shuffled.      The network stays as it was. Raises OptionError for a layer or unit
    that is not there.
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    arrays = [value.numpy() if isinstance(value, Tensor) else np.asarray(value) for value in given]
    first = [Tensor(value[:1]) for value in arrays]
    path = unit_layers(network, *first, forward=forward)[-1] if layer is None else layer
    values, steps = by_unit(activations(network, [path], arrays, forward)[path], network)
    for unit in units or ():
        check_unit(path, unit, values.shape[1])
    chosen = list(units) if units else np.argsort(-values.std(0), kind="stable")[:SHOWN].tolist()
    tops = tuple(strongest(path, unit, values, steps, labels, k) for unit in chosen)
    notes: list[str] = []
    pixels = size if size is not None else arrays[0].shape[1:] if arrays[0].ndim == 4 else None
    limits = box or (float(arrays[0].min()), float(arrays[0].max()))
    pictures = None
    if pixels is None or (len(pixels) == 3 and pixels[0] not in (1, 3)):
        notes.append(unreadable(arrays[0].shape[1:]))
    else:
        more = [np.repeat(value[:1], len(chosen), 0) for value in arrays[1:]]
        try:
            pictures = maximize(network, path, chosen, pixels, box=limits, more=more, forward=forward)
        except OptionError as error:
            notes.append(str(error))
    return Features(
        path, values.shape[1], int((values.max(0) == values.min(0)).sum()), tops, pictures, limits, filters(network, pixels),
        None if labels is None else purity_of(values, labels),
        None if labels is None else _untrained_purity(network, untrained, path, arrays, labels, forward),
        len(values), tuple(classes), notes=tuple(notes),
    )  # fmt: skip


def _untrained_purity(
    network: Module, untrained: Module | None, path: str, arrays: list[np.ndarray], labels: np.ndarray, forward: Any
) -> float:
    """The mean purity of the same layer without training."""
    if untrained is not None:
        own = None if forward is None else getattr(untrained, forward.__name__, None)
        return purity_of(by_unit(activations(untrained, [path], arrays, own)[path], untrained)[0], labels)
    with shuffled_weights(network):
        return purity_of(by_unit(activations(network, [path], arrays, forward)[path], network)[0], labels)
