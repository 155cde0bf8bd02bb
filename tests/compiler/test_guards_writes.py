# ruff: noqa  programs as users write them
"""What a compiled step may write of Python's state: what it takes back, what settles after the first call, and its own.

Each test is a small program as users write them; see test_guards.py.
"""

from __future__ import annotations

import functools
import sys
from collections import defaultdict
from functools import cached_property

import numpy as np
from guard_kinds import Box, Step, calls, kind, outside, vector

import pellucid as P
from pellucid import nn
from pellucid.nn import functional as F

__all__ = ["outside"]  # a fixture


@kind
def test_allows_lru_cached(compiled: Step):
    d = Box(w=1.0)

    @functools.lru_cache
    def f():
        return d.w

    return calls(compiled(lambda v: v * f()), lambda i: (setattr(d, "w", i + 1.0), f.cache_clear()))


@kind
def test_allows_next_parameters_device(compiled: Step):
    m = nn.Linear(3, 2)
    P.manual_seed(0)
    m = nn.Linear(3, 2)
    return calls(compiled(lambda v: m(v).detach().to(next(m.parameters()).device)), lambda i: None)


@kind
def test_allows_max_values(compiled: Step):
    return calls(compiled(lambda v: P.max(v.reshape(1, 3), 1).values), lambda i: None)


@kind
def test_allows_model_output(compiled: Step):

    class O:
        def __init__(self, l):
            self.logits = l

    class M(nn.Module):
        def forward(self, v):
            return O(v * 2)

    m = M()
    return calls(compiled(lambda v: m(v).logits), lambda i: None)


@kind
def test_allows_idempotent_write(compiled: Step):
    b = Box(last=None)

    def s(v):
        b.last = tuple(v.shape)
        return v * 2

    return calls(compiled(s), lambda i: None)


@kind
def test_allows_cached_mask(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.mask = None

        def forward(self, v):
            if self.mask is None or self.mask.shape[0] != v.shape[0]:
                self.mask = P.tril(P.ones(v.shape[0], v.shape[0]))
            return (self.mask @ v.unsqueeze(-1)).squeeze(-1)

    m = M()
    f = compiled(lambda v: m(v))
    return [f(P.arange(n).float() + 1) for n in (3, 3, 4, 3, 3)]


@kind
def test_allows_cached_in_dict(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.cache = {}

        def forward(self, v):
            n = v.shape[0]
            if n not in self.cache:
                self.cache[n] = P.arange(n).float()
            return v + self.cache[n]

    m = M()
    f = compiled(lambda v: m(v))
    return [f(P.arange(n).float() + 1) for n in (3, 3, 4, 3, 3)]


@kind
def test_allows_local_containers(compiled: Step):

    def s(v):
        l = []
        d = {}
        n = 0
        for i in range(3):
            l.append(v * i)
            d[i] = l[-1]
            n += 1
        return sum(l) + d[2] * n

    return calls(compiled(s), lambda i: None)


@kind
def test_allows_local_object(compiled: Step):

    class A:
        def __init__(self):
            self.n = 0.0
            self.items = []

        def add(self, v):
            self.n += 1
            self.items.append(v)
            return self

    def s(v):
        a = A()
        a.add(v).add(v * 2)
        return sum(a.items) * a.n

    return calls(compiled(s), lambda i: None)


@kind
def test_allows_local_module(compiled: Step):
    return calls(compiled(lambda v: nn.MSELoss()(v, v * 2)), lambda i: None)


@kind
def test_allows_temporary(compiled: Step):
    b = Box(mode=0)

    def s(v):
        b.mode = 1
        y = v * (1 + b.mode)
        b.mode = 0
        return y

    return calls(compiled(s), lambda i: None)


@kind
def test_allows_eval_and_back(compiled: Step):
    P.manual_seed(0)
    m = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))

    def s(v):
        m.eval()
        y = m(v)
        m.train()
        return y.detach()

    return calls(compiled(s), lambda i: None)


@kind
def test_allows_pass_state_around(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.h = None

        def forward(self, v):
            self.h = v * 2
            y = self.h + 1
            self.h = None
            return y

    m = M()
    return calls(compiled(lambda v: m(v)), lambda i: None)


@kind
def test_allows_print(compiled: Step):
    l = Box(w=1)

    def s(v):
        print(l.w, end="", file=sys.stderr)
        return v

    return calls(compiled(s), lambda i: None)


@kind
def test_allows_cached_prop(compiled: Step):

    class T:
        def __init__(self):
            self.w = 1.0

        @cached_property
        def c(self):
            return self.w * 2

    t = T()

    def ch(i):
        t.w = i + 1.0
        t.__dict__.pop("c", None)

    return calls(compiled(lambda v: v * t.c), ch)


@kind
def test_allows_cached_prop_filled(compiled: Step):

    class T:
        def __init__(self):
            self.w = 1.0

        @cached_property
        def c(self):
            return self.w * 2

    t = T()
    t.c

    def ch(i):
        t.w = i + 1.0
        t.__dict__.pop("c", None)
        t.c

    return calls(compiled(lambda v: v * t.c), ch)


@kind
def test_allows_cached_prop_not_cleared(compiled: Step):

    class T:
        def __init__(self):
            self.w = 1.0

        @cached_property
        def c(self):
            return self.w * 2

    t = T()
    return calls(compiled(lambda v: v * t.c), lambda i: setattr(t, "w", i + 1.0))


@kind
def test_allows_defaultdict_read(compiled: Step):
    d = defaultdict(lambda: 2.0)
    return calls(compiled(lambda v: v * d["w"]), lambda i: d.__setitem__("w", i + 1.0) if i else None)


@kind
def test_allows_del_attr(compiled: Step):
    b = Box(w=2.0)

    def f(v):
        if hasattr(b, "w"):
            del b.w
            return v * 2
        return v

    return calls(compiled(f), lambda i: None)


@kind
def test_allows_own_module_inside(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.n = 0
            self.k = []

        def forward(self, v):
            self.n += 1
            self.k.append(1)
            return v * self.n

    def f(v):
        m = M()
        return m(m(v))

    return calls(compiled(f), lambda i: None)


@kind
def test_allows_actnorm(compiled: Step):

    class A(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(P.ones(3))
            self.init = False

        def forward(self, v):
            if not self.init:
                with P.no_grad():
                    self.scale.assign(1 / (v.abs() + 1))
                self.init = True
            return (v * self.scale).detach()

    a = A()
    return calls(compiled(lambda v: a(v)), lambda i: None)


@kind
def test_allows_actnorm_adam(compiled: Step):

    class A(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(P.ones(3))
            self.init = False

        def forward(self, v):
            if not self.init:
                with P.no_grad():
                    self.scale.assign(1 / (v.abs() + 1))
                self.init = True
            return v * self.scale

    a = A()
    o = P.optim.Adam(a.parameters(), lr=0.1)

    def f(v):
        o.zero_grad()
        l = a(v).sum()
        l.backward()
        o.step()
        return l.detach()

    return calls(compiled(f), lambda i: None)


@kind
def test_allows_first_call_flag(compiled: Step):
    b = Box(first=True)

    def f(v):
        if b.first:
            b.first = False
            return v * 10
        return v

    return calls(compiled(f), lambda i: None)


@kind
def test_allows_last_shape_alternating(compiled: Step):
    b = Box(last=None)
    f = compiled(lambda v: (setattr(b, "last", tuple(v.shape)), v * 2)[1])
    out = []
    for n in (3, 4, 3, 4):
        f(P.ones(n))
        out.append(P.tensor(float(b.last[0])))
    return out


@kind
def test_allows_eval_train_alternate(compiled: Step):
    m = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    out = []

    def ev(v):
        m.eval()
        return m(v).detach() * 0

    def tr(v):
        m.train()
        return v

    e, t = (compiled(ev), compiled(tr))
    for i in range(3):
        t(vector())
        out.append(P.tensor(float(m.training)))
        e(vector())
        out.append(P.tensor(float(m.training)))
    return out


@kind
def test_allows_warn_once(compiled: Step):
    b = Box(warned=False)

    def f(v):
        if not b.warned:
            b.warned = True
        return v * 2

    r = calls(compiled(f), lambda i: None)
    return r + [P.tensor(float(b.warned))]


@kind
def test_allows_lru_filled(compiled: Step):
    d = Box(w=1.0)

    @functools.lru_cache
    def f():
        return d.w

    f()
    return calls(compiled(lambda v: v * f()), lambda i: (setattr(d, "w", i + 1.0), f.cache_clear(), f()))


@kind
def test_allows_lru_args(compiled: Step):
    d = {"a": 1.0}

    @functools.lru_cache
    def f(k):
        return d[k]

    f("a")
    return calls(compiled(lambda v: v * f("a")), lambda i: (d.update(a=i + 1.0), f.cache_clear()))


@kind
def test_allows_lru_method_mask(compiled: Step):

    @functools.lru_cache
    def mask(n):
        return P.tril(P.ones(n, n))

    f = compiled(lambda v: mask(v.shape[0]) @ v)
    return [f(P.arange(n).float()) for n in (3, 3, 4, 3)]


@kind
def test_allows_mask_dict_plain(compiled: Step):
    cache = {}

    def f(v):
        n = v.shape[0]
        if n not in cache:
            cache[n] = P.arange(n).float()
        return v + cache[n]

    f = compiled(f)
    return [f(P.ones(n)) for n in (3, 3, 4, 3, 5, 4)]


@kind
def test_allows_mask_attr_grow(compiled: Step):
    b = Box(m=None)

    def f(v):
        n = v.shape[0]
        if b.m is None or b.m.shape[0] < n:
            b.m = P.arange(n).float()
        return v + b.m[:n]

    f = compiled(f)
    return [f(P.ones(n)) for n in (3, 2, 4, 3, 5, 4)]


@kind
def test_allows_rope_cache(compiled: Step):

    class R(nn.Module):
        def __init__(self):
            super().__init__()
            self.cos = None

        def forward(self, v):
            if self.cos is None:
                self.cos = P.cos(P.arange(3).float())
            return v * self.cos

    m = R()
    return calls(compiled(lambda v: m(v)), lambda i: None)
