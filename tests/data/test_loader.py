"""Batches: what they hold, their order, resuming, and what is refused."""

from __future__ import annotations

import functools
import hashlib
import operator
from collections import namedtuple

import numpy as np
import pytest

import pellucid
from pellucid.data import DataLoader, Dataset, Subset, TensorDataset, default_collate, random_split
from pellucid.data.loader import epoch_order
from pellucid.errors import DataError, OptionError, ShapeError, StateError


def dataset(n=10):
    return TensorDataset(pellucid.arange(n).float().reshape(n, 1) * pellucid.ones(1, 3), pellucid.arange(n))


class Plain(Dataset):
    """The same examples, one by one."""

    def __init__(self, n=10):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        assert isinstance(i, int)
        return np.full(3, i, np.float32), i


def numbers(loader):
    return [batch[1].tolist() for batch in loader]


def test_batches_in_order():
    batches = list(DataLoader(dataset(), batch_size=4))
    assert [type(batch) for batch in batches] == [list] * 3
    x, y = batches[1]
    assert (x.shape, x.dtype, y.dtype) == ((4, 3), np.float32, np.int64)
    np.testing.assert_array_equal(x.array, np.repeat([[4], [5], [6], [7]], 3, axis=1))
    assert [len(y) for _, y in batches] == [4, 4, 2]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("n", [0, 1, 8, 9, 11, 12])
def test_length_is_the_number_of_batches(n, drop_last):
    loader = DataLoader(dataset(n), batch_size=4, drop_last=drop_last, shuffle=True, seed=0)
    batches = numbers(loader)
    assert len(batches) == len(loader) == (n // 4 if drop_last else (n + 3) // 4)
    assert not drop_last or all(len(batch) == 4 for batch in batches)
    assert len({i for batch in batches for i in batch}) == sum(len(batch) for batch in batches)


def test_gathering_and_collating_give_the_same():
    fast = DataLoader(dataset(), 3, shuffle=True, seed=5)
    slow = DataLoader(Plain(), 3, shuffle=True, seed=5)
    for a, b in zip(fast, slow, strict=True):
        for p, q in zip(a, b, strict=True):
            np.testing.assert_array_equal(p.array, q.array, strict=True)


def test_every_epoch_has_its_order_and_a_seed_gives_it_again():
    loader = DataLoader(dataset(50), batch_size=7, shuffle=True, seed=3)
    epochs = [functools.reduce(operator.iadd, numbers(loader), []) for _ in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [functools.reduce(operator.iadd, numbers(DataLoader(dataset(50), 7, True, seed=3)), [])] == epochs[:1]
    for e, order in enumerate(epochs):
        assert loader.indices(e).tolist() == order
    assert DataLoader(dataset(50), 7, True, seed=4).indices(0).tolist() != epochs[0]


def test_the_order_is_the_same_bits_everywhere():
    """Written down: it must not change with the machine, NumPy's version or a later edit here, or old runs cannot resume."""
    assert epoch_order(10, seed=0, epoch=0).tolist() == ORDER
    assert hashlib.sha256(epoch_order(60000, seed=1, epoch=5).astype("<i8").tobytes()).hexdigest() == DIGEST


ORDER = [8, 7, 9, 5, 0, 3, 6, 2, 1, 4]
DIGEST = "dacb007d9b8a8c13b4718cdb532eba5bfe7d808416ab982f18eae40826af567a"


def test_orders_are_fair():
    """Each of 5 examples stands at each place about equally often (600 orders; 5 standard deviations)."""
    seen = np.zeros((5, 5))
    for epoch in range(600):
        seen[np.arange(5), epoch_order(5, seed=9, epoch=epoch)] += 1
    assert np.abs(seen - 120).max() < 5 * (600 * 0.2 * 0.8) ** 0.5


def test_the_seed_comes_from_the_default_generator():
    orders = []
    for _ in range(2):
        pellucid.manual_seed(7)
        orders.append([DataLoader(dataset(20), shuffle=True).indices(0).tolist() for _ in range(2)])
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]  # a tutorial's new loader in each epoch gets a new order


def test_a_generator_gives_the_seed():
    generators = [pellucid.Generator(4), pellucid.Generator(4)]
    before = pellucid.get_rng_state().tolist()
    a, b = (DataLoader(dataset(20), shuffle=True, generator=g).indices(0).tolist() for g in generators)
    assert a == b
    assert pellucid.get_rng_state().tolist() == before


def test_without_shuffling_nothing_is_drawn():
    before = pellucid.get_rng_state().tolist()
    assert numbers(DataLoader(dataset(4), 2)) == [[0, 1], [2, 3]]
    assert pellucid.get_rng_state().tolist() == before


# ---- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [dataset, Plain])
@pytest.mark.parametrize("taken", [0, 1, 3, 4])
def test_resuming_in_the_middle_of_an_epoch(taken, make):
    def loader(seed):
        return DataLoader(make(10), batch_size=3, shuffle=True, seed=seed)

    first = loader(1)
    straight = numbers(first) + numbers(first) + numbers(first)
    stopped = loader(1)
    numbers(stopped)
    seen = 4
    saved = stopped.state_dict()
    for _ in stopped:
        if seen - 4 == taken:
            break
        seen += 1
        saved = stopped.state_dict()
    resumed = loader(99)
    resumed.load_state_dict(saved)
    assert numbers(resumed) + (numbers(resumed) if taken < 4 else []) == straight[4 + taken :]


def test_leaving_a_loop_early_begins_a_new_epoch():
    loader = DataLoader(dataset(), batch_size=3, shuffle=True, seed=1)
    for _ in loader:
        break
    assert loader.state_dict()["epoch"] == 0
    assert loader.state_dict()["batch"] == 1
    assert functools.reduce(operator.iadd, numbers(loader), []) == loader.indices(1).tolist()


def test_two_loops_at_once_are_two_epochs():
    loader = DataLoader(dataset(), batch_size=3, shuffle=True, seed=1)
    pairs = [(a[1].tolist(), b[1].tolist()) for a, b in zip(loader, loader, strict=True)]
    assert functools.reduce(operator.iadd, (a for a, _ in pairs), []) == loader.indices(0).tolist()
    assert functools.reduce(operator.iadd, (b for _, b in pairs), []) == loader.indices(1).tolist()


@pytest.mark.parametrize("changed", [{"batch_size": 4}, {"shuffle": False}, {"drop_last": True}])
def test_a_state_of_other_batches_is_refused(changed):
    options = {"batch_size": 3, "shuffle": True, "seed": 0}
    saved = DataLoader(dataset(), **options).state_dict()
    with pytest.raises(StateError, match=f"{next(iter(changed))} was"):
        DataLoader(dataset(), **{**options, **changed}).load_state_dict(saved)
    with pytest.raises(StateError, match=r"examples was 10 .* here it is 11"):
        DataLoader(dataset(11), **options).load_state_dict(saved)
    with pytest.raises(StateError, match="expected a dict"):
        DataLoader(dataset(), **options).load_state_dict({"epoch": 1})


# ---- data sets -------------------------------------------------------------------------------------------------------


def test_tensor_dataset_gives_examples():
    x, y = dataset()[3]
    assert (x.tolist(), y.item()) == ([3.0, 3.0, 3.0], 3)


def test_a_batch_is_off_the_tape_and_does_not_alias():
    x = pellucid.zeros(4, 2).requires_grad_()
    (batch,) = next(iter(DataLoader(TensorDataset(x), batch_size=4)))
    assert not batch.requires_grad
    batch += 1
    assert not x.array.any()


def test_random_split_is_disjoint_and_seeded():
    parts = random_split(dataset(), [7, 3], pellucid.Generator(0))
    assert [len(part) for part in parts] == [7, 3]
    assert sorted(int(part[i][1].item()) for part in parts for i in range(len(part))) == list(range(10))
    again = random_split(dataset(), [7, 3], pellucid.Generator(0))
    assert [list(part.indices) for part in parts] == [list(part.indices) for part in again]


def test_random_split_by_fractions_gives_the_rest_to_the_first():
    assert [len(part) for part in random_split(dataset(), [0.5, 0.25, 0.25])] == [6, 2, 2]
    assert [len(part) for part in random_split(dataset(), [1.0])] == [10]


def test_a_subset_loads_like_its_data_set():
    for whole in (dataset(), Plain()):
        subset = Subset(Subset(whole, [9, 7, 5, 3, 1]), [0, 2, 4])
        assert numbers(DataLoader(subset, batch_size=2)) == [[9, 5], [1]]
        assert int(subset[1][1]) == 5


# ---- collating -------------------------------------------------------------------------------------------------------


def test_collate_goes_through_the_structure():
    Pair = namedtuple("Pair", ["a", "b"])
    batch = default_collate([{"x": (1, 2.5), "name": "u", "p": Pair(True, np.uint8(3)), "t": pellucid.ones(2)}] * 2)
    assert batch["x"][0].dtype == np.int64
    assert batch["x"][1].dtype == np.float64  # as in PyTorch
    assert batch["name"] == ["u", "u"]
    assert isinstance(batch["p"], Pair)
    assert (batch["p"].a.dtype, batch["p"].b.dtype) == (np.bool_, np.uint8)
    assert batch["t"].tolist() == [[1.0, 1.0]] * 2


def test_collate_fn_gets_the_examples():
    loader = DataLoader(dataset(), batch_size=5, collate_fn=lambda examples: [int(y.item()) for _, y in examples])
    assert list(loader) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


@pytest.mark.parametrize(
    ("error", "examples", "message"),
    [
        (ShapeError, [np.zeros(2), np.zeros(3)], r"shapes \(2,\) and \(3,\) in one batch"),
        (ShapeError, [(1, 2), (1,)], "different numbers of parts"),
        (DataError, [object(), object()], "an example holds a object"),
    ],
)
def test_collate_refuses(error, examples, message):
    with pytest.raises(error, match=message):
        default_collate(examples)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: DataLoader(dataset(), batch_size=0),
            r"DataLoader: batch_size is 0; expected a whole number of at least 1",
        ),
        (lambda: DataLoader(dataset(), batch_size=2.0), r"DataLoader: batch_size is 2.0"),
        (lambda: DataLoader(dataset(), num_workers=4), r"DataLoader: num_workers is 4; expected 0.*leave it out"),
        (lambda: DataLoader(dataset(), steps=-2), r"DataLoader: steps is -2; expected a whole number of batches, or 0"),
        (lambda: DataLoader(dataset(), steps=1.5), r"DataLoader: steps is 1.5"),
        (lambda: DataLoader(iter([1])), r"DataLoader: dataset is a list_iterator"),
        (lambda: DataLoader(dataset(), shuffle=True, seed="a"), r"seed: 'a'"),
        (lambda: TensorDataset(), r"TensorDataset: no Tensors"),
        (lambda: TensorDataset([1, 2]), r"TensorDataset: argument 0 is a list; expected a Tensor"),
        (
            lambda: random_split(dataset(), [5, 6]),
            r"random_split: lengths is \[5, 6\]; expected counts that add up to the 10",
        ),
    ],
)
def test_refused(build, message):
    with pytest.raises(OptionError, match=message):
        build()


def test_tensors_of_different_length_are_refused():
    with pytest.raises(ShapeError, match=r"argument 1 has shape \(3,\), argument 0 \(4, 2\)"):
        TensorDataset(pellucid.zeros(4, 2), pellucid.zeros(3))


def test_the_names_of_pytorchs_tutorials():
    from pellucid.utils import data

    assert data.DataLoader is DataLoader
    assert data.TensorDataset is TensorDataset
    loader = data.DataLoader(dataset(), batch_size=2, shuffle=False, num_workers=0, pin_memory=True)
    assert len(loader) == 5
