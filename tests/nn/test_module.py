"""The contract of Module: what registers, what is walked, what is told, what a call adds."""

import copy
import threading

import numpy as np
import pytest

import pellucid as P
from pellucid import nn
from pellucid.core.origin import module_path
from pellucid.errors import DTypeError, OptionError, PellucidError, ShapeError, StateError
from pellucid.nn.module import structure_version


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.last = nn.Linear(3, 2, bias=False)
        self.scale = nn.Parameter(P.ones(2))
        self.register_buffer("shift", P.zeros(2))
        self.register_buffer("scratch", P.zeros(1), persistent=False)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).relu()) * self.scale + self.shift


NAMES = [
    "scale", "shift", "first.weight", "first.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
    "norm.num_batches_tracked", "last.weight",
]  # fmt: skip


# ---- registration ----------------------------------------------------------------------------------------------------


def test_parameters_buffers_and_layers_register_themselves_in_order():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [
        n for n in NAMES if "running" not in n and n not in ("shift", "norm.num_batches_tracked")
    ]
    assert [n for n, _ in net.named_buffers()] == [
        "shift",
        "scratch",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    ]
    assert [n for n, _ in net.named_children()] == ["first", "norm", "last"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "norm", "last"]
    assert [type(m).__name__ for m in net.modules()] == ["Net", "Linear", "BatchNorm1d", "Linear"]
    assert [n for n, _ in net.named_parameters(prefix="net", recurse=False)] == ["net.scale"]
    assert net.last.bias is None


def test_a_shared_layer_is_walked_once_unless_asked_otherwise():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    assert [n for n, _ in net.named_modules()] == ["", "0", "1"]
    assert len(list(net.parameters())) == 2
    assert [n for n, _ in net.named_parameters(remove_duplicate=False)] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_tied_parameter_is_given_once():
    net = nn.ModuleDict({"in": nn.Embedding(5, 3), "out": nn.Linear(3, 5)})
    net["out"].weight = net["in"].weight
    assert [n for n, _ in net.named_parameters()] == ["in.weight", "out.bias"]
    assert list(net.state_dict()) == ["in.weight", "out.weight", "out.bias"]


def test_setting_replaces_and_moves_between_the_kinds():
    net = Net()
    net.first = None
    assert "first.weight" not in net.state_dict() and net.first is None
    net.shift = nn.Parameter(P.ones(2))  # a buffer becomes a Parameter
    assert "shift" not in dict(net.named_buffers()) and "shift" in dict(net.named_parameters())
    net.scratch = nn.Parameter(P.ones(1))  # and one that was not saved is saved from then on
    assert "scratch" in net.state_dict()
    net.plain = 3
    net.plain = nn.ReLU()
    assert "plain" in dict(net.named_children()) and "plain" not in vars(net)
    del net.plain
    assert not hasattr(net, "plain")


def test_a_property_keeps_its_setter():
    class Sized(nn.Module):
        @property
        def width(self):
            return self._width * 2

        @width.setter
        def width(self, value):
            self._width = value

    module = Sized()
    module.width = 4
    assert module.width == 8


def test_a_wrong_kind_under_a_registered_name_is_refused():
    net = Net()
    with pytest.raises(
        DTypeError, match=r"Net.scale was set to Tensor; expected a Parameter or None; write nn.Parameter"
    ):
        net.scale = P.ones(2)
    with pytest.raises(
        DTypeError, match=r"Net.shift was set to ndarray; expected a Tensor or None; write pellucid.tensor"
    ):
        net.shift = np.zeros(2)
    with pytest.raises(DTypeError, match=r"Net.first was set to str; expected a Module or None"):
        net.first = "layer"
    assert net.scale.shape == (2,) and net.shift.shape == (2,)


def test_forgetting_super_init_says_so():
    class Forgetful(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(OptionError, match=r"Forgetful.layer is set before super\(\).__init__\(\).*write super"):
        Forgetful()

    class Early(nn.Module):
        def __init__(self):
            self.size = 3  # a plain value may come first, as in PyTorch
            super().__init__()

    assert Early().size == 3


@pytest.mark.parametrize("name", ["", "a.b", "forward", "size", "first", 3])
def test_a_bad_name_is_refused(name):
    net = Net()
    net.size = 1
    with pytest.raises(OptionError, match="expected a new attribute name without dots"):
        net.register_buffer(name, P.zeros(1))


def test_an_unknown_attribute_names_the_near_one():
    with pytest.raises(AttributeError, match=r"Net has no attribute 'frist'. Did you mean 'first'\?"):
        _ = Net().frist


def test_every_change_of_attributes_layers_and_hooks_is_counted():
    net = Net()
    seen = [structure_version()]

    def changed():
        seen.append(structure_version())
        return seen[-1] != seen[-2]

    net.width = 3
    assert changed()
    net.first = nn.Linear(4, 3)
    assert changed()
    handle = net.register_forward_hook(lambda *_: None)
    assert changed()
    handle.remove()
    assert changed()
    net.eval()
    assert changed()
    net.eval()  # nothing to change
    net(P.ones(2, 4))
    assert not changed()
    del net.width
    assert changed()


# ---- walking and modes -----------------------------------------------------------------------------------------------


def test_paths_find_layers_parameters_and_buffers():
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 3)), Net())
    assert net.get_submodule("0.0") is net[0][0]
    assert net.get_submodule("") is net
    assert net.get_parameter("1.first.bias") is net[1].first.bias
    assert net.get_buffer("1.norm.running_var") is net[1].norm.running_var
    with pytest.raises(OptionError, match=r"no parameter '1.first.bais' in Sequential.*Did you mean '1.first.bias'\?"):
        net.get_parameter("1.first.bais")
    with pytest.raises(OptionError, match=r"no layer 'xyzzy'.*There are 0, 0.0, 1, "):
        net.get_submodule("xyzzy")


def test_train_and_eval_reach_every_layer_and_respect_an_override():
    class Frozen(nn.BatchNorm1d):
        def train(self, mode=True):
            return super().train(False)

    net = nn.Sequential(Frozen(2), nn.Dropout())
    assert net.train() is net
    assert [m.training for m in net.modules()] == [True, False, True]
    net.eval()
    assert not any(m.training for m in net.modules())
    with pytest.raises(OptionError, match="mode 1; expected True or False"):
        net.train(1)


def test_apply_goes_from_the_leaves_up():
    visited = []
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    assert net.apply(lambda m: visited.append(type(m).__name__)) is net
    assert visited == ["Linear", "ReLU", "Sequential"]


def test_requires_grad_and_zero_grad():
    net = Net()
    net(P.ones(3, 4)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all((p.grad.numpy() == 0).all() for p in net.parameters())
    net.scale.grad = P.tensor([np.inf, np.nan], dtype=P.float32)
    net.zero_grad(set_to_none=False)
    assert net.scale.grad.tolist() == [0, 0]
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not net(P.ones(3, 4)).requires_grad


def test_dtype_changes_in_place_and_leaves_integers_alone():
    net = Net()
    weight = net.first.weight
    net(P.ones(3, 4)).sum().backward()
    assert net.double() is net and net.first.weight is weight
    assert {t.dtype for t in (*net.parameters(), net.norm.running_mean)} == {P.float64}
    assert weight.grad.dtype == P.float64
    assert net.norm.num_batches_tracked.dtype == P.int64
    assert net(P.ones(3, 4, dtype=P.float64)).dtype == P.float64
    assert net.to("cpu").to(P.device("cpu")).to(P.float32).first.weight.dtype == P.float32
    assert net.to(P.ones(1, dtype=P.float64)).cpu().float().scale.dtype == P.float32
    with pytest.raises(DTypeError, match="Net.to: int64; expected float32 or float64"):
        net.to(P.int64)
    with pytest.raises(OptionError, match="'cuda'; expected \"cpu\""):
        net.to("cuda")


def test_a_copy_has_its_own_weights_and_tells_its_own_paths():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    net(P.ones(1, 3))  # the paths are known now
    other = copy.deepcopy(net)
    assert all(np.array_equal(a.array, b.array) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    other[0].weight.assign(P.zeros(2, 3))
    assert net[0].weight.array.any()
    with pytest.raises(ShapeError, match=r"^Sequential.0 \(Linear 3→2\): "):
        other(P.ones(1, 4))


# ---- calling ---------------------------------------------------------------------------------------------------------


def test_the_tape_knows_the_layer_of_each_operation():
    net = Net()
    y = net.first(P.ones(2, 4))
    assert y.node.origin.path == "Linear 4→3"  # called by itself, it is the root
    node, paths = net(P.ones(2, 4)).node, []
    while node is not None and hasattr(node, "origin"):
        paths.append(node.origin.path)
        node = next((p for p in node.parents if hasattr(p, "origin")), None)
    assert paths[0] == "Net"
    assert "Net.last (Linear 3→2)" in paths and "Net.norm (BatchNorm1d 3)" in paths
    assert paths[-1] == "Net.first (Linear 4→3)"
    assert module_path.get() == ""


def test_a_layer_that_comes_later_or_is_replaced_has_its_path():
    net = nn.Sequential(nn.Linear(2, 2))
    net(P.ones(1, 2))
    net.append(nn.Linear(3, 1))
    with pytest.raises(ShapeError, match=r"^Sequential.1 \(Linear 3→1\): input \(1, 2\), last axis must be 3"):
        net(P.ones(1, 2))
    net[1] = nn.Linear(5, 1)
    with pytest.raises(ShapeError, match=r"^Sequential.1 \(Linear 5→1\): "):
        net(P.ones(1, 2))


def test_a_network_that_is_no_part_of_the_caller_is_told_from_its_own_root():
    helper = [nn.Sequential(nn.Linear(3, 1))]

    class Caller(nn.Module):
        def forward(self, x):
            return helper[0](x)

    with pytest.raises(ShapeError, match=r"^Sequential.0 \(Linear 3→1\): "):
        Caller()(P.ones(1, 2))

    class Temporary(nn.Module):
        def forward(self, x):
            assert module_path.get() == "Temporary"
            for layer in (nn.Tanh, nn.Sigmoid):  # a new Module may stand at the place of one that is gone
                x = layer()(x)
            return x

    y = Temporary()(P.ones(1, requires_grad=True))
    assert y.node.origin.path == "Sigmoid"


def test_an_error_is_told_its_layer_once_and_the_path_is_put_back():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.ModuleList([Net()])

        def forward(self, x):
            return self.inner[0](x)

    with pytest.raises(ShapeError) as caught:
        Outer()(P.ones(2, 5))
    assert str(caught.value).count("Linear") == 2  # the path, and the layer that would fit
    assert str(caught.value).startswith("Outer.inner.0.first (Linear 4→3): input (2, 5), last axis must be 4; ")
    assert module_path.get() == ""
    assert nn.Linear(1, 1)(P.ones(1)).shape == (1,)


def test_errors_that_are_not_ours_pass_unchanged():
    class Broken(nn.Module):
        def forward(self, x):
            raise KeyError("theirs")

    with pytest.raises(KeyError, match="^'theirs'$"):
        Broken()(1)
    assert module_path.get() == ""
    with pytest.raises(NotImplementedError, match=r"Empty defines no forward\(\)"):
        type("Empty", (nn.Module,), {})()()


def test_two_threads_do_not_mix_their_paths():
    inside, go_on, found = threading.Event(), threading.Event(), []

    class Waits(nn.Module):
        def forward(self, x):
            inside.set()
            go_on.wait(5)
            found.append(module_path.get())

    thread = threading.Thread(target=Waits(), args=(1,))
    thread.start()
    assert inside.wait(5)
    found.append(module_path.get())
    go_on.set()
    thread.join()
    assert found == ["", "Waits"]


# ---- state -----------------------------------------------------------------------------------------------------------


def test_state_dict_follows_the_module_and_a_copy_of_it_does_not():
    net = Net()
    state = net.state_dict()
    kept = copy.deepcopy(state)
    assert list(state) == NAMES
    assert list(net.state_dict(prefix="net."))[:2] == ["net.scale", "net.shift"]
    assert net.state_dict(keep_vars=True)["scale"] is net.scale
    before = {name: value.array.copy() for name, value in state.items()}
    parameters = dict(net.named_parameters())
    net(P.randn(8, 4)).sum().backward()
    with P.no_grad():
        for p in net.parameters():
            p -= 0.1
    assert all(np.array_equal(before[name], kept[name].array) for name in state)
    assert all(np.array_equal(net.state_dict(keep_vars=True)[name].array, state[name].array) for name in state)
    assert not any(np.array_equal(before[name], state[name].array) for name in parameters)
    assert not any(value.requires_grad for value in state.values())


def test_load_state_dict_gives_the_same_network():
    source, target = Net(), Net()
    source(P.randn(8, 4))
    missing, unexpected = target.load_state_dict(source.state_dict())
    assert (missing, unexpected) == ([], [])
    x = P.randn(5, 4)
    assert np.array_equal(source.eval()(x).array, target.eval()(x).array)
    target.load_state_dict({name: value.array for name, value in source.state_dict().items()})  # arrays do as well


def test_loading_copies_what_the_caller_may_still_write():
    layer, weight = nn.Linear(2, 1), np.ones((1, 2), np.float32)
    layer.load_state_dict({"weight": weight, "bias": np.zeros(1, np.float32)})
    weight[:] = 7
    assert layer.weight.array.tolist() == [[1, 1]]


def test_a_load_that_fails_names_everything_and_changes_nothing():
    net = Net()
    state = dict(net.state_dict())
    state["first.weigth"] = state.pop("first.weight")
    state["last.weight"] = P.zeros(2, 9)
    state["scale"] = "words"
    del state["norm.running_var"]
    state["shift"] = P.ones(2)
    before = {name: value.array for name, value in net.state_dict().items()}
    with pytest.raises(StateError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    for part in ["load_state_dict into Net", "first.weight is missing", "norm.running_var is missing", "nothing was loaded",
                 "first.weigth is not part of this network. Did you mean 'first.weight'?",
                 "last.weight (2, 9), expected (2, 3)", "scale is str, expected a Tensor"]:  # fmt: skip
        assert part in text
    assert all(net.state_dict()[name].array is before[name] for name in before)


def test_not_strict_leaves_other_keys_aside_but_not_other_shapes():
    net = Net()
    found = net.load_state_dict({"scale": P.full((2,), 5.0), "extra": P.zeros(1)}, strict=False)
    assert net.scale.tolist() == [5, 5]
    assert found.unexpected_keys == ["extra"] and "first.weight" in found.missing_keys
    with pytest.raises(StateError, match=r"scale \(3,\), expected \(2,\)"):
        net.load_state_dict({"scale": P.zeros(3)}, strict=False)
    with pytest.raises(StateError, match=r"str; expected a dict of Tensors by name; read a file first"):
        net.load_state_dict("model.pt")


def test_loading_casts_to_the_networks_dtype():
    layer = nn.Linear(1, 1)
    layer.load_state_dict({"weight": np.array([[2.0]]), "bias": np.array([1])})
    assert layer.weight.dtype == P.float32 and layer.bias.tolist() == [1]


# ---- showing ---------------------------------------------------------------------------------------------------------


def test_repr_is_laid_out_as_pytorchs():
    net = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.ReLU(), nn.Dropout(0.1)))
    assert repr(net) == (
        "Sequential(\n"
        "  (0): Linear(in_features=4, out_features=3, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Dropout(p=0.1, inplace=False)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()])) == (
        "ModuleList(\n  (0-1): 2 x Linear(in_features=2, out_features=2, bias=True)\n  (2): ReLU()\n)"
    )
    assert repr(nn.Sequential()) == "Sequential()" and repr(nn.ModuleList()) == "ModuleList()"


def test_the_public_list_is_sorted_and_true():
    assert all(hasattr(nn, name) for name in nn.__all__)
    assert sorted(nn.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)) == nn.__all__
    assert issubclass(PellucidError, Exception)
