"""The evaluator of series: the scores of a regression, the interval of forecasts with its coverage, and the drawn forecast
(floor 7)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..data.series.load import RawSteps
from ..data.series.preprocess import SeriesPreprocessor
from ..data.series.windows import Timeline
from .evaluator import EvaluationResult, Figures, PredictionEvaluator, predict_outputs
from .forecasts import LEAST_HORIZON, MOST_HORIZON, ForecastFigure, interval_sentence, measure_interval, rolling

DRAWN = 4  # series that a report draws
SHOWN = 200  # known steps of each, at most


class SeriesEvaluator(PredictionEvaluator):
    """Of a forecaster."""

    def inverse_transform(self, values: dict[str, float]) -> dict[str, float]:
        """Without the RMSE of several series: each has its own units, which a mean over examples does not tell."""
        return values if self._preprocessor.series_name else super().inverse_transform(values)

    @property
    def _preprocessor(self) -> SeriesPreprocessor:
        assert isinstance(self.problem.preprocessor, SeriesPreprocessor)
        return self.problem.preprocessor

    def test(self) -> EvaluationResult:
        problem = self.problem
        validation, test = problem.examples("validation"), problem.examples("test")
        self.interval = measure_interval(self.forward.native, self._preprocessor, validation, test)
        return replace(super().test(), interval=self.interval)

    def figures(self) -> Figures:
        """The forecast over time, of the first few series."""
        figures = super().figures()
        raw = self.problem.raw["test"]
        assert isinstance(raw, RawSteps)
        test = self.problem.examples("test")
        output = predict_outputs(self.forward, self._preprocessor, test.arrays(self.network))
        drawn = [self._figure(raw, int(owner), output) for owner in np.unique(raw.owners)[:DRAWN]]
        notes = [f"interval: {interval_sentence(self.interval)}"] if self.interval else []
        return replace(figures, forecasts=drawn, interval=self.interval, notes=[*figures.notes, *notes])

    def _figure(self, raw: RawSteps, owner: int, output: np.ndarray) -> ForecastFigure:
        line, own = raw.lines[owner], raw.owners == owner
        rows = raw.rows[own]
        to_come = self._to_come(raw, line)  # (H,) in the target's units
        horizon, std = len(to_come), self._preprocessor.scale(line)[1][0]
        predicted = np.full(len(line) + horizon, np.nan)
        predicted[rows], predicted[len(line) :] = output[own], to_come
        half = np.full(len(predicted), np.nan)
        if self.interval is not None:
            widths = np.array(self.interval.half_widths[:horizon]) * std
            half[rows] = self.interval.half_widths[0] * std
            half[len(line) : len(line) + len(widths)] = widths
        start = max(0, int(rows[0]) - 2 * len(rows), len(line) - SHOWN)
        clock, times = self._preprocessor.clock, list(line.times)
        for _ in range(horizon):
            times.append(clock.after(float(times[-1])))
        actual = np.append(line.values[:, 0], np.full(horizon, np.nan))
        return ForecastFigure(
            line.name, self._preprocessor.target_name, [clock.text(time) for time in times[start:]], actual[start:], predicted[start:],
            (predicted - half)[start:], (predicted + half)[start:], int(rows[0]) - start, len(line) - start,
        )  # fmt: skip

    def _to_come(self, raw: RawSteps, line: Timeline) -> np.ndarray:
        """The steps after the end of a series; none where columns must be known for them."""
        preprocessor = self._preprocessor
        if preprocessor.known_names or len(line) < preprocessor.window:
            return np.zeros(0)
        horizon = max(LEAST_HORIZON, min(MOST_HORIZON, preprocessor.season))
        features = preprocessor.features(preprocessor.extended(raw.table, line, horizon))
        means, stds = preprocessor.scale(line)
        scaled = rolling(self.forward.native, preprocessor, features, np.array([len(line)]), horizon)[0]
        return scaled.astype(np.float64) * stds[0] + means[0]
