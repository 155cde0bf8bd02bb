"""The least change that turns an answer: it turns it, no smaller one does, and what is fixed stays."""

import itertools

import numpy as np
import pytest

from pellucid.errors import OptionError
from pellucid.inspect.counterfactual import counterfactual

COLUMNS = {"a": [("numbers", 1, 0)], "b": [("numbers", 1, 1)], "city": [("categories", 1, 0)]}


def known(rows=60, seed=0):
    chance = np.random.default_rng(seed)
    return {"numbers": chance.normal(size=(rows, 2)).astype(np.float32), "categories": chance.integers(0, 3, (rows, 1))}


def one(a, b, city):
    return {"numbers": np.array([[a, b]], np.float32), "categories": np.array([[city]])}


def probabilities(score):
    return np.stack([1 / (1 + np.exp(score)), 1 / (1 + np.exp(-score))], 1)


def turned(answers):
    return np.where(answers[:, 1] > 0.5, answers[:, 1], answers[:, 1] - 1)


def by_sum(inputs):
    return probabilities(inputs["numbers"].astype(float).sum(1) * 3 - 6 + 4 * (inputs["categories"][:, 0] == 2))


def test_the_nearest_value_of_one_column_is_found():
    rows = known()
    found = counterfactual(by_sum, one(1.0, 0.5, 0), COLUMNS, rows, turned)
    assert len(found.changes) == 1
    change = found.changes[0]
    turning = []
    for name, place in (("a", 0), ("b", 1)):
        for i, value in enumerate(rows["numbers"][:, place]):
            row = one(1.0, 0.5, 0)
            row["numbers"][0, place] = value
            if turned(by_sum(row))[0] > 0:
                turning.append((abs(float(value) - (1.0, 0.5)[place]), name, i))
    turning += [(1.0, "city", i) for i in np.flatnonzero(rows["categories"][:, 0] == 2)]
    assert change.distance == pytest.approx(min(turning)[0], abs=1e-6)
    assert found.after[1] > 0.5 >= found.before[1]
    assert "turned: the changed row, made anew, is answered otherwise (proven)" in str(found)


def test_what_is_fixed_stays_and_the_rest_is_told():
    found = counterfactual(by_sum, one(1.0, 0.5, 0), COLUMNS, known(), turned, fixed=("city", "a"))
    assert {change.column for change in found.changes} == {"b"}
    assert found.fixed == ("city", "a")
    assert "1 columns were taken as changeable: b; held fixed: city, a" in str(found)
    with pytest.raises(
        OptionError, match=r"--fixed cty: no such column; expected one of a, b, city\. Did you mean 'city'"
    ):
        counterfactual(by_sum, one(1.0, 0.5, 0), COLUMNS, known(), turned, fixed=("cty",))


def test_two_columns_only_where_one_does_not_do():
    def both(inputs):
        high = (inputs["numbers"] > 0.5).all(1)
        return probabilities(np.where(high, 2.0, -4.0) + inputs["numbers"].clip(-1, 0.5).sum(1) * 0.1)

    rows = known()
    found = counterfactual(both, one(-1.0, -1.0, 0), COLUMNS, rows, turned)
    assert sorted(change.column for change in found.changes) == ["a", "b"]
    least = min(
        abs(float(a) + 1) + abs(float(b) + 1)
        for a, b in itertools.product(rows["numbers"][:, 0], rows["numbers"][:, 1])
        if a > 0.5 and b > 0.5
    )
    assert found.distance == pytest.approx(least, abs=1e-5)


def test_where_nothing_turns_it_says_so():
    found = counterfactual(lambda inputs: probabilities(np.full(len(inputs["numbers"]), -3.0)), one(0, 0, 0), COLUMNS, known(), turned)  # fmt: skip
    assert found.changes == ()
    assert found.after is None
    assert str(found).startswith("no change of up to 3 columns")
    assert not found.checks


def test_a_change_that_does_not_turn_the_answer_when_it_is_alone_is_told():
    """A network whose answers depend on the other rows of a batch: the check is of the row alone."""

    def unsteady(inputs):
        count = len(inputs["numbers"])
        return probabilities(np.full(count, 3.0 if count > 1 else -3.0))

    found = counterfactual(unsteady, one(0.0, 0.0, 0), COLUMNS, known(), turned)
    assert not found.holds
    assert "gets the same answer (proven) MISSED" in str(found)
