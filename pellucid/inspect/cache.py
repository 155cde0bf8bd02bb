"""Activations: read those of every layer from one run of a network, or put others in their place (floor 6).

Both go through forward hooks. The network runs as it always does, operation by operation; nothing of it is written again.
A layer is named by its path, as in `named_modules`; the network itself is "". A layer that is called more than once has
"path (2)" and so on for the later times. Where a layer gives several Tensors, the first of them is meant: the outputs of an
`nn.LSTM`, say, without its last state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..autograd import grad
from ..errors import OptionError, ShapeError, format_shape, suggestion
from ..nn import Module
from ..tensor import Tensor
from .undisturbed import undisturbed

Replacement = Tensor | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Cache(Mapping[str, Tensor]):
    """The output of each layer by its path, in the order of the calls.

    grads: where they were asked for, the gradient of a number with respect to each; None where it does not depend on it.
    """

    outputs: dict[str, Tensor]
    grads: dict[str, Tensor | None] = field(default_factory=dict)

    def __getitem__(self, path: str) -> Tensor:
        if path not in self.outputs:
            raise unknown_layer("cache", path, self.outputs)
        return self.outputs[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)


def run_with_cache(
    network: Module,
    *inputs: Any,
    layers: Sequence[str] | None = None,
    grads_of: Callable[[Any], Tensor] | None = None,
    forward: Callable[..., Any] | None = None,
) -> tuple[Any, Cache]:
    """(output, the outputs of its layers) of `network(*inputs)`, in eval mode; the network stays as it was.

    layers: paths to keep; by default all. grads_of: from the output to a number (); then `cache.grads` has its gradient with
    respect to each layer's output. forward: what is called in place of the network, a method of it.
    Without `grads_of` the Tensors are detached. Raises OptionError for a path that is no layer's.
    """
    modules = _layers(network, layers, "run_with_cache")
    outputs: dict[str, Tensor] = {}

    def collect(path: str) -> Callable[[Module, Any, Any], None]:
        def hook(_: Module, __: Any, output: Any) -> None:
            value = first_tensor(output)
            if value is not None:
                outputs[free_name(path, outputs)] = value

        return hook

    hooks = [module.register_forward_hook(collect(path)) for path, module in modules.items()]
    try:
        with undisturbed(network, grad=grads_of is not None):
            output = (forward or network)(*inputs)
            if grads_of is None:
                return output, Cache({path: value.detach() for path, value in outputs.items()})
            on_tape = {path: value for path, value in outputs.items() if value.requires_grad}
            found = grad(grads_of(output), list(on_tape.values()), allow_unused=True)
            grads = dict.fromkeys(outputs) | dict(zip(on_tape, found, strict=True))
            return output, Cache({path: value.detach() for path, value in outputs.items()}, grads)
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def patched(network: Module, patches: Mapping[str, Replacement]) -> Iterator[None]:
    """A block in which the outputs of layers are replaced: by a Tensor, or by what a function makes of them.

    patches: by path, for each call of that layer; "path (2)" for its second call within one call of the network, which goes
    before. Works eagerly, on the tape and in compiled functions. Raises OptionError for a path that is no layer's, and at the end of the block for a patch that
    was never used; ShapeError where the shapes differ.
    """
    calls: dict[str, int] = {}
    used: set[str] = set()
    split = {name: _without_count(name) for name in patches}
    modules = _layers(network, [path for path, _ in split.values()], "patched")

    def replace(path: str) -> Callable[[Module, Any, Any], Any]:
        own = {count: name for name, (of, count) in split.items() if of == path}

        def hook(_: Module, __: Any, output: Any) -> Any:
            calls[path] = calls.get(path, 0) + 1
            name = own.get(calls[path]) or own.get(0)
            if name is None:
                return None
            used.add(name)
            return _replaced(output, patches[name], name)

        return hook

    hooks = [network.register_forward_pre_hook(lambda _, __: calls.clear())]
    hooks += [module.register_forward_hook(replace(path)) for path, module in modules.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    idle = [name for name in patches if name not in used]
    if idle:
        raise OptionError(
            f"patched: {idle[0]!r} was never called inside the block; expected a layer that the network calls; "
            "see run_with_cache(network, ...) for those that it does"
        )


def first_tensor(output: Any) -> Tensor | None:
    """The first Tensor in what a layer gave; None without one."""
    if isinstance(output, Tensor):
        return output
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)


def unknown_layer(where: str, path: str, known: Mapping[str, Any] | Sequence[str]) -> OptionError:
    """The error for a path that is no layer's."""
    names = [name for name in known if name]
    some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return OptionError(f"{where}: no layer {path!r}; expected one of {some}.{suggestion(path, names)}")


def _layers(network: Module, paths: Sequence[str] | None, where: str) -> dict[str, Module]:
    """The modules of `paths`, by default all. A module under two paths has the first."""
    modules = dict(network.named_modules())
    if paths is None:
        return modules
    for path in paths:
        if path not in modules:
            raise unknown_layer(where, path, modules)
    return {path: modules[path] for path in dict.fromkeys(paths)}


def free_name(path: str, taken: Mapping[str, Any]) -> str:
    """`path`, or "path (2)" and so on where it is taken: the name of a later call."""
    name, times = path, 1
    while name in taken:
        times += 1
        name = f"{path} ({times})"
    return name


def _without_count(name: str) -> tuple[str, int]:
    """("path", 2) of "path (2)"; 0 stands for every call."""
    path, space, count = name.rpartition(" (")
    if space and count.endswith(")") and count[:-1].isdigit():
        return path, int(count[:-1])
    return name, 0


def _replaced(output: Any, by: Replacement, name: str) -> Any:
    """`output` with its first Tensor replaced."""
    old = first_tensor(output)
    new = by(old) if not isinstance(by, Tensor) and callable(by) and old is not None else by
    if old is None or not isinstance(new, Tensor) or new.shape != old.shape:
        came = format_shape(new.shape) if isinstance(new, Tensor) else repr(new)[:60]
        wanted = (
            "a layer that gives a Tensor" if old is None else f"a Tensor {format_shape(old.shape)}, as the layer gives"
        )
        raise ShapeError(f"patched: {name!r} gets {came}; expected {wanted}; check the shape")
    return _with_first(output, new)[0]


def _with_first(output: Any, new: Tensor) -> tuple[Any, bool]:
    """`output` with its first Tensor replaced by `new`, and whether there was one."""
    if isinstance(output, Tensor):
        return new, True
    if isinstance(output, dict):
        parts, done = dict(output), False
        for key, part in output.items():
            if not done:
                parts[key], done = _with_first(part, new)
        return type(output)(parts), done
    if isinstance(output, list | tuple):
        items, done = list(output), False
        for i, part in enumerate(output):
            if not done:
                items[i], done = _with_first(part, new)
        named = isinstance(output, tuple) and hasattr(output, "_fields")
        return (type(output)(*items) if named else type(output)(items)), done
    return output, False
