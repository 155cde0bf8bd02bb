"""The parts of a network that may be to blame, and their removal: weights, units, heads, layers (floor 6).

Weights and units have a first order, -g w and -g a; heads and layers are too large for one and are always measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .. import nn
from ..creation import cat
from ..errors import OptionError
from ..models.blocks.stacked import StackedLinear
from ..nn import activation as activations
from ..tensor import Tensor
from .ablation import (
    Call,
    Measure,
    Observed,
    Site,
    adds_its_input,
    entry_name,
    head_site,
    is_added,
    remove,
    replaced,
    unit_site,
    weight_sites,
    write_zero,
)
from .question import Question
from .result import Check, Tag

ROWS = 50  # parts with the largest estimates that are always measured
OTHERS = 25  # those that work against the error, the largest of them
SAMPLE = (40, 100)  # the fewest and the most parts taken at random, on which the first order is judged
SECONDS = 1.0  # that all ablations may take, by the rates below, for `method="auto"` to do them
RATE = 4e9  # multiplications a second
STEP = 2.5e-5  # seconds for an operation, however small


@dataclass(frozen=True)
class Group:
    """The parts of one layer or Parameter, N of them.

    estimate, value: (N,), estimate None where the first order is not trusted.      size: (N,), |gradient|.
    effect: (N,), where `measured` (N,).      name: of the part `k`.
    """

    layer: str
    estimate: np.ndarray | None
    size: np.ndarray | None
    value: np.ndarray | None
    effect: np.ndarray
    measured: np.ndarray
    name: Callable[[int], str]
    done: Callable[[int], str] = lambda _: "set to 0"


@dataclass(frozen=True)
class Found:
    """All parts, the method that was used, and what was found about it."""

    groups: list[Group]
    method: str
    sample: np.ndarray  # of all parts one after another, those on which the first order is judged
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()


Remover = Callable[[np.ndarray], np.ndarray]  # from parts (K,) of a group to their effects


@dataclass(frozen=True)
class Job:
    """A group before anything is measured. remove: what measures. seconds: about what one part takes. idle: (N,), what has no effect.
    at_once: whether many parts are removed in one run."""

    group: Group
    remove: Remover
    seconds: float
    idle: np.ndarray
    at_once: bool = False


# ---- weights ---------------------------------------------------------------------------------------------------------


def _weights(runs: list[Observed], measure: Measure, method: str, top: int) -> Found:
    network = runs[0].question.network
    each = [run.gradients() for run in runs]
    places = [
        weight_sites(run, {name: uses for name, (_, uses) in found.items()})
        for run, found in zip(runs, each, strict=True)
    ]
    batches = _batched([run.question for run in runs])
    whole = sum(STEP * len(run.steps) + run.work() / RATE for run in runs)
    jobs = []
    for name, parameter in network.named_parameters():
        if not any(name in found for found in each):
            continue
        zero = np.zeros(parameter.shape)
        gradients = [found[name][0] if name in found else zero for found in each]
        gradient = (sum(gradients[1:], gradients[0]) / len(runs)).reshape(-1)
        value = parameter.detach().numpy().reshape(-1)
        group = _new_group(name, -gradient * value, abs(gradient), value, _entry(name, parameter.shape))
        sites = [found.get(name) for found in places]
        if all(site is not None for site in sites):
            ready = [site for site in sites if site is not None]
            jobs.append(_site_job(group, runs, measure, ready))
        else:
            jobs.append(Job(group, _writer(batches, measure, name, runs), whole, value == 0))
    if not jobs:
        raise OptionError(
            f"blame: {type(network).__name__} has no weights that this answer depends on; expected Parameters; "
            "check the network"
        )
    found = _measured(jobs, method, top)
    check = _written_check(found.groups, jobs, batches, measure, runs)
    note = "This is what the network would do without the part, not what training without it would have given."
    return dataclasses.replace(found, checks=check, notes=(note,))


def _entry(name: str, shape: Sequence[int]) -> Callable[[int], str]:
    return lambda k: entry_name(name, shape, k)


def _new_group(
    layer: str, estimate: np.ndarray, size: np.ndarray, value: np.ndarray | None, name: Callable[[int], str]
) -> Group:
    count = len(estimate)
    return Group(layer, estimate, size, value, np.zeros(count), np.zeros(count, bool), name)


def _site_job(group: Group, runs: list[Observed], measure: Measure, sites: list[Site]) -> Job:
    """Removal in what layers give, a site for each run."""
    seconds = sum(
        2 * run.work(site.call) / RATE + 3 * site.call.gave.numel() / RATE
        for run, site in zip(runs, sites, strict=True)
    )
    idle = np.logical_and.reduce([site.idle for site in sites])

    def take_out(parts: np.ndarray) -> np.ndarray:
        each = [remove(run, measure, site, parts) for run, site in zip(runs, sites, strict=True)]
        return sum(each[1:], each[0]) / len(runs)

    return Job(group, take_out, seconds, idle, at_once=True)


def _writer(batches: list[Question], measure: Measure, name: str, runs: list[Observed]) -> Remover:
    now = float(np.mean([run.value for run in runs]))
    return lambda parts: write_zero(batches, measure, name, parts) - now


def _batched(questions: list[Question]) -> list[Question]:
    """The questions with those of equal shapes put together, so that the network runs once for all of them."""
    groups: dict[tuple[object, ...], list[Question]] = {}
    for one in questions:
        groups.setdefault(tuple((value.shape, str(value.dtype)) for value in one.inputs), []).append(one)
    found = []
    for same in groups.values():
        inputs = tuple(cat(list(values)) if len(same) > 1 else values[0] for values in zip(*(q.inputs for q in same), strict=True))  # fmt: skip
        targets = [one.target for one in same if one.target is not None]
        target = cat(targets) if len(targets) == len(same) > 1 else same[0].target
        found.append(dataclasses.replace(same[0], inputs=inputs, target=target))
    return found


def _written_check(
    groups: list[Group], jobs: list[Job], batches: list[Question], measure: Measure, runs: list[Observed]
) -> tuple[Check, ...]:
    """The first part of three groups that were measured as a batch, written into the network instead."""
    now = float(np.mean([run.value for run in runs]))
    apart, other, scale, count = 0.0, 0.0, 0.0, 0
    for group in [g for g, job in zip(groups, jobs, strict=True) if job.at_once and g.measured.any()][:3]:
        known = np.flatnonzero(group.measured)
        k = known[np.argmax(abs(group.effect[known]))]
        written = write_zero(batches, measure, group.layer, np.array([k]))[0] - now
        apart = max(apart, abs(written - group.effect[k]))
        another = known[np.argmin(abs(group.effect[known]))]
        other = max(other, abs(written - group.effect[another]))
        scale, count = max(scale, abs(written)), count + 1
    if not count or not scale:
        return ()
    said = f"{count} written into the network alone agree to {apart:.1g}"
    exact = batches[0].inputs[0].dtype.kind != "f" or batches[0].inputs[0].dtype == np.float64
    tag: Tag = "proven" if exact else "measured"
    return (Check("removal", tag, said, apart <= 1e-6 + 1e-4 * scale, f"others of their layers to {other:.2g}"),)


# ---- units, heads, layers --------------------------------------------------------------------------------------------

ACTIVATIONS = tuple(
    kind for kind in vars(activations).values() if isinstance(kind, type) and kind.__module__ == activations.__name__
)
AFTER = ("BatchNorm", "LayerNorm", "GroupNorm", "RMSNorm", "InstanceNorm", "Dropout", "MaxPool", "AvgPool", "Identity")

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN, nn.MultiheadAttention)
LAST_AXIS = (nn.Linear, nn.LayerNorm, nn.RMSNorm, *RECURRENT)  # whose units stand along the last axis
CHANNELS_FIRST = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)


def _hidden(run: Observed) -> list[tuple[Call, Call]]:
    """What holds the units: (the layer that makes them, the last layer that shapes them), in order, without the answer's own.

    A layer with Parameters makes units; activations, norms, pooling and dropout that read its output shape them further.
    """
    leaves = [call for call in run.calls if next(call.module.children(), None) is None]
    chains: list[list[Call]] = []
    for call in leaves:
        kind = type(call.module)
        shapes = issubclass(kind, ACTIVATIONS) or kind.__name__.startswith(AFTER)
        before = next((chain for chain in reversed(chains) if call.read is not None and _same(chain[-1].gave, call.read)), None)  # fmt: skip
        if shapes and before is not None:
            before += [] if _same(before[-1].gave, call.gave) else [call]
        elif next(call.module.parameters(recurse=False), None) is not None and kind is not nn.Embedding:
            chains.append([call])
    last = run.steps[0].node if run.steps else None
    made = [(chain[0], chain[-1]) for chain in chains if chain[-1].gave.node is not None]
    return [pair for pair in made[:-1] if pair[1].gave.node is not last]


def _same(gave: Tensor, read: Tensor) -> bool:
    return gave is read or (gave.node is not None and gave.node is read.node)


def _unit_axes(maker: Call, last: Call, batch: int) -> tuple[int, ...]:
    """The axes along which units stand: channels, and of stacked layers the copies before them."""
    ndim, last_axis = last.gave.ndim, isinstance(maker.module, LAST_AXIS)
    if ndim >= 3 and (isinstance(maker.module, CHANNELS_FIRST) or (ndim == 4 and not last_axis)) and batch == 0:
        return (1,)
    copies = batch == 1 and (isinstance(maker.module, StackedLinear) or (maker.gave.ndim == 3 and not last_axis))
    return (0, ndim - 1) if copies else (ndim - 1,)


def _recurs(call: Call) -> bool:
    return isinstance(call.module, RECURRENT)


def _units(runs: list[Observed], measure: Measure, method: str, top: int) -> Found:
    hidden = [_hidden(run) for run in runs]
    if not hidden[0]:
        raise OptionError(
            f"blame: {type(runs[0].question.network).__name__} has no layer before its answer; expected hidden units; "
            'write of="weights"'
        )
    jobs, names = [], set()
    for i, (maker, last) in enumerate(hidden[0]):
        batch = next((a for a, size in enumerate(last.gave.shape) if size == 1), None)
        if batch is None:
            continue
        calls = [pairs[i][1] for pairs in hidden]
        axes = _unit_axes(maker, last, batch)
        sites = [unit_site(call, axes, batch) for call in calls]
        other = [tuple(a for a in range(call.gave.ndim) if a not in axes) for call in calls]
        products, sizes, values = [], [], []
        for run, call, rest in zip(runs, calls, other, strict=True):
            a, g = call.gave.detach().numpy(), run.gradient(call)
            products.append((-g * a).sum(rest).reshape(-1))
            sizes.append(abs(g).sum(rest).reshape(-1))
            values.append(a.mean(rest).reshape(-1))
        path = last.path if last.path not in names else f"{last.path} ({i})"
        names.add(path)
        shape = tuple(last.gave.shape[a] for a in axes)
        group = _new_group(path, np.mean(products, 0), np.mean(sizes, 0), np.mean(values, 0), _entry(path, shape))
        jobs.append(_site_job(group, runs, measure, sites))
    notes = ["A unit's output is set to 0 at every position. Its value is the mean over them."]
    if any(_recurs(maker) for maker, _ in hidden[0]):
        notes.append("Of a recurrent layer, what it gives to the next layer is set to 0; its own state goes on.")
    check = _put_back(runs, measure, [last.module for _, last in hidden[0][:3]])
    return dataclasses.replace(_measured(jobs, method, top), notes=tuple(notes), checks=check)


def _put_back(runs: list[Observed], measure: Measure, modules: Sequence[nn.Module]) -> tuple[Check, ...]:
    """What layers gave, put in its own place, changes nothing; zeros do."""
    questions = [runs[0].question]
    said = lambda put: max(abs(replaced(questions, measure, module, put) - runs[0].value) for module in modules)
    if not modules:
        return ()
    kept, zeros = said(lambda _, gave: gave + 0), said(lambda _, gave: gave * 0)
    same = f"a layer's own output put back changes the {measure.__name__} by {kept:.1g}"
    return (Check("patching", "proven", same, kept <= 1e-6, f"zeros by {zeros:.2g}"),)


def _heads(runs: list[Observed], measure: Measure, method: str, top: int) -> Found:
    network = runs[0].question.network
    groups = []
    for path, module in network.named_modules():
        count = getattr(module, "num_heads", None)
        if not isinstance(count, int) or count < 1:
            continue
        own = [[call for call in run.calls if any(call.module is child for child in module.children())] for run in runs]
        after = [[call for call in calls if isinstance(call.module, nn.Linear)] for calls in own]
        sites = [head_site(calls[-1], count) for calls in after if calls and calls[-1].module.in_features % count == 0]
        if len(sites) != len(runs) or not all(sites):
            continue
        parts = np.arange(count)
        effects = [remove(run, measure, site, parts) for run, site in zip(runs, sites, strict=True) if site is not None]
        name = lambda k, path=path: f"{path} head {k}"
        done = lambda _: "left out before the output projection"
        groups.append(Group(path, None, None, None, np.mean(effects, 0), np.ones(count, bool), name, done))
    if not groups:
        raise OptionError(
            f"blame: {type(network).__name__} has no attention heads; expected layers with num_heads and an nn.Linear after "
            'them; write of="units" or of="layers"'
        )
    check = _put_back(runs, measure, [network.get_submodule(group.layer) for group in groups[:3]])
    return Found(groups, "exact", np.zeros(0, int), check, ("Heads are measured, never estimated.",))


def _layers(runs: list[Observed], measure: Measure, method: str, top: int) -> Found:
    run = runs[0]
    times: dict[int, int] = {}
    for call in run.calls:
        times[id(call.module)] = times.get(id(call.module), 0) + 1
    batches = _batched([one.question for one in runs])
    now = float(np.mean([one.value for one in runs]))
    rows: dict[int, tuple[str, str, float]] = {}  # a layer that ends with another gives the same: the outer one stays
    for call in run.calls:
        module, path = call.module, call.path
        if not path or times[id(module)] > 1 or next(module.parameters(), None) is None or call.gave.node is None:
            continue
        leaf, block, branch = next(module.children(), None) is None, adds_its_input(call), is_added(run, call)
        if not (leaf or block or branch):
            continue
        same = call.read is not None and call.read.shape == call.gave.shape and call.read.dtype == call.gave.dtype
        skip = same and (block or not branch)
        put = (lambda read, _: read) if skip else (lambda _, gave: gave * 0)
        effect = replaced(batches, measure, module, put) - now
        rows[id(call.gave.node)] = (path, "skipped" if skip else "output set to 0", effect)
    if not rows:
        raise OptionError(
            f"blame: {type(run.question.network).__name__} has no layers with weights; expected some; check the network"
        )
    names, dones, effects = (list(column) for column in zip(*rows.values(), strict=True))
    every = np.ones(len(names), bool)
    group = Group("", None, None, None, np.array(effects), every, names.__getitem__, dones.__getitem__)
    check = _put_back(runs, measure, [run.question.network.get_submodule(name) for name in names[:3]])
    note = "A layer whose input and output have one shape is skipped; a residual branch, and any other, gives 0."
    return Found([group], "exact", np.zeros(0, int), check, (note,))


# ---- what is measured ------------------------------------------------------------------------------------------------


def _measured(jobs: list[Job], method: str, top: int) -> Found:
    """Measure all parts, or those with the largest estimates and a sample."""
    estimates = [np.zeros(0) if job.group.estimate is None else job.group.estimate for job in jobs]
    everything = np.concatenate(estimates)
    seconds = sum(job.seconds * float((~job.idle).sum()) for job in jobs)
    if method == "auto":
        method = "exact" if seconds <= SECONDS else "gradient"
    live = np.flatnonzero(everything != 0)
    if method == "exact":
        chosen, sample = np.arange(len(everything)), live
    else:
        order = live[np.argsort(everything[live], kind="stable")]
        spare = int(SECONDS / max(job.seconds for job in jobs)) - ROWS - OTHERS  # what time allows for the sample
        sample = np.sort(np.random.default_rng(0).permutation(live)[: min(SAMPLE[1], max(SAMPLE[0], spare))])
        chosen = np.unique(np.concatenate([order[: max(ROWS, top)], order[-OTHERS:], sample]))
    groups, start = [], 0
    for job in jobs:
        count = len(job.group.effect)
        own = chosen[(chosen >= start) & (chosen < start + count)] - start
        effect, measured = np.zeros(count), np.zeros(count, bool)
        if len(own):
            effect[own], measured[own] = job.remove(own), True
        groups.append(dataclasses.replace(job.group, effect=effect, measured=measured))
        start += count
    return Found(groups, method, sample)


PARTS: dict[str, Callable[[list[Observed], Measure, str, int], Found]] = {
    "weights": _weights,
    "units": _units,
    "heads": _heads,
    "layers": _layers,
}
