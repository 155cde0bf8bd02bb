"""Sequential, ModuleList, ModuleDict, ParameterList: Modules that hold others (floor 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import OptionError
from ..tensor import Parameter
from .module import Module


def _member(value: Any, owner: str) -> Module:
    if not isinstance(value, Module):
        raise OptionError(
            f"{owner}: {value!r} ({type(value).__name__}); expected a Module; "
            "wrap a function in a Module with forward()"
        )
    return value


class Sequential(Module):
    """The output of each Module is the input of the next; given one by one, or as one dict of names."""

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        named = modules[0].items() if len(modules) == 1 and isinstance(modules[0], Mapping) else enumerate(modules)
        for name, module in named:
            self.add_module(str(name), _member(module, "Sequential"))

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)  # type: ignore[misc]
        return x

    def append(self, module: Module) -> Sequential:
        self.add_module(str(len(self)), _member(module, "Sequential"))
        return self

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def __getitem__(self, index: Any) -> Any:
        names = list(self._modules)
        if isinstance(index, slice):
            return Sequential({name: self._modules[name] for name in names[index]})
        return self._modules[_name_at(names, index, "Sequential")]


def _name_at(names: list[str], index: int, owner: str) -> str:
    if not -len(names) <= index < len(names):
        raise OptionError(
            f"{owner}: index {index}; expected {-len(names)} to {len(names) - 1}; it holds {len(names)} modules"
        )
    return names[index]


class ModuleList(Module):
    """A list of Modules, registered under their positions; it has no forward of its own."""

    def __init__(self, modules: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def append(self, module: Module) -> ModuleList:
        self.add_module(str(len(self)), _member(module, "ModuleList"))
        return self

    def extend(self, modules: Iterable[Any]) -> ModuleList:
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        members = list(self)
        members.insert(index, _member(module, "ModuleList"))
        self._modules.clear()
        self.extend(members)

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(_name_at(list(self._modules), index, "ModuleList"), _member(module, "ModuleList"))

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return ModuleList(list(self)[index])
        return self._modules[_name_at(list(self._modules), index, "ModuleList")]


class ModuleDict(Module):
    """Modules by name; it has no forward of its own."""

    def __init__(self, modules: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Any]) -> None:
        for name, module in modules.items():
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, _member(module, "ModuleDict"))

    def __getitem__(self, name: str) -> Any:
        if name not in self._modules:
            raise OptionError(
                f"ModuleDict: {name!r}; expected one of {', '.join(self._modules) or 'no names yet'}; add it first"
            )
        return self._modules[name]

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

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
    """Parameters, registered under their positions."""

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__()
        for value in values:
            self.append(value)

    def append(self, value: Any) -> ParameterList:
        parameter = value if isinstance(value, Parameter) else Parameter(value)
        self.register_parameter(str(len(self)), parameter)
        return self

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parameters.values())

    def __getitem__(self, index: int) -> Any:
        return self._parameters[_name_at(list(self._parameters), index, "ParameterList")]
