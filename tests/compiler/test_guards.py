# ruff: noqa  programs as users write them
"""A compiled step reads Python's state anew in each call: kinds of programs, each eager against compiled.

Each test is a small program as users write them. It gets `compiled`, which is `pellucid.compile` or nothing at all, calls its
step three times or more, and changes in between what the step reads. What it returns has to be the same both times.
"""

from __future__ import annotations

import abc
import array
import bisect
import collections
import contextlib
import contextvars
import copy
import dataclasses
import decimal
import enum
import fractions
import functools
import heapq
import json
import inspect
import math
import logging
import operator
import os
import queue
import sys
import threading
import types
import typing
import weakref
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, deque, namedtuple
from functools import partial, partialmethod, singledispatch

import numpy as np
from guard_kinds import Box, ReplayBuffer, Step, calls, kind, outside, vector

import pellucid as P
from pellucid import nn
from pellucid.nn import functional as F

__all__ = ["outside"]  # a fixture

G1 = 1.0
G2 = 2
GW = 0


def h3(v):
    return v * G1


def h2(v):
    return h3(v)


def h1(v):
    return h2(v)


def hb(v):
    return v * 2


@kind
def test_sees_dict_item(compiled: Step):
    d = {"w": 1.0}
    return calls(compiled(lambda v: v * d["w"]), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_list_item(compiled: Step):
    d = [1.0]
    return calls(compiled(lambda v: v * d[0]), lambda i: d.__setitem__(0, i + 1.0))


@kind
def test_sees_nested(compiled: Step):
    d = {"a": [{"w": 1.0}]}
    return calls(compiled(lambda v: v * d["a"][0]["w"]), lambda i: d["a"][0].update(w=i + 1.0))


@kind
def test_sees_variable_key(compiled: Step):
    d = {"a": 1.0, "b": 2.0}
    b = Box(k="a")

    def s(v):
        key = b.k
        return v * d[key]

    return calls(compiled(s), lambda i: (setattr(b, "k", "ab"[i % 2]), d.update(b=i + 5.0)))


@kind
def test_sees_computed_key(compiled: Step):
    d = {"w0": 1.0, "w1": 2.0}

    def s(v):
        for j in range(2):
            v = v * d[f"w{j}"]
        return v

    return calls(compiled(s), lambda i: d.update(w1=i + 5.0))


@kind
def test_sees_plain_attr(compiled: Step):
    b = Box(w=1.0)
    return calls(compiled(lambda v: v * b.w), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_bound_method(compiled: Step):

    class T:
        def __init__(self):
            self.beta = 1.0

        def step(self, v):
            return v * self.beta

    t = T()
    return calls(compiled(t.step), lambda i: setattr(t, "beta", i + 1.0))


@kind
def test_sees_two_instances(compiled: Step):

    class T:
        def __init__(self, b):
            self.beta = b

        def step(self, v):
            return v * self.beta

    a, b = (T(1.0), T(2.0))
    sa, sb = (compiled(a.step), compiled(b.step))
    return [sa(vector()), sb(vector()), sa(vector())]


@kind
def test_sees_config_x(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = Box(x=1.0)

        def forward(self, v):
            return v * self.config.x

    m = M()
    return calls(compiled(lambda v: m(v)), lambda i: setattr(m.config, "x", i + 1.0))


@kind
def test_sees_config_in_sequential(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = {"x": 1.0}

        def forward(self, v):
            return v * self.config["x"]

    m = nn.Sequential(M(), M())
    return calls(compiled(lambda v: m(v)), lambda i: m[1].config.update(x=i + 1.0))


@kind
def test_sees_global_deep(compiled: Step):
    return calls(compiled(lambda v: h1(v)), lambda i: globals().__setitem__("G1", i + 1.0))


@kind
def test_sees_helper_redefined(compiled: Step):

    def a(v):
        return v * 2

    def b(v):
        return v * 3

    globals()["hb"] = a
    return calls(compiled(lambda v: hb(v)), lambda i: globals().__setitem__("hb", [a, b][i % 2]))


@kind
def test_sees_tensor_replaced(compiled: Step):
    b = Box(t=P.ones(3))
    return calls(compiled(lambda v: v + b.t), lambda i: setattr(b, "t", P.ones(3) * i))


@kind
def test_sees_tensor_in_list(compiled: Step):
    b = [P.ones(3)]
    return calls(compiled(lambda v: v + b[0]), lambda i: b.__setitem__(0, P.ones(3) * i))


@kind
def test_sees_network_replaced(compiled: Step):

    def net(i):
        m = nn.Linear(3, 2)
        m.weight.data.assign(P.ones(2, 3) * i)
        m.bias.data.assign(P.zeros(2))

    class S(nn.Module):
        def __init__(self, i):
            super().__init__()
            self.w = nn.Parameter(P.ones(3) * i)

        def forward(self, v):
            return v * self.w

    b = Box(q=S(1.0))
    return calls(compiled(lambda v: b.q(v).detach()), lambda i: setattr(b, "q", S(i + 1.0)))


@kind
def test_sees_loop_over_list(compiled: Step):
    d = [1.0, 2.0]

    def s(v):
        for w in d:
            v = v * w
        return v

    return calls(compiled(s), lambda i: d.append(3.0))


@kind
def test_sees_loop_over_modules_in_list(compiled: Step):

    class S(nn.Module):
        def __init__(self, i):
            super().__init__()
            self.cfg = {"i": i}

        def forward(self, v):
            return v * self.cfg["i"]

    d = [S(1.0), S(2.0)]

    def s(v):
        for m in d:
            v = m(v)
        return v

    return calls(compiled(s), lambda i: d[0].cfg.update(i=i + 2.0))


@kind
def test_sees_dict_items_loop(compiled: Step):
    d = {"a": 1.0, "b": 2.0}

    def s(v):
        for k, w in d.items():
            v = v * w
        return v

    return calls(compiled(s), lambda i: d.update(b=i + 1.0))


@kind
def test_sees_dict_get(compiled: Step):
    d = {"w": 1.0}
    return calls(compiled(lambda v: v * d.get("w", 2.0)), lambda i: d.clear() if i == 1 else d.update(w=i + 5.0))


@kind
def test_sees_in_dict(compiled: Step):
    d = {}
    return calls(compiled(lambda v: v * 2 if "a" in d else v), lambda i: d.update(a=1) if i else None)


@kind
def test_sees_truth_of_list(compiled: Step):
    d = []
    return calls(compiled(lambda v: v * 2 if d else v), lambda i: d.append(1) if i else None)


@kind
def test_sees_len_list(compiled: Step):
    d = []
    return calls(compiled(lambda v: v * (1.0 + len(d))), lambda i: d.append(1))


@kind
def test_sees_sum_list(compiled: Step):
    d = [1.0]
    return calls(compiled(lambda v: v * sum(d)), lambda i: d.append(1.0))


@kind
def test_sees_star_kwargs(compiled: Step):
    d = {"w": 1.0}
    f = lambda v, w: v * w
    return calls(compiled(lambda v: f(v, **d)), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_star_args(compiled: Step):
    d = [1.0]
    f = lambda v, w: v * w
    return calls(compiled(lambda v: f(v, *d)), lambda i: d.__setitem__(0, i + 1.0))


@kind
def test_sees_isinstance(compiled: Step):
    b = Box(a=1)
    return calls(compiled(lambda v: v * 2 if isinstance(b.a, float) else v), lambda i: setattr(b, "a", [1, 1.0][i % 2]))


@kind
def test_sees_property(compiled: Step):

    class T:
        _w = 1.0

        @property
        def w(self):
            return self._w * 2

    t = T()
    return calls(compiled(lambda v: v * t.w), lambda i: setattr(t, "_w", i + 1.0))


@kind
def test_sees_getattr_dynamic(compiled: Step):
    b = Box(w=1.0)
    return calls(compiled(lambda v: v * getattr(b, "w")), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_user_getattr(compiled: Step):

    class T:
        def __init__(self):
            self.d = {"w": 1.0}

        def __getattr__(self, n):
            if n.startswith("__"):
                raise AttributeError(n)
            if n not in self.d:
                raise AttributeError(n)
            return self.d[n]

    t = T()
    return calls(compiled(lambda v: v * t.w), lambda i: t.d.update(w=i + 1.0))


@kind
def test_sees_user_getitem(compiled: Step):

    class T:
        def __init__(self):
            self.d = {"w": 1.0}

        def __getitem__(self, n):
            return self.d[n]

    t = T()
    return calls(compiled(lambda v: v * t["w"]), lambda i: t.d.update(w=i + 1.0))


@kind
def test_sees_hasattr(compiled: Step):
    b = Box()
    return calls(compiled(lambda v: v * 2 if hasattr(b, "w") else v), lambda i: setattr(b, "w", 1) if i else None)


@kind
def test_sees_class_attr(compiled: Step):

    class Cfg:
        w = 1.0

    return calls(compiled(lambda v: v * Cfg.w), lambda i: setattr(Cfg, "w", i + 1.0))


@kind
def test_sees_class_attr_by_instance(compiled: Step):

    class T:
        w = 1.0

    t = T()
    return calls(compiled(lambda v: v * t.w), lambda i: setattr(T, "w", i + 1.0) if i < 2 else setattr(t, "w", 9.0))


@kind
def test_sees_class_attr_of_module(compiled: Step):

    class M(nn.Module):
        w = 1.0

        def forward(self, v):
            return v * self.w

    m = M()
    return calls(compiled(lambda v: m(v)), lambda i: setattr(M, "w", i + 1.0))


@kind
def test_sees_module_attr(compiled: Step):
    mod = types.ModuleType("cfgmod")
    mod.__file__ = "cfgmod.py"
    mod.W = 1.0
    return calls(compiled(lambda v: v * mod.W), lambda i: setattr(mod, "W", i + 1.0))


@kind
def test_sees_dataclass_cfg(compiled: Step):

    @dataclasses.dataclass
    class D:
        w: float = 1.0

    d = D()
    return calls(compiled(lambda v: v * d.w), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_dataclass_frozen_replaced(compiled: Step):

    @dataclasses.dataclass(frozen=True)
    class D:
        w: float = 1.0

    b = Box(d=D())
    return calls(compiled(lambda v: v * b.d.w), lambda i: setattr(b, "d", D(i + 1.0)))


@kind
def test_sees_dataclass_slots(compiled: Step):

    @dataclasses.dataclass(slots=True)
    class D:
        w: float = 1.0

    d = D()
    return calls(compiled(lambda v: v * d.w), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_dataclass_asdict(compiled: Step):

    @dataclasses.dataclass
    class D:
        w: float = 1.0

    d = D()
    return calls(compiled(lambda v: v * dataclasses.asdict(d)["w"]), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_enum_member(compiled: Step):

    class Mode(enum.Enum):
        A = 1
        B = 2

    b = Box(m=Mode.A)
    return calls(
        compiled(lambda v: v * 2 if b.m is Mode.A else v * b.m.value),
        lambda i: setattr(b, "m", [Mode.A, Mode.B][i % 2]),
    )


@kind
def test_sees_environ(compiled: Step):
    os.environ["XW"] = "1"
    return calls(compiled(lambda v: v * float(os.environ["XW"])), lambda i: os.environ.__setitem__("XW", str(i + 1)))


@kind
def test_sees_environ_get(compiled: Step):
    os.environ["XW"] = "1"
    return calls(
        compiled(lambda v: v * float(os.environ.get("XW", "3"))), lambda i: os.environ.__setitem__("XW", str(i + 1))
    )


@kind
def test_sees_comprehension(compiled: Step):
    d = {"w": 1.0}
    return calls(compiled(lambda v: sum([v * d["w"] for _ in range(2)])), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_lambda_inside(compiled: Step):
    d = Box(w=1.0)

    def s(v):
        f = lambda u: u * d.w
        return f(v)

    return calls(compiled(s), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_generator_inside(compiled: Step):
    d = [1.0]
    return calls(compiled(lambda v: sum((v * w for w in d))), lambda i: d.append(2.0))


@kind
def test_sees_sorted_key(compiled: Step):
    d = Box(s=1.0)
    return calls(
        compiled(lambda v: v * sorted([1.0, 2.0], key=lambda t: t * d.s)[0]),
        lambda i: setattr(d, "s", -1.0 if i % 2 else 1.0),
    )


@kind
def test_sees_closure_cell(compiled: Step):
    w = 1.0

    def s(v):
        return v * w

    def ch(i):
        nonlocal w
        w = i + 1.0

    return calls(compiled(s), ch)


@kind
def test_sees_closure_in_helper(compiled: Step):
    w = 1.0

    def h(v):
        return v * w

    def s(v):
        return h(v)

    def ch(i):
        nonlocal w
        w = i + 1.0

    return calls(compiled(s), ch)


@kind
def test_sees_decorated(compiled: Step):
    d = Box(w=1.0)

    def deco(f):

        @functools.wraps(f)
        def inner(*a):
            return f(*a) * d.w

        return inner

    @deco
    def s(v):
        return v

    return calls(compiled(lambda v: s(v)), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_partial(compiled: Step):
    d = Box(w=1.0)
    f = functools.partial(lambda o, v: v * o.w, d)
    return calls(compiled(f), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_callable_object(compiled: Step):

    class T:
        def __init__(self):
            self.w = 1.0

        def __call__(self, v):
            return v * self.w

    t = T()
    return calls(compiled(t), lambda i: setattr(t, "w", i + 1.0))


@kind
def test_sees_int_to_float(compiled: Step):
    b = Box(w=2)
    s = compiled(lambda v: v * b.w)
    out = []
    for b.w in (2, 2.0, True):
        out.append(s(P.tensor([1, 2])))
    return out


@kind
def test_sees_minus_zero(compiled: Step):
    b = Box(w=0.0)
    s = compiled(lambda v: 1 / (v * b.w))
    out = []
    for b.w in (0.0, -0.0):
        out.append(s(vector()))
    return out


@kind
def test_sees_global_int_float(compiled: Step):
    out = []
    s = compiled(lambda v: v * G2)
    for globals()["G2"] in (2, 2.0):
        out.append(s(P.tensor([1, 2])))
    return out


@kind
def test_sees_hook_state(compiled: Step):
    d = {"w": 1.0}
    m = nn.Linear(3, 3, bias=False)
    m.weight.data = P.ones(3, 3)
    m = nn.Identity()
    m.register_forward_hook(lambda mod, i, o: o * d["w"])
    return calls(compiled(lambda v: m(v)), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_custom_optimizer(compiled: Step):

    class SGD:
        def __init__(self, ps):
            self.ps = ps
            self.lr = 0.1

        def step(self):
            with P.no_grad():
                for p in self.ps:
                    p.sub_(p.grad * self.lr)
                    p.grad = None

    p = nn.Parameter(P.ones(3))
    o = SGD([p])

    def s(v):
        l = (v * p).sum()
        l.backward()
        o.step()
        return l.detach()

    return calls(compiled(s), lambda i: setattr(o, "lr", 0.1 * (i + 1)))


@kind
def test_sees_dropout_training_flag(compiled: Step):
    a = Box(training=False)
    return calls(
        compiled(lambda v: F.dropout(v, p=1.0 - 1e-09, training=a.training)),
        lambda i: setattr(a, "training", bool(i % 2)),
    )


@kind
def test_sees_np_scalar_array(compiled: Step):
    a = np.array([1.0])
    return calls(compiled(lambda v: v * float(a[0])), lambda i: a.__setitem__(0, i + 1.0))


@kind
def test_sees_np_mean(compiled: Step):
    a = np.array([1.0])
    return calls(compiled(lambda v: v * float(np.mean(a))), lambda i: a.__setitem__(0, i + 1.0))


@kind
def test_sees_np_method(compiled: Step):
    a = np.array([1.0])
    return calls(compiled(lambda v: v * a.mean()), lambda i: a.__setitem__(0, i + 1.0))


@kind
def test_sees_contextvar(compiled: Step):
    import contextvars

    c = contextvars.ContextVar("c", default=1.0)
    return calls(compiled(lambda v: v * c.get()), lambda i: c.set(i + 1.0) and None)


@kind
def test_sees_itemgetter(compiled: Step):
    d = {"w": 1.0}
    g = operator.itemgetter("w")
    return calls(compiled(lambda v: v * g(d)), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_attrgetter(compiled: Step):
    d = Box(w=1.0)
    g = operator.attrgetter("w")
    return calls(compiled(lambda v: v * g(d)), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_deque_last(compiled: Step):
    d = collections.deque([1.0])
    return calls(compiled(lambda v: v * d[-1]), lambda i: d.append(i + 1.0))


@kind
def test_sees_namedtuple_replaced(compiled: Step):
    T = collections.namedtuple("T", "w")
    b = Box(t=T(1.0))
    return calls(compiled(lambda v: v * b.t.w), lambda i: setattr(b, "t", T(i + 1.0)))


@kind
def test_sees_list_through_local(compiled: Step):
    d = [1.0, 2.0]

    def s(v):
        ws = list(d)
        ws.append(3.0)
        return v * ws[0] * ws[-1]

    return calls(compiled(s), lambda i: d.__setitem__(0, i + 1.0))


@kind
def test_sees_object_in_local_list(compiled: Step):
    d = Box(w=1.0)

    def s(v):
        fs = [d]
        return v * fs[0].w

    return calls(compiled(s), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_zip_objects(compiled: Step):
    ds = [Box(w=1.0), Box(w=2.0)]

    def s(v):
        for j, d in enumerate(ds):
            v = v * d.w
        return v

    return calls(compiled(s), lambda i: setattr(ds[1], "w", i + 1.0))


@kind
def test_sees_vars(compiled: Step):
    d = Box(w=1.0)
    return calls(compiled(lambda v: v * vars(d)["w"]), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_globals(compiled: Step):
    return calls(compiled(lambda v: v * globals()["G1"]), lambda i: globals().__setitem__("G1", i + 1.0))


@kind
def test_sees_str_object(compiled: Step):
    d = Box(w=1.0)
    return calls(compiled(lambda v: v * len(json.dumps(d.__dict__))), lambda i: setattr(d, "w", 10.0**i))


@kind
def test_sees_try_except(compiled: Step):
    d = {}

    def s(v):
        try:
            return v * d["w"]
        except KeyError:
            return v

    return calls(compiled(s), lambda i: d.update(w=i + 1.0) if i else None)


@kind
def test_sees_default_arg_list(compiled: Step):
    l = [1.0]

    def s(v, ws=l):
        return v * ws[0]

    return calls(compiled(s), lambda i: l.__setitem__(0, i + 1.0))


@kind
def test_sees_scheduler_lr(compiled: Step):
    p = nn.Parameter(P.ones(3))
    o = P.optim.SGD([p], lr=1.0)
    sch = P.optim.lr_scheduler.StepLR(o, 1, gamma=0.5)

    def change(i):
        if i:
            sch.step()

    return calls(compiled(lambda v: v * sch.get_last_lr()[0]), change)


@kind
def test_sees_group_lr(compiled: Step):
    p = nn.Parameter(P.ones(3))
    o = P.optim.SGD([p], lr=1.0)
    return calls(
        compiled(lambda v: v * o.param_groups[0]["lr"]), lambda i: o.param_groups[0].__setitem__("lr", i + 1.0)
    )


@kind
def test_sees_deep_attr_chain_in_thread_local(compiled: Step):
    import threading

    t = threading.local()
    t.w = 1.0
    return calls(compiled(lambda v: v * t.w), lambda i: setattr(t, "w", i + 1.0))


@kind
def test_sees_weakref(compiled: Step):
    import weakref

    d = Box(w=1.0)
    r = weakref.ref(d)
    return calls(compiled(lambda v: v * r().w), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_super_method(compiled: Step):

    class A:
        def __init__(self):
            self.w = 1.0

        def scale(self):
            return self.w

    class B(A):
        def scale(self):
            return super().scale() * 2

    b = B()
    return calls(compiled(lambda v: v * b.scale()), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_tensor_user_attr(compiled: Step):
    p = P.ones(3)
    p.scale = 1.0
    return calls(compiled(lambda v: v * p * p.scale), lambda i: setattr(p, "scale", i + 1.0))


@kind
def test_sees_param_user_attr_loop(compiled: Step):
    m = nn.Linear(3, 1)
    for p in m.parameters():
        p.scale = 1.0

    def s(v):
        for p in m.parameters():
            v = v * p.scale
        return v

    return calls(compiled(s), lambda i: [setattr(p, "scale", i + 1.0) for p in m.parameters()])


@kind
def test_sees_moduledict_key(compiled: Step):
    m = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()})
    b = Box(k="a")
    return calls(compiled(lambda v: m[b.k](v)), lambda i: setattr(b, "k", "ab"[i % 2]))


@kind
def test_sees_modulelist_item_config(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = {"w": 1.0}

        def forward(self, v):
            return v

    m = nn.ModuleList([M(), M()])
    return calls(compiled(lambda v: v * m[1].c["w"]), lambda i: m[1].c.update(w=i + 1.0))


@kind
def test_sees_function_attribute(compiled: Step):

    def h(v):
        return v * h.scale

    h.scale = 1.0
    return calls(compiled(lambda v: h(v)), lambda i: setattr(h, "scale", i + 1.0))


@kind
def test_sees_dict_subclass_attrdict(compiled: Step):

    class AD(dict):
        __getattr__ = dict.__getitem__

    d = AD(w=1.0)
    return calls(compiled(lambda v: v * d.w), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_dict_subclass_attrdict2(compiled: Step):

    class AD(dict):
        def __getattr__(self, n):
            return self[n]

    d = AD(w=1.0)
    return calls(compiled(lambda v: v * d.w), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_argparse_namespace(compiled: Step):
    import argparse

    a = argparse.Namespace(w=1.0)
    return calls(compiled(lambda v: v * a.w), lambda i: setattr(a, "w", i + 1.0))


@kind
def test_sees_chainmap(compiled: Step):
    d = {"w": 1.0}
    c = collections.ChainMap({}, d)
    return calls(compiled(lambda v: v * c["w"]), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_omegaconf(compiled: Step):
    from omegaconf import OmegaConf

    c = OmegaConf.create({"a": {"w": 1.0}})
    return calls(compiled(lambda v: v * c.a.w), lambda i: c.a.__setattr__("w", i + 1.0))


@kind
def test_sees_mlcollections(compiled: Step):
    import ml_collections

    c = ml_collections.ConfigDict({"w": 1.0})
    return calls(compiled(lambda v: v * c.w), lambda i: c.__setattr__("w", i + 1.0))


@kind
def test_sees_pydantic(compiled: Step):
    import pydantic

    class M(pydantic.BaseModel):
        w: float = 1.0

    c = M()
    return calls(compiled(lambda v: v * c.w), lambda i: setattr(c, "w", i + 1.0))


@kind
def test_sees_comparison_chain(compiled: Step):
    b = Box(n=1, lo=0, hi=5)
    return calls(compiled(lambda v: v * 2 if b.lo < b.n < b.hi else v), lambda i: setattr(b, "n", i * 4))


@kind
def test_sees_match_stmt(compiled: Step):
    b = Box(mode={"kind": "a", "w": 2.0})

    def s(v):
        match b.mode:
            case {"kind": "a", "w": w}:
                return v * w
            case _:
                return v

    return calls(compiled(s), lambda i: b.mode.update(w=i + 1.0))


@kind
def test_sees_fstring_attr_name(compiled: Step):
    b = Box(w0=1.0, w1=2.0)

    def s(v):
        for j in range(2):
            v = v * getattr(b, f"w{j}")
        return v

    return calls(compiled(s), lambda i: setattr(b, "w1", i + 1.0))


@kind
def test_sees_slice_of_list(compiled: Step):
    d = [1.0, 2.0, 3.0]
    return calls(compiled(lambda v: v * sum(d[1:])), lambda i: d.__setitem__(1, i + 1.0))


@kind
def test_sees_list_to_tensor(compiled: Step):
    d = [1.0, 2.0, 3.0]
    return calls(compiled(lambda v: v * P.tensor(d)), lambda i: d.__setitem__(1, i + 1.0))


@kind
def test_sees_stack_of_tensors_list(compiled: Step):
    d = [P.ones(3), P.ones(3)]
    return calls(compiled(lambda v: v * P.stack(d).sum(0)), lambda i: d.__setitem__(1, P.ones(3) * i))


@kind
def test_sees_map_lambda(compiled: Step):
    d = [1.0, 2.0]
    return calls(compiled(lambda v: v * sum(map(lambda t: t * 2, d))), lambda i: d.__setitem__(1, i + 1.0))


@kind
def test_sees_staticmethod_and_classmethod(compiled: Step):

    class T:
        w = 1.0

        @classmethod
        def a(cls):
            return cls.w

        @staticmethod
        def b():
            return T.w

    return calls(compiled(lambda v: v * T.a() * T.b()), lambda i: setattr(T, "w", i + 1.0))


@kind
def test_sees_with_user_context(compiled: Step):

    class Ctx:
        w = 1.0

        def __enter__(self):
            return self

        def __exit__(self, *a):
            return False

    c = Ctx()

    def s(v):
        with c as k:
            return v * k.w

    return calls(compiled(s), lambda i: setattr(c, "w", i + 1.0))


@kind
def test_sees_user_len_bool(compiled: Step):

    class T:
        def __init__(self):
            self.l = [1]

        def __len__(self):
            return len(self.l)

    t = T()
    return calls(compiled(lambda v: v * len(t) if t else v), lambda i: t.l.append(1) if i < 2 else t.l.clear())


@kind
def test_sees_user_eq_operator(compiled: Step):

    class T:
        def __init__(self):
            self.x = 1.0

        def __mul__(self, o):
            return o * self.x

        def __rmul__(self, o):
            return o * self.x

    t = T()
    return calls(compiled(lambda v: t * v), lambda i: setattr(t, "x", i + 1.0))


@kind
def test_sees_object_from_user_function(compiled: Step):
    reg = {"a": Box(w=1.0)}

    def get(n):
        return reg[n]

    return calls(compiled(lambda v: v * get("a").w), lambda i: setattr(reg["a"], "w", i + 1.0))


@kind
def test_sees_chained_call_result(compiled: Step):

    class T:
        def __init__(self):
            self.c = Box(w=1.0)

        def conf(self):
            return self.c

    t = T()
    return calls(compiled(lambda v: v * t.conf().w), lambda i: setattr(t.c, "w", i + 1.0))


@kind
def test_sees_conditional_expr_value(compiled: Step):
    a, b = (Box(w=1.0), Box(w=2.0))
    return calls(compiled(lambda v: v * (a if v.ndim == 1 else b).w), lambda i: setattr(a, "w", i + 1.0))


@kind
def test_sees_or_default(compiled: Step):
    b = Box(cfg=None)
    dflt = Box(w=1.0)
    return calls(compiled(lambda v: v * (b.cfg or dflt).w), lambda i: setattr(dflt, "w", i + 1.0))


@kind
def test_sees_walrus(compiled: Step):
    d = {"w": 1.0}

    def s(v):
        if (w := d.get("w")) is not None:
            return v * w
        return v

    return calls(compiled(s), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_pop_from_copy(compiled: Step):
    d = [Box(w=1.0)]

    def s(v):
        c = list(d)
        return v * c.pop().w

    return calls(compiled(s), lambda i: setattr(d[0], "w", i + 1.0))


@kind
def test_sees_next_iter_of_list(compiled: Step):
    d = [Box(w=1.0)]
    return calls(compiled(lambda v: v * next(iter(d)).w), lambda i: setattr(d[0], "w", i + 1.0))


@kind
def test_sees_min_max_key(compiled: Step):
    d = [Box(w=1.0), Box(w=3.0)]
    return calls(compiled(lambda v: v * max(d, key=lambda b: b.w).w), lambda i: setattr(d[0], "w", i * 4.0))


@kind
def test_sees_reduce_objects(compiled: Step):
    d = [Box(w=1.0), Box(w=3.0)]
    return calls(
        compiled(lambda v: functools.reduce(lambda u, b: u * b.w, d, v)), lambda i: setattr(d[0], "w", i + 1.0)
    )


@kind
def test_sees_model_output_config(compiled: Step):

    class O:
        def __init__(self, l, c):
            self.logits = l
            self.c = c

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = Box(w=1.0)

        def forward(self, v):
            return O(v * 2, self.c)

    m = M()
    return calls(compiled(lambda v: v * m(v).c.w), lambda i: setattr(m.c, "w", i + 1.0))


@kind
def test_sees_import_inside(compiled: Step):
    mod = types.ModuleType("cfgmod2")
    mod.__file__ = "cfgmod2.py"
    mod.W = 1.0
    sys.modules["cfgmod2"] = mod

    def s(v):
        from cfgmod2 import W

        return v * W

    return calls(compiled(s), lambda i: setattr(mod, "W", i + 1.0))


@kind
def test_sees_slots_attr(compiled: Step):

    class S:
        __slots__ = ("w",)

    s = S()
    s.w = 1.0
    return calls(compiled(lambda v: v * s.w), lambda i: setattr(s, "w", i + 1.0))


@kind
def test_sees_dc_default_factory(compiled: Step):

    @dataclasses.dataclass
    class D:
        ws: list = dataclasses.field(default_factory=lambda: [1.0])

    d = D()
    return calls(compiled(lambda v: v * d.ws[0]), lambda i: d.ws.__setitem__(0, i + 1.0))


@kind
def test_sees_dc_nested_asdict(compiled: Step):

    @dataclasses.dataclass
    class I:
        w: float = 1.0

    @dataclasses.dataclass
    class D:
        i: I = dataclasses.field(default_factory=I)

    d = D()
    return calls(compiled(lambda v: v * dataclasses.asdict(d)["i"]["w"]), lambda i: setattr(d.i, "w", i + 1.0))


@kind
def test_sees_dc_replace(compiled: Step):

    @dataclasses.dataclass
    class D:
        w: float = 1.0
        k: int = 0

    d = D()
    return calls(compiled(lambda v: v * dataclasses.replace(d, k=1).w), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_dc_eq(compiled: Step):

    @dataclasses.dataclass
    class D:
        w: float = 1.0

    a, b = (D(), D())
    return calls(compiled(lambda v: v * 2 if a == b else v), lambda i: setattr(a, "w", 1.0 + i % 2))


@kind
def test_sees_dc_order_minmax(compiled: Step):

    @dataclasses.dataclass(order=True)
    class D:
        w: float = 1.0

    ds = [D(1.0), D(2.0)]
    return calls(compiled(lambda v: v * max(ds).w), lambda i: setattr(ds[0], "w", i * 2.0))


@kind
def test_sees_dc_repr_len(compiled: Step):

    @dataclasses.dataclass
    class D:
        w: float = 1.0

    a = D()
    return calls(compiled(lambda v: v * len(f"{a}")), lambda i: setattr(a, "w", 10.0**i))


@kind
def test_sees_factory_two_closures(compiled: Step):

    def make(w):

        def f(v):
            return v * w

        def setw(x):
            nonlocal w
            w = x

        return (f, setw)

    f1, s1 = make(1.0)
    f2, s2 = make(1.0)
    return calls(compiled(lambda v: f1(v) + f2(v)), lambda i: s2(i + 1.0))


@kind
def test_sees_gen_method(compiled: Step):

    class T:
        def __init__(self):
            self.ws = [1.0, 2.0]

        def each(self):
            for w in self.ws:
                yield w

    t = T()

    def f(v):
        for w in t.each():
            v = v * w
        return v

    return calls(compiled(f), lambda i: t.ws.__setitem__(1, i + 1.0))


@kind
def test_sees_gen_objects_attr(compiled: Step):
    bs = [Box(w=1.0), Box(w=2.0)]

    def each():
        yield from bs

    return calls(compiled(lambda v: v * sum((b.w for b in each()))), lambda i: setattr(bs[1], "w", i + 1.0))


@kind
def test_sees_listcomp_attr(compiled: Step):
    bs = [Box(w=1.0), Box(w=2.0)]
    return calls(compiled(lambda v: v * sum([b.w for b in bs])), lambda i: setattr(bs[1], "w", i + 1.0))


@kind
def test_sees_dictcomp(compiled: Step):
    bs = {"a": Box(w=1.0)}
    return calls(compiled(lambda v: v * {k: b.w for k, b in bs.items()}["a"]), lambda i: setattr(bs["a"], "w", i + 1.0))


@kind
def test_sees_setcomp_cond(compiled: Step):
    bs = [Box(on=True), Box(on=False)]
    return calls(compiled(lambda v: v * len({id(b) for b in bs if b.on})), lambda i: setattr(bs[1], "on", bool(i % 2)))


@kind
def test_sees_nested_comp_arrays(compiled: Step):
    arrs = [np.array([1.0]), np.array([2.0])]
    return calls(
        compiled(lambda v: v * sum([float(np.mean(a)) for a in arrs])), lambda i: arrs[1].__setitem__(0, i + 1.0)
    )


@kind
def test_sees_walrus2(compiled: Step):
    b = Box(w=1.0)
    return calls(compiled(lambda v: v * y if (y := b.w) > 1 else v), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_match_class(compiled: Step):
    b = Box(kind="a", w=2.0)

    def f(v):
        match b:
            case Box(kind="a", w=w):
                return v * w
            case _:
                return v

    return calls(compiled(f), lambda i: (setattr(b, "w", i + 1.0), setattr(b, "kind", "ab"[i // 2])))


@kind
def test_sees_match_seq(compiled: Step):
    l = ["scale", 2.0]

    def f(v):
        match l:
            case ["scale", w]:
                return v * w
            case _:
                return v

    return calls(compiled(f), lambda i: l.__setitem__(1, i + 1.0))


@kind
def test_sees_match_dc(compiled: Step):

    @dataclasses.dataclass
    class D:
        w: float

    b = Box(d=D(1.0))

    def f(v):
        match b.d:
            case D(w):
                return v * w

    return calls(compiled(f), lambda i: setattr(b.d, "w", i + 1.0))


@kind
def test_sees_try_attr(compiled: Step):
    b = Box()

    def f(v):
        try:
            return v * b.w
        except AttributeError:
            return v

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0) if i else None)


@kind
def test_sees_try_index(compiled: Step):
    l = []

    def f(v):
        try:
            return v * l[0]
        except IndexError:
            return v

    return calls(compiled(f), lambda i: l.append(i + 1.0) if i else None)


@kind
def test_sees_try_finally(compiled: Step):
    b = Box(w=1.0)

    def f(v):
        try:
            return v * b.w
        finally:
            pass

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_with_lock(compiled: Step):
    lk = threading.Lock()
    b = Box(w=1.0)

    def f(v):
        with lk:
            return v * b.w

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_with_contextmanager(compiled: Step):
    b = Box(w=1.0)

    @contextlib.contextmanager
    def cm():
        yield b.w

    def f(v):
        with cm() as w:
            return v * w

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_with_cm_yield_obj(compiled: Step):
    b = Box(w=1.0)

    @contextlib.contextmanager
    def cm():
        yield b

    def f(v):
        with cm() as k:
            return v * k.w

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_lambdas_in_dict(compiled: Step):
    d = {"f": lambda v: v * 2}
    return calls(compiled(lambda v: d["f"](v)), lambda i: d.update(f=(lambda k: lambda v: v * k)(i + 1.0)))


@kind
def test_sees_partial_in_attr(compiled: Step):
    b = Box(f=partial(lambda k, v: v * k, 2.0))
    return calls(compiled(lambda v: b.f(v)), lambda i: setattr(b, "f", partial(lambda k, v: v * k, i + 1.0)))


@kind
def test_sees_partial_list(compiled: Step):
    l = [1.0]
    p = partial(lambda ws, v: v * ws[0], l)
    b = Box(p=p)
    return calls(compiled(lambda v: b.p(v)), lambda i: l.__setitem__(0, i + 1.0))


@kind
def test_sees_partial_kw(compiled: Step):
    c = Box(w=1.0)
    p = partial(lambda v, cfg: v * cfg.w, cfg=c)
    return calls(compiled(lambda v: p(v)), lambda i: setattr(c, "w", i + 1.0))


@kind
def test_sees_partial_cfunc(compiled: Step):
    l = [1.0, 2.0]
    p = partial(max, l)
    return calls(compiled(lambda v: v * p()), lambda i: l.__setitem__(0, i * 3.0))


@kind
def test_sees_partialmethod(compiled: Step):

    class T:
        k = 1.0

        def f(self, a, v):
            return v * a * self.k

        g = partialmethod(f, 2.0)

    t = T()
    return calls(compiled(lambda v: t.g(v)), lambda i: setattr(t, "k", i + 1.0))


@kind
def test_sees_singledispatch(compiled: Step):

    @singledispatch
    def g(b, v):
        return v

    @g.register
    def _(b: Box, v):
        return v * b.w

    b = Box(w=1.0)
    return calls(compiled(lambda v: g(b, v)), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_enum_auto_attr(compiled: Step):

    class M(enum.Enum):
        A = 1.0
        B = 2.0

    cfg = {"m": M.A}
    return calls(compiled(lambda v: v * cfg["m"].value), lambda i: cfg.update(m=[M.A, M.B][i % 2]))


@kind
def test_sees_int_enum(compiled: Step):

    class M(enum.IntEnum):
        A = 1
        B = 2

    b = Box(m=M.A)
    return calls(compiled(lambda v: v * b.m), lambda i: setattr(b, "m", [M.A, M.B][i % 2]))


@kind
def test_sees_flag_enum(compiled: Step):

    class M(enum.Flag):
        A = 1
        B = 2

    b = Box(m=M.A)
    return calls(compiled(lambda v: v * 2 if M.B in b.m else v), lambda i: setattr(b, "m", M.A | M.B if i % 2 else M.A))


@kind
def test_sees_enum_table(compiled: Step):

    class M(enum.Enum):
        A = 1
        B = 2

    t = {M.A: 1.0, M.B: 2.0}
    b = Box(m=M.A)
    return calls(
        compiled(lambda v: v * t[b.m]), lambda i: (setattr(b, "m", [M.A, M.B][i % 2]), t.__setitem__(M.B, i + 5.0))
    )


@kind
def test_sees_np_scalar(compiled: Step):
    b = Box(w=np.float32(1))
    return calls(compiled(lambda v: v * float(b.w)), lambda i: setattr(b, "w", np.float32(i + 1)))


@kind
def test_sees_np_scalar_in_dict(compiled: Step):
    b = {"w": np.float64(1)}
    return calls(compiled(lambda v: v * b["w"].item()), lambda i: b.update(w=np.float64(i + 1)))


@kind
def test_sees_np_0d(compiled: Step):
    a = np.array(1.0)
    return calls(compiled(lambda v: v * float(a)), lambda i: a.__setitem__((), i + 1.0))


@kind
def test_sees_np_slice_view(compiled: Step):
    a = np.array([1.0, 2.0, 3.0])
    return calls(compiled(lambda v: v * float(a[1:].sum())), lambda i: a.__setitem__(1, i + 1.0))


@kind
def test_sees_np_compare(compiled: Step):
    a = np.array([1.0])
    return calls(compiled(lambda v: v * 2 if (a > 1.5).any() else v), lambda i: a.__setitem__(0, i + 1.0))


@kind
def test_sees_np_item(compiled: Step):
    a = np.array([[1.0]])
    return calls(compiled(lambda v: v * a.item()), lambda i: a.__setitem__((0, 0), i + 1.0))


@kind
def test_sees_np_attr_array(compiled: Step):
    b = Box(a=np.array([1.0]))
    return calls(compiled(lambda v: v * float(b.a[0])), lambda i: b.a.__setitem__(0, i + 1.0))


@kind
def test_sees_np_array_replaced(compiled: Step):
    b = Box(a=np.array([1.0]))
    return calls(compiled(lambda v: v * float(b.a[0])), lambda i: setattr(b, "a", np.array([i + 1.0])))


@kind
def test_sees_np_big_array_item(compiled: Step):
    a = np.ones(1000)
    return calls(compiled(lambda v: v * float(a[5])), lambda i: a.__setitem__(5, i + 1.0))


@kind
def test_sees_np_structured(compiled: Step):
    a = np.zeros(2, dtype=[("w", float)])
    return calls(compiled(lambda v: v * float(a["w"][0])), lambda i: a["w"].__setitem__(0, i + 1.0))


@kind
def test_sees_environ_in(compiled: Step):
    os.environ.pop("XZ", None)

    def ch(i):
        os.environ.pop("XZ", None) if i % 2 else os.environ.__setitem__("XZ", "1")

    return calls(compiled(lambda v: v * 2 if "XZ" in os.environ else v), ch)


@kind
def test_sees_getenv(compiled: Step):
    return calls(
        compiled(lambda v: v * float(os.getenv("XQ", "1"))), lambda i: os.environ.__setitem__("XQ", str(i + 1))
    )


@kind
def test_sees_from_os_environ(compiled: Step):
    from os import environ as E

    return calls(compiled(lambda v: v * float(E["XQ2"])), lambda i: os.environ.__setitem__("XQ2", str(i + 1)))


@kind
def test_sees_environ_dict(compiled: Step):
    os.environ["XQ3"] = "1"
    return calls(
        compiled(lambda v: v * float(dict(os.environ)["XQ3"])), lambda i: os.environ.__setitem__("XQ3", str(i + 1))
    )


@kind
def test_sees_training_like_flag(compiled: Step):

    class A:
        training = True

        def act(self, v):
            return v * 2 if self.training else v

    a = A()
    return calls(compiled(lambda v: a.act(v)), lambda i: setattr(a, "training", bool(i % 2)))


@kind
def test_sees_len_history(compiled: Step):
    b = Box(history=[])
    return calls(compiled(lambda v: v * (1 + len(b.history))), lambda i: b.history.append(i))


@kind
def test_sees_len_deque_attr(compiled: Step):
    b = Box(h=deque(maxlen=5))
    return calls(compiled(lambda v: v * (1 + len(b.h))), lambda i: b.h.append(i))


@kind
def test_sees_id_in_set(compiled: Step):
    s = set()
    b = Box()
    return calls(compiled(lambda v: v * 2 if id(b) in s else v), lambda i: s.add(id(b)) if i else None)


@kind
def test_sees_obj_in_set(compiled: Step):
    s = set()
    b = Box()
    return calls(compiled(lambda v: v * 2 if b in s else v), lambda i: s.add(b) if i else None)


@kind
def test_sees_str_in_list(compiled: Step):
    s = ["a"]
    return calls(compiled(lambda v: v * 2 if "b" in s else v), lambda i: s.append("b") if i else None)


@kind
def test_sees_counter_missing(compiled: Step):
    c = Counter()
    return calls(compiled(lambda v: v * (1 + c["a"])), lambda i: c.update(["a"]))


@kind
def test_sees_chainmap_get(compiled: Step):
    d = {"w": 1.0}
    c = ChainMap({}, d)
    return calls(compiled(lambda v: v * c.get("w", 0.0)), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_chainmap_in(compiled: Step):
    d = {}
    c = ChainMap({}, d)
    return calls(compiled(lambda v: v * 2 if "w" in c else v), lambda i: d.update(w=i + 1.0) if i else None)


@kind
def test_sees_userdict(compiled: Step):
    d = UserDict(w=1.0)
    return calls(compiled(lambda v: v * d["w"]), lambda i: d.__setitem__("w", i + 1.0))


@kind
def test_sees_userlist(compiled: Step):
    d = UserList([1.0])
    return calls(compiled(lambda v: v * d[0]), lambda i: d.__setitem__(0, i + 1.0))


@kind
def test_sees_ordereddict_items(compiled: Step):
    d = OrderedDict(a=1.0, b=2.0)
    return calls(compiled(lambda v: v * next(iter(d.values()))), lambda i: d.move_to_end(list(d)[0]))


@kind
def test_sees_mappingproxy(compiled: Step):
    d = {"w": 1.0}
    m = types.MappingProxyType(d)
    return calls(compiled(lambda v: v * m["w"]), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_dict_view_kept(compiled: Step):
    d = {"w": 1.0}
    vs = d.values()
    return calls(compiled(lambda v: v * sum(vs)), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_dict_view_attr(compiled: Step):
    d = {"w": 1.0}
    b = Box(v=d.items())
    return calls(compiled(lambda v: v * dict(b.v)["w"]), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_replay_len_gate(compiled: Step):
    rb = ReplayBuffer()

    def f(v):
        if len(rb) < 2:
            return v
        return v * 2

    return calls(compiled(f), lambda i: rb.push(i), 4)


@kind
def test_sees_ctxvar_in_class(compiled: Step):

    class T:
        cv = contextvars.ContextVar("z", default=1.0)

    return calls(compiled(lambda v: v * T.cv.get()), lambda i: T.cv.set(i + 1.0) and None)


@kind
def test_sees_decimal(compiled: Step):
    b = Box(d=decimal.Decimal("1"))
    return calls(compiled(lambda v: v * float(b.d)), lambda i: setattr(b, "d", decimal.Decimal(i + 1)))


@kind
def test_sees_fraction(compiled: Step):
    b = Box(d=fractions.Fraction(1, 2))
    return calls(compiled(lambda v: v * float(b.d)), lambda i: setattr(b, "d", fractions.Fraction(i + 1, 2)))


@kind
def test_sees_array_array(compiled: Step):
    a = array.array("d", [1.0])
    return calls(compiled(lambda v: v * a[0]), lambda i: a.__setitem__(0, i + 1.0))


@kind
def test_sees_array_sum(compiled: Step):
    a = array.array("d", [1.0])
    return calls(compiled(lambda v: v * sum(a)), lambda i: a.__setitem__(0, i + 1.0))


@kind
def test_sees_bytearray(compiled: Step):
    a = bytearray([1])
    return calls(compiled(lambda v: v * a[0]), lambda i: a.__setitem__(0, i + 1))


@kind
def test_sees_memoryview(compiled: Step):
    a = bytearray([1])
    m = memoryview(a)
    return calls(compiled(lambda v: v * m[0]), lambda i: a.__setitem__(0, i + 1))


@kind
def test_sees_memoryview_sum(compiled: Step):
    a = bytearray([1])
    m = memoryview(a)
    return calls(compiled(lambda v: v * sum(m)), lambda i: a.__setitem__(0, i + 1))


@kind
def test_sees_heap_nsmallest(compiled: Step):
    h = [1.0, 2.0, 3.0]
    return calls(compiled(lambda v: v * heapq.nsmallest(1, h)[0]), lambda i: h.__setitem__(0, i + 1.0))


@kind
def test_sees_bisect(compiled: Step):
    h = [1.0, 2.0, 3.0]
    return calls(compiled(lambda v: v * bisect.bisect(h, 2.5)), lambda i: h.append(0.0) or h.sort())


@kind
def test_sees_queue_size(compiled: Step):
    q = queue.Queue()
    return calls(compiled(lambda v: v * (1 + q.qsize())), lambda i: q.put(1))


@kind
def test_sees_event_set(compiled: Step):
    e = threading.Event()
    return calls(compiled(lambda v: v * 2 if e.is_set() else v), lambda i: e.set() if i else None)


@kind
def test_sees_getattribute_user(compiled: Step):

    class T:
        def __init__(self):
            self.w = 1.0

        def __getattribute__(self, n):
            return super().__getattribute__(n)

    t = T()
    return calls(compiled(lambda v: v * t.w), lambda i: setattr(t, "w", i + 1.0))


@kind
def test_sees_object_getattribute(compiled: Step):
    t = Box(w=1.0)
    return calls(compiled(lambda v: v * object.__getattribute__(t, "w")), lambda i: setattr(t, "w", i + 1.0))


@kind
def test_sees_descriptor_get(compiled: Step):

    class De:
        def __set_name__(self, o, n):
            self.n = "_" + n

        def __get__(self, o, t=None):
            return getattr(o, self.n)

        def __set__(self, o, x):
            setattr(o, self.n, x)

    class T:
        w = De()

    t = T()
    t.w = 1.0
    return calls(compiled(lambda v: v * t.w), lambda i: setattr(t, "w", i + 1.0))


@kind
def test_sees_metaclass_attr(compiled: Step):

    class M(type):
        @property
        def w(cls):
            return cls._w

    class T(metaclass=M):
        _w = 1.0

    return calls(compiled(lambda v: v * T.w), lambda i: setattr(T, "_w", i + 1.0))


@kind
def test_sees_metaclass_getattr(compiled: Step):
    st = {"w": 1.0}

    class M(type):
        def __getattr__(cls, n):
            if n == "w":
                return st["w"]
            raise AttributeError(n)

    class T(metaclass=M):
        pass

    return calls(compiled(lambda v: v * T.w), lambda i: st.update(w=i + 1.0))


@kind
def test_sees_inherited_class_attr(compiled: Step):

    class A:
        w = 1.0

    class B(A):
        pass

    return calls(compiled(lambda v: v * B.w), lambda i: setattr(A, "w", i + 1.0))


@kind
def test_sees_inherited_shadowed_later(compiled: Step):

    class A:
        w = 1.0

    class B(A):
        pass

    b = B()
    return calls(compiled(lambda v: v * b.w), lambda i: setattr(B, "w", i + 1.0) if i else None)


@kind
def test_sees_method_on_instance(compiled: Step):

    class T:
        def f(self, v):
            return v

    t = T()

    def s(v):
        return t.f(v)

    return calls(compiled(s), lambda i: setattr(t, "f", (lambda k: lambda v: v * k)(i + 1.0)) if i else None)


@kind
def test_sees_method_on_class(compiled: Step):

    class T:
        def f(self, v):
            return v

    t = T()

    def s(v):
        return t.f(v)

    return calls(compiled(s), lambda i: setattr(T, "f", (lambda k: lambda s, v: v * k)(i + 1.0)) if i else None)


@kind
def test_sees_global_class_alias(compiled: Step):
    globals()["ACT"] = nn.ReLU
    return calls(compiled(lambda v: ACT()(v)), lambda i: globals().__setitem__("ACT", [nn.ReLU, nn.Tanh][i % 2]))


@kind
def test_sees_global_module_alias(compiled: Step):
    a = types.ModuleType("ba")
    a.f = lambda v: v * 2
    b = types.ModuleType("bb")
    b.f = lambda v: v * 3
    globals()["BK"] = a
    return calls(compiled(lambda v: BK.f(v)), lambda i: globals().__setitem__("BK", [a, b][i % 2]))


@kind
def test_sees_closure_class_alias(compiled: Step):
    act = nn.ReLU

    def s(v):
        return act()(v)

    def ch(i):
        nonlocal act
        act = [nn.ReLU, nn.Tanh][i % 2]

    return calls(compiled(s), ch)


@kind
def test_sees_builtin_func_attr(compiled: Step):
    b = Box(f=min)
    return calls(compiled(lambda v: v * b.f(1.0, 2.0)), lambda i: setattr(b, "f", [min, max][i % 2]))


@kind
def test_sees_F_func_attr(compiled: Step):
    b = Box(f=F.relu)
    return calls(compiled(lambda v: b.f(v)), lambda i: setattr(b, "f", [F.relu, P.tanh][i % 2]))


@kind
def test_sees_registry_str(compiled: Step):
    R = {"relu": F.relu, "tanh": P.tanh}
    cfg = Box(act="relu")
    return calls(compiled(lambda v: R[cfg.act](v)), lambda i: setattr(cfg, "act", ["relu", "tanh"][i % 2]))


@kind
def test_sees_getattr_F(compiled: Step):
    cfg = Box(act="relu")
    return calls(compiled(lambda v: getattr(P, cfg.act)(v)), lambda i: setattr(cfg, "act", ["relu", "tanh"][i % 2]))


@kind
def test_sees_eval_str(compiled: Step):
    return calls(compiled(lambda v: v * eval("G1")), lambda i: globals().__setitem__("G1", i + 1.0))


@kind
def test_sees_exec_str(compiled: Step):

    def f(v):
        d = {}
        exec("w=G1*2", globals(), d)
        return v * d["w"]

    return calls(compiled(f), lambda i: globals().__setitem__("G1", i + 1.0))


@kind
def test_sees_import_func(compiled: Step):
    mod = types.ModuleType("cfgm3")
    mod.__file__ = "cfgm3.py"
    mod.W = 1.0
    sys.modules["cfgm3"] = mod

    def f(v):
        import cfgm3

        return v * cfgm3.W

    return calls(compiled(f), lambda i: setattr(mod, "W", i + 1.0))


@kind
def test_sees_sys_modules(compiled: Step):
    mod = types.ModuleType("cfgm4")
    mod.__file__ = "cfgm4.py"
    mod.W = 1.0
    sys.modules["cfgm4"] = mod
    return calls(compiled(lambda v: v * sys.modules["cfgm4"].W), lambda i: setattr(mod, "W", i + 1.0))


@kind
def test_sees_big_function_extended_arg(compiled: Step):
    b = Box(**{f"a{i}": 1.0 for i in range(300)})
    body = "def f(v):\n" + "".join((f"    v=v*b.a{i}\n" for i in range(300))) + "    return v\n"
    sp = {"b": b}
    exec(compile(body, "bigf.py", "exec"), sp)
    return calls(compiled(sp["f"]), lambda i: setattr(b, "a299", i + 1.0))


@kind
def test_sees_many_globals_extended(compiled: Step):
    sp = {f"g{i}": 1.0 for i in range(300)}
    body = "def f(v):\n" + "".join((f"    v=v*g{i}\n" for i in range(300))) + "    return v\n"
    exec(compile(body, "bigg.py", "exec"), sp)
    return calls(compiled(sp["f"]), lambda i: sp.__setitem__("g299", i + 1.0))


@kind
def test_sees_long_loop_ext_jump(compiled: Step):
    b = Box(w=1.0)
    body = (
        "def f(v):\n  for i in range(2):\n"
        + "".join((f"    x{i}=i+{i}\n" for i in range(400)))
        + "    v=v*b.w\n  return v\n"
    )
    sp = {"b": b}
    exec(compile(body, "bigl.py", "exec"), sp)
    return calls(compiled(sp["f"]), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_kwonly_default(compiled: Step):
    l = [1.0]

    def f(v, *, ws=l):
        return v * ws[0]

    return calls(compiled(lambda v: f(v)), lambda i: l.__setitem__(0, i + 1.0))


@kind
def test_sees_default_of_helper_replaced(compiled: Step):

    def h(v, k=1.0):
        return v * k

    return calls(compiled(lambda v: h(v)), lambda i: setattr(h, "__defaults__", (i + 1.0,)))


@kind
def test_sees_nested_functions_deep(compiled: Step):
    b = Box(w=1.0)

    def f(v):

        def g(u):

            def h(t):
                return t * b.w

            return h(u)

        return g(v)

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_inner_func_reads_cell(compiled: Step):
    w = 1.0

    def f(v):

        def g(u):
            return u * w

        return g(v)

    def ch(i):
        nonlocal w
        w = i + 1.0

    return calls(compiled(f), ch)


@kind
def test_sees_inner_lambda_default(compiled: Step):
    b = Box(w=1.0)

    def f(v):
        g = lambda u, c=b: u * c.w
        return g(v)

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_recursion(compiled: Step):
    t = {"w": 1.0, "kids": [{"w": 1.0, "kids": []}]}

    def walk(n):
        return n["w"] + sum((walk(k) for k in n["kids"]))

    return calls(compiled(lambda v: v * walk(t)), lambda i: t["kids"][0].update(w=i + 1.0))


@kind
def test_sees_linked(compiled: Step):
    c = Box(w=1.0, next=None)
    a = Box(w=1.0, next=c)

    def f(v):
        n = a
        while n is not None:
            v = v * n.w
            n = n.next
        return v

    return calls(compiled(f), lambda i: setattr(c, "w", i + 1.0))


@kind
def test_sees_module_list_plain(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.ws = [1.0, 2.0]

        def forward(self, v):
            for w in self.ws:
                v = v * w
            return v

    m = M()
    return calls(compiled(lambda v: m(v)), lambda i: m.ws.__setitem__(1, i + 1.0))


@kind
def test_sees_module_dict_plain(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.cfg = {"a": {"b": 1.0}}

        def forward(self, v):
            return v * self.cfg["a"]["b"]

    m = M()
    return calls(compiled(lambda v: m(v)), lambda i: m.cfg["a"].update(b=i + 1.0))


@kind
def test_sees_module_shared_cfg(compiled: Step):
    cfg = Box(p=1.0)

    class M(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.c = c

        def forward(self, v):
            return v * self.c.p

    m = nn.Sequential(M(cfg), nn.ReLU(), M(cfg))
    s = compiled(lambda v: m(v))
    return calls(s, lambda i: setattr(cfg, "p", i + 1.0))


@kind
def test_sees_module_property(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self._s = [1.0]

        @property
        def scale(self):
            return self._s[0]

        def forward(self, v):
            return v * self.scale

    m = M()
    return calls(compiled(lambda v: m(v)), lambda i: m._s.__setitem__(0, i + 1.0))


@kind
def test_sees_module_in_plain_list(compiled: Step):
    ms = [nn.ReLU(), nn.Tanh()]
    return calls(compiled(lambda v: ms[0](v)), lambda i: ms.reverse())


@kind
def test_sees_children_cfg(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.cfg = {"w": 1.0}

        def forward(self, v):
            return v

    m = nn.Sequential(M())
    return calls(compiled(lambda v: v * next(m.children()).cfg["w"]), lambda i: m[0].cfg.update(w=i + 1.0))


@kind
def test_sees_children_loop_cfg(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.cfg = Box(w=1.0)

        def forward(self, v):
            return v

    m = nn.Sequential(M(), M())

    def f(v):
        for c in m.children():
            v = v * c.cfg.w
        return v

    return calls(compiled(f), lambda i: setattr(m[1].cfg, "w", i + 1.0))


@kind
def test_sees_named_modules_flag(compiled: Step):
    m = nn.Sequential(nn.ReLU(), nn.Tanh())
    skip = {"1"}

    def f(v):
        for n, c in m.named_children():
            if n not in skip:
                v = c(v)
        return v

    return calls(compiled(f), lambda i: skip.clear() if i else None)


@kind
def test_sees_requires_grad_toggle(compiled: Step):
    m = nn.Linear(3, 1)
    b = Box(freeze=False)

    def f(v):
        if b.freeze:
            return v
        return v * 2

    return calls(compiled(f), lambda i: setattr(b, "freeze", bool(i % 2)))


@kind
def test_sees_ema_plain(compiled: Step):
    b = Box(beta=0.9)
    e = P.zeros(3)

    def f(v):
        with P.no_grad():
            e.assign(e * b.beta + v * (1 - b.beta))
        return e * 1

    return calls(compiled(f), lambda i: setattr(b, "beta", 0.9 - 0.1 * i))


@kind
def test_sees_buf_arg_and_plain(compiled: Step):
    b = Box(buf=P.ones(3))
    f = compiled(lambda v: v + b.buf)
    out = [f(b.buf)]
    out.append(f(P.ones(3) * 5))
    b.buf = P.ones(3) * 7
    out.append(f(P.ones(3)))
    out.append(f(b.buf))
    return out


@kind
def test_sees_buf_arg_write(compiled: Step):
    b = Box(buf=P.zeros(3))

    def f(v):
        b.buf.add_(1.0)
        return v + b.buf

    f = compiled(f)
    return [f(b.buf), f(P.ones(3)), f(b.buf)]


@kind
def test_sees_dqn(compiled: Step):
    P.manual_seed(0)

    class S(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(P.ones(3))

        def forward(self, v):
            return v * self.w

    class A:
        pass

    a = A()
    a.q = S()
    a.target = copy.deepcopy(a.q)
    o = P.optim.SGD(a.q.parameters(), lr=0.1)

    def f(v):
        o.zero_grad()
        l = ((a.q(v) - a.target(v).detach() * 2) ** 2).sum()
        l.backward()
        o.step()
        return l.detach()

    f = compiled(f)
    out = []
    for i in range(6):
        out.append(f(vector()))
        if i % 2:
            a.target = copy.deepcopy(a.q)
    return out


@kind
def test_sees_kl_anneal(compiled: Step):

    class T:
        def __init__(self):
            self.beta = 0.0

        def loss(self, v):
            return (v * v).sum() * self.beta

    t = T()
    return calls(compiled(t.loss), lambda i: setattr(t, "beta", i / 10))


@kind
def test_sees_logging_module(compiled: Step):
    lg = logging.getLogger("x")
    b = Box(w=1.0)

    def f(v):
        lg.debug("w %s", b.w)
        return v * b.w

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_log_level(compiled: Step):
    lg = logging.getLogger("y")
    return calls(compiled(lambda v: v * 2 if lg.isEnabledFor(10) else v), lambda i: lg.setLevel([10, 30][i % 2]))


@kind
def test_sees_string_template(compiled: Step):
    b = Box(n="a")
    d = {"xa": 1.0, "xb": 2.0}
    return calls(compiled(lambda v: v * d["x%s" % b.n]), lambda i: (setattr(b, "n", "ab"[i % 2]), d.update(xb=i + 3.0)))


@kind
def test_sees_str_format(compiled: Step):
    b = Box(n="a")
    d = {"xa": 1.0, "xb": 2.0}
    return calls(
        compiled(lambda v: v * d["x{}".format(b.n)]), lambda i: (setattr(b, "n", "ab"[i % 2]), d.update(xb=i + 3.0))
    )


@kind
def test_sees_tuple_key(compiled: Step):
    d = {("a", 1): 1.0}
    b = Box(k="a")
    return calls(compiled(lambda v: v * d[b.k, 1]), lambda i: d.__setitem__(("a", 1), i + 1.0))


@kind
def test_sees_obj_key(compiled: Step):
    k = Box()
    d = {k: 1.0}
    return calls(compiled(lambda v: v * d[k]), lambda i: d.__setitem__(k, i + 1.0))


@kind
def test_sees_shape_key(compiled: Step):
    d = {3: 1.0}
    return calls(compiled(lambda v: v * d[v.shape[0]]), lambda i: d.__setitem__(3, i + 1.0))


@kind
def test_sees_unknown_key_obj(compiled: Step):
    d = {3: Box(w=1.0)}
    return calls(compiled(lambda v: v * d[int(v.shape[0])].w), lambda i: setattr(d[3], "w", i + 1.0))


@kind
def test_sees_unknown_key_chain(compiled: Step):
    d = {3: Box(c=Box(w=1.0))}
    return calls(compiled(lambda v: v * d[int(v.shape[0])].c.w), lambda i: setattr(d[3].c, "w", i + 1.0))


@kind
def test_sees_unknown_key_list_item(compiled: Step):
    d = {3: [1.0]}
    return calls(compiled(lambda v: v * d[int(v.shape[0])][0]), lambda i: d[3].__setitem__(0, i + 1.0))


@kind
def test_sees_unknown_then_method(compiled: Step):

    class T:
        def __init__(self):
            self.w = 1.0

        def f(self):
            return self.w

    d = {3: T()}
    return calls(compiled(lambda v: v * d[int(v.shape[0])].f()), lambda i: setattr(d[3], "w", i + 1.0))


@kind
def test_sees_own_list_of_dicts_to_c(compiled: Step):
    d = {"w": 1.0}
    return calls(compiled(lambda v: v * len(json.dumps([d]))), lambda i: d.update(w=10.0**i))


@kind
def test_sees_own_dict_of_dict_to_c(compiled: Step):
    d = {"w": 1.0}

    def f(v):
        o = {"a": d}
        return v * len(json.dumps(o))

    return calls(compiled(f), lambda i: d.update(w=10.0**i))


@kind
def test_sees_deepcopy_cfg(compiled: Step):
    c = Box(i=Box(w=1.0))
    return calls(compiled(lambda v: v * copy.deepcopy(c).i.w), lambda i: setattr(c.i, "w", i + 1.0))


@kind
def test_sees_copy_cfg(compiled: Step):
    c = Box(w=1.0)

    def f(v):
        k = copy.copy(c)
        k.w += 1
        return v * k.w

    return calls(compiled(f), lambda i: setattr(c, "w", i + 1.0))


@kind
def test_sees_sorted_attr(compiled: Step):
    bs = [Box(w=1.0), Box(w=2.0)]
    return calls(
        compiled(lambda v: v * sorted(bs, key=operator.attrgetter("w"))[0].w), lambda i: setattr(bs[0], "w", i * 2.0)
    )


@kind
def test_sees_filter_lambda(compiled: Step):
    bs = [Box(w=1.0, on=True), Box(w=2.0, on=False)]
    return calls(
        compiled(lambda v: v * sum((b.w for b in filter(lambda b: b.on, bs)))),
        lambda i: setattr(bs[1], "on", bool(i % 2)),
    )


@kind
def test_sees_any_all(compiled: Step):
    fl = [False, False]
    return calls(compiled(lambda v: v * 2 if any(fl) else v), lambda i: fl.__setitem__(0, bool(i % 2)))


@kind
def test_sees_zip_star(compiled: Step):
    ps = [(1.0, 2.0), (3.0, 4.0)]
    return calls(compiled(lambda v: v * list(zip(*ps))[0][0]), lambda i: ps.__setitem__(0, (i + 1.0, 0.0)))


@kind
def test_sees_star_unpack(compiled: Step):
    l = [1.0, 2.0, 3.0]

    def f(v):
        a, *r = l
        return v * a * sum(r)

    return calls(compiled(f), lambda i: l.__setitem__(2, i + 1.0))


@kind
def test_sees_tuple_attr_replaced(compiled: Step):
    b = Box(t=(1.0, 2.0))
    return calls(compiled(lambda v: v * b.t[1]), lambda i: setattr(b, "t", (1.0, i + 1.0)))


@kind
def test_sees_dict_merge(compiled: Step):
    a = {"w": 1.0}
    return calls(compiled(lambda v: v * ({"w": 0.0} | a)["w"]), lambda i: a.update(w=i + 1.0))


@kind
def test_sees_dict_dstar(compiled: Step):
    a = {"w": 1.0}
    return calls(compiled(lambda v: v * {**a, "z": 1}["w"]), lambda i: a.update(w=i + 1.0))


@kind
def test_sees_list_star(compiled: Step):
    a = [1.0]
    return calls(compiled(lambda v: v * sum([*a, 1.0])), lambda i: a.__setitem__(0, i + 1.0))


@kind
def test_sees_list_concat(compiled: Step):
    a = [1.0]
    return calls(compiled(lambda v: v * (a + [2.0])[0]), lambda i: a.__setitem__(0, i + 1.0))


@kind
def test_sees_list_eq(compiled: Step):
    a = [1.0]
    return calls(compiled(lambda v: v * 2 if a == [2.0] else v), lambda i: a.__setitem__(0, i + 1.0))


@kind
def test_sees_not_list(compiled: Step):
    a = []
    return calls(compiled(lambda v: v * 2 if not a else v), lambda i: a.append(1) if i else None)


@kind
def test_sees_bool_list(compiled: Step):
    a = []
    return calls(compiled(lambda v: v * (1 + bool(a))), lambda i: a.append(1) if i else None)


@kind
def test_sees_is_none_attr(compiled: Step):
    b = Box(x=None)
    return calls(compiled(lambda v: v if b.x is None else v * b.x), lambda i: setattr(b, "x", i + 1.0) if i else None)


@kind
def test_sees_ternary_global(compiled: Step):
    return calls(compiled(lambda v: v * 2 if G1 > 1 else v), lambda i: globals().__setitem__("G1", i + 1.0))


@kind
def test_sees_while_attr(compiled: Step):
    b = Box(n=1)

    def f(v):
        k = 0
        while k < b.n:
            v = v * 2
            k += 1
        return v

    return calls(compiled(f), lambda i: setattr(b, "n", i + 1))


@kind
def test_sees_range_attr(compiled: Step):
    b = Box(n=1)

    def f(v):
        for _ in range(b.n):
            v = v * 2
        return v

    return calls(compiled(f), lambda i: setattr(b, "n", i + 1))


@kind
def test_sees_assert_attr(compiled: Step):
    b = Box(n=1)

    def f(v):
        assert b.n > 0
        return v * b.n

    return calls(compiled(f), lambda i: setattr(b, "n", i + 1))


@kind
def test_sees_global_del_added(compiled: Step):
    globals().pop("GX", None)
    return calls(
        compiled(lambda v: v * 2 if "GX" in globals() else v), lambda i: globals().__setitem__("GX", 1) if i else None
    )


@kind
def test_sees_global_nameerror(compiled: Step):
    globals().pop("GY", None)

    def f(v):
        try:
            return v * GY
        except NameError:
            return v

    return calls(compiled(f), lambda i: globals().__setitem__("GY", i + 1.0) if i else None)


@kind
def test_sees_builtin_shadowed(compiled: Step):
    globals().pop("max", None)

    def ch(i):
        if i:
            globals()["max"] = lambda *a: 5.0

    r = calls(compiled(lambda v: v * max(1.0, 2.0)), ch)
    globals().pop("max", None)
    return r


@kind
def test_sees_callable_attr_obj(compiled: Step):

    class L:
        def __init__(self):
            self.k = 1.0

        def __call__(self, v):
            return v * self.k

    b = Box(loss=L())
    return calls(compiled(lambda v: b.loss(v)), lambda i: setattr(b.loss, "k", i + 1.0))


@kind
def test_sees_abc(compiled: Step):

    class A(abc.ABC):
        @abc.abstractmethod
        def f(self): ...

    class B(A):
        def __init__(self):
            self.w = 1.0

        def f(self):
            return self.w

    b = B()
    return calls(compiled(lambda v: v * b.f()), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_typing_nt(compiled: Step):

    class T(typing.NamedTuple):
        w: float = 1.0
        c: object = None

    b = Box(w=1.0)
    t = T(1.0, b)
    return calls(compiled(lambda v: v * t.c.w), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_own_nt(compiled: Step):
    T = namedtuple("T", "a c")
    b = Box(w=1.0)

    def f(v):
        t = T(1, b)
        return v * t.c.w

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_own_dc(compiled: Step):

    @dataclasses.dataclass
    class T:
        c: object

    b = Box(w=1.0)

    def f(v):
        return v * T(b).c.w

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_own_obj_kept_foreign(compiled: Step):

    class H:
        def __init__(self, c):
            self.c = c

        def go(self, v):
            return v * self.c["w"]

    d = {"w": 1.0}
    return calls(compiled(lambda v: H(d).go(v)), lambda i: d.update(w=i + 1.0))


@kind
def test_sees_weakkey(compiled: Step):
    k = Box()
    d = weakref.WeakKeyDictionary()
    d[k] = 1.0
    return calls(compiled(lambda v: v * d[k]), lambda i: d.__setitem__(k, i + 1.0))


@kind
def test_sees_weakproxy(compiled: Step):
    k = Box(w=1.0)
    p = weakref.proxy(k)
    return calls(compiled(lambda v: v * p.w), lambda i: setattr(k, "w", i + 1.0))


@kind
def test_sees_hooks_many(compiled: Step):
    d = Box(w=1.0)
    m = nn.ReLU()
    m.register_forward_pre_hook(lambda mod, i: (i[0] * d.w,))
    return calls(compiled(lambda v: m(v)), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_tensor_hook(compiled: Step):
    d = Box(w=1.0)
    p = nn.Parameter(P.ones(3))

    def f(v):
        l = v * p
        l.register_hook(lambda g: g * d.w)
        p.grad = None
        l.sum().backward()
        return p.grad * 1

    return calls(compiled(f), lambda i: setattr(d, "w", i + 1.0))


@kind
def test_sees_lambda_lr(compiled: Step):
    d = Box(w=1.0)
    p = nn.Parameter(P.ones(3))
    o = P.optim.SGD([p], lr=1.0)
    sch = P.optim.lr_scheduler.LambdaLR(o, lambda e: d.w)
    return calls(compiled(lambda v: v * sch.get_last_lr()[0]), lambda i: (setattr(d, "w", i + 1.0), sch.step()))


@kind
def test_sees_user_optimizer_subclass(compiled: Step):

    class O(P.optim.SGD):
        scale = 1.0

        def step(self):
            with P.no_grad():
                for g in self.param_groups:
                    for q in g["params"]:
                        q.sub_(q.grad * g["lr"] * self.scale)

    p = nn.Parameter(P.ones(3))
    o = O([p], lr=0.1)

    def f(v):
        o.zero_grad()
        l = (v * p).sum()
        l.backward()
        o.step()
        return l.detach()

    return calls(
        compiled(f), lambda i: (setattr(o, "scale", i + 1.0), o.param_groups[0].__setitem__("lr", 0.1 * (i + 1)))
    )


@kind
def test_sees_clip_attr(compiled: Step):
    b = Box(c=0.1)
    p = nn.Parameter(P.ones(3))
    ps = [p]

    def f(v):
        p.grad = None
        l = (v * p).sum()
        l.backward()
        P.nn.utils.clip_grad_norm_(ps, b.c)
        return p.grad * 1

    return calls(compiled(f), lambda i: setattr(b, "c", 0.1 * (i + 1)))


@kind
def test_sees_params_list_100(compiled: Step):
    ps = [nn.Parameter(P.ones(3)) for _ in range(100)]

    def f(v):
        for p in ps:
            p.grad = None
        l = (v * sum(ps)).sum()
        l.backward()
        P.nn.utils.clip_grad_norm_(ps, 1.0)
        return ps[0].grad * 1

    return calls(compiled(f), lambda i: None)


@kind
def test_sees_big_cfg_dict(compiled: Step):
    d = {f"k{i}": float(i) for i in range(200)}
    return calls(compiled(lambda v: v * d["k7"]), lambda i: d.update(k7=i + 1.0))


@kind
def test_sees_big_list_len(compiled: Step):
    l = list(range(100000))
    return calls(compiled(lambda v: v * (len(l) % 1000)), lambda i: l.append(1))


@kind
def test_sees_big_list_in(compiled: Step):
    l = set(range(100000))
    return calls(compiled(lambda v: v * 2 if -1 in l else v), lambda i: l.add(-1) if i else None)


@kind
def test_sees_big_list_index(compiled: Step):
    l = [float(i) for i in range(1000)]
    b = Box(i=5)
    return calls(compiled(lambda v: v * l[b.i]), lambda i: l.__setitem__(5, i + 1.0))


@kind
def test_sees_gc_ids(compiled: Step):
    b = Box(d={})
    return calls(compiled(lambda v: v * (1 + len(b.d))), lambda i: b.d.__setitem__(i, i))


@kind
def test_sees_argv(compiled: Step):
    return calls(compiled(lambda v: v * len(sys.argv)), lambda i: sys.argv.__setitem__(slice(1, None), ["x"] * i))


@kind
def test_sees_recursionlimit(compiled: Step):
    return calls(
        compiled(lambda v: v * 2 if sys.getrecursionlimit() > 1500 else v),
        lambda i: sys.setrecursionlimit([1000, 2000][i % 2]),
    )


@kind
def test_sees_default_dtype(compiled: Step):
    return calls(compiled(lambda v: v * P.ones(3)), lambda i: None)


@kind
def test_sees_two_steps_share(compiled: Step):
    b = Box(w=1.0)
    f = compiled(lambda v: v * b.w)
    g = compiled(lambda v: v + b.w)
    out = []
    for i in range(3):
        b.w = i + 1.0
        out += [f(vector()), g(vector())]
    return out


@kind
def test_sees_step_calls_step(compiled: Step):
    b = Box(w=1.0)
    f = compiled(lambda v: v * b.w)
    g = compiled(lambda v: f(v) + 1)
    return calls(g, lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_back_and_forth(compiled: Step):
    b = Box(w=1.0)
    f = compiled(lambda v: v * b.w)
    out = []
    for k in (1.0, 2.0, 1.0, 2.0, 1.0):
        b.w = k
        out.append(f(vector()))
    return out


@kind
def test_sees_inplace_list_tensor_swap(compiled: Step):
    ts = [P.ones(3), P.ones(3) * 2]
    return calls(compiled(lambda v: v * ts[0] - ts[1]), lambda i: ts.reverse())


@kind
def test_sees_tensor_dict_replaced(compiled: Step):
    st = {"h": P.ones(3)}
    return calls(compiled(lambda v: v + st["h"]), lambda i: st.update(h=P.ones(3) * i))


@kind
def test_sees_optimizer_replaced(compiled: Step):
    p = nn.Parameter(P.ones(3))
    b = Box(o=P.optim.SGD([p], lr=0.1))

    def f(v):
        b.o.zero_grad()
        l = (v * p).sum()
        l.backward()
        b.o.step()
        return l.detach()

    return calls(compiled(f), lambda i: setattr(b, "o", P.optim.SGD([p], lr=0.1 * (i + 1))))


@kind
def test_sees_loss_weights_dict(compiled: Step):
    w = {"a": 1.0, "b": 1.0}

    def f(v):
        ls = {"a": v.sum(), "b": (v * v).sum()}
        return sum((w[k] * l for k, l in ls.items()))

    return calls(compiled(f), lambda i: w.update(b=i + 1.0))


@kind
def test_sees_curriculum(compiled: Step):
    b = Box(stage=0)
    stages = [lambda v: v, lambda v: v * 2, lambda v: v * 3]
    return calls(compiled(lambda v: stages[b.stage](v)), lambda i: setattr(b, "stage", i))


@kind
def test_sees_verbose_print(compiled: Step):
    b = Box(verbose=False, w=1.0)

    def f(v):
        if b.verbose:
            pass
        return v * b.w

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_async_like_coroutine(compiled: Step):
    b = Box(w=1.0)

    async def co():
        return b.w

    def run(c):
        try:
            c.send(None)
        except StopIteration as e:
            return e.value

    return calls(compiled(lambda v: v * run(co())), lambda i: setattr(b, "w", i + 1.0))


GCFG = {"x": {"y": 1.0}}


def GCF(v):
    return v * GCFG["x"]["y"]


@kind
def test_sees_best_loss_tracking(compiled: Step):
    b = Box(best=float("inf"))

    def f(v):
        l = (v * v).sum()
        if b.best > 1000000000.0:
            b.best = 0.0
        return l

    return calls(compiled(f), lambda i: None)


@kind
def test_sees_gumbel_tau(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.tau = 1.0

        def forward(self, v):
            return F.softmax(v / self.tau, dim=-1)

    m = M()
    return calls(compiled(lambda v: m(v)), lambda i: setattr(m, "tau", 1.0 / (i + 1)))


@kind
def test_sees_global_step_counter_in_cfg(compiled: Step):
    cfg = {"train": {"step": 0}}
    return calls(compiled(lambda v: v * (cfg["train"]["step"] % 3)), lambda i: cfg["train"].update(step=i + 1))


@kind
def test_sees_list_of_losses_functions(compiled: Step):
    fs = [lambda v: v.sum()]
    return calls(compiled(lambda v: sum((f(v) for f in fs))), lambda i: fs.append(lambda v: (v * v).sum()))


@kind
def test_sees_operator_methodcaller(compiled: Step):

    class T:
        def __init__(self):
            self.w = 1.0

        def g(self):
            return self.w

    t = T()
    mc = operator.methodcaller("g")
    return calls(compiled(lambda v: v * mc(t)), lambda i: setattr(t, "w", i + 1.0))


@kind
def test_sees_itemgetter_nested(compiled: Step):
    d = [{"a": 1.0}]
    return calls(compiled(lambda v: v * list(map(operator.itemgetter("a"), d))[0]), lambda i: d[0].update(a=i + 1.0))


@kind
def test_sees_tuple_of_lists(compiled: Step):
    t = ([1.0], [2.0])
    return calls(compiled(lambda v: v * t[0][0] * t[1][0]), lambda i: t[1].__setitem__(0, i + 1.0))


@kind
def test_sees_frozenset(compiled: Step):
    b = Box(s=frozenset({1}))
    return calls(
        compiled(lambda v: v * 2 if 2 in b.s else v),
        lambda i: setattr(b, "s", frozenset({1, 2}) if i % 2 else frozenset({1})),
    )


@kind
def test_sees_str_attr_cmp(compiled: Step):
    b = Box(mode="train")
    return calls(
        compiled(lambda v: v * 2 if b.mode == "train" else v), lambda i: setattr(b, "mode", ["train", "eval"][i % 2])
    )


@kind
def test_sees_str_startswith(compiled: Step):
    b = Box(mode="train")
    return calls(
        compiled(lambda v: v * 2 if b.mode.startswith("tr") else v),
        lambda i: setattr(b, "mode", ["train", "eval"][i % 2]),
    )


@kind
def test_sees_bytes_attr(compiled: Step):
    b = Box(x=b"a")
    return calls(compiled(lambda v: v * b.x[0]), lambda i: setattr(b, "x", bytes([97 + i])))


@kind
def test_sees_nan_attr(compiled: Step):
    b = Box(x=float("nan"))
    return calls(compiled(lambda v: v if b.x != b.x else v * 2), lambda i: setattr(b, "x", [float("nan"), 1.0][i % 2]))


@kind
def test_sees_complex_attr(compiled: Step):
    b = Box(x=1 + 0j)
    return calls(compiled(lambda v: v * b.x.real), lambda i: setattr(b, "x", complex(i + 1)))


@kind
def test_sees_big_int(compiled: Step):
    b = Box(x=10**20)
    return calls(compiled(lambda v: v * (b.x % 7)), lambda i: setattr(b, "x", 10**20 + i))


@kind
def test_sees_none_to_obj(compiled: Step):
    b = Box(o=None)
    return calls(compiled(lambda v: v * b.o.w if b.o else v), lambda i: setattr(b, "o", Box(w=i + 1.0)) if i else None)


@kind
def test_sees_obj_bool_dunder(compiled: Step):

    class T:
        on = False

        def __bool__(self):
            return self.on

    t = T()
    return calls(compiled(lambda v: v * 2 if t else v), lambda i: setattr(t, "on", bool(i % 2)))


@kind
def test_sees_obj_iter_dunder(compiled: Step):

    class T:
        def __init__(self):
            self.l = [1.0, 2.0]

        def __iter__(self):
            return iter(self.l)

    t = T()

    def f(v):
        for w in t:
            v = v * w
        return v

    return calls(compiled(f), lambda i: t.l.__setitem__(0, i + 1.0))


@kind
def test_sees_obj_contains_dunder(compiled: Step):

    class T:
        def __init__(self):
            self.l = {1}

        def __contains__(self, x):
            return x in self.l

    t = T()
    return calls(compiled(lambda v: v * 2 if 2 in t else v), lambda i: t.l.add(2) if i else None)


@kind
def test_sees_obj_call_kwargs(compiled: Step):

    class T:
        def __init__(self):
            self.k = {"a": 1.0}

        def __call__(self, v, **kw):
            return v * kw["a"]

    t = T()
    return calls(compiled(lambda v: t(v, **t.k)), lambda i: t.k.update(a=i + 1.0))


@kind
def test_sees_obj_float_dunder(compiled: Step):

    class T:
        w = 1.0

        def __float__(self):
            return self.w

    t = T()
    return calls(compiled(lambda v: v * float(t)), lambda i: setattr(t, "w", i + 1.0))


@kind
def test_sees_obj_index_dunder(compiled: Step):

    class T:
        n = 1

        def __index__(self):
            return self.n

    t = T()
    return calls(compiled(lambda v: v * len(range(t))), lambda i: setattr(t, "n", i + 1))


@kind
def test_sees_obj_hash_eq(compiled: Step):

    class T:
        def __init__(self):
            self.k = 1

        def __hash__(self):
            return hash(self.k)

        def __eq__(self, o):
            return self.k == o.k

    t = T()
    d = {T(): 1.0}
    return calls(compiled(lambda v: v * d.get(t, 5.0)), lambda i: setattr(t, "k", 1 + i % 2))


@kind
def test_sees_obj_format(compiled: Step):

    class T:
        n = "a"

        def __str__(self):
            return self.n

    t = T()
    d = {"a": 1.0, "b": 2.0}
    return calls(compiled(lambda v: v * d[f"{t}"]), lambda i: setattr(t, "n", "ab"[i % 2]))


@kind
def test_sees_obj_enter_value(compiled: Step):

    class T:
        def __init__(self):
            self.l = [1.0]

        def __enter__(self):
            return self.l

        def __exit__(self, *a):
            pass

    t = T()

    def f(v):
        with t as l:
            return v * l[0]

    return calls(compiled(f), lambda i: t.l.__setitem__(0, i + 1.0))


@kind
def test_sees_class_in_list(compiled: Step):

    class A:
        w = 1.0

    class B:
        w = 2.0

    l = [A]
    return calls(compiled(lambda v: v * l[0].w), lambda i: (l.__setitem__(0, [A, B][i % 2]), setattr(B, "w", i + 5.0)))


@kind
def test_sees_class_via_iter(compiled: Step):

    class A:
        w = 1.0

    l = [A]
    return calls(compiled(lambda v: v * next(iter(l)).w), lambda i: setattr(A, "w", i + 1.0))


@kind
def test_sees_class_loop(compiled: Step):

    class A:
        w = 1.0

    l = [A]

    def f(v):
        for k in l:
            v = v * k.w
        return v

    return calls(compiled(f), lambda i: setattr(A, "w", i + 1.0))


@kind
def test_sees_instance_of_class_by_max(compiled: Step):

    class A:
        w = 1.0

    l = [A(), A()]
    return calls(compiled(lambda v: v * max(l, key=id).w), lambda i: setattr(A, "w", i + 1.0))


@kind
def test_sees_slots_by_iter(compiled: Step):

    class A:
        __slots__ = ("w",)

        def __init__(self):
            self.w = 1.0

    l = [A()]
    return calls(compiled(lambda v: v * next(iter(l)).w), lambda i: setattr(l[0], "w", i + 1.0))


@kind
def test_sees_prop_by_iter(compiled: Step):

    class A:
        def __init__(self):
            self._w = 1.0

        @property
        def w(self):
            return self._w

    l = [A()]
    return calls(compiled(lambda v: v * next(iter(l)).w), lambda i: setattr(l[0], "_w", i + 1.0))


@kind
def test_sees_nested_by_iter_dict(compiled: Step):
    l = [Box(d={"w": 1.0})]
    return calls(compiled(lambda v: v * next(iter(l)).d["w"]), lambda i: l[0].d.update(w=i + 1.0))


@kind
def test_sees_zip_direct(compiled: Step):
    bs = [Box(w=1.0)]
    return calls(compiled(lambda v: v * list(zip(bs, bs))[0][1].w), lambda i: setattr(bs[0], "w", i + 1.0))


@kind
def test_sees_enumerate_direct(compiled: Step):
    bs = [Box(w=1.0)]
    return calls(compiled(lambda v: v * dict(enumerate(bs))[0].w), lambda i: setattr(bs[0], "w", i + 1.0))


@kind
def test_sees_sorted_items(compiled: Step):
    d = {"b": Box(w=1.0), "a": Box(w=2.0)}
    return calls(compiled(lambda v: v * sorted(d.items())[0][1].w), lambda i: setattr(d["a"], "w", i + 1.0))


@kind
def test_sees_reduce_plain(compiled: Step):
    l = [1.0, 2.0]
    return calls(compiled(lambda v: v * functools.reduce(operator.mul, l)), lambda i: l.__setitem__(0, i + 1.0))


@kind
def test_sees_math_attr(compiled: Step):
    b = Box(w=1.0)
    return calls(compiled(lambda v: v * math.sqrt(b.w)), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_np_on_attr_list(compiled: Step):
    b = Box(l=[1.0, 2.0])
    return calls(compiled(lambda v: v * float(np.mean(b.l))), lambda i: b.l.__setitem__(0, i + 1.0))


@kind
def test_sees_np_array_of_list(compiled: Step):
    b = Box(l=[1.0, 2.0])
    return calls(compiled(lambda v: v * float(np.asarray(b.l)[0])), lambda i: b.l.__setitem__(0, i + 1.0))


@kind
def test_sees_tensor_of_attr_list(compiled: Step):
    b = Box(l=[1.0, 2.0, 3.0])
    return calls(compiled(lambda v: v * P.tensor(b.l)), lambda i: b.l.__setitem__(0, i + 1.0))


@kind
def test_sees_tensor_of_nested_list(compiled: Step):
    l = [[1.0, 2.0, 3.0]]
    return calls(compiled(lambda v: v * P.tensor(l)[0]), lambda i: l[0].__setitem__(0, i + 1.0))


@kind
def test_sees_index_by_list(compiled: Step):
    l = [0, 1]
    return calls(compiled(lambda v: v[l]), lambda i: l.__setitem__(0, i))


@kind
def test_sees_shape_from_list(compiled: Step):
    l = [1, 3]
    return calls(compiled(lambda v: v.reshape(l).sum(0)), lambda i: l.__setitem__(slice(None), [[1, 3], [3, 1]][i % 2]))


@kind
def test_sees_permute_from_attr(compiled: Step):
    b = Box(p=[0, 1])
    return calls(compiled(lambda v: v.reshape(1, 3).permute(*b.p)), lambda i: setattr(b, "p", [[0, 1], [1, 0]][i % 2]))


@kind
def test_sees_kw_list_to_library(compiled: Step):
    l = [1.0, 2.0, 3.0]
    return calls(
        compiled(lambda v: F.cross_entropy(v.reshape(1, 3), P.tensor([1]), weight=P.tensor(l))),
        lambda i: l.__setitem__(1, i + 1.0),
    )


@kind
def test_sees_where_attr(compiled: Step):
    b = Box(t=0.0)
    return calls(compiled(lambda v: P.where(v > b.t, v, -v)), lambda i: setattr(b, "t", float(i)))


@kind
def test_sees_clamp_attr(compiled: Step):
    b = Box(t=1.0)
    return calls(compiled(lambda v: v.clamp(max=b.t)), lambda i: setattr(b, "t", float(i)))


@kind
def test_sees_aug_assign_local(compiled: Step):
    b = Box(w=1.0)

    def f(v):
        v = v * 1
        v += b.w
        v *= b.w
        return v

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_subclass_dict_getitem_missing(compiled: Step):

    class D(dict):
        def __missing__(self, k):
            return 7.0

    d = D()
    return calls(compiled(lambda v: v * d["w"]), lambda i: d.update(w=i + 1.0) if i else None)


@kind
def test_sees_subclass_list(compiled: Step):

    class L(list):
        pass

    l = L([1.0])
    l.scale = 2.0
    return calls(
        compiled(lambda v: v * l[0] * l.scale), lambda i: (l.__setitem__(0, i + 1.0), setattr(l, "scale", i + 3.0))
    )


@kind
def test_sees_generator_state_local(compiled: Step):

    def f(v):
        g = (i for i in range(3))
        next(g)
        return v * next(g)

    return calls(compiled(f), lambda i: None)


@kind
def test_sees_local_iter_ok(compiled: Step):
    l = [1.0, 2.0]

    def f(v):
        it = iter(l)
        next(it)
        return v * next(it)

    return calls(compiled(f), lambda i: l.__setitem__(1, i + 1.0))


@kind
def test_sees_nested_step_in_class(compiled: Step):

    class Trainer:
        def __init__(self):
            self.cfg = Box(opt=Box(scale=1.0))
            self.step = compiled(self._step)

        def _step(self, v):
            return v * self.cfg.opt.scale

    t = Trainer()
    return calls(t.step, lambda i: setattr(t.cfg.opt, "scale", i + 1.0))


@kind
def test_sees_decorated_method(compiled: Step):

    class T:
        def __init__(self):
            self.w = 1.0

        @compiled
        def step(self, v):
            return v * self.w

    t = T()
    return calls(lambda v: t.step(v), lambda i: setattr(t, "w", i + 1.0))


@kind
def test_sees_compiled_module_cfg(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.cfg = {"w": 1.0}

        def forward(self, v):
            return v * self.cfg["w"]

    m = compiled(M()) if compiled is P.compile else M()
    return calls(m, lambda i: m.cfg.update(w=i + 1.0))


@kind
def test_sees_del_item_readd(compiled: Step):
    d = {"a": 1.0}

    def f(v):
        x = d.pop("a")
        d["a"] = x
        return v * x

    return calls(compiled(f), lambda i: d.update(a=i + 1.0))


@kind
def test_sees_push_pop_stack(compiled: Step):
    b = Box(s=[])

    def f(v):
        b.s.append(2.0)
        y = v * b.s[-1]
        b.s.pop()
        return y

    return calls(compiled(f), lambda i: None)


@kind
def test_sees_tmp_attr_restore(compiled: Step):
    b = Box(w=1.0)

    def f(v):
        old = b.w
        b.w = 5.0
        try:
            return v * b.w
        finally:
            b.w = old

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_tmp_attr_restore_reads_both(compiled: Step):
    b = Box(w=1.0)

    def f(v):
        y = v * b.w
        old = b.w
        b.w = 5.0
        y = y * b.w
        b.w = old
        return y * b.w

    return calls(compiled(f), lambda i: setattr(b, "w", i + 1.0))


@kind
def test_sees_module_counter_buffer(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("n", P.zeros(()))

        def forward(self, v):
            self.n += 1
            return v * self.n

    m = M()
    return calls(compiled(lambda v: m(v).detach() * 1), lambda i: None)


@kind
def test_sees_batchnorm(compiled: Step):
    m = nn.BatchNorm1d(3)
    return calls(compiled(lambda v: m(v.reshape(1, 3).repeat(2, 1)).detach()), lambda i: None)


@kind
def test_sees_dropout_own_p(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.d = nn.Dropout(0.0)

        def forward(self, v):
            return self.d(v)

    m = M()
    return calls(compiled(lambda v: m(v)), lambda i: setattr(m.d, "p", [0.0, 1.0 - 1e-09][i % 2] if i < 1 else 0.0))


@kind
def test_sees_lr_write_outside(compiled: Step):
    p = nn.Parameter(P.ones(3))
    o = P.optim.SGD([p], lr=1.0)

    def f(v):
        o.zero_grad()
        l = (v * p).sum()
        l.backward()
        o.step()
        return l.detach()

    return calls(compiled(f), lambda i: o.param_groups[0].__setitem__("lr", 1.0 / (i + 1)))


@kind
def test_sees_sched_outside(compiled: Step):
    p = nn.Parameter(P.ones(3))
    o = P.optim.SGD([p], lr=1.0)
    sc = P.optim.lr_scheduler.StepLR(o, 1, gamma=0.5)

    def f(v):
        o.zero_grad()
        l = (v * p).sum()
        l.backward()
        o.step()
        return l.detach()

    return calls(compiled(f), lambda i: sc.step() if i else None)


@kind
def test_sees_momentum_write(compiled: Step):
    p = nn.Parameter(P.ones(3))
    o = P.optim.SGD([p], lr=0.1, momentum=0.5)

    def f(v):
        o.zero_grad()
        l = (v * p).sum()
        l.backward()
        o.step()
        return l.detach()

    return calls(compiled(f), lambda i: o.param_groups[0].__setitem__("momentum", 0.1 * i), 5)


@kind
def test_sees_freeze_in_step(compiled: Step):
    m = nn.Linear(3, 1)
    b = Box(f=False)

    def f(v):
        for q in m.parameters():
            q.requires_grad_(not b.f)
        return m(v) * 0

    r = calls(compiled(f), lambda i: setattr(b, "f", bool(i % 2)))
    return [P.tensor(float(next(m.parameters()).requires_grad))]


@kind
def test_sees_swap_modules(compiled: Step):
    a, bm = (nn.ReLU(), nn.Tanh())
    b = Box(m=a)
    return calls(compiled(lambda v: b.m(v)), lambda i: setattr(b, "m", [a, bm][i % 2]))


@kind
def test_sees_dict_of_modules(compiled: Step):
    d = {"a": nn.ReLU(), "b": nn.Tanh()}
    return calls(compiled(lambda v: d["a"](v)), lambda i: d.update(a=d["b"]) if i else None)


@kind
def test_sees_load_state(compiled: Step):
    m = nn.Linear(3, 1)
    s = [{k: P.ones(*x.shape) * i for k, x in m.state_dict().items()} for i in range(3)]
    return calls(compiled(lambda v: m(v).detach()), lambda i: m.load_state_dict(s[i]) and None)


@kind
def test_sees_functools_cache_obj(compiled: Step):

    class T:
        def __init__(self):
            self.w = 1.0

        @functools.lru_cache(None)
        def g(self):
            return self.w

    t = T()
    return calls(compiled(lambda v: v * t.g()), lambda i: (setattr(t, "w", i + 1.0), T.g.cache_clear()))


@kind
def test_sees_global_dict_nested_func(compiled: Step):
    return calls(compiled(lambda v: GCF(v)), lambda i: GCFG["x"].update(y=i + 1.0))


@kind
def test_sees_inspect_sig_default(compiled: Step):

    def h(v, k=2.0):
        return v * k

    return calls(
        compiled(lambda v: v * inspect.signature(h).parameters["k"].default),
        lambda i: setattr(h, "__defaults__", (i + 1.0,)),
    )
