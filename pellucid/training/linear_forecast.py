"""The linear part of a forecaster: ridge autoregressions chosen on validation and averaged, and the share of the network (floor 10).

A pool of ridge regressions (Hoerl & Kennard 1970) differs in the lags that are read, the season among them, in the other
columns, in the penalty, and in what is predicted: the value or its change, or those of its logarithm. Each is judged one step
ahead on blocks of the second half of training and validation, fitted to what stands before each block. The best of each kind
are averaged, never one picked: on a short series the choice among good models is itself noise. Those that are kept are fitted
to the training part alone.

Shapes: L steps of all series, N steps that are learned or judged, T steps of a window, F features, C columns of a design.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..creation import tensor
from ..data.problem import DataModule, Examples
from ..data.series.preprocess import SeriesPreprocessor
from ..data.series.seasons import possible_seasons
from ..data.series.windows import SlidingWindows
from ..evaluation.compiled import Forward
from ..models.base import map_batches
from ..models.blocks.linear_forecast import LinearForecast, WindowLine
from ..models.lstm import RecurrentForecaster
from ..tensor import Tensor
from ..threads import one_thread

ORDERS = (0, 1, 2, 5, 15)  # last values that are read
SEASONS = 3  # tried
PENALTIES = (1e-5, 1e-3, 1e-2, 1e-1)  # for each step, of standardised columns
PLAIN = 15  # lags of the autoregression that runs are compared with
BLOCKS = 5  # that models are judged on
OF_A_KIND = 2  # models that are averaged
NEAR, NEAR_PLAIN = 1.15, 1.5  # times the least error: what is averaged at most, and the plain autoregression
MOST_ROWS = 20_000  # steps that are predicted, to fit and to judge
MANY_ROWS = 2_000  # steps from which those without a whole window before them are left out
TINY = 1e-5  # standard deviations above 0 that a value has at least whose logarithm is taken; float32 tells less from 0
STEADIEST = 100.0  # mean over standard deviation beyond which a logarithm is as good as straight
BEYOND = 10.0  # how far a predicted logarithm may lie beyond those of training
LEAST_JUDGED = 10  # validation steps that a share of the network is told from
CERTAIN = 2.0  # standard errors by which validation must gain


@dataclass(frozen=True)
class Candidate:
    """One model of the pool. lags: of the target.      others: which of the other features (F - 1) it reads."""

    log: bool
    change: bool
    lags: tuple[int, ...]
    others: tuple[int, ...]
    penalty: float


@dataclass(frozen=True)
class History:
    """What is known of the past of all series, up to the end of the validation part.

    values (L,): the target, standardised.      others (L, F - 1): the other features.
    rows (N,): the steps to predict.      ages (N,): steps before each in its series.      learned (N,): whether it is of the
    training part.      blocks (N,): 0, or from 1 to BLOCKS where a model is judged on it, by earlier ones.
    zero: 0 in the target's units, standardised; None where no logarithm is tried.      longest: the values of the longest
    series in the training part.
    """

    values: np.ndarray
    others: np.ndarray
    rows: np.ndarray
    ages: np.ndarray
    learned: np.ndarray
    blocks: np.ndarray
    window: int
    zero: float | None
    longest: np.ndarray


@dataclass(frozen=True)
class Sample:
    """The columns of one kind of model: design (N, T + F - 1), lag k in column k - 1, and what is predicted (N,).

    base (N,): what a prediction is added to: the last value, where a change is predicted, else 0.
    """

    design: np.ndarray
    target: np.ndarray
    base: np.ndarray
    moments: dict[int, np.ndarray] = field(default_factory=dict, repr=False)  # by the longest lag; see `moments_of`


@dataclass(frozen=True)
class Line:
    """A linear model of the past values (T,), the last one last, and of the other features (F - 1,)."""

    past: np.ndarray
    others: np.ndarray
    bias: float


# ---- what there is to learn from ---------------------------------------------------------------------------------------


def history_of(problem: DataModule) -> History:
    """The training and validation part. Steps without a whole window before them are learned from where there are few."""
    preprocessor = problem.preprocessor
    assert isinstance(preprocessor, SeriesPreprocessor)
    train, validation = (problem.examples(split).inputs["series"] for split in ("train", "validation"))
    assert isinstance(train, SlidingWindows) and isinstance(validation, SlidingWindows)
    starts = np.concatenate([train.starts, validation.starts])
    rows = np.concatenate([train.asked, validation.asked])
    learned = np.arange(len(rows)) < len(train)
    if len(rows) < MANY_ROWS:
        early = [
            _early_rows(int(start), train.window, preprocessor, train.features) for start in np.unique(train.starts)
        ]
        count = [len(each) for each in early]
        rows = np.concatenate([rows, *early])
        starts = np.concatenate([starts, np.repeat(np.unique(train.starts), count)])
        learned = np.append(learned, np.ones(sum(count), bool))
    own, ends = _ends(rows, starts)
    blocks = _blocks(rows - starts, ends[own], train.window, -(-len(validation) // len(ends)))
    kept = np.arange(len(rows))
    if len(rows) > MOST_ROWS:  # at random: steps at equal distances could all be of one hour of the day
        kept = np.sort(np.random.default_rng(0).choice(len(rows), MOST_ROWS, replace=False))
    longest = int(np.argmax(ends))
    began = int(starts[own == longest][0])
    series = train.features[began : rows[(own == longest) & learned].max(initial=began) + 1, 0]
    features = train.features[: rows.max() + 1].astype(np.float64)  # of one series without its test part
    column = preprocessor.columns[0]
    zero = -column.mean / column.std
    positive = not preprocessor.series_name and 0 < -zero < STEADIEST and bool((features[:, 0] > zero + TINY).all())
    return History(
        features[:, 0], features[:, 1:], rows[kept], (rows - starts)[kept], learned[kept], blocks[kept], train.window,
        zero if positive else None, series.astype(np.float64),
    )  # fmt: skip


def _early_rows(start: int, window: int, preprocessor: SeriesPreprocessor, features: np.ndarray) -> np.ndarray:
    """The steps of a series before the end of its first window, from the second on, that have a target."""
    rows = np.arange(start + 1, start + window)
    if preprocessor.columns[0].missing_indicator:
        rows = rows[features[rows, len(preprocessor.columns)] == 0]
    return rows


def _ends(rows: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number (N,) of the series of each step, and how many steps each series has up to the last that is known."""
    own = np.unique(starts, return_inverse=True)[1]
    ends = np.zeros(int(own.max()) + 1, np.int64)
    np.maximum.at(ends, own, rows - starts + 1)
    return own, ends


def _blocks(ages: np.ndarray, ends: np.ndarray, window: int, validation: int) -> np.ndarray:
    """The block (N,) of each step, by its place between the beginning of its series and the end of its validation part.

    ends (N,): steps of the series of each.      validation: its steps, of a series on average.
    """
    longest = int(ends.max())
    first = max(window + 10, min(longest - max(3 * validation, 24), longest // 2))
    cuts = np.linspace(min(first, longest - BLOCKS), longest, BLOCKS + 1)[:-1].astype(int)  # of the longest series
    blocks = np.searchsorted(cuts, ages * longest // ends, "right")
    return np.where(ages < window, 0, blocks)


def sample_of(history: History, log: bool, change: bool) -> Sample:
    """The columns of the models that predict the value, or its logarithm, or the change of either."""
    values = np.log(history.values - _zero(history)) if log else history.values
    lags = np.arange(1, history.window + 1)
    # A step too near to the beginning has wrong values at long lags; `moments_of` leaves it out there.
    past = values[np.maximum(history.rows[:, None] - lags, 0)]  # (N, T)
    base = past[:, 0] if change else np.zeros(len(past))
    design = np.concatenate([past - base[:, None], history.others[history.rows - 1]], 1)
    return Sample(design, values[history.rows] - base, base)


def _zero(history: History) -> float:
    assert history.zero is not None
    return history.zero


# ---- the pool ----------------------------------------------------------------------------------------------------------


def lag_sets(window: int, seasons: Sequence[int], longest: int) -> list[tuple[int, ...]]:
    """Sets of lags: some of the last values, and one season, the step after it, and both once more."""
    found = []
    for order, season in itertools.product(ORDERS, [0, *seasons]):
        seasonal = [lag for lag in (season, season + 1, 2 * season, 2 * season + 1) if 1 < lag <= min(window, longest)]
        lags = {*range(1, min(order, window) + 1), *(seasonal if season else [])} or {1}
        found.append(tuple(sorted(lags)))
    return list(dict.fromkeys(found))


def pool(history: History, preprocessor: SeriesPreprocessor, seasons: Sequence[int]) -> list[Candidate]:
    """All candidates, in groups that differ in the penalty alone."""
    features = history.others.shape[1]
    waves = {int(place) - 1 for place in preprocessor.calendar}
    every = tuple(range(features))
    others = list(dict.fromkeys([every, tuple(k for k in every if k not in waves), ()]))
    lags = lag_sets(history.window, seasons, int(history.ages.max() + 1) // 4)
    logs = (False, True) if history.zero is not None else (False,)
    grid = itertools.product(logs, (False, True), lags, others, PENALTIES)
    return [Candidate(*each) for each in grid]


def plain_of(history: History) -> Candidate:
    """The autoregression that runs are compared with, nearly without penalty."""
    lags = tuple(range(1, min(PLAIN, history.window) + 1))
    return Candidate(False, False, lags, tuple(range(history.others.shape[1])), PENALTIES[0])


def columns_of(candidate: Candidate, window: int) -> np.ndarray:
    """The columns of a sample's design that a candidate reads; the last value is no column where it is the base."""
    lags = [lag for lag in candidate.lags if not (candidate.change and lag == 1)]
    return np.array([*(lag - 1 for lag in lags), *(window + k for k in candidate.others)], dtype=np.int64)


# ---- ridge regression --------------------------------------------------------------------------------------------------


def moments_of(design: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Sums of products (C + 2, C + 2) of the columns, the target and 1: all that least squares needs of the rows."""
    rows = np.column_stack([design, target, np.ones(len(design))])
    return np.asarray(rows.T @ rows)


def ridge(moments: np.ndarray, penalties: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Weights (P, C) and biases (P,) for each penalty, from `moments_of` N rows.

    They minimise the squared error and N times the penalty times the squared weights of standardised columns; the bias is free.
    A column that is the same in all rows has no weight.
    """
    count = moments[-1, -1]
    means = moments[-1, :-1] / count
    spread = moments[:-1, :-1] / count - np.outer(means, means)  # (C + 1, C + 1)
    std = np.sqrt(np.maximum(np.diag(spread)[:-1], 0))
    usable = std > 1e-7
    inverse = np.where(usable, 1 / np.where(usable, std, 1), 0)
    correlations = spread[:-1, :-1] * np.outer(inverse, inverse)
    systems = correlations + np.array(penalties)[:, None, None] * np.eye(len(std))  # (P, C, C)
    right = (spread[:-1, -1] * inverse)[:, None]
    weights = np.linalg.solve(systems, np.broadcast_to(right, (len(penalties), len(std), 1)))[:, :, 0] * inverse
    return weights, means[-1] - weights @ means[:-1]


def sums_of(sample: Sample, history: History, longest: int) -> np.ndarray:
    """The moments (BLOCKS + 2, C + 2, C + 2) of the steps before each block, cumulated, and last of the training part.

    longest: the longest lag that is read; steps with fewer before them are left out. Computed once.
    """
    if longest not in sample.moments:
        able = history.ages >= longest
        own = [able & (history.blocks == block) for block in range(BLOCKS + 1)]
        parts = [moments_of(sample.design[rows], sample.target[rows]) for rows in own]
        learned = able & history.learned
        whole = moments_of(sample.design[learned], sample.target[learned])
        sample.moments[longest] = np.concatenate([np.cumsum(parts, 0), whole[None]])
    return sample.moments[longest]


def chosen_sums(candidate: Candidate, sample: Sample, history: History) -> np.ndarray:
    """`sums_of` for the columns that a candidate reads."""
    many = len(history.rows) >= MANY_ROWS
    sums = sums_of(sample, history, history.window if many else max(candidate.lags))
    at = np.append(columns_of(candidate, history.window), [sums.shape[1] - 2, sums.shape[1] - 1])
    return sums[:, at[:, None], at]


# ---- judging and averaging ---------------------------------------------------------------------------------------------


def errors_of(group: Sequence[Candidate], sample: Sample, history: History) -> np.ndarray:
    """Mean squared errors (P,), one step ahead on all blocks, of candidates that differ in the penalty alone."""
    one, sums = group[0], chosen_sums(group[0], sample, history)
    columns, penalties = columns_of(one, history.window), [each.penalty for each in group]
    squares, count = np.zeros(len(group)), 0
    for block in range(1, BLOCKS + 1):
        rows = np.flatnonzero(history.blocks == block)
        if not len(rows) or sums[block - 1][-1, -1] < 3:
            continue
        weights, biases = ridge(sums[block - 1], penalties)
        predicted = sample.design[np.ix_(rows, columns)] @ weights.T + biases + sample.base[rows, None]
        if one.log:
            predicted = np.exp(np.clip(predicted, *log_limits(history))) + _zero(history)
        squares += ((predicted - history.values[history.rows[rows], None]) ** 2).sum(0)
        count += len(rows)
    return squares / max(count, 1)


def log_limits(history: History) -> tuple[float, float]:
    """The least and the largest logarithm that is predicted."""
    logs = np.log(history.values[history.rows] - _zero(history))
    return float(logs.min()) - BEYOND, float(logs.max()) + BEYOND


def chosen(
    history: History, candidates: Sequence[Candidate], samples: dict[tuple[bool, bool], Sample]
) -> list[Candidate]:
    """The candidates to average: the best of each kind that are near to the best of all, and the plain autoregression."""
    judged: list[tuple[float, Candidate]] = []
    for key, members in itertools.groupby(candidates, lambda each: (each.log, each.change, each.lags, each.others)):
        group = list(members)
        judged += zip(errors_of(group, samples[key[:2]], history).tolist(), group, strict=True)
    judged.sort(key=lambda pair: pair[0])
    least = judged[0][0]
    kept = []
    for kind in samples:
        own = [pair for pair in judged if (pair[1].log, pair[1].change) == kind]
        kept += [one for error, one in own[:OF_A_KIND] if error <= NEAR**2 * least]
    plain = plain_of(history)
    near = errors_of([plain], samples[False, False], history)[0] <= NEAR_PLAIN**2 * least
    return [*kept, plain] if near and plain not in kept else kept


def fitted(candidate: Candidate, sample: Sample, history: History) -> Line:
    """A candidate fitted to the training part, as a line of the values: a change is added to the last of them."""
    weights, biases = ridge(chosen_sums(candidate, sample, history)[-1], [candidate.penalty])
    full = np.zeros(sample.design.shape[1])
    full[columns_of(candidate, history.window)] = weights[0]
    past, others = full[: history.window], full[history.window :]
    if candidate.change:
        past[0] = 1 - past.sum()
    return Line(past[::-1], others, float(biases[0]))


@dataclass(frozen=True)
class Average:
    """The chosen candidates, each with its line."""

    candidates: list[Candidate]
    lines: list[Line]

    def __iter__(self) -> Iterator[tuple[Candidate, Line]]:
        return iter(zip(self.candidates, self.lines, strict=True))


def fit_linear_forecast(network: RecurrentForecaster, problem: DataModule) -> list[str]:
    """Fit `network.linear`, and give the network the spread of what it leaves of the training part; a note on it."""
    preprocessor, linear = problem.preprocessor, network.linear
    assert isinstance(preprocessor, SeriesPreprocessor) and linear is not None
    with one_thread():
        history = history_of(problem)
        seasons = possible_seasons(history.longest, preprocessor.clock, history.window - 1)[:SEASONS]
        candidates = pool(history, preprocessor, seasons)
        kinds = dict.fromkeys((each.log, each.change) for each in candidates)
        samples = {kind: sample_of(history, *kind) for kind in kinds}
        best = chosen(history, candidates, samples)
        average = Average(best, [fitted(each, samples[each.log, each.change], history) for each in best])
        _give(linear, average, history)
        left = _left_by(linear, problem.examples("train"), network.eval_batch_size)
        network.share.assign(tensor(np.float32(1)))  # weights of another run may say 0, and then nothing is learned
        network.spread.assign(tensor(np.float32(max(float(left.std()), 1e-6))))
    return [_told(best, seasons)]


def _give(linear: LinearForecast, average: Average, history: History) -> None:
    """Give the layer the mean of the lines of the value, and of those of the logarithm."""
    for line, log in ((linear.value, False), (linear.logarithm, True)):
        own = [each for candidate, each in average if candidate.log is log]
        if own:
            _set_mean(line, own)
    logs = sum(candidate.log for candidate in average.candidates)
    settings = {"log_share": logs / len(average.candidates)}
    if history.zero is not None:
        lowest, highest = log_limits(history)
        least = np.exp(lowest + BEYOND) / 2
        settings |= {"zero": history.zero, "least": least, "lowest": lowest, "highest": highest}
    for name, value in settings.items():
        getattr(linear, name).assign(tensor(np.float32(value)))


def _set_mean(line: WindowLine, lines: Sequence[Line]) -> None:
    past, others = (np.mean([getattr(each, name) for each in lines], axis=0) for name in ("past", "others"))
    line.set(past, others, float(np.mean([each.bias for each in lines])))


def _left_by(linear: LinearForecast, part: Examples, most: int) -> np.ndarray:
    """What the linear forecast leaves of the target (N,), at most so many examples at a time."""
    windows = part.inputs["series"]

    def answer(rows: range) -> np.ndarray:
        found: np.ndarray = linear(Tensor(windows[rows.start : rows.stop])).array
        return found

    return np.asarray(part.target - map_batches(len(windows), most, answer))


def _told(best: Sequence[Candidate], seasons: Sequence[int]) -> str:
    """What the linear part is, in a line."""
    logs, changes = sum(each.log for each in best), sum(each.change for each in best)
    read = [s for s in seasons if any(s in each.lags and s + 1 in each.lags for each in best)]
    kinds = [f"{logs} of the logarithm"] * (logs > 0) + [f"{changes} of the change"] * (changes > 0)
    kinds += [f"with a season of {' or '.join(map(str, read))} steps"] * bool(read)
    models = f"the mean of {len(best)} autoregressions" if len(best) > 1 else "an autoregression"
    return f"linear: {', '.join([models, *kinds])}; the network learns what it leaves"


# ---- the share of the network ------------------------------------------------------------------------------------------


def choose_share(network: RecurrentForecaster, forward: Forward, judged: Examples) -> list[str]:
    """Set `network.share`: that which is best on the validation part, 0 unless it gains there by two standard errors.

    forward: gives the answers of `network`. A note says what was chosen.
    """
    answers = []
    for share in (0.0, 1.0):
        network.share.assign(tensor(np.float32(share)))
        answers.append(forward([judged.inputs["series"]]).astype(np.float64))
    left, added = judged.target - answers[0], answers[1] - answers[0]
    share, errors = best_share(left, added)
    network.share.assign(tensor(np.float32(share)))
    if len(judged) < LEAST_JUDGED:
        why = f"{len(judged)} validation steps are too few to tell; {LEAST_JUDGED} are wanted"
    elif share > 0:
        why = f"validation gains {errors:.1f} standard errors by it"
    elif errors <= 0:
        why = "validation gains nothing by it"
    else:
        why = f"validation gains {errors:.1f} standard errors by it, and {CERTAIN:g} are wanted"
    return [f"linear: the answer is {100 * share:.0f}% the network's, as {why}"]


def best_share(left: np.ndarray, added: np.ndarray) -> tuple[float, float]:
    """The share of `added` (N,) that explains what is `left` (N,) best, 0 to 1, and by how many standard errors all of it gains.

    The share is 0 where that is no more than CERTAIN, or the steps are too few.
    """
    gains = left**2 - (left - added) ** 2
    error = float(gains.std(ddof=1)) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
    errors = float(gains.mean()) / error if error > 0 else 0.0
    if errors <= CERTAIN or len(left) < LEAST_JUDGED:
        return 0.0, errors
    return float(np.clip(left @ added / (added @ added), 0, 1)), errors
