"""Options that are words, or lists of words: an unknown one is refused where it is given, and a str is never its letters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

import pellucid as P
from pellucid import models, nn, optim
from pellucid.data.load import load_problem
from pellucid.errors import OptionError, PellucidError, StateError, names_of
from pellucid.models.zoo import bert
from pellucid.optim import lr_scheduler
from pellucid.runs.settings import Settings
from pellucid.training.fine_tuning import frozen_layers
from pellucid.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))

    def forward(self, x: Any) -> Any:
        return self.layers(x)


net = Net()


def step(x: Any) -> Any:
    return net(x)


def weights() -> list[Any]:
    return [P.ones(3, 3).requires_grad_()]


def group(**options: Any) -> Callable[[type], Any]:
    return lambda method: method([{"params": weights(), **options}])


def written(key: str, value: Any) -> Any:
    optim.Adam(weights()).param_groups[0][key] = value


def loaded(change: Callable[[dict[str, Any]], Any]) -> None:
    optimizer = optim.Adam(weights())
    saved = optimizer.state_dict()
    change(saved)
    optimizer.load_state_dict(saved)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a pass that is none": (lambda: P.compile(step, disable_passes=["fusoin"]), "Did you mean 'fusion'"),
    "a pass that is none, as one word": (
        lambda: P.compile(step, disable_passes="embedding product"),
        "Did you mean 'embedding products'",
    ),
    "no passes at all": (lambda: P.compile(step, disable_passes=3), "disable_passes holds 3"),
    "a layer that is none": (lambda: P.compile(step, capture="layrs.0"), "Did you mean 'layers.0'"),
    "the old word for passes": (lambda: P.compile(step, leave_out="fusion"), "write disable_passes=..."),  # type: ignore[call-arg]
    "the old word for layers": (lambda: P.compile(step, watch="layers.0"), "write capture=..."),  # type: ignore[call-arg]
    "a word that is none": (lambda: P.compile(step, captured="layers.0"), "Did you mean 'capture'"),  # type: ignore[call-arg]
    "the old name of a pass": (lambda: P.compile(step, disable_passes=["lookups"]), "write 'embedding products'"),
    "no layers at all": (lambda: P.compile(step, capture=[net]), "capture holds"),
    "keep_grads": (lambda: P.compile(step, keep_grads="no"), "keep_grads is 'no'"),  # type: ignore[arg-type]
    "a group's rate": (lambda: group(Lr=0.1)(optim.SGD), "Did you mean 'lr'"),
    "a group's rate in words": (lambda: group(learning_rate=0.1)(optim.Adam), "Did you mean 'lr'"),
    "a group's decay": (lambda: group(wd=0.1)(optim.AdamW), "Did you mean 'weight_decay'"),
    "another method's option": (lambda: group(momentum=0.9)(optim.Adam), "Adam knows lr, betas"),
    "a decay that is written": (lambda: written("weight_deacy", 0.1), "Did you mean 'weight_decay'"),
    "a rate that is written": (lambda: written("LR", 0.1), "Did you mean 'lr'"),
    "a decay that is loaded": (
        lambda: loaded(lambda saved: saved["param_groups"][0].update(weight_deacy=1)),
        "Did you mean 'weight_decay'",
    ),
    "milestones in letters": (lambda: lr_scheduler.MultiStepLR(optim.SGD(weights()), "30"), "milestones is '30'"),  # type: ignore[arg-type]
    "one milestone": (lambda: lr_scheduler.MultiStepLR(optim.SGD(weights()), 30), "milestones is 30"),  # type: ignore[arg-type]
    "gelu": (lambda: nn.GELU("tahn"), 'expected "none" or "tanh"'),
    "modules in letters": (lambda: nn.ModuleDict("abc"), "expected Modules by name"),  # type: ignore[arg-type]
    "shuffle": (lambda: DataLoader(TensorDataset(P.ones(3)), shuffle="no"), "shuffle is 'no'"),  # type: ignore[arg-type]
    "drop_last": (lambda: DataLoader(TensorDataset(P.ones(3)), drop_last="no"), "drop_last is 'no'"),  # type: ignore[arg-type]
    "collate_fn": (lambda: DataLoader(TensorDataset(P.ones(3)), collate_fn="pad"), "collate_fn is 'pad'"),  # type: ignore[arg-type]
    "a norm": (lambda: P.ones(3).norm("inf"), "p = 'inf'"),
    "a norm to clip by": (lambda: nn.utils.clip_grad_norm_(weights(), 1.0, norm_type="inf"), "norm_type='inf'"),  # type: ignore[arg-type]
    "requires_grad_": (lambda: P.ones(2).requires_grad_("no"), "requires_grad_: 'no'"),  # type: ignore[arg-type]
    "layers to freeze": (lambda: frozen_layers(net, "layrs"), "Did you mean 'layers'"),  # type: ignore[arg-type]
    "columns to drop": (lambda: load_problem("digits", drop=3), "drop holds 3"),  # type: ignore[arg-type]
    "layers to freeze, numbered": (lambda: Settings(freeze=(1,)), "freeze: [1]"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_unknown_word_is_refused_where_it_is_given(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(OptionError) as caught:
        result = make()
        result(P.ones(2, 3))  # layers to watch are looked for in what the step reads
    assert message in str(caught.value)


def test_one_word_stands_for_a_list_of_one() -> None:
    x = P.ones(2, 3)
    assert P.compile(step, disable_passes="fusion").disabled_passes == {"fusion"}
    capturing: Any = P.compile(step, capture="layers.0")
    capturing(x)
    assert list(capturing.captured) == ["layers.0"]
    assert Settings(freeze="stages.0").freeze == ("stages.0",)  # type: ignore[arg-type]
    assert names_of("f", "columns", "age") == names_of("f", "columns", ["age"]) == ("age",)


def test_every_pass_and_stage_can_be_left_out() -> None:
    from pellucid.compiler.backends.cpu.prepare.pipeline import PASSES
    from pellucid.compiler.compile import STAGES

    x = P.ones(2, 3)
    for name in (*PASSES, *STAGES):
        assert P.compile(step, disable_passes=name)(x).allclose(net(x), atol=1e-6), name


def test_keys_of_the_users_own_in_a_group_are_kept() -> None:
    optimizer = optim.SGD([{"params": weights(), "name": "head", "scale": 0.1}])
    assert optimizer.param_groups[0]["name"] == "head"
    optimizer.param_groups[0]["layer"] = 3
    other = optim.SGD(weights())
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["layer"] == 3


def test_a_state_of_a_parameter_in_no_group_is_refused() -> None:
    with pytest.raises(StateError, match="parameter 7, which is in no group"):
        loaded(lambda saved: saved["state"].update({7: {"step": P.tensor(1.0)}}))


# ---- flags and devices ---------------------------------------------------------------------------------------------------


def flagged_layers() -> list[tuple[type, str]]:
    """Every layer of `nn` with an argument that is True or False."""
    found = []
    for name in dir(nn):
        layer = getattr(nn, name)
        if isinstance(layer, type) and issubclass(layer, nn.Module):
            notes = getattr(layer.__init__, "__annotations__", {})
            found += [(layer, option) for option, note in notes.items() if note == "bool"]
    return found


@pytest.mark.parametrize(("layer", "option"), flagged_layers(), ids=lambda x: getattr(x, "__name__", x))
def test_a_word_for_true_or_false_is_refused_by_every_layer(layer: type, option: str) -> None:
    sizes = [3] * 3
    with pytest.raises(OptionError, match=f"{option} is 'no'; expected True or False"):
        layer(*sizes[: 1 if layer.__name__.startswith(("Batch", "Layer", "Instance")) else 3 if "Conv" in layer.__name__ else 0],
              **{option: "no"})  # fmt: skip


def test_there_are_flags_to_refuse() -> None:
    assert len(flagged_layers()) > 30


def test_a_layer_of_the_users_own_passes_its_options_on_as_it_likes() -> None:
    class Mine(nn.Linear):
        def __init__(self, kind: bool = "a") -> None:  # type: ignore[assignment]
            super().__init__(2, 2, bias=False)
            self.kind = kind

    assert Mine("b").kind == "b"  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="Mine: bias is 'no'"):
        type("Mine", (nn.Linear,), {})(2, 2, bias="no")


MAKERS: dict[str, Callable[..., Any]] = {
    "tensor": lambda d: P.tensor([1.0], device=d),
    "as_tensor": lambda d: P.as_tensor(P.ones(1), device=d),
    "zeros": lambda d: P.zeros(2, device=d),
    "ones": lambda d: P.ones(2, device=d),
    "empty": lambda d: P.empty(2, device=d),
    "full": lambda d: P.full((2,), 1.0, device=d),
    "arange": lambda d: P.arange(3, device=d),
    "linspace": lambda d: P.linspace(0, 1, 3, device=d),
    "eye": lambda d: P.eye(2, device=d),
    "rand": lambda d: P.rand(2, device=d),
    "randn": lambda d: P.randn(2, device=d),
    "randint": lambda d: P.randint(3, (2,), device=d),
    "randperm": lambda d: P.randperm(3, device=d),
    "Generator": lambda d: P.Generator(device=d),
    "Linear": lambda d: nn.Linear(2, 2, device=d),
    "Conv2d": lambda d: nn.Conv2d(1, 1, 3, device=d),
    "Module.to": lambda d: nn.Linear(2, 2).to(device=d),
    "Tensor.to": lambda d: P.ones(2).to(device=d),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    MAKERS[name]("cpu")
    MAKERS[name](P.device("cpu"))
    with pytest.raises(OptionError, match='"cpu"'):
        MAKERS[name]("cuda")


@pytest.mark.parametrize("owner", [P.ones(2), nn.Linear(2, 2)], ids=["Tensor", "Module"])
def test_to_swallows_no_keyword(owner: Any) -> None:
    assert owner.to("cpu", non_blocking=True) is not None
    with pytest.raises(TypeError, match="dtyp"):
        owner.to(dtyp=P.float64)


# ---- settings ------------------------------------------------------------------------------------------------------------

CONFIGS = [Settings, bert.Config, *(models.family(name).config for name in models.FAMILIES)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.__module__}.{c.__name__}")
def test_a_field_of_another_kind_is_refused(config: Any) -> None:
    """A word for a number or a flag, a number for a word: each names its field."""
    for field in dataclasses.fields(config):
        if isinstance(field.default, tuple):
            continue  # a list of its own, checked by its owner
        wrong = 3 if isinstance(field.default, str) else "no"
        with pytest.raises(PellucidError, match=rf"^{field.name}: {wrong!r}"):
            config(**{field.name: wrong})
