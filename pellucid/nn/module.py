"""Module: the base class of layers and networks (floor 4).

The contract is PyTorch's: attributes that are Parameters, buffers or Modules register themselves; names are dotted paths.
Calling a Module runs `forward` between the hooks, records the layer's path as the origin of its operations, and adds that path
to an error from below, once. Containers stand in `container.py`.
"""

from __future__ import annotations

import inspect
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import numpy as np

from ..arguments import array_of, as_dtype
from ..core.origin import module_path
from ..core.sharing import leave
from ..core.state_version import note_change, note_switch, state_version
from ..core.value import DTypeLike
from ..errors import DTypeError, OptionError, PellucidError, StateError, format_shape, in_module, suggestion
from ..grad_mode import Mode
from ..tensor import DeviceLike, Parameter, RemovableHook, Tensor, check_device
from ..tensor import device as Device
from .hooks import BackwardFunction, BackwardHook

if TYPE_CHECKING:
    from ..core.value import TensorLike

# hook(module, inputs): what it returns, unless None, replaces the inputs.
PreHook = Callable[["Module", tuple[Any, ...]], Any]
# hook(module, inputs, output): what it returns, unless None, replaces the output.
ForwardHook = Callable[["Module", tuple[Any, ...], Any], Any]
Hook = TypeVar("Hook", bound=Callable[..., object])

# The outermost Module that is being called; paths are relative to it.
_root: ContextVar[Module | None] = ContextVar("root", default=None)


_ROOM = __name__.rpartition(".")[0] + "."


class path_relative_to(Mode):
    """A block in which paths of layers are relative to `network`, even where it is not called itself."""

    variable = _root

    def __init__(self, network: Module) -> None:
        self.value = network

    def copy(self) -> path_relative_to:
        """Another block of the same kind."""
        return path_relative_to(self.value)


def structure_version() -> tuple[int, int]:
    """Changes with any Module's attributes, layers, hooks or training mode; see `core/state_version.py`."""
    return state_version[0], state_version[1]


class IncompatibleKeys(NamedTuple):
    """The keys that `load_state_dict(strict=False)` did not load."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def _with_checked_arguments(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor of this library: raise OptionError for a flag that is no bool, and for an unknown device."""
    names = list(inspect.signature(init).parameters)[1:]
    flags = [name for name in names if init.__annotations__.get(name) == "bool"]

    @wraps(init)
    def checked(self: Module, *arguments: Any, **options: Any) -> None:
        given = {**dict(zip(names, arguments, strict=False)), **options}
        for name in flags:
            if not isinstance(given.get(name, True), int | np.bool_):
                raise OptionError(
                    f"{type(self).__name__}: {name} is {given[name]!r}; expected True or False; write {name}=False"
                )
        check_device(given.get("device"))
        init(self, *arguments, **options)

    return checked


Found = TypeVar("Found")


class Module:
    """Base of every layer and network. Call `super().__init__()` first, then set layers and Parameters as attributes."""

    # Own Parameters of two axes or more that are no weights: tables of biases, frequencies. Training does not decay them.
    undecayed: ClassVar[tuple[str, ...]] = ()

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _pre_hooks: list[PreHook]
    _hooks: list[ForwardHook]
    _backward_hooks: list[BackwardFunction]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.startswith(_ROOM) and "__init__" in vars(cls):
            setattr(cls, "__init__", _with_checked_arguments(vars(cls)["__init__"]))  # noqa: B010  mypy lets no one assign it

    def __init__(self) -> None:
        fields = self.__dict__
        fields["training"] = True
        fields["_parameters"], fields["_buffers"], fields["_modules"] = {}, {}, {}
        fields["_transient"] = set()  # names of buffers that are not saved
        fields["_computed"] = {}  # attributes that a function computes; see `register_parametrization`
        fields["_pre_hooks"], fields["_hooks"], fields["_backward_hooks"] = [], [], []
        fields["_paths"] = (-1, {})  # (structure version, {id(module): path}), filled where this Module is called first

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the layer computes; define it in a subclass. Call the Module itself, which runs hooks and names the layer."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward(); write what it computes there")

    # ---- registration ------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        fields = self.__dict__
        registry = "_parameters" if isinstance(value, Parameter) else "_modules" if isinstance(value, Module) else None
        if "_parameters" not in fields:
            self._check_started(name, registry)
        if name == "training" and name in fields:
            if bool(fields[name]) != bool(value):
                note_switch(hash((Module, id(fields))))  # `fields` identifies this Module
        else:
            note_change()
        if registry is None:
            for existing in _REGISTRIES:
                if name in fields.get(existing, ()):
                    self._check_kind(existing, name, value)
                    fields[existing][name] = value
                    return
            object.__setattr__(self, name, value)
            return
        for other in (fields, *(fields[other] for other in _REGISTRIES if other != registry)):
            other.pop(name, None)
        fields["_transient"].discard(name)
        fields[registry][name] = value

    def _check_started(self, name: str, registry: str | None) -> None:
        if registry is not None:
            raise OptionError(
                f"{type(self).__name__}.{name} is set before super().__init__(); expected that call to come first; "
                "write super().__init__() as the first line of __init__"
            )

    def _check_kind(self, registry: str, name: str, value: object) -> None:
        """Raise DTypeError unless `value` may stand under a registered name: None, or a value of the same kind."""
        if value is None or isinstance(value, _REGISTRIES.get(registry, object)):
            return
        kind = _REGISTRIES[registry].__name__
        fix = "write nn.Parameter(value), or assign() to change its numbers" if kind == "Parameter" else (
            "write pellucid.tensor(value)" if kind == "Tensor" else "choose another name, or `del` it first"
        )  # fmt: skip
        raise DTypeError(
            f"{type(self).__name__}.{name} was set to {type(value).__name__}; expected a {kind} or None; {fix}"
        )

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__
        if "_parameters" in fields:  # unrolled for speed: every layer reads its weights here in every call
            if name in (registry := fields["_parameters"]):
                return registry[name]
            if name in (registry := fields["_modules"]):
                return registry[name]
            if name in (registry := fields["_buffers"]):
                return registry[name]
            if name in (registry := fields["_computed"]):
                return registry[name](self)
        known = [n for registry in _REGISTRIES for n in fields.get(registry, ())]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.{suggestion(name, [*known, *fields])}")

    def __delattr__(self, name: str) -> None:
        note_change()
        for registry in _REGISTRIES:
            if name in self.__dict__[registry]:
                del self.__dict__[registry][name]
                self.__dict__["_transient"].discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_paths": (-1, {})}  # a copy has other layers, so it finds its paths itself

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Register a Parameter, or None, as the attribute `name`. Raises OptionError for a name that is taken."""
        self._register("_parameters", name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """A Tensor that belongs to the state but is not trained, such as a running mean; saved if `persistent`."""
        self._register("_buffers", name, tensor)
        (self.__dict__["_transient"].discard if persistent else self.__dict__["_transient"].add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Register a Module, or None, as the attribute `name`. Raises OptionError for a name that is taken."""
        self._register("_modules", name, module)

    register_module = add_module

    def register_parametrization(self, name: str, function: Callable[[Any], Tensor]) -> None:
        """Compute the attribute `name` by `function(self)` whenever it is read, such as a weight from other Parameters."""
        self._register("_computed", name, function)

    def _register(self, registry: str, name: str, value: Any) -> None:
        fields = self.__dict__
        if registry not in fields:
            self._check_started(name, registry)
        elsewhere = [fields, *(fields[other] for other in _REGISTRIES if other != registry)]
        taken = isinstance(name, str) and (hasattr(type(self), name) or any(name in place for place in elsewhere))
        if not isinstance(name, str) or not name or "." in name or taken:
            raise OptionError(
                f"{type(self).__name__}: the name {name!r}{' is taken' if taken else ''}; expected a new attribute name "
                "without dots; choose another"
            )
        self._check_kind(registry, name, value)
        note_change()
        fields[registry][name] = value

    # ---- calling -----------------------------------------------------------------------------------------------------

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        root, mark = _root.get(), None
        path = None if root is None else root._path_of(self)
        if path is None:  # the outermost call, or a call from another network
            path, mark = self._path_of(self), _root.set(self)
        token = module_path.set(path)  # type: ignore[arg-type]  # a Module is always part of itself
        try:
            if self._pre_hooks or self._hooks or self._backward_hooks:
                return self._call_with_hooks(inputs, options)
            return self.forward(*inputs, **options)
        except PellucidError as error:
            in_module(error, path)  # type: ignore[arg-type]
            raise
        finally:
            module_path.reset(token)
            if mark is not None:
                _root.reset(mark)

    def _path_of(self, module: Module) -> str | None:
        """The path of `module` in this root, `SimpleNet.layer1 (Linear 784→128)`; None outside it."""
        version, paths = self.__dict__["_paths"]
        now = state_version[0]
        if version != now:
            root = type(self).__name__
            paths = {
                id(child): f"{root}.{name} ({child._describe()})" if name else child._describe()
                for name, child in self.named_modules()
            }
            self.__dict__["_paths"] = (now, paths)
        return paths.get(id(module))

    def _describe(self) -> str:
        """The kind and, for layers that have them, the sizes: `Linear 784→128`."""
        return type(self).__name__

    def _call_with_hooks(self, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        for pre_hook in list(self._pre_hooks):
            changed = pre_hook(self, inputs)
            if changed is not None:
                inputs = changed if isinstance(changed, tuple) else (changed,)
        backward = BackwardHook(self, self._backward_hooks) if self._backward_hooks else None
        output = self.forward(*(backward.enter(inputs) if backward else inputs), **options)
        for hook in list(self._hooks):
            changed = hook(self, inputs, output)
            output = output if changed is None else changed
        return backward.leave(output) if backward else output

    def register_forward_pre_hook(self, hook: PreHook) -> RemovableHook:
        """Call `hook(module, inputs)` before each forward; what it returns, unless None, replaces the inputs."""
        return _ModuleHook(self._pre_hooks, hook)

    def register_forward_hook(self, hook: ForwardHook) -> RemovableHook:
        """Call `hook(module, inputs, output)` after each forward; what it returns, unless None, replaces the output."""
        return _ModuleHook(self._hooks, hook)

    def register_full_backward_hook(self, hook: BackwardFunction) -> RemovableHook:
        """Call `hook(module, grad_input, grad_output)`, tuples with None where there is none, in each backward pass.

        It runs once all inputs that the output depends on have their gradients. What it returns, unless None, replaces
        `grad_input`, where a single input needs one.
        """
        return _ModuleHook(self._backward_hooks, hook)

    # ---- walking -----------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The Modules one level below, with their names; each once."""
        visited: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in visited:
                visited.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The Modules one level below; each once."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This Module and all below it with their dotted paths; a shared one once, or under each of its names."""
        visited: set[int] = set()
        waiting: list[tuple[str, Module]] = [(prefix, self)]
        while waiting:
            name, module = waiting.pop()
            if remove_duplicate and id(module) in visited:
                continue
            visited.add(id(module))
            yield name, module
            below = [
                (f"{name}.{key}" if name else key, child) for key, child in module._modules.items() if child is not None
            ]
            waiting.extend(reversed(below))

    def modules(self) -> Iterator[Module]:
        """This Module and all below it; each once."""
        return (module for _, module in self.named_modules())

    def _named(self, registry: str, prefix: str, recurse: bool, once: bool) -> Iterator[tuple[str, Any]]:
        visited: set[int] = set()
        for path, module in self.named_modules(prefix, once) if recurse else [(prefix, self)]:
            for name, value in module.__dict__[registry].items():
                if value is not None and not (once and id(value) in visited):
                    visited.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """The Parameters here and below, with their dotted paths; a shared one once, or under each of its names."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The Parameters here and, with `recurse`, below; each once."""
        return (value for _, value in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The buffers here and below, with their dotted paths; a shared one once, or under each of its names."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers here and, with `recurse`, below; each once."""
        return (value for _, value in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The layer at a dotted path; this Module for the empty one."""
        return self._lookup("layer", dict(self.named_modules(remove_duplicate=False)), target)

    def get_parameter(self, target: str) -> Parameter:
        """The Parameter at a dotted path. Raises OptionError where there is none."""
        return self._lookup("parameter", dict(self.named_parameters(remove_duplicate=False)), target)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path. Raises OptionError where there is none."""
        return self._lookup("buffer", dict(self.named_buffers(remove_duplicate=False)), target)

    def _lookup(self, kind: str, known: Mapping[str, Found], target: str) -> Found:
        if target not in known:
            names = suggestion(target, known) or f" There are {', '.join(filter(None, known)) or 'none'}."
            raise OptionError(f"no {kind} {target!r} in {type(self).__name__}; expected the path of one.{names}")
        return known[target]

    def apply(self, function: Callable[[Module], object]) -> Self:
        """Call `function` on every Module below and then on this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # ---- modes -------------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set `training` here and below, through each layer's own `train`, which may decide otherwise."""
        if not isinstance(mode, bool):
            raise OptionError(f"train: mode {mode!r}; expected True or False; call model.train() or model.eval()")
        if self.training != mode:
            self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """`train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Set whether the Parameters here and below are trained."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients of all Parameters to None; with `set_to_none=False`, fill them with zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            else:
                parameter.fill_grad_with_zeros()

    def to(
        self,
        *where: DTypeLike | DeviceLike | Tensor | None,
        dtype: DTypeLike | None = None,
        device: DeviceLike | None = None,
        non_blocking: bool = False,
    ) -> Module:
        """Cast floating parameters and buffers in place; a device is accepted where it is "cpu"."""
        for argument in (*where, device):
            if isinstance(argument, str | Device):
                check_device(argument)
            elif argument is not None and not isinstance(argument, bool):
                dtype = argument.dtype if isinstance(argument, Tensor) else argument
        if dtype is None:
            return self
        dtype = as_dtype(dtype)
        if dtype.kind != "f":
            raise DTypeError(
                f"{type(self).__name__}.to: {dtype}; expected float32 or float64; weights are trained in those"
            )
        for tensor in itertools.chain(self.parameters(), self.buffers()):
            if tensor.dtype.kind == "f" and tensor.dtype != dtype:
                leave(tensor)
                tensor.rebind(tensor.array.astype(dtype))
                if isinstance(tensor._grad, Tensor):  # and not consumed by a compiled step
                    tensor.grad = tensor.grad.detach().to(dtype)
        note_change()
        return self

    def cpu(self) -> Module:
        """Itself: there is no other device."""
        return self

    def float(self) -> Module:
        """`to(float32)`."""
        return self.to(np.float32)

    def double(self) -> Module:
        """`to(float64)`."""
        return self.to(np.float64)

    # ---- state -------------------------------------------------------------------------------------------------------

    def _state(self, prefix: str = "") -> dict[str, Tensor]:
        """Every Parameter and saved buffer by its path; a shared one under each of its names, as in PyTorch."""
        state: dict[str, Tensor] = {}
        for path, module in self.named_modules(remove_duplicate=False):
            start = f"{prefix}{path}." if path else prefix
            state.update((start + name, value) for name, value in module._parameters.items() if value is not None)
            for name, value in module._buffers.items():
                if value is not None and name not in module.__dict__["_transient"]:
                    state[start + name] = value
        return state

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> OrderedDict[str, Tensor]:
        """The state by dotted path: parameters, and the buffers that are saved.

        The Tensors are views: they follow the Module, and writes to them reach it. For a snapshot, `copy.deepcopy` it. With
        `keep_vars`, the Module's own Tensors.
        """
        state = self._state(prefix)
        return OrderedDict(state if keep_vars else {name: value.detach() for name, value in state.items()})

    def load_state_dict(self, state_dict: Mapping[str, TensorLike], strict: bool = True) -> IncompatibleKeys:
        """Take over the numbers of `state_dict` (Tensors, or anything NumPy reads).

        All or nothing: raises StateError, naming every key that is missing, unexpected or of another shape, before
        anything is changed. With `strict=False` only shapes are an error.
        """
        own = self._state()
        given, problems = self._read_state(state_dict)
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        problems += [f"{name} {format_shape(given[name].shape)}, expected {format_shape(value.shape)}"
                     for name, value in own.items() if name in given and given[name].shape != value.shape]  # fmt: skip
        if strict:
            problems += [f"{name} is missing" for name in missing]
            problems += [f"{name} is not part of this network.{suggestion(name, missing)}" for name in unexpected]
        if problems:
            raise StateError(
                f"load_state_dict into {type(self).__name__}: {'; '.join(problems)}; expected the keys and shapes of "
                "its own state_dict(); nothing was loaded; build the network with the sizes it was saved with"
            )
        for name, value in own.items():
            if name in given:
                value.assign(given[name])
        return IncompatibleKeys(missing, unexpected)

    def _read_state(self, state_dict: Mapping[str, TensorLike]) -> tuple[dict[str, Tensor], list[str]]:
        """The values as Tensors, and a message for each that is not numbers."""
        if not isinstance(state_dict, Mapping):
            raise StateError(
                f"load_state_dict into {type(self).__name__}: {type(state_dict).__name__}; expected a dict of Tensors by "
                "name; read a file first, with pellucid.load(path)"
            )
        given: dict[str, Tensor] = {}
        problems = []
        for name, value in state_dict.items():
            try:
                given[name] = value if isinstance(value, Tensor) else Tensor(np.array(array_of(np.asarray(value))))
            except (PellucidError, TypeError, ValueError, RuntimeError):  # what the library of a foreign array raises
                problems.append(f"{name} is {type(value).__name__}, expected a Tensor or an array of numbers")
        return given, problems

    # ---- showing -----------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What `repr` shows between the parentheses; a subclass returns its options."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in self._modules.items()]
        extra = self.extra_repr()
        if not children and "\n" not in extra:
            return f"{type(self).__name__}({extra})"
        body = "\n  ".join((extra.split("\n") if extra else []) + children)
        return f"{type(self).__name__}(\n  {body}\n)"


_REGISTRIES: dict[str, type] = {"_parameters": Parameter, "_buffers": Tensor, "_modules": Module}


class _ModuleHook(RemovableHook, Generic[Hook]):
    """A hook whose registration and removal count as changes of structure."""

    def __init__(self, hooks: list[Hook], hook: Hook) -> None:
        super().__init__(hooks, hook)
        hooks.append(hook)
        note_change()

    def remove(self) -> None:
        note_change()
        super().remove()
