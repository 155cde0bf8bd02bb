"""Charts of figures with a sign: bars that begin where the one above ends, colours that are white at zero."""

import re

import numpy as np

from pellucid.report.signed_charts import BLUE, RED, diverging, signed_picture, steps_chart, waterfall


def test_zero_is_white_and_the_scale_is_symmetric():
    colours = diverging(np.array([0.0, 2.0, -2.0, 1.0, -1.0]), 2.0)
    assert np.array_equal(colours[0], [255, 255, 255])
    assert np.array_equal(colours[1], RED)
    assert np.array_equal(colours[2], BLUE)
    assert np.allclose(colours[3], (255 + RED) / 2)
    assert np.allclose(colours[4], (255 + BLUE) / 2)
    assert np.array_equal(diverging(np.zeros((2, 2)), 0.0), np.full((2, 2, 3), 255.0))


def test_a_picture_is_grey_beneath_where_nothing_counts():
    pixels = signed_picture(np.array([[0.0, 0.0], [3.0, -3.0]]), np.array([[0.0, 1.0], [0.0, 0.0]]), side=4)
    assert pixels.shape == (4, 4, 3)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 2, 0] == pixels[0, 2, 1] < 255
    assert pixels[2, 0].tolist() == RED.tolist()
    assert pixels[2, 2].tolist() == BLUE.tolist()


def test_each_bar_begins_where_the_one_above_ends():
    chart = str(waterfall("t", "d", [("a", 2.0), ("<b>", -0.5)], 1.0, 2.5, ("baseline", "answer")))
    bars = [
        (kind, float(x), float(x) + float(width))
        for kind, x, width in re.findall(r'<rect class="(\w+)" x="([\d.]+)" width="([\d.]+)"', chart)
    ]
    assert [kind for kind, _, _ in bars] == ["for", "against"]
    assert abs(bars[0][2] - bars[1][2]) < 0.2  # a rise to the right, a fall back from there
    assert "&lt;b&gt;" in chart
    assert "+2" in chart
    assert "-0.5" in chart


def test_a_line_over_steps_is_filled_on_its_own_side():
    chart = str(steps_chart("t", "d", np.array([1.0, -1.0, 0.5]), "steps"))
    zero = float(re.search(r'<line class="mark"[^>]* y1="([\d.]+)"', chart)[1])
    for kind, fits in (("for", lambda y: y <= zero), ("against", lambda y: y >= zero)):
        points = re.search(rf'<polygon class="{kind} faint" points="([^"]+)"', chart)[1].split()
        assert all(fits(float(point.split(",")[1])) for point in points)
        assert len(points) == 7  # three steps, two crossings, two ends
