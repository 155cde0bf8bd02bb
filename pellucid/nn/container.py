"""Sequential, ModuleList, ModuleDict, ParameterList: Modules that hold others (floor 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, overload

from ..errors import IndexRangeError, OptionError, suggestion
from ..tensor import Parameter
from .module import Module

if TYPE_CHECKING:
    from ..core.value import TensorLike


class _Row(Module):
    """Modules in an order, registered under names (their positions, unless Sequential is given others); abstract."""

    def _member(self, value: object) -> Module:
        if not isinstance(value, Module):
            raise OptionError(
                f"{type(self).__name__}: {value!r} ({type(value).__name__}); expected a Module; "
                "wrap a function in a Module with forward()"
            )
        return value

    def _name_at(self, index: int) -> str:
        return list(self._modules)[_place(self, index, "modules")]

    def append(self, module: Module) -> Self:
        self.add_module(str(len(self)), self._member(module))
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Put `module` before position `index`; those behind it move on by one."""
        members = list(self)
        members.insert(index, self._member(module))
        self._renew(members)

    def _renew(self, members: Iterable[Module]) -> None:
        for name in list(self._modules):
            delattr(self, name)
        self.extend(members)

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._name_at(index), self._member(module))

    def __delitem__(self, index: int) -> None:
        delattr(self, self._name_at(index))
        self._renew(list(self))

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())


def _place(owner: _Row | ParameterList, index: object, what: str) -> int:
    """`index` into `owner`, from the end where negative, checked."""
    if not isinstance(index, int) or not -len(owner) <= index < len(owner):
        expected = f"a number from {-len(owner)} to {len(owner) - 1}" if len(owner) else "none"
        raise IndexRangeError(
            f"{type(owner).__name__}: index {index!r}; expected {expected}, as it holds {len(owner)} {what}; "
            "check the index"
        )
    return index


class Sequential(_Row):
    """The output of each Module is the input of the next; given one by one, or as one dict of names."""

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, self._member(module))
        else:
            self.extend(modules)

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)  # type: ignore[misc]
        return x

    def _renew(self, members: Iterable[Module]) -> None:
        if all(name.isdigit() for name in self._modules):  # chosen names stay with their Modules
            super()._renew(members)

    def insert(self, index: int, module: Module) -> None:
        if not all(name.isdigit() for name in self._modules):
            raise OptionError("Sequential.insert: its modules have chosen names; expected positions; use add_module")
        super().insert(index, module)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module | None:
        if isinstance(index, slice):
            return Sequential({name: self._modules[name] for name in list(self._modules)[index]})
        return self._modules[self._name_at(index)]


class ModuleList(_Row):
    """A list of Modules, registered under their positions; it has no forward of its own."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    def __getitem__(self, index: int | slice) -> Module | None:
        if isinstance(index, slice):
            return ModuleList(list(self)[index])
        return self._modules[self._name_at(index)]

    def __repr__(self) -> str:
        """Equal neighbours are told once: `(0-2): 3 x Linear(...)`."""
        runs: list[tuple[int, int, str]] = []  # first, last, text
        for i, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], i, text)
            else:
                runs.append((i, i, text))
        lines = [
            f"({first}): {text}" if first == last else f"({first}-{last}): {last - first + 1} x {text}"
            for first, last, text in runs
        ]
        body = "".join("\n  " + line.replace("\n", "\n  ") for line in lines)
        return f"ModuleList({body}\n)" if lines else "ModuleList()"


class ModuleDict(Module):
    """Modules by name; it has no forward of its own."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        if isinstance(modules, str):
            raise OptionError(
                f"ModuleDict: {modules!r} is a str; expected Modules by name; write {{'head': Linear(8, 3)}}"
            )
        for name, module in dict(modules).items():
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise OptionError(f"ModuleDict: {name!r} is {type(module).__name__}; expected a Module; wrap it in one")
        self.add_module(name, module)

    def __getitem__(self, name: str) -> Any:
        return self._modules[self._known(name)]

    def __delitem__(self, name: str) -> None:
        delattr(self, self._known(name))

    def _known(self, name: str) -> str:
        if name not in self._modules:
            raise OptionError(
                f"ModuleDict: {name!r}; expected one of {', '.join(self._modules) or 'no names yet'}; "
                f"add it first.{suggestion(name, self._modules)}"
            )
        return name

    def pop(self, name: str) -> Any:
        module = self[name]
        del self[name]
        return module

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return self._modules.items()


class ParameterList(Module):
    """Parameters, registered under their positions; Tensors and arrays are made Parameters."""

    def __init__(self, values: Iterable[TensorLike] = ()) -> None:
        super().__init__()
        self.extend(values)

    def append(self, value: TensorLike) -> ParameterList:
        self.register_parameter(str(len(self)), value if isinstance(value, Parameter) else Parameter(value))
        return self

    def extend(self, values: Iterable[TensorLike]) -> ParameterList:
        for value in values:
            self.append(value)
        return self

    def __setitem__(self, index: int, value: TensorLike) -> None:
        name = list(self._parameters)[_place(self, index, "parameters")]
        self.register_parameter(name, value if isinstance(value, Parameter) else Parameter(value))

    @overload
    def __getitem__(self, index: int) -> Parameter: ...
    @overload
    def __getitem__(self, index: slice) -> ParameterList: ...
    def __getitem__(self, index: int | slice) -> Parameter | ParameterList:
        values = list(self)
        return ParameterList(values[index]) if isinstance(index, slice) else values[_place(self, index, "parameters")]

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parameters.values())

    def extra_repr(self) -> str:
        return "\n".join(
            f"({i}): Parameter containing: [{value.dtype} of size {'x'.join(map(str, value.shape))}]"
            for i, value in enumerate(self)
        )
