# ruff: noqa  programs as users write them
"""What a compiled step refuses, with the line: chance, time, files, iterators, and state that every call writes anew.

Each test is a small program as users write them; see test_guards.py. `refused` tells the line that the error names, and what
it says about it.
"""

from __future__ import annotations

import array
import collections
import contextvars
import datetime
import heapq
import itertools
import operator
import os
import queue
import random
import secrets
import time
import uuid
from collections import ChainMap, OrderedDict, Counter, defaultdict, deque

import numpy as np
import pytest
from guard_kinds import Box, ReplayBuffer, Step, calls, outside, refused, vector

import pellucid as P
from pellucid import nn
from pellucid.nn import functional as F

__all__ = ["outside"]  # a fixture

GW = 0


@pytest.fixture(autouse=True)
def no_other_threads(monkeypatch):
    """A thread that some other test has left turns off the search for hidden draws."""
    monkeypatch.setattr("pellucid.compiler.guards.foreign.threading.active_count", lambda: 1)


@refused("with open(p) as f:", "calls open()")
def test_refuses_file_read(compiled: Step):
    p = "number.txt"

    def s(v):
        with open(p) as f:
            return v * float(f.read())

    return calls(compiled(s), lambda i: open(p, "w").write(str(i + 1.0)) and None)


@refused("return calls(compiled(lambda v: v * next(it)[0][0]), lambda i: None)", "advances an iterator from outside")
def test_refuses_dataloader_inside(compiled: Step):
    from pellucid.utils.data import DataLoader, TensorDataset

    dl = DataLoader(TensorDataset(P.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])), batch_size=1)
    it = iter(dl)
    return calls(compiled(lambda v: v * next(it)[0][0]), lambda i: None)


@refused("return calls(compiled(lambda v: v * random.sample(buf, 1)[0]), lambda i: None, 6)", "draws from random")
def test_refuses_replay_buffer_sample(compiled: Step):
    buf = collections.deque([1.0, 2.0, 3.0])
    return calls(compiled(lambda v: v * random.sample(buf, 1)[0]), lambda i: None, 6)


@refused("return calls(compiled(lambda v: v * random.random()), lambda i: None)", "draws from random")
def test_refuses_random(compiled: Step):
    random.seed(0)
    return calls(compiled(lambda v: v * random.random()), lambda i: None)


@refused("return calls(compiled(lambda v: v * r()), lambda i: None)", "draws from random")
def test_refuses_random_from(compiled: Step):
    r = random.random
    return calls(compiled(lambda v: v * r()), lambda i: None)


@refused("return calls(compiled(lambda v: v * r.uniform(0, 1)), lambda i: None)", "draws from random")
def test_refuses_random_own(compiled: Step):
    r = random.Random(0)
    return calls(compiled(lambda v: v * r.uniform(0, 1)), lambda i: None)


@refused("return calls(compiled(lambda v: v if random.choice([0, 1]) else -v), lambda i: None, 6)", "draws from random")
def test_refuses_random_choice_branch(compiled: Step):
    random.seed(0)
    return calls(compiled(lambda v: v if random.choice([0, 1]) else -v), lambda i: None, 6)


@refused("return calls(compiled(lambda v: v * float(np.random.rand())), lambda i: None)", "draws from numpy.random")
def test_refuses_np_random(compiled: Step):
    np.random.seed(0)
    return calls(compiled(lambda v: v * float(np.random.rand())), lambda i: None)


@refused("return calls(compiled(lambda v: v * g.random()), lambda i: None)", "draws from numpy.random")
def test_refuses_np_generator(compiled: Step):
    g = np.random.default_rng(0)
    return calls(compiled(lambda v: v * g.random()), lambda i: None)


@refused("return calls(compiled(lambda v: v * float(b.g.normal())), lambda i: None)", "draws from numpy.random")
def test_refuses_np_generator_attr(compiled: Step):
    b = Box(g=np.random.default_rng(0))
    return calls(compiled(lambda v: v * float(b.g.normal())), lambda i: None)


@refused("return calls(compiled(lambda v: v * get().random()), lambda i: None)", "draws from numpy.random")
def test_refuses_np_generator_from_call(compiled: Step):
    g = np.random.default_rng(0)

    def get():
        return g

    return calls(compiled(lambda v: v * get().random()), lambda i: None)


@refused('return calls(compiled(lambda v: v * d.get("g").random()), lambda i: None)', "draws from numpy.random")
def test_refuses_np_generator_in_dict_get(compiled: Step):
    d = {"g": np.random.default_rng(0)}
    return calls(compiled(lambda v: v * d.get("g").random()), lambda i: None)


@refused(
    "return calls(compiled(lambda v: v * np.random.default_rng().random()), lambda i: None)",
    "draws from numpy.random.default_rng",
)
def test_refuses_default_rng_inside(compiled: Step):
    return calls(compiled(lambda v: v * np.random.default_rng().random()), lambda i: None)


@refused("shuffle([1.0, 2.0, 3.0])", "draws from numpy.random")
def test_refuses_sklearn_hidden(compiled: Step):
    from sklearn.utils import shuffle

    np.random.seed(0)
    return calls(compiled(lambda v: v * shuffle([1.0, 2.0, 3.0])[0]), lambda i: None, 6)


@refused("return calls(compiled(lambda v: v * time.time()), lambda i: None)", "looks at the clock with time.time()")
def test_refuses_time(compiled: Step):
    return calls(compiled(lambda v: v * time.time()), lambda i: None)


@refused("return calls(compiled(lambda v: v * b.c()), lambda i: None)", "looks at the clock with time.perf_counter()")
def test_refuses_perf_counter_attr(compiled: Step):
    b = Box(c=time.perf_counter)
    return calls(compiled(lambda v: v * b.c()), lambda i: None)


@refused(
    "return calls(compiled(lambda v: v * datetime.datetime.now().microsecond), lambda i: None)",
    "looks at the clock with datetime.now()",
)
def test_refuses_datetime_now(compiled: Step):
    import datetime

    return calls(compiled(lambda v: v * datetime.datetime.now().microsecond), lambda i: None)


@refused("return calls(compiled(lambda v: v * next(it)), lambda i: None)", "advances an iterator from outside")
def test_refuses_next(compiled: Step):
    it = iter([1.0, 2.0, 3.0])
    return calls(compiled(lambda v: v * next(it)), lambda i: None)


@refused("return calls(compiled(lambda v: v * next(b.it)), lambda i: None)", "advances an iterator from outside")
def test_refuses_next_count_attr(compiled: Step):
    b = Box(it=itertools.count(1.0))
    return calls(compiled(lambda v: v * next(b.it)), lambda i: None)


@refused("for w in it:", "advances an iterator from outside")
def test_refuses_for_over_iterator(compiled: Step):
    it = iter([1.0, 2.0, 3.0])

    def s(v):
        for w in it:
            return v * w

    return calls(compiled(s), lambda i: None)


@refused("return calls(compiled(lambda v: v * next(it)), lambda i: None)", "advances an iterator from outside")
def test_refuses_next_generator_function(compiled: Step):

    def g():
        i = 0.0
        while True:
            i += 1.0
            yield i

    it = g()
    return calls(compiled(lambda v: v * next(it)), lambda i: None)


@refused("return calls(compiled(lambda v: v * next(it)), lambda i: None)", "advances an iterator from outside")
def test_refuses_next_user_iterator(compiled: Step):

    class I:
        n = 0.0

        def __next__(self):
            self.n += 1.0
            return self.n

    it = I()
    return calls(compiled(lambda v: v * next(it)), lambda i: None)


@refused("self.n += 1", "writes T.n")
def test_refuses_w_counter(compiled: Step):

    class T:
        n = 0

        def step(self, v):
            self.n += 1
            return v * self.n

    t = T()
    return calls(compiled(t.step), lambda i: None)


@refused("self.n += 1", "writes T.n")
def test_refuses_w_counter_unused(compiled: Step):

    class T:
        def __init__(self):
            self.n = 0

        def step(self, v):
            self.n += 1
            return v

    t = T()
    r = calls(compiled(t.step), lambda i: None)
    return r + [P.tensor(float(t.n))]


@refused("r = calls(compiled(lambda v: (l.append(1.0), v)[1]), lambda i: None)", "writes list.append")
def test_refuses_w_append(compiled: Step):
    l = []
    r = calls(compiled(lambda v: (l.append(1.0), v)[1]), lambda i: None)
    return r + [P.tensor(float(len(l)))]


@refused("a(1.0)", "writes list.append")
def test_refuses_w_append_alias(compiled: Step):
    l = []

    def s(v):
        a = l.append
        a(1.0)
        return v

    r = calls(compiled(s), lambda i: None)
    return r + [P.tensor(float(len(l)))]


@refused('d["n"] += 1', "writes dict['n']")
def test_refuses_w_dict(compiled: Step):
    d = {"n": 0}

    def s(v):
        d["n"] += 1
        return v

    r = calls(compiled(s), lambda i: None)
    return r + [P.tensor(float(d["n"]))]


@refused("n += 1", "writes the variable n")
def test_refuses_w_nonlocal(compiled: Step):
    n = 0

    def s(v):
        nonlocal n
        n += 1
        return v

    r = calls(compiled(s), lambda i: None)
    return r + [P.tensor(float(n))]


@refused("GW += 1", "writes the variable GW")
def test_refuses_w_global(compiled: Step):
    global GW
    GW = 0

    def s(v):
        global GW
        GW += 1
        return v

    r = calls(compiled(s), lambda i: None)
    return r + [P.tensor(float(GW))]


@refused('setattr(b, "n", b.n + 1)', "writes Box.n")
def test_refuses_w_setattr(compiled: Step):
    b = Box(n=0)

    def s(v):
        setattr(b, "n", b.n + 1)
        return v

    r = calls(compiled(s), lambda i: None)
    return r + [P.tensor(float(b.n))]


@refused("self.n += 1", "writes M.n")
def test_refuses_w_anneal(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.n = 0

        def forward(self, v):
            self.n += 1
            return v * min(1.0, self.n / 4)

    m = M()
    return calls(compiled(lambda v: m(v)), lambda i: None)


@refused("self.f = not self.f", "writes M.f")
def test_refuses_w_toggle(compiled: Step):

    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = False

        def forward(self, v):
            self.f = not self.f
            return v if self.f else -v

    m = M()
    return calls(compiled(lambda v: m(v)), lambda i: None)


@refused('c["n"] += 1', "writes Counter['n']")
def test_refuses_w_counter_dict_Counter(compiled: Step):
    c = collections.Counter()

    def s(v):
        c["n"] += 1
        return v

    r = calls(compiled(s), lambda i: None)
    return r + [P.tensor(float(c["n"]))]


@refused('c.update(["n"])', "writes the content of Counter")
def test_refuses_w_counter_update(compiled: Step):
    c = collections.Counter()

    def s(v):
        c.update(["n"])
        return v

    r = calls(compiled(s), lambda i: None)
    return r + [P.tensor(float(c["n"]))]


@refused("a[0] += 1", "writes ndarray[0]")
def test_refuses_w_np_inplace(compiled: Step):
    a = np.zeros(1)

    def s(v):
        a[0] += 1
        return v

    r = calls(compiled(s), lambda i: None)
    return r + [P.tensor(float(a[0]))]


@refused('o.param_groups[0]["lr"] *= 0.5', "writes Group['lr']")
def test_refuses_w_lr_in_step(compiled: Step):
    p = nn.Parameter(P.ones(3))
    o = P.optim.SGD([p], lr=1.0)

    def s(v):
        o.param_groups[0]["lr"] *= 0.5
        l = (v * p).sum()
        o.zero_grad()
        l.backward()
        o.step()
        return l.detach()

    return calls(compiled(s), lambda i: None)


@refused("sch.step()", "writes StepLR.last_epoch")
def test_refuses_w_scheduler_in_step(compiled: Step):
    p = nn.Parameter(P.ones(3))
    o = P.optim.SGD([p], lr=1.0)
    sch = P.optim.lr_scheduler.StepLR(o, 1, gamma=0.5)

    def s(v):
        l = (v * p).sum()
        o.zero_grad()
        l.backward()
        o.step()
        sch.step()
        return l.detach()

    return calls(compiled(s), lambda i: None)


@refused("self.n += k", "writes Meter.n")
def test_refuses_w_helper_object(compiled: Step):

    class Meter:
        def __init__(self):
            self.n = 0

        def update(self, k):
            self.n += k

    m = Meter()

    def s(v):
        m.update(1)
        return v

    r = calls(compiled(s), lambda i: None)
    return r + [P.tensor(float(m.n))]


@refused("s.n += 1", "writes S.n")
def test_refuses_slots_write(compiled: Step):

    class S:
        __slots__ = ("n",)

    s = S()
    s.n = 0

    def f(v):
        s.n += 1
        return v * s.n

    return calls(compiled(f), lambda i: None)


@refused("n += 1", "writes the variable n")
def test_refuses_closure_rebinding_inside(compiled: Step):

    def make():
        n = 0

        def f(v):
            nonlocal n
            n += 1
            return v * n

        return f

    f = make()
    return calls(compiled(f), lambda i: None)


@refused("T.count += 1", "writes T.count")
def test_refuses_class_counter(compiled: Step):

    class T:
        count = 0

        def f(self, v):
            T.count += 1
            return v * T.count

    t = T()
    return calls(compiled(t.f), lambda i: None)


@refused("type(self).count += 1", "writes T.count")
def test_refuses_class_counter_type_self(compiled: Step):

    class T:
        count = 0

        def f(self, v):
            type(self).count += 1
            return v

    t = T()
    r = calls(compiled(t.f), lambda i: None)
    return r + [P.tensor(float(T.count))]


@refused("cls.count += 1", "writes T.count")
def test_refuses_classmethod_counter(compiled: Step):

    class T:
        count = 0

        @classmethod
        def inc(cls):
            cls.count += 1

    def f(v):
        T.inc()
        return v * T.count

    return calls(compiled(f), lambda i: None)


@refused('d["n"] += 1', "writes defaultdict['n']")
def test_refuses_defaultdict_count(compiled: Step):
    d = defaultdict(int)

    def f(v):
        d["n"] += 1
        return v * d["n"]

    return calls(compiled(f), lambda i: None)


@refused('d["n"].append(1)', "writes list.append")
def test_refuses_defaultdict_list_append(compiled: Step):
    d = defaultdict(list)

    def f(v):
        d["n"].append(1)
        return v * len(d["n"])

    return calls(compiled(f), lambda i: None)


@refused("d.append(1.0)", "writes deque.append")
def test_refuses_deque_append(compiled: Step):
    d = deque(maxlen=2)

    def f(v):
        d.append(1.0)
        return v * len(d)

    return calls(compiled(f), lambda i: None, 4)


@refused("d.rotate(1)", "writes deque.rotate")
def test_refuses_deque_rotate(compiled: Step):
    d = deque([1.0, 2.0])

    def f(v):
        d.rotate(1)
        return v * d[0]

    return calls(compiled(f), lambda i: None, 4)


@refused("return calls(compiled(lambda v: v * next(c)), lambda i: None)", "advances an iterator from outside")
def test_refuses_itertools_count(compiled: Step):
    c = itertools.count(1)
    return calls(compiled(lambda v: v * next(c)), lambda i: None)


@refused("return calls(compiled(lambda v: v * next(c)), lambda i: None)", "advances an iterator from outside")
def test_refuses_itertools_cycle(compiled: Step):
    c = itertools.cycle([1.0, 2.0])
    return calls(compiled(lambda v: v * next(c)), lambda i: None)


@refused("for w, _ in zip(b.c, range(1)):", "advances an iterator from outside")
def test_refuses_itertools_cycle_attr_zip(compiled: Step):
    b = Box(c=itertools.cycle([1.0, 2.0]))

    def f(v):
        for w, _ in zip(b.c, range(1)):
            v = v * w
        return v

    return calls(compiled(f), lambda i: None)


@refused(
    "return calls(compiled(lambda v: v * list(itertools.islice(c, 1))[0]), lambda i: None)",
    "advances an iterator from outside",
)
def test_refuses_islice_iter(compiled: Step):
    c = itertools.count(1)
    return calls(compiled(lambda v: v * list(itertools.islice(c, 1))[0]), lambda i: None)


@refused('return calls(compiled(lambda v: v * next(d["it"])), lambda i: None)', "advances an iterator from outside")
def test_refuses_iter_in_dict(compiled: Step):
    d = {"it": itertools.count(1)}
    return calls(compiled(lambda v: v * next(d["it"])), lambda i: None)


@refused("return v * next(l.pop())", "advances an iterator from outside")
def test_refuses_iter_in_list_pop(compiled: Step):
    d = [itertools.count(1)]

    def f(v):
        l = list(d)
        return v * next(l.pop())

    return calls(compiled(f), lambda i: None)


@refused("return calls(compiled(lambda v: v * it.send(None)), lambda i: None)", "advances an iterator from outside")
def test_refuses_gen_send(compiled: Step):

    def g():
        x = 0.0
        while True:
            x += 1.0
            yield x

    it = g()
    next(it)
    return calls(compiled(lambda v: v * it.send(None)), lambda i: None)


@refused("return calls(compiled(lambda v: v * it.__next__()), lambda i: None)", "advances an iterator from outside")
def test_refuses_it_dunder_next(compiled: Step):
    it = iter([1.0, 2.0, 3.0])
    return calls(compiled(lambda v: v * it.__next__()), lambda i: None)


@refused("a, *_ = itertools.islice(it, 2)", "advances an iterator from outside")
def test_refuses_unpack_iter(compiled: Step):
    it = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])

    def f(v):
        a, *_ = itertools.islice(it, 2)
        return v * a

    return calls(compiled(f), lambda i: None)


@refused("return calls(compiled(lambda v: v * r.random()), lambda i: None)", "draws from random")
def test_refuses_random_Random3(compiled: Step):
    r = random.Random(3)
    return calls(compiled(lambda v: v * r.random()), lambda i: None)


@refused("max(rs, key=id).random()", "draws from random")
def test_refuses_random_hidden_in_list(compiled: Step):
    rs = [random.Random(3)]
    return calls(compiled(lambda v: v * max(rs, key=id).random()), lambda i: None)


@refused(
    "return calls(compiled(lambda v: v * float(g.choice([1.0, 2.0, 3.0]))), lambda i: None)", "draws from numpy.random"
)
def test_refuses_rng_choice(compiled: Step):
    g = np.random.default_rng(1)
    return calls(compiled(lambda v: v * float(g.choice([1.0, 2.0, 3.0]))), lambda i: None)


@refused("return v * float(self.rng.uniform())", "draws from numpy.random")
def test_refuses_rng_in_self(compiled: Step):

    class T:
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def f(self, v):
            return v * float(self.rng.uniform())

    t = T()
    return calls(compiled(t.f), lambda i: None)


@refused("return calls(compiled(lambda v: v * float(g())), lambda i: None)", "draws from numpy.random")
def test_refuses_rng_bound(compiled: Step):
    g = np.random.default_rng(1).normal
    return calls(compiled(lambda v: v * float(g())), lambda i: None)


@refused("return calls(compiled(lambda v: v * float(r.rand())), lambda i: None)", "draws from numpy.random")
def test_refuses_np_legacy(compiled: Step):
    r = np.random.RandomState(0)
    return calls(compiled(lambda v: v * float(r.rand())), lambda i: None)


@refused("return calls(compiled(lambda v: v * float(rand())), lambda i: None)", "draws from numpy.random")
def test_refuses_np_from_import(compiled: Step):
    from numpy.random import rand

    return calls(compiled(lambda v: v * float(rand())), lambda i: None)


@refused(
    "return calls(compiled(lambda v: (np.random.shuffle(a), v * float(a[0]))[1]), lambda i: None, 5)",
    "draws from numpy.random",
)
def test_refuses_np_shuffle_inplace(compiled: Step):
    a = np.arange(5.0)
    return calls(compiled(lambda v: (np.random.shuffle(a), v * float(a[0]))[1]), lambda i: None, 5)


@refused("return calls(compiled(lambda v: (random.shuffle(a), v * a[0])[1]), lambda i: None, 5)", "draws from random")
def test_refuses_rand_shuffle_list(compiled: Step):
    a = [1.0, 2.0, 3.0, 4.0]
    return calls(compiled(lambda v: (random.shuffle(a), v * a[0])[1]), lambda i: None, 5)


@refused(
    "return calls(compiled(lambda v: v * secrets.randbelow(10**6)), lambda i: None)", "draws from secrets.randbelow"
)
def test_refuses_secrets(compiled: Step):
    return calls(compiled(lambda v: v * secrets.randbelow(10**6)), lambda i: None)


@refused("return calls(compiled(lambda v: v * (uuid.uuid4().int % 1000003)), lambda i: None)", "draws from uuid.uuid4")
def test_refuses_uuid(compiled: Step):
    return calls(compiled(lambda v: v * (uuid.uuid4().int % 1000003)), lambda i: None)


@refused("return calls(compiled(lambda v: v * os.urandom(1)[0]), lambda i: None, 6)", "calls urandom()")
def test_refuses_urandom(compiled: Step):
    return calls(compiled(lambda v: v * os.urandom(1)[0]), lambda i: None, 6)


@refused(
    "return calls(compiled(lambda v: v * datetime.datetime.today().microsecond), lambda i: None)",
    "looks at the clock with datetime.today()",
)
def test_refuses_datetime_today(compiled: Step):
    return calls(compiled(lambda v: v * datetime.datetime.today().microsecond), lambda i: None)


@refused(
    "return calls(compiled(lambda v: v * now().microsecond), lambda i: None)", "looks at the clock with datetime.now()"
)
def test_refuses_datetime_aliased(compiled: Step):
    now = datetime.datetime.now
    return calls(compiled(lambda v: v * now().microsecond), lambda i: None)


@refused(
    "return calls(compiled(lambda v: v * (t() % 1000)), lambda i: None)",
    "looks at the clock with time.perf_counter_ns()",
)
def test_refuses_time_alias(compiled: Step):
    from time import perf_counter_ns as t

    return calls(compiled(lambda v: v * (t() % 1000)), lambda i: None)


@refused("return time.monotonic_ns() % 997 - self.t0", "looks at the clock with time.monotonic_ns()")
def test_refuses_time_helper_attr(compiled: Step):

    class T:
        def __init__(self):
            self.t0 = 0

        def el(self):
            return time.monotonic_ns() % 997 - self.t0

    t = T()
    return calls(compiled(lambda v: v * t.el()), lambda i: None)


@refused("return random.sample(self.data, n)", "draws from random")
def test_refuses_replay(compiled: Step):
    rb = ReplayBuffer()
    [rb.push(P.ones(3) * i) for i in range(10)]
    return calls(compiled(lambda v: v + P.stack(rb.sample(2)).sum(0)), lambda i: None)


@refused("return self.x[P.tensor([int(np.random.randint(10))])]", "draws from numpy.random")
def test_refuses_replay_np(compiled: Step):

    class R:
        def __init__(self):
            self.x = P.rand(10, 3)

        def sample(self):
            return self.x[P.tensor([int(np.random.randint(10))])]

    r = R()
    return calls(compiled(lambda v: v + r.sample()), lambda i: None)


@refused("c.set(c.get() + 1)", "writes what is looked up in ContextVar")
def test_refuses_ctxvar_set_inside(compiled: Step):
    c = contextvars.ContextVar("c", default=0)

    def f(v):
        c.set(c.get() + 1)
        return v * c.get()

    return calls(compiled(f), lambda i: None)


@refused("return v * heapq.heappop(h)", "writes the content of list")
def test_refuses_heap(compiled: Step):
    h = [1.0, 2.0, 3.0]

    def f(v):
        return v * heapq.heappop(h)

    return calls(compiled(f), lambda i: None)


@refused("return calls(compiled(lambda v: v * q.get()), lambda i: None)", "writes the content of deque")
def test_refuses_queue_get(compiled: Step):
    q = queue.Queue()
    [q.put(float(i + 1)) for i in range(9)]
    return calls(compiled(lambda v: v * q.get()), lambda i: None)


@refused("t.n = t.n + 1", "writes T.n")
def test_refuses_setattr_user(compiled: Step):

    class T:
        def __init__(self):
            object.__setattr__(self, "n", 0)

        def __setattr__(self, k, x):
            object.__setattr__(self, k, x)

    t = T()

    def f(v):
        t.n = t.n + 1
        return v * t.n

    return calls(compiled(f), lambda i: None)


@refused("t.n = t.n + 1", "writes T.n")
def test_refuses_super_setattr(compiled: Step):

    class T:
        n = 0

        def __setattr__(self, k, x):
            super().__setattr__(k, x)

    t = T()

    def f(v):
        t.n = t.n + 1
        return v * t.n

    return calls(compiled(f), lambda i: None)


@refused('t.__dict__["n"] += 1', "writes dict['n']")
def test_refuses_dict_write_instance(compiled: Step):
    t = Box(n=0)

    def f(v):
        t.__dict__["n"] += 1
        return v * t.n

    return calls(compiled(f), lambda i: None)


@refused('vars(t)["n"] = t.n + 1', "writes dict['n']")
def test_refuses_vars_write(compiled: Step):
    t = Box(n=0)

    def f(v):
        vars(t)["n"] = t.n + 1
        return v * t.n

    return calls(compiled(f), lambda i: None)


@refused("t.__dict__.update(n=t.n + 1)", "writes dict.update")
def test_refuses_dict_update_instance(compiled: Step):
    t = Box(n=0)

    def f(v):
        t.__dict__.update(n=t.n + 1)
        return v * t.n

    return calls(compiled(f), lambda i: None)


@refused('d.setdefault("k", []).append(1)', "writes list.append")
def test_refuses_setdefault_write(compiled: Step):
    d = {}

    def f(v):
        d.setdefault("k", []).append(1)
        return v * len(d["k"])

    return calls(compiled(f), lambda i: None)


@refused("l += [1]", "writes list.+=")
def test_refuses_list_iadd(compiled: Step):
    l = []

    def f(v):
        nonlocal l
        l += [1]
        return v * len(l)

    return calls(compiled(f), lambda i: None)


@refused("b.l += [1]", "writes list.+=")
def test_refuses_list_iadd_attr(compiled: Step):
    b = Box(l=[])

    def f(v):
        b.l += [1]
        return v * len(b.l)

    return calls(compiled(f), lambda i: None)


@refused("l.extend([1])", "writes list.extend")
def test_refuses_list_extend_local_alias(compiled: Step):
    b = Box(l=[])

    def f(v):
        l = b.l
        l.extend([1])
        return v * len(l)

    return calls(compiled(f), lambda i: None)


@refused("s.add(len(s))", "writes set.add")
def test_refuses_set_add(compiled: Step):
    s = set()

    def f(v):
        s.add(len(s))
        return v * len(s)

    return calls(compiled(f), lambda i: None)


@refused("b.s |= {len(b.s)}", "writes set.|=")
def test_refuses_set_ior(compiled: Step):
    b = Box(s=set())

    def f(v):
        b.s |= {len(b.s)}
        return v * len(b.s)

    return calls(compiled(f), lambda i: None)


@refused("return v * d.pop(max(d))", "writes dict.pop")
def test_refuses_dict_pop(compiled: Step):
    d = {1: 1.0, 2: 2.0, 3: 3.0}

    def f(v):
        return v * d.pop(max(d))

    return calls(compiled(f), lambda i: None)


@refused("return v * d.popitem()[1]", "writes dict.popitem")
def test_refuses_dict_popitem(compiled: Step):
    d = {1: 1.0, 2: 2.0, 3: 3.0}

    def f(v):
        return v * d.popitem()[1]

    return calls(compiled(f), lambda i: None)


@refused("return v * d.pop()", "writes list.pop")
def test_refuses_list_pop(compiled: Step):
    d = [1.0, 2.0, 3.0, 4.0]

    def f(v):
        return v * d.pop()

    return calls(compiled(f), lambda i: None)


@refused("del d[0]", "writes list[0]")
def test_refuses_list_del(compiled: Step):
    d = [1.0, 2.0, 3.0, 4.0]

    def f(v):
        del d[0]
        return v * d[0]

    return calls(compiled(f), lambda i: None)


@refused("d[:] = [d[1], d[0]]", "writes list[slice(None, None, None)]")
def test_refuses_list_slice_assign(compiled: Step):
    d = [1.0, 2.0]

    def f(v):
        d[:] = [d[1], d[0]]
        return v * d[0]

    return calls(compiled(f), lambda i: None)


@refused("d.reverse()", "writes list.reverse")
def test_refuses_list_reverse(compiled: Step):
    d = [1.0, 2.0]

    def f(v):
        d.reverse()
        return v * d[0]

    return calls(compiled(f), lambda i: None)


@refused('operator.setitem(d, "n", d["n"] + 1)', "writes an item of dict")
def test_refuses_operator_setitem(compiled: Step):
    d = {"n": 0}

    def f(v):
        operator.setitem(d, "n", d["n"] + 1)
        return v * d["n"]

    return calls(compiled(f), lambda i: None)


@refused("a += 1", "writes ndarray.+=")
def test_refuses_np_iadd(compiled: Step):
    a = np.zeros(1)

    def f(v):
        nonlocal a
        a += 1
        return v * float(a[0])

    return calls(compiled(f), lambda i: None)


@refused("a.fill(a[0] + 1)", "writes ndarray.fill")
def test_refuses_np_fill(compiled: Step):
    a = np.zeros(1)

    def f(v):
        a.fill(a[0] + 1)
        return v * float(a[0])

    return calls(compiled(f), lambda i: None)


@refused("np.add(a, 1, out=a)", "writes the content of ndarray")
def test_refuses_np_add_out(compiled: Step):
    a = np.zeros(1)

    def f(v):
        np.add(a, 1, out=a)
        return v * float(a[0])

    return calls(compiled(f), lambda i: None)


@refused("setattr(o, k, getattr(o, k) + 1)", "writes Box.n")
def test_refuses_write_via_func(compiled: Step):
    b = Box(n=0)

    def inc(o, k):
        setattr(o, k, getattr(o, k) + 1)

    def f(v):
        inc(b, "n")
        return v * b.n

    return calls(compiled(f), lambda i: None)


@refused("b.n += 1", "writes Box.n")
def test_refuses_write_in_map(compiled: Step):
    b = Box(n=0)

    def inc(_):
        b.n += 1

    def f(v):
        list(map(inc, range(2)))
        return v * b.n

    return calls(compiled(f), lambda i: None)


@refused("max(bs, key=id).n += 1", "writes Box.n")
def test_refuses_write_unknown_owner(compiled: Step):
    bs = [Box(n=0)]

    def f(v):
        max(bs, key=id).n += 1
        return v * bs[0].n

    return calls(compiled(f), lambda i: None)


@refused("max(bs, key=id).append(1)", "writes the content of list")
def test_refuses_append_unknown_owner(compiled: Step):
    bs = [[0]]

    def f(v):
        max(bs, key=id).append(1)
        return v * len(bs[0])

    return calls(compiled(f), lambda i: None)


@refused("next(iter(bs)).append(1)", "writes the content of list")
def test_refuses_append_via_iter(compiled: Step):
    bs = [[0]]

    def f(v):
        next(iter(bs)).append(1)
        return v * len(bs[0])

    return calls(compiled(f), lambda i: None)


@refused("self._n = x", "writes T._n")
def test_refuses_property_setter(compiled: Step):

    class T:
        def __init__(self):
            self._n = 0

        @property
        def n(self):
            return self._n

        @n.setter
        def n(self, x):
            self._n = x

    t = T()

    def f(v):
        t.n += 1
        return v * t.n

    return calls(compiled(f), lambda i: None)


@refused("setattr(o, self.n, x)", "writes T._w")
def test_refuses_descriptor_write(compiled: Step):

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

    def f(v):
        t.w = t.w + 1
        return v * t.w

    return calls(compiled(f), lambda i: None)


@refused("b.n = min(b.n + 1, 2)", "writes Box.n")
def test_refuses_saturating(compiled: Step):
    b = Box(n=0)

    def f(v):
        b.n = min(b.n + 1, 2)
        return v * b.n

    return calls(compiled(f), lambda i: None, 5)


@refused("m.train(not m.training)", "writes a Module's training mode")
def test_refuses_train_toggle(compiled: Step):
    m = nn.Dropout(0.5)
    out = []

    def f(v):
        m.train(not m.training)
        return v

    f = compiled(f)
    for i in range(3):
        f(vector())
        out.append(P.tensor(float(m.training)))
    return out


@refused("sch.step()", "writes ExponentialLR.last_epoch")
def test_refuses_sched_inside(compiled: Step):
    p = nn.Parameter(P.ones(3))
    o = P.optim.SGD([p], lr=1.0)
    sch = P.optim.lr_scheduler.ExponentialLR(o, 0.9)

    def f(v):
        sch.step()
        return v * 1

    return calls(compiled(f), lambda i: None)


@refused("log.append(l.item())", "the numbers of a Tensor")
def test_refuses_logging_item(compiled: Step):
    log = []

    def f(v):
        l = (v * v).sum()
        log.append(l.item())
        return l

    return calls(compiled(f), lambda i: None)


@refused("l = (v * v).sum()", "outlives the step")
def test_refuses_log_append_tensor(compiled: Step):
    log = []

    def f(v):
        l = (v * v).sum()
        log.append(l.detach())
        return l

    return calls(compiled(f), lambda i: None)


@refused("d.n += 1", "writes Box.n")
def test_refuses_hook_counter(compiled: Step):
    d = Box(n=0)
    m = nn.ReLU()

    def h(mod, i, o):
        d.n += 1
        return o * d.n

    m.register_forward_hook(h)
    return calls(compiled(lambda v: m(v)), lambda i: None)


@refused("self.t = time.time()", "looks at the clock with time.time()")
def test_refuses_timer_obj(compiled: Step):

    class T:
        def __enter__(self):
            self.t = time.time()
            return self

        def __exit__(self, *a):
            self.el = time.time() - self.t

    t = T()

    def f(v):
        with t:
            return v * 2

    return calls(compiled(f), lambda i: None)


@refused("b.m = P.rand(3)", "outlives the step")
def test_refuses_random_mask_cache(compiled: Step):
    P.manual_seed(0)
    b = Box(m=None)

    def f(v):
        if b.m is None:
            b.m = P.rand(3)
        return v * b.m

    return calls(compiled(f), lambda i: None)


@refused("b.m = v * 2", "outlives the step")
def test_refuses_input_cache(compiled: Step):
    b = Box(m=None)

    def f(v):
        if b.m is None:
            b.m = v * 2
        return v * b.m

    return calls(compiled(f), lambda i: None)


@refused("return v * random.random()", "draws from random")
def test_refuses_exception_swallow(compiled: Step):

    def f(v):
        try:
            return v * random.random()
        except Exception:
            return v

    return calls(compiled(f), lambda i: None)


@refused("b.n += 1", "writes Box.n")
def test_refuses_write_swallow(compiled: Step):
    b = Box(n=0)

    def f(v):
        try:
            b.n += 1
        except Exception:
            pass
        return v * b.n

    return calls(compiled(f), lambda i: None)


@refused(
    "return calls(compiled(lambda v: v * float(p.read_text())), lambda i: p.write_text(str(i + 1)) and None)",
    "calls read_text()",
)
def test_refuses_pathlib_read(compiled: Step):
    import pathlib

    p = pathlib.Path("wq.txt")
    p.write_text("1")
    return calls(compiled(lambda v: v * float(p.read_text())), lambda i: p.write_text(str(i + 1)) and None)


@refused("return calls(compiled(lambda v: v * 2 if os.path.exists(p) else v), ch)", "calls exists()")
def test_refuses_path_exists(compiled: Step):
    p = "wq2.txt"

    def ch(i):
        open(p, "w").close() if i % 2 else os.path.exists(p) and os.remove(p)

    return calls(compiled(lambda v: v * 2 if os.path.exists(p) else v), ch)


@refused(
    "return calls(compiled(lambda v: v * float(h.readline())), lambda i: None)", "advances an iterator from outside"
)
def test_refuses_file_handle(compiled: Step):
    open("wq3.txt", "w").write("1\n2\n3\n")
    h = open("wq3.txt")
    return calls(compiled(lambda v: v * float(h.readline())), lambda i: None)


@refused(
    'return calls(compiled(lambda v: v * float(np.load("wq4.npy"))), lambda i: np.save("wq4.npy", np.array(i + 1.0)))',
    "calls load()",
)
def test_refuses_np_load(compiled: Step):
    np.save("wq4.npy", np.array(1.0))
    return calls(compiled(lambda v: v * float(np.load("wq4.npy"))), lambda i: np.save("wq4.npy", np.array(i + 1.0)))


@refused("self.t += 1", "writes S.t")
def test_refuses_sched_lambda_state(compiled: Step):

    class S:
        def __init__(self):
            self.t = 0

        def __call__(self):
            self.t += 1
            return 1 / self.t

    sc = S()
    return calls(compiled(lambda v: v * sc()), lambda i: None)


@refused("b.m = 0.9 * b.m + 0.1 * v.shape[0]", "writes Box.m")
def test_refuses_running_mean_python(compiled: Step):
    b = Box(m=0.0)

    def f(v):
        b.m = 0.9 * b.m + 0.1 * v.shape[0]
        return v * b.m

    return calls(compiled(f), lambda i: None)


@refused("b.step += 1", "writes Box.step")
def test_refuses_ema_decay_warmup(compiled: Step):
    b = Box(step=0)

    def f(v):
        d = min(0.99, (1 + b.step) / (10 + b.step))
        b.step += 1
        return v * d

    return calls(compiled(f), lambda i: None)


@refused("self.n += 1", "writes D.n")
def test_refuses_subclass_dict_update_override(compiled: Step):

    class D(dict):
        def __init__(self):
            self.n = 0

        def __setitem__(self, k, x):
            self.n += 1
            dict.__setitem__(self, k, x)

    d = D()

    def f(v):
        d["a"] = 1
        return v * d.n

    return calls(compiled(f), lambda i: None)


@refused("f.n += 1", "writes function.n")
def test_refuses_static_counter_func_attr(compiled: Step):

    def f(v):
        f.n += 1
        return v * f.n

    f.n = 0
    return calls(compiled(f), lambda i: None)


@refused("c[0] += 1", "writes list[0]")
def test_refuses_mutable_default_counter(compiled: Step):

    def f(v, c=[0]):
        c[0] += 1
        return v * c[0]

    return calls(compiled(f), lambda i: None)


@refused('c["n"] += 1', "writes dict['n']")
def test_refuses_kw_default_dict(compiled: Step):

    def f(v, *, c={"n": 0}):
        c["n"] += 1
        return v * c["n"]

    return calls(compiled(f), lambda i: None)


@refused('os.environ["CNT"] = str(int(os.environ["CNT"]) + 1)', "writes _Environ['CNT']")
def test_refuses_env_write(compiled: Step):
    os.environ["CNT"] = "0"

    def f(v):
        os.environ["CNT"] = str(int(os.environ["CNT"]) + 1)
        return v * float(os.environ["CNT"])

    return calls(compiled(f), lambda i: None)


@refused('c["n"] = c["n"] + 1', "writes ChainMap['n']")
def test_refuses_chainmap_write(compiled: Step):
    c = ChainMap({"n": 0})

    def f(v):
        c["n"] = c["n"] + 1
        return v * c["n"]

    return calls(compiled(f), lambda i: None)


@refused("d.move_to_end(k)", "writes OrderedDict.move_to_end")
def test_refuses_ordereddict_move(compiled: Step):
    d = OrderedDict(a=1.0, b=2.0)

    def f(v):
        k = next(iter(d))
        d.move_to_end(k)
        return v * d[k]

    return calls(compiled(f), lambda i: None)


@refused(
    "return calls(compiled(lambda v: v * len([x for x, _ in zip(c, [1])])), lambda i: None)",
    "advances an iterator from outside",
)
def test_refuses_count_repr(compiled: Step):
    c = itertools.count()
    return calls(compiled(lambda v: v * len([x for x, _ in zip(c, [1])])), lambda i: None)
