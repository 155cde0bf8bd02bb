"""`pellucid.compile`: of a function, of a method, and of a network, which stays the network it was (floor 4)."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import OptionError, names_of, suggestion
from .backends.cpu.prepare.pipeline import PASSES
from .bucketing import BucketedStep
from .capture import CapturingStep
from .options import StepOptions
from .step import CompiledStep
from .trace.traced_step import Function

STAGES = ("scan hoisting", "fusion", "rematerialization", "reuse", "native")  # what can be disabled besides passes
# What a compiled network shows of its compiled call under the same name.
SHOWN = ("captured", "function", "graph", "kernels", "last", "made", "programs", "run_steps", "watched")
OPTIONS = ("keep_grads", "capture", "disable_passes", "pad")
RENAMED_OPTIONS = {"watch": "capture", "leave_out": "disable_passes"}
RENAMED_PASSES = {
    "constants": "constant folding", "extremes": "max pooling", "small axis picks": "gather to one-hot",
    "joined places": "pads to concatenate", "transposed products": "transpose matmuls",
    "absorbed movements": "fold reshapes", "lookups": "embedding products", "simplified movements": "simplify reshapes",
    "long sums": "split reductions", "lifting": "scan hoisting", "remaking": "rematerialization",
}  # fmt: skip


def compile(
    function: Function | None = None,
    *,
    keep_grads: bool = False,
    capture: str | Iterable[str] = (),
    disable_passes: str | Iterable[str] = (),
    pad: Mapping[str | int, int] | None = None,
    **unknown: object,
) -> Any:
    """`function` as a native program: the same results, traced at the first call and run natively.

    function: eager code over Tensors, a whole training step or a Module. Tensors it reads and assigns are found by
        themselves. It may return a Tensor, or dicts, lists and tuples of them. A Module stays what it is (`parameters`,
        `train`, `state_dict` and every attribute are the model's own), only its calls are compiled. Without a function,
        a decorator.
    keep_grads: store the gradients that the optimizer uses, so that `.grad` can be read after the step.
    capture: paths of layers, such as "layers.0"; after each call `captured` has their outputs and the gradients of those.
    pad: {argument's name or position: axis} for lengths that vary from call to call. They are padded to one of few sizes, so
        that few programs are compiled, and the results are those of the true length: nothing of the padding reaches them.
        What cannot be kept apart, such as a convolution along the axis, raises TraceError; a backward stays inside the step.
    disable_passes: names of passes to leave out, those of `PASSES` of the CPU backend or STAGES, to see what they do.
    One name stands for a list of one. x[mask] may be worked on element by element, then reduced (`compiler/trace/masked.py`).
    Raises OptionError for an unknown option or name; TraceError, at the first call, where the function's control flow
    depends on numbers or a Tensor of it outlives the call.
    """
    _refuse_unknown(unknown)
    if function is None:
        return functools.partial(
            compile, keep_grads=keep_grads, capture=capture, disable_passes=disable_passes, pad=pad
        )
    if not callable(function):
        raise OptionError(f"compile: {function!r}; expected a function or a Module; write compile(step)")
    if not isinstance(keep_grads, bool):
        raise OptionError(f"compile: keep_grads is {keep_grads!r}; expected True or False; write keep_grads=True")
    disabled_passes = _pass_names(disable_passes)
    paths = names_of("compile", "capture", capture)
    if pad is not None and (not isinstance(pad, dict) or not pad or paths):
        raise OptionError(
            f"compile: pad is {pad!r}{' beside capture' if paths else ''}; expected {{argument's name or position: axis}}, and "
            'not both; write pad={"tokens": 1}'
        )
    return compile_with(function, StepOptions(keep_grads, disabled_passes), paths, pad)


def compile_with(
    function: Function,
    options: StepOptions,
    paths: tuple[str, ...] = (),
    pad: Mapping[str | int, int] | None = None,
) -> Any:
    """What `compile` gives, for options that were checked."""
    if hasattr(type(function), "named_parameters"):
        return compiled_network(function, options, paths, pad)
    return _compiled(function, options, paths, pad=pad)


def _refuse_unknown(options: Iterable[str]) -> None:
    """Raise OptionError for an option that `compile` does not have; an old one is told its new name."""
    for name in options:
        if name in RENAMED_OPTIONS:
            new = RENAMED_OPTIONS[name]
            raise OptionError(f"compile: {name}= has another name now; expected {new}=; write {new}=...")
        raise OptionError(f"compile: no option {name!r}; expected {', '.join(OPTIONS)}.{suggestion(name, OPTIONS)}")


def _pass_names(names: object) -> frozenset[str]:
    """The passes and stages that `names` disables. Raises OptionError for one that does not exist."""
    for old in (
        [names] if isinstance(names, str) else names if isinstance(names, tuple | list | set | frozenset) else []
    ):
        if isinstance(old, str) and old in RENAMED_PASSES:
            new = RENAMED_PASSES[old]
            raise OptionError(f"compile: disable_passes names {old!r}, which is {new!r} now; write {new!r}")
    return frozenset(names_of("compile", "disable_passes", names, (*PASSES, *STAGES)))


def _compiled(
    function: Function,
    options: StepOptions,
    paths: tuple[str, ...],
    source: Function | None = None,
    pad: Mapping[str | int, int] | None = None,
) -> CompiledStep:
    if pad is not None:
        return BucketedStep(function, options, pad, source)
    if paths:
        return CapturingStep(function, options, paths, source)
    return CompiledStep(function, options, source)


class CompiledNetwork:
    """Stands in front of a model's own class in the class of its compiled form.

    The compiled form shares the model's attributes, all of them, so either shows what was set through the other. Its calls
    are compiled; what compiles them is kept beside the attributes, and neither copied nor saved with them.
    """

    __slots__ = ()
    _compiled_call: CompiledStep

    def __call__(self, *inputs: object, **options: object) -> Any:
        return self._compiled_call(*inputs, **options)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)  # type: ignore[misc]
        except AttributeError:
            if name not in SHOWN:
                raise
        return getattr(self._compiled_call, name)

    def __reduce__(self) -> tuple[object, ...]:
        call = self._compiled_call
        return compiled_network, (
            call.source,
            call.options,
            call.captured_paths,
            getattr(call, "pad", None),
        )


def compiled_network(
    model: Any,
    options: StepOptions,
    paths: tuple[str, ...],
    pad: Mapping[str | int, int] | None = None,
) -> Any:
    """`model` with compiled calls: an object that shares its attributes, of a class derived from the model's."""
    if isinstance(model, CompiledNetwork):
        model = model._compiled_call.source
    kind = type(model)
    about = {"__slots__": ("_compiled_call",), "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    form = types.new_class(kind.__name__, (CompiledNetwork, kind), {}, lambda space: space.update(about))
    network: Any = object.__new__(form)
    object.__setattr__(network, "__dict__", model.__dict__)
    call = _compiled(functools.partial(kind.__call__, network), options, paths, model, pad)
    object.__setattr__(network, "_compiled_call", call)
    return network
