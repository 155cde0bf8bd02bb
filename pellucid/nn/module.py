"""Module: the part of a network that owns parameters and knows its name (floor 4).

The contract is PyTorch's: attributes that are Parameters, buffers or Modules register themselves; names are dotted paths.
Calling a Module does three things around `forward`: it runs the hooks, tells the tape which layer is at work, and puts
that layer's path on any error that comes from below, once. Containers stand in `container.py`.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from ..errors import DTypeError, OptionError, PellucidError, StateError, in_module, nearest, words
from ..op import module_path
from ..tensor import Parameter, RemovableHook, Tensor, device

# Bumped by every attribute set on any Module: who remembers a number of it knows when a network may have changed shape.
_changes = [0]
# The outermost Module being called; paths are told as seen from it.
_root: ContextVar[Module | None] = ContextVar("root", default=None)


def structure_version() -> int:
    """How often any Module's attributes have been set so far."""
    return _changes[0]


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` left aside."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of every layer and network. Call `super().__init__()` first, then set layers and Parameters as attributes."""

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]

    def __init__(self) -> None:
        fields = self.__dict__
        fields["training"] = True
        fields["_parameters"], fields["_buffers"], fields["_modules"] = {}, {}, {}
        fields["_transient"] = set()  # names of buffers that are not saved
        fields["_pre_hooks"], fields["_hooks"], fields["_backward_hooks"] = [], [], []
        fields["_paths"] = (-1, {})  # (structure version, {id(module): path}), filled where this Module is called first

    def forward(self, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward(); write what it computes there")

    # ---- registration ------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        fields = self.__dict__
        if "_parameters" not in fields:
            raise OptionError(
                f"{type(self).__name__}.{name} is set before super().__init__(); expected that call to come first; "
                "write super().__init__() as the first line of __init__"
            )
        _changes[0] += 1
        homes = [fields["_parameters"], fields["_buffers"], fields["_modules"]]
        if isinstance(value, Parameter):
            home = homes[0]
        elif isinstance(value, Module):
            home = homes[2]
        elif name in fields["_buffers"] and (value is None or isinstance(value, Tensor)):
            home = homes[1]
        elif value is None and any(name in known for known in homes):
            home = next(known for known in homes if name in known)
        else:
            if name in fields["_parameters"]:
                raise DTypeError(
                    f"{type(self).__name__}.{name} is a Parameter and was set to {type(value).__name__}; expected a "
                    "Parameter or None; write nn.Parameter(value), or use assign() to change its numbers"
                )
            home = fields
        for known in (fields, *homes):
            if known is not home:
                known.pop(name, None)
        home[name] = value

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__
        for home in ("_parameters", "_buffers", "_modules"):
            if home in fields and name in fields[home]:
                return fields[home][name]
        known = [n for home in ("_parameters", "_buffers", "_modules") for n in fields.get(home, ())]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.{nearest(name, known)}")

    def __delattr__(self, name: str) -> None:
        _changes[0] += 1
        for home in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__[home]:
                del self.__dict__[home][name]
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        self._check_name(name, "register_parameter")
        self._parameters[name] = param
        _changes[0] += 1

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """A Tensor that belongs to the state but is not trained, such as a running mean."""
        self._check_name(name, "register_buffer")
        self._buffers[name] = tensor
        if not persistent:
            self.__dict__["_transient"].add(name)
        _changes[0] += 1

    def add_module(self, name: str, module: Module | None) -> None:
        self._check_name(name, "add_module")
        self._modules[name] = module
        _changes[0] += 1

    register_module = add_module

    def _check_name(self, name: str, what: str) -> None:
        taken = hasattr(self, name) and all(
            name not in home for home in (self._parameters, self._buffers, self._modules)
        )
        if not isinstance(name, str) or not name or "." in name or taken:
            raise OptionError(f"{what}: name {name!r}; expected a new attribute name without dots; choose another")

    # ---- calling -----------------------------------------------------------------------------------------------------

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        root = _root.get()
        mark = _root.set(self) if root is None else None
        path = (self if root is None else root)._path_of(self)
        token = module_path.set(path)
        try:
            if self._pre_hooks or self._hooks or self._backward_hooks:
                return self._call_with_hooks(inputs, options)
            return self.forward(*inputs, **options)
        except PellucidError as error:
            raise in_module(error, path) from None if error.__cause__ is None else error.__cause__
        finally:
            module_path.reset(token)
            if mark is not None:
                _root.reset(mark)

    def _path_of(self, module: Module) -> str:
        """The dotted path of `module` as seen from this root, with its kind: `SimpleNet.layer1 (Linear 784→128)`."""
        version, paths = self.__dict__["_paths"]
        if version != _changes[0] or id(module) not in paths:
            root = type(self).__name__
            paths = {}
            for name, child in self.named_modules():
                about = child._describe()
                paths[id(child)] = (
                    f"{root}.{name} ({about})" if name else (f"{root} ({about})" if about != root else root)
                )
            paths.setdefault(id(module), module._describe())
            self.__dict__["_paths"] = (_changes[0], paths)
        return paths[id(module)]

    def _describe(self) -> str:
        """The kind and, for layers that have them, the sizes: `Linear 784→128`."""
        return type(self).__name__

    def _call_with_hooks(self, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        for hook in list(self._pre_hooks):
            changed = hook(self, inputs)
            if changed is not None:
                inputs = changed if isinstance(changed, tuple) else (changed,)
        watch = _BackwardWatch(self) if self._backward_hooks else None
        if watch:
            inputs = watch.inputs(inputs)
        output = self.forward(*inputs, **options)
        for hook in list(self._hooks):
            changed = hook(self, inputs, output)
            output = output if changed is None else changed
        return watch.outputs(output) if watch else output

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> RemovableHook:
        """Call `hook(module, inputs)` before each forward; what it returns, unless None, replaces the inputs."""
        return _registered(self._pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> RemovableHook:
        """Call `hook(module, inputs, output)` after each forward; what it returns, unless None, replaces the output."""
        return _registered(self._hooks, hook)

    def register_full_backward_hook(self, hook: Callable[..., Any]) -> RemovableHook:
        """Call `hook(module, grad_input, grad_output)` (tuples) when the gradients of the inputs are known.

        What it returns, unless None, replaces the gradients of the inputs.
        """
        return _registered(self._backward_hooks, hook)

    # ---- walking -----------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This Module and all below it with their dotted paths, each once."""
        seen: set[int] = set()
        waiting: list[tuple[str, Module]] = [(prefix, self)]
        while waiting:
            name, module = waiting.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            below = [
                (f"{name}.{key}" if name else key, child) for key, child in module._modules.items() if child is not None
            ]
            waiting.extend(reversed(below))

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def _named(self, home: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, value in getattr(module, home).items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        return self._named("_parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (value for _, value in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        return self._named("_buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (value for _, value in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        found = dict(self.named_modules())
        if target not in found:
            raise OptionError(f"get_submodule: {target!r}; expected the path of a layer of {type(self).__name__};"
                              f"{nearest(target, found) or ' list(model.named_modules()) shows them'}")  # fmt: skip
        return found[target]

    def get_parameter(self, target: str) -> Parameter:
        found = dict(self.named_parameters())
        if target not in found:
            raise OptionError(f"get_parameter: {target!r}; expected the path of a parameter of {type(self).__name__};"
                              f"{nearest(target, found) or ' list(model.named_parameters()) shows them'}")  # fmt: skip
        return found[target]

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Call `function` on every Module below and then on this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # ---- modes -------------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        for module in self.modules():
            if module.training != mode:
                module.training = mode
        return self

    def eval(self) -> Module:
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = parameter.grad.detach() * 0

    def to(self, *where: Any, dtype: Any = None, **options: Any) -> Module:
        """Cast floating parameters and buffers in place; a device is accepted where it is "cpu"."""
        for argument in (*where, options.get("device")):
            if isinstance(argument, str | device):
                device(argument)
            elif argument is not None and not isinstance(argument, bool):
                dtype = argument.dtype if isinstance(argument, Tensor) else argument
        if dtype is not None:
            for tensor in itertools.chain(self.parameters(), self.buffers()):
                if tensor.dtype.kind == "f" and tensor.dtype != np.dtype(dtype):
                    tensor.array = tensor.to(dtype).array
                    tensor.version += 1
                    tensor.grad = None
        return self

    def cpu(self) -> Module:
        return self

    def float(self) -> Module:
        return self.to(np.float32)

    def double(self) -> Module:
        return self.to(np.float64)

    # ---- state -------------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Tensor]:
        """Every Parameter and saved buffer by its path; a shared one under each of its names, as in PyTorch."""
        state: dict[str, Tensor] = {}
        waiting: list[tuple[str, Module]] = [("", self)]
        while waiting:
            prefix, module = waiting.pop()
            for name, value in (*module._parameters.items(), *module._buffers.items()):
                if value is not None and name not in module.__dict__["_transient"]:
                    state[prefix + name] = value
            below = [(f"{prefix}{name}.", child) for name, child in module._modules.items() if child is not None]
            waiting.extend(reversed(below))
        return state

    def state_dict(self) -> OrderedDict[str, Tensor]:
        """The state by dotted path: parameters, and the buffers that are saved. The Tensors are values of this moment."""
        return OrderedDict((name, value.detach()) for name, value in self._state().items())

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Take over the numbers of `state_dict` (Tensors, or anything NumPy reads).

        All or nothing: raises StateError, naming every key that is missing, unexpected or of another shape, before
        anything is changed. With `strict=False` only shapes are an error.
        """
        own = self._state()
        given = {
            name: value.array if isinstance(value, Tensor) else np.asarray(value) for name, value in state_dict.items()
        }
        missing = [name for name in own if name not in given]
        unexpected = [name for name in given if name not in own]
        problems = [f"{name} {words(given[name].shape)}, expected {words(value.shape)}"
                    for name, value in own.items() if name in given and given[name].shape != value.shape]  # fmt: skip
        if strict:
            problems += [f"{name} is missing" for name in missing]
            problems += [f"{name} is not part of this network.{nearest(name, missing)}" for name in unexpected]
        if problems:
            raise StateError(
                f"load_state_dict into {type(self).__name__}: {'; '.join(problems)}; expected the keys and shapes of "
                "its own state_dict(); nothing was loaded; build the network with the sizes it was saved with"
            )
        for name, value in own.items():
            if name in given:
                value.assign(given[name])
        return IncompatibleKeys(missing, unexpected)

    # ---- showing -----------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in self._modules.items()]
        extra = self.extra_repr()
        if not children:
            return f"{type(self).__name__}({extra})"
        body = "\n  ".join(([extra] if extra else []) + children)
        return f"{type(self).__name__}(\n  {body}\n)"


def _registered(hooks: list[Any], hook: Any) -> RemovableHook:
    hooks.append(hook)
    return RemovableHook(hooks, hook)


class _BackwardWatch:
    """Collects a Module's gradients during backward and calls its hooks once those of the inputs are known."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.grad_output: list[Any] = []

    def inputs(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs passed through a fresh Node each, on which the gradient can be seen and replaced."""
        self.grad_input: list[Any] = [None] * len(inputs)
        self.waiting = sum(isinstance(x, Tensor) and x.requires_grad for x in inputs)
        return tuple(self._seen(i, x) if isinstance(x, Tensor) and x.requires_grad else x for i, x in enumerate(inputs))

    def _seen(self, position: int, x: Tensor) -> Tensor:
        passed = x.clone()

        def arrived(g: Any) -> Any:
            self.grad_input[position] = g
            self.waiting -= 1
            if self.waiting:
                return None
            replaced = self._call()
            return None if replaced is None else replaced[position]

        passed.register_hook(arrived)
        return passed

    def outputs(self, output: Any) -> Any:
        several = isinstance(output, tuple | list)
        outputs = list(output) if several else [output]
        self.grad_output = [None] * len(outputs)
        for i, y in enumerate(outputs):
            if isinstance(y, Tensor) and y.requires_grad:
                outputs[i] = y = y.clone()
                y.register_hook(self._output_hook(i))
        return type(output)(outputs) if several else outputs[0]

    def _output_hook(self, position: int) -> Callable[[Any], Any]:
        def arrived(g: Any) -> Any:
            self.grad_output[position] = g
            if not self.waiting:  # no input wants a gradient: the outputs are all there is to see
                self._call()

        return arrived

    def _call(self) -> Any:
        result = None
        for hook in list(self.module._backward_hooks):
            changed = hook(self.module, tuple(self.grad_input), tuple(self.grad_output))
            if changed is not None:
                result = changed if isinstance(changed, tuple) else (changed,)
                self.grad_input = list(result)
        return result
