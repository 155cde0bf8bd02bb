"""Trace: one step of training, number by number: forward, loss, backward, step (floor 6).

    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    print(trace(Question.of(net, x[:1], y[:1]), weight="0.weight[1,0]", learning_rate=0.1))

The numbers are those of a copy of the network in float64, so that a product can be compared with a sum. The step itself is taken
by `optim.SGD` on a copy with the network's own dtype. The user's network is only read.

Shapes: S places where a weight is used.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..autograd import grad
from ..errors import OptionError
from ..grad_mode import no_grad
from ..models.bagged_mlp import BaggedMLP
from ..models.heads.language import LanguageModel
from ..models.heads.prediction import PredictionModel
from ..nn import Module
from ..optim import SGD, Optimizer
from ..tensor import Tensor
from .chain_rule import BILINEAR, Index, Place, Tape, UnitAt, layer_name, unit_at
from .layer_values import LayerTrace, Watched, layers_after, watched
from .loss_formula import loss_formula
from .paths import Paths, paths_from
from .question import Question
from .result import Check, Result, Table, shown, wrapped
from .twin import CLOSE
from .undisturbed import undisturbed
from .weight_names import find_weight, weight_name, weights_by_layer
from .zero_gradient import why_zero

Optimizers = Callable[[Module], Sequence[Optimizer]]
PRODUCT, SUM, DIFFERENCE, LEAST = 1e-14, 1e-10, 1e-6, 1e-9  # what the checks allow
FEW = (6, 6)  # rows of a screen's first table: of the path's layers, and of others
DISTANCE = 1e-6  # of the two points of the central difference


@dataclass(frozen=True)
class Factors:
    """The three factors of a weight at one place, dL/dy * dy/dz * dz/dw, and where each came from.

    unit: its name.      z, y: its weighted sum and activation, None where they were not kept.      product: of the three.
    """

    unit: str
    place: str
    z: float | None
    y: float | None
    arriving: float
    slope: float
    local: float
    sources: tuple[str, str, str]

    @property
    def product(self) -> float:
        return self.arriving * self.slope * self.local


@dataclass(frozen=True)
class PlaceTrace:
    """A place where the weight is used: dL/dz and dz/dw there, whose product is its share of the gradient."""

    name: str
    arriving: float
    local: float
    contribution: float


@dataclass(frozen=True)
class Step:
    """What plain gradient descent makes of the weight, in the network's own dtype.

    gradient, change: of this weight, new = old - learning_rate * gradient.      loss, after_one, after_all: the loss before, after
    this weight alone has moved, and after all have.      own: what the run's own optimizer makes of it in its first step, None where
    none was given; by its name `optimizer`.
    """

    learning_rate: float
    gradient: float
    old: float
    new: float
    loss: float
    after_one: float
    after_all: float
    optimizer: str = ""
    own: float | None = None

    @property
    def change(self) -> float:
        return self.new - self.old


@dataclass(frozen=True)
class Trace(Result):
    """One step of training, seen from one weight.

    weight: its name, `layers.0.weight[5,123]`.      gradient: dL/dw by the backward pass, float64.      places: whose contributions
    sum to it.      factors, paths: of the place that contributes most, None where the loss does not see the weight.
    formula: the loss in numbers.      why: a gradient that is exactly zero, or a frozen weight, in words; else "".
    """

    weight: str
    layers: tuple[LayerTrace, ...]
    loss: float
    formula: str
    factors: Factors | None
    places: tuple[PlaceTrace, ...]
    paths: Paths | None
    gradient: float
    step: Step
    why: str = ""
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()

    def headline(self) -> str:
        s = self.step
        name, loss = self.weight, f"the loss is {self.loss:.4g}"
        if self.why:
            return f"{name}: {loss}, and its gradient is {self.gradient:.4g}: {self.why}."
        way = "up" if s.new > s.old else "down"
        return (
            f"{name}: {loss}; its gradient is {self.gradient:.4g}, so a step of {s.learning_rate:g} moves the weight {way}, "
            f"from {s.old:.6g} to {s.new:.6g}."
        )

    def tables(self) -> list[Table]:
        return [self.forward_table(), self.loss_table(), *self.backward_tables(), self.units_table(), self.step_table()]

    def remarks(self) -> tuple[str, ...]:
        return self.notes

    def forward_table(self, layers: int = 100, rows_in_all: int = 1000) -> Table:
        """What each layer's units add up, and what they give on: at most so many layers, the last among them, and rows."""
        kept = self.layers if len(self.layers) <= layers else (*self.layers[: layers - 1], self.layers[-1])
        most = max(1, rows_in_all // max(1, len(kept)))
        rows = [
            (layer.path, unit.name + (" <-" if unit.traced else ""), unit.z, layer.activation, unit.y)
            for layer in self.layers for unit in layer.units[:most]
        ]  # fmt: skip
        return Table("1 forward: each unit's weighted sum, and its activation", ("layer", "unit", "sum z", "activation", "y"), rows)  # fmt: skip

    def loss_table(self) -> Table:
        return Table("2 loss: how wrong the answer is", ("in numbers", "loss"), [(self.formula, self.loss)])

    def backward_tables(self, most: int = 10) -> list[Table]:
        """The factors, then the places or the paths that they come from, at most so many of each."""
        tables = [self.factor_table()] if self.factors else []
        if len(self.places) > 1:
            tables.append(self.place_table(most))
        if self.paths is not None:
            tables.append(self.paths.table(most))
        return tables

    def units_table(self) -> Table:
        """What came back to the units of each layer, a vector a layer."""
        rows = [(layer.path, unit.name, unit.arriving, unit.at_sum) for layer in self.layers for unit in layer.units]
        return Table("what comes back to the units, layer by layer", ("layer", "unit", "dL/dy", "dL/dz"), rows)

    def factor_table(self) -> Table:
        f = self.factors
        assert f is not None
        values = (f.arriving, f.slope, f.local)
        names = ("dL/dy", "dy/dz", "dz/dw")
        rows: list[tuple[str, float, str]] = list(zip(names, values, f.sources, strict=True))
        rows.append(("product", f.product, f"its share of dL/dw: {f.place}" if f.place else "dL/dw, the gradient"))
        if len(self.places) > 1:
            rows.append(("dL/dw", self.gradient, f"the gradient: the sum over {len(self.places)} places"))
        return Table(
            f"3 backward: the factors of the weight at unit {f.unit}", ("factor", "number", "where from"), rows
        )

    def place_table(self, most: int = 10) -> Table:
        """The places that contribute most, the rest as one number."""
        ranked = sorted(self.places, key=lambda p: -abs(p.contribution))
        rows: list[tuple[str, float | None, float | None, float]] = [
            (p.name, p.arriving, p.local, p.contribution) for p in ranked[:most]
        ]
        if ranked[most:]:
            rows.append((f"{len(ranked) - most} others", None, None, sum(p.contribution for p in ranked[most:])))
        title = "the places where the weight is used: their sum is the gradient"
        return Table(title, ("place", "dL/dz", "dz/dw", "product"), rows)

    def step_table(self) -> Table:
        s = self.step
        change = -s.learning_rate * s.gradient
        rows = [
            ("learning rate * gradient", f"{s.learning_rate:g} * {s.gradient:.6g} = {-change:.6g}"),
            ("new weight", f"{s.old:.9g} - {-change:.6g} = {s.new:.9g}"),
            ("loss before", f"{s.loss:.9g}"),
            ("loss, this weight moved", f"{s.after_one:.9g}, {_moved(s.after_one - s.loss)}; gradient times change {self.gradient * s.change:+.3g}"),
            ("loss, all weights moved", f"{s.after_all:.9g}, {_moved(s.after_all - s.loss)}"),
        ]  # fmt: skip
        if s.own is not None:
            rows.append((f"new weight by {s.optimizer}", f"{s.own:.9g}, {_moved(s.own - s.old)} in its first step"))
        return Table("4 step: the weight goes against its gradient", ("what", "number"), rows)

    def __str__(self) -> str:
        """One screen: the most important rows of each table."""
        loss = wrapped(f"2 loss: {self.formula}")
        step = str(self.step_table()).splitlines()
        tables = [
            self.forward_table(*FEW),
            loss,
            *self.backward_tables(3 if len(self.places) > 1 else 2),
            "\n".join([step[0], *step[2:]]),
        ]
        lines = [f"check  {check}" for check in self.checks]
        return "\n".join([wrapped(self.headline()), *map(str, tables), *lines, *map(wrapped, self.notes)])


def trace(
    question: Question,
    weight: str | tuple[str, int | Index] | None = None,
    learning_rate: float = 0.01,
    optimizer: Optimizers | None = None,
) -> Trace:
    """One step of training on one example, from one weight: forward, loss, backward, step.

    weight: "layers.0.weight[5,123]" or ("layers.0.weight", (5, 123)); by default that of the first layer with weights whose
    gradient times itself is largest.      optimizer: from a copy of the network to the optimizers that train it; their first step is
    told beside the plain one. Raises OptionError for a weight that there is none of, or a question without the right answer.
    """
    network = question.network
    wanted = None if weight is None else find_weight(network, weight)
    double = copied(question, np.float64)
    if wanted is not None:
        double.network.get_parameter(wanted[0]).requires_grad_(True)
    with undisturbed(double.network, grad=True):
        with watched(double.network) as seen:
            output = double.output()
        _check_copy(question, output)
        loss = double.loss(output).sum()
        tape = _tape(double, output, loss)
        path, index, gradients = _gradients(double, seen, wanted, loss)
        parameter = double.network.get_parameter(path)
        places = tape.places(parameter, index)
        chosen = max(places, key=lambda p: (abs(p.contribution), abs(p.local)), default=None)
        unit = None if chosen is None else unit_at(tape, chosen)
        gradient = float(gradients[path][index])
        frozen = not network.get_parameter(path).requires_grad
        why = "the weight is frozen (requires_grad is False), so training leaves it" if frozen else ""
        if gradient == 0 and not frozen:
            why = why_zero(tape, places, path)
    labels = place_labels(tape, places)
    paths = None if unit is None else paths_from(tape, unit)
    factors = None if chosen is None or unit is None else _factors(tape, seen, chosen, unit, labels[places.index(chosen)], question, paths, index)  # fmt: skip
    step = take_step(question, double, path, index, float(loss.item()), learning_rate, optimizer)
    return Trace(
        weight_name(path, index), layers_after(tape, seen, unit, paths), float(loss.item()), loss_formula(output, double.target, float(loss.item())), factors,
        tuple(_place_trace(tape, place, name) for place, name in zip(places, labels, strict=True)), paths, gradient, step, why,
        tuple(_checks(double, path, index, gradients, places, factors, chosen, paths, step)), tuple(_notes(double, step)),
    )  # fmt: skip


def copied(question: Question, dtype: type | None = None) -> Question:
    """The same question to a copy of the network, with numbers of `dtype` where one is given.

    Raises OptionError where `question.forward` computes with the network itself and not with the copy.
    """
    network, forward, losses = copy.deepcopy((question.network, question.forward, question.losses))
    network.zero_grad()
    inputs, target = question.inputs, question.target
    if dtype is not None:
        network.to(dtype)
        widen = lambda x: x.to(dtype) if x.dtype.kind == "f" or x.dtype == np.uint8 else x
        inputs = tuple(widen(value) for value in inputs)
        target = None if target is None else widen(target)
    return dataclasses.replace(question, network=network, inputs=inputs, target=target, forward=forward, losses=losses)


def _check_copy(question: Question, output: Tensor) -> None:
    """Raises OptionError where the copy in float64 answers otherwise than the network."""
    with undisturbed(question.network):
        own = question.output().numpy()
    copied_one = output.detach().numpy()
    if own.shape != copied_one.shape or not np.allclose(own, copied_one, rtol=CLOSE, atol=CLOSE, equal_nan=True):
        raise OptionError(
            f"trace: {type(question.network).__name__} answers {_few(own)}, and {_few(copied_one)} in float64; expected one answer from both, as the "
            "numbers are those of a copy in float64; pass float inputs, and let forward not depend on their dtype"
        )


def _few(numbers: np.ndarray) -> str:
    flat = numbers.reshape(-1)
    return ", ".join(f"{value:.6g}" for value in flat[:3]) + (", ..." if flat.size > 3 else "")


def _tape(question: Question, output: Tensor, loss: Tensor) -> Tape:
    if not loss.requires_grad:
        raise OptionError(
            f"trace: the loss of {type(question.network).__name__} depends on none of its weights; expected weights that are trained, "
            "and a forward that is the network or a method of it; see Question.of"
        )
    return Tape.of(question.network, loss, output)


def _gradients(
    double: Question, seen: Watched, wanted: tuple[str, Index] | None, loss: Tensor
) -> tuple[str, Index, dict[str, np.ndarray]]:
    """The weight that is traced, and gradients by parameter, zeros where the loss does not see them.

    Not `wanted`, it is of the first layer that the loss sees.
    """
    layers = weights_by_layer(double.network, seen.order) if wanted is None else []
    names = [name for layer in layers for name in layer] if wanted is None else [wanted[0]]
    parameters = [double.network.get_parameter(name) for name in names]
    found = grad(loss, parameters, retain_graph=True, allow_unused=True)
    arrays = {
        name: np.zeros(p.shape) if g is None else np.array(g.numpy())
        for name, p, g in zip(names, parameters, found, strict=True)
    }
    if wanted is not None:
        return (*wanted, arrays)
    blame = {name: np.abs(arrays[name] * p.detach().numpy()) for name, p in zip(names, parameters, strict=True)}
    first = next((layer for layer in layers if any(blame[name].any() for name in layer)), layers[0])
    blame = {name: blame[name] for name in first}
    path = max(blame, key=lambda name: float(blame[name].max()))
    return path, tuple(int(i) for i in np.unravel_index(blame[path].argmax(), blame[path].shape)), arrays


def place_labels(tape: Tape, places: Sequence[Place]) -> list[str]:
    """A name for each place: its layer where there are several, its step of a loop, its position; "" for the only one."""
    nodes = list({place.node.sequence: place.node for place in places}.values())
    layers, uses = (
        [layer_name(tape, node) for node in nodes],
        [(layer_name(tape, node), node.op.name) for node in nodes],
    )
    several, ways = len(set(layers)) > 1, len(set(uses)) > len(set(layers))
    steps = {node.sequence: uses[: k + 1].count(uses[k]) for k, node in enumerate(nodes) if uses.count(uses[k]) > 1}
    names: list[str] = []
    for place in places:
        beside = np.array([p.index for p in places if p.node is place.node])
        at = [place.index[a] for a in range(beside.shape[1]) if len(np.unique(beside[:, a])) > 1]
        parts = [layer_name(tape, place.node)] if several else []
        parts += [f"by {place.node.op.name}"] if ways else []
        parts += [f"step {steps[place.node.sequence]}"] if place.node.sequence in steps else []
        parts += [f"row {at[0]}, column {at[1]}"] if len(at) == 2 else [f"position {at[0]}"] if len(at) == 1 else []
        parts += [str(tuple(at))] if len(at) > 2 else []
        names.append(", ".join(parts))
    return names


def _place_trace(tape: Tape, place: Place, name: str) -> PlaceTrace:
    g = float(tape.arriving[place.node.sequence][place.index])
    return PlaceTrace(name or layer_name(tape, place.node), g, place.local, place.contribution + 0.0)


def _factors(
    tape: Tape,
    seen: Watched,
    place: Place,
    unit: UnitAt,
    label: str,
    question: Question,
    paths: Paths | None,
    index: Index,
) -> Factors:
    """The three factors with their sources in words."""
    layer = layer_name(tape, place.node)
    z, y = seen.value(tape, unit.total, unit.index), seen.value(tape, unit.exit, unit.index)
    after = (
        f"back from the loss, as a sum over {paths.count:,} paths"
        if paths
        else "back from the loss, through the layers after it"
    )
    activation = seen.activation_name(tape, unit.total)
    if unit.exit is unit.total:
        slope = "no activation follows: y = z" if not unit.blocked else f"y = z; {unit.blocked}"
    else:
        slope = f"the slope of {activation} at z = {shown(z)}" if z is not None else f"the slope of {activation}"
    name = f"{layer}[{', '.join(map(str, unit.index[1:] if unit.index[:1] == (0,) and len(unit.index) > 1 else unit.index))}]"
    return Factors(
        name, label, z, y, unit.arriving, unit.slope, unit.local, (after, slope, _multiplied(place, question, index))
    )


def _multiplied(place: Place, question: Question, index: Index) -> str:
    """What stands beside the weight in its sum, in words."""
    name = place.node.op.name
    if name == "take":
        return "the row is looked up as it is"
    if name in ("add", "subtract"):
        return "a bias is added as it is"
    if name == "matmul" and len(index) >= 2:
        here = f"the input that the weight multiplies, number {index[-1]}"
        first = question.inputs[0]
        pixels = first.shape[1:]
        if (
            place.node.parents[0] is None
            and len(pixels) >= 2
            and int(np.prod(pixels)) == place.node.inputs[0].shape[-1]
        ):
            spot = np.unravel_index(index[-1], pixels)
            return f"{here}: pixel row {spot[-2]}, column {spot[-1]}"
        return here
    return "the input that the weight multiplies" if name in BILINEAR else f"by the rule of {name}"


def take_step(
    question: Question,
    double: Question,
    path: str,
    index: Index,
    before: float,
    learning_rate: float,
    optimizer: Optimizers | None,
) -> Step:
    """One step of `optim.SGD` on a copy in the network's own dtype; its losses in float64. Writes into `double`'s weights."""
    old = float(question.network.get_parameter(path).detach().numpy()[index])
    plain, gradient = _stepped(question, lambda network: [SGD([p for p in network.parameters() if p.requires_grad], lr=learning_rate)], path, index)  # fmt: skip
    new = float(plain.get_parameter(path).detach().numpy()[index])
    parameter = double.network.get_parameter(path)
    numbers = np.array(parameter.detach().numpy())
    numbers[index] = new
    _write(parameter, numbers)
    after_one = _loss(double)
    for name, value in plain.named_parameters():
        _write(double.network.get_parameter(name), value.detach().numpy().astype(np.float64))
    after_all = _loss(double)
    for name, value in question.network.named_parameters():
        _write(double.network.get_parameter(name), value.detach().numpy().astype(np.float64))
    if optimizer is None:
        return Step(learning_rate, gradient, old, new, before, after_one, after_all)
    names: list[str] = []

    def made(network: Module) -> Sequence[Optimizer]:
        optimizers = optimizer(network)
        names.extend(type(one).__name__ for one in optimizers)
        return optimizers

    own = _stepped(question, made, path, index)[0].get_parameter(path).detach().numpy()[index]
    return Step(learning_rate, gradient, old, new, before, after_one, after_all, " and ".join(names), float(own))


def _stepped(question: Question, optimizers: Optimizers, path: str, index: Index) -> tuple[Module, float]:
    """A copy of the network after one step, and the gradient of the weight."""
    own = copied(question)
    with undisturbed(own.network, grad=True):
        made = optimizers(own.network)
        own.loss(own.output()).sum().backward()
        g = own.network.get_parameter(path).grad
        gradient = 0.0 if g is None else float(g.numpy()[index])
        for one in made:
            one.step()
    return own.network, gradient


def _write(parameter: Tensor, numbers: np.ndarray) -> None:
    with no_grad():
        parameter.assign(Tensor(numbers))


def _loss(question: Question) -> float:
    with undisturbed(question.network):
        return float(question.loss(question.output()).sum().item())


def central_difference(double: Question, path: str, index: Index) -> float:
    """(L(w + e) - L(w - e)) / 2e of a network in float64; its weights are as before afterwards."""
    parameter = double.network.get_parameter(path)
    original = np.array(parameter.detach().numpy())
    sides = []
    for e in (DISTANCE, -DISTANCE):
        moved = original.copy()
        moved[index] += e
        _write(parameter, moved)
        sides.append(_loss(double))
    _write(parameter, original)
    return (sides[0] - sides[1]) / (2 * DISTANCE)


def _checks(
    double: Question, path: str, index: Index, gradients: dict[str, np.ndarray], places: Sequence[Place],
    factors: Factors | None, chosen: Place | None, paths: Paths | None, step: Step,
) -> list[Check]:  # fmt: skip
    """The product or sum against the backward pass, the factors against their product, and the loss itself."""
    gradient = float(gradients[path][index])
    checks: list[Check] = []
    if factors is not None and chosen is not None:
        parts = [p.contribution for p in places]
        missed, without = _apart(sum(parts), gradient), _apart(sum(parts) - chosen.contribution, gradient)
        name = "the product is the gradient" if len(parts) == 1 else f"{len(parts)} places add up to the gradient"
        control = f"without the largest {without:.2g}" if gradient else ""
        checks.append(Check(name, "proven", f"to {missed:.1g}, at most {SUM:g}", missed <= SUM, control))
        scale = abs(chosen.contribution) or abs(factors.arriving * factors.local)
        off = abs(factors.product - chosen.contribution) / scale if scale else 0.0
        bare = abs(factors.arriving * factors.slope - chosen.contribution) / scale if scale else 0.0
        control = f"two of them {bare:.2g}" if factors.local != 1 and scale else ""
        checks.append(Check("three factors are dL/dz * dz/dw", "proven", f"to {off:.1g}, at most {PRODUCT:g}", off <= PRODUCT, control))  # fmt: skip
    if factors is not None and paths is not None:
        missed, without = (
            _apart(total, factors.arriving) for total in (paths.total, paths.total - paths.top[0].product)
        )
        control = f"without the largest {without:.2g}" if factors.arriving else ""
        checks.append(Check(f"{paths.count:,} paths add up to dL/dy", "proven", f"to {missed:.1g}, at most {SUM:g}", missed <= SUM, control))  # fmt: skip
    difference = central_difference(double, path, index)
    rounding = 4 * float(np.finfo(np.float64).eps) * abs(step.loss) / DISTANCE  # of two losses that are subtracted
    allowed = DIFFERENCE * abs(gradient) + LEAST + rounding
    other = _another(gradients[path], index)
    control = "" if other is None else f"of another weight {abs(other - difference):.1g}"
    said = f"{difference:.6g}, apart {abs(difference - gradient):.1g} of {allowed:.1g}"
    checks.append(Check("central difference", "measured", said, abs(difference - gradient) <= allowed, control))
    return checks


def _apart(a: float, b: float) -> float:
    """The distance relative to b."""
    return abs(a - b) / abs(b) if b else float(abs(a - b) > 0)


def _another(gradients: np.ndarray, index: Index) -> float | None:
    """The gradient of the same tensor that is farthest from that at `index`; None where all are equal."""
    away = np.abs(gradients - gradients[index])
    return None if not away.any() else float(gradients.reshape(-1)[int(away.argmax())])


def _notes(question: Question, step: Step) -> list[str]:
    """What the run's own training does beyond this step."""
    notes = []
    network = question.network
    if step.after_all > step.loss:
        notes.append("The step of all weights overshoots: the loss rises. A smaller learning rate would lower it.")
    if step.optimizer and step.optimizer != "SGD":
        notes.append(
            f"The run trained with {step.optimizer}, which rescales each gradient: its own first step is above."
        )
    elif step.optimizer:
        notes.append("The run trained with SGD with momentum or weight decay: its own first step is above.")
    if isinstance(network, LanguageModel):
        notes.append("The loss is that of one token; training takes the mean over all tokens of a text.")
    elif isinstance(network, BaggedMLP):
        notes.append(
            "The answer is a mean of networks; training gives each a loss of its own, on the rows that it learns."
        )
    elif isinstance(network, PredictionModel) and (network.label_smoothing or network.class_weight is not None):
        notes.append("Training adds label smoothing or class weights to this loss.")
    notes.append("One example in eval mode: training averages a batch, with dropout and augmentation where set.")
    return notes


def _moved(change: float) -> str:
    return f"{'up' if change > 0 else 'down'} by {abs(change):.3g}" if change else "unchanged"
