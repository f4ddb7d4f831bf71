"""What the figure helpers draw, read back from the Axes."""

import matplotlib

matplotlib.use("agg")

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from utils import plots


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_curves_are_mean_and_range():
    history = {
        "loss": np.array([[3.0, 2.0, 1.0], [5.0, 4.0, np.nan]]),
        "val_loss": np.array([[4.0, 3.0, 2.0], [4.0, 3.0, np.nan]]),
    }
    ax = plots.curves(plots.panels(), history, "loss", "L2", "L2")
    train, val = ax.lines
    np.testing.assert_array_equal(train.get_ydata(), [4, 3, 1])  # a stopped seed is left out
    np.testing.assert_array_equal(train.get_xdata(), [1, 2, 3])
    assert (train.get_linestyle(), val.get_linestyle()) == ("-", "--")
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (1, 5)
    assert [line.get_label() for line in ax.lines] == ["L2, training", "L2, validation"]


def test_dots_one_per_seed():
    ax = plots.dots(plots.panels(), {"a": [1, 2, 3], "b": [4, 5, 9]}, {"a": "none", "b": "L1"})
    np.testing.assert_array_equal(ax.lines[2].get_xdata(), [4, 5, 9])
    assert list(ax.lines[3].get_xdata()) == [6, 6]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_strengths_interval():
    ax = plots.strengths(plots.panels(), [0.1], [[1, 2, 3, 4, 5]], "dropout")
    (segment,) = ax.collections[0].get_segments()
    assert segment[1][1] - 3 == pytest.approx(2.7764 * np.sqrt(2.5 / 5), abs=1e-3)  # t(4)


def test_digits_are_tiled_in_order():
    images = np.stack([np.full((28, 28, 1), value) for value in (0.1, 0.2, 0.3, 0.4)])
    ax = plots.digits(plots.panels(), images, titles="ab", rows=["up", "down"])
    drawn = ax.images[0].get_array()
    assert drawn.shape == (60, 60)
    assert [drawn[0, 0], drawn[0, 40], drawn[40, 0], drawn[40, 40]] == [0.1, 0.2, 0.3, 0.4]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["up", "down"]


def test_weights():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.set_weights([np.array([[0.1, -0.1], [0.1, 0.2]]), np.array([9.0, 9.0])])
    np.testing.assert_allclose(plots.kernel_weights(model), [0.1, -0.1, 0.1, 0.2])
    ax = plots.weight_histogram(plots.panels(), [model], "L1")
    assert ax.patches[0].get_data().values.sum() == pytest.approx(1)


def test_figures_are_opaque_white_and_styles_tell_apart_in_grey():
    assert plots.panels().figure.get_facecolor() == (1, 1, 1, 1)
    assert len(plots.panels(2)) == 2
    markers = [marker for _, marker in plots.STYLE.values()]
    assert len(set(markers)) == len(markers)
    for colour, _ in plots.STYLE.values():  # contrast with white, as WCAG measures it
        light = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        ]
        assert 1.05 / (np.dot(light, [0.2126, 0.7152, 0.0722]) + 0.05) > 2
