"""What the figure helpers draw, read back from the Axes."""

import matplotlib

matplotlib.use("agg")

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb, to_rgba

from utils import BookError, plots
from utils.training import Runs


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def runs(values, technique="none", metric="test_accuracy"):
    scores = pd.DataFrame({metric: values}, index=pd.RangeIndex(len(values), name="seed"))
    return Runs({}, scores, [], technique)


def test_curves_are_mean_and_range():
    history = {
        "loss": np.array([[3.0, 2.0, 1.0], [5.0, 4.0, np.nan]]),
        "val_loss": np.array([[4.0, 3.0, 2.0], [4.0, 3.0, np.nan]]),
    }
    ax = plots.curves(plots.panels(), Runs(history, None, [], "L2"), "loss", "penalty")
    train, val = ax.lines
    np.testing.assert_array_equal(train.get_ydata(), [4, 3, 1])  # a stopped seed is left out
    np.testing.assert_array_equal(train.get_xdata(), [1, 2, 3])
    assert (train.get_linestyle(), val.get_linestyle()) == ("-", "--")
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (1, 5)
    assert [line.get_label() for line in ax.lines] == ["penalty, training", "penalty, validation"]
    assert train.get_color() == val.get_color() == plots.STYLE["L2"][0]


def test_dots_one_per_seed_in_the_style_of_the_technique():
    both = {"a": runs([1, 2, 3]), "b": runs([4, 5, 9], "L1")}
    ax = plots.dots(plots.panels(), both, "test_accuracy")
    np.testing.assert_array_equal(ax.lines[2].get_xdata(), [4, 5, 9])
    assert list(ax.lines[3].get_xdata()) == [6, 6]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    seen = [(line.get_color(), line.get_marker()) for line in ax.lines[::2]]
    assert seen == [plots.STYLE["none"], plots.STYLE["L1"]]


def test_strengths_interval():
    """A baseline before a technique: t(4) at 97.5 % is 2.7764 (printed tables)."""
    swept = [runs([5, 4, 3, 2, 1]), runs([2, 4, 6, 8, 10], "dropout")]
    ax = plots.strengths(plots.panels(), [0, 0.1], swept, "test_accuracy")
    first, second = (top for _, (_, top) in ax.collections[0].get_segments())
    assert first - 3 == pytest.approx(2.7764 * np.sqrt(2.5 / 5), abs=1e-3)
    assert second - 6 == pytest.approx(2.7764 * np.sqrt(10 / 5), abs=1e-3)
    assert ax.lines[0].get_color() == plots.STYLE["dropout"][0]


def test_gains_at_the_last_and_the_best_epoch():
    plain, treated = runs([0.7, 0.8]), runs([0.8, 1.0], "L2")
    plain.best["val_accuracy"] = runs([0.9, 0.9])
    treated.best["val_accuracy"] = runs([0.9, 0.8], "L2")
    last, best = plots.gains(plain, treated, "priced")
    assert (last.mean, best.mean) == pytest.approx((0.15, -0.05))
    top, bottom = plt.gcf().axes
    labels = [tick.get_text() for tick in top.get_yticklabels()]
    assert labels == [
        f"{arm}, {end} epoch" for end in ("last", "best") for arm in ("plain", "priced")
    ]
    np.testing.assert_allclose(bottom.lines[0].get_xdata(), [10, 20])
    interval = bottom.collections[0].get_segments()[0][:, 0]
    np.testing.assert_allclose(interval, [100 * last.low, 100 * last.high])
    assert [top.xaxis.get_major_formatter()(share, 0) for share in (0.78, 0.915)] == [
        "78 %",
        "91.5 %",
    ]


def test_units_that_are_off_are_crosses_without_connections():
    hidden = [np.array([1.0, 0.0]), np.array([0.0, 0.0, 2.0])]
    ax = plots.units(plots.panels(), np.zeros((28, 28, 1)), hidden, np.full(10, 0.1))
    on, off = ax.collections[::2], ax.collections[1::2]
    assert [len(each.get_offsets()) for each in on] == [1, 1, 10]
    assert [len(each.get_offsets()) for each in off] == [1, 2, 0]
    assert len(ax.lines) == 1 + 10  # from one to one, and from that one to ten
    assert [text.get_text() for text in ax.texts] == [*"0123456789"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda ax: plots.dots(ax, {"a": runs([1], "droput")}, "test_accuracy"), "'droput' has no"),
        (lambda ax: plots.dots(ax, {"a": runs([1])}, "test_acc"), "only test_accuracy"),
        (lambda ax: plots.strengths(ax, [1], [runs([1, 2])], "acc"), "there is no 'acc'"),
        (lambda ax: plots.curves(ax, runs([1]), "acc"), "there is no 'acc'"),
        (lambda ax: plots.weight_histogram(ax, runs([1])), "kept no models"),
    ],
)
def test_what_cannot_be_drawn(draw, message):
    with pytest.raises(BookError, match=message):
        draw(plots.panels())


def test_digits_are_tiled_in_order():
    images = np.stack([np.full((28, 28, 1), value) for value in (0.1, 0.2, 0.3, 0.4)])
    ax = plots.digits(plots.panels(), images, titles="ab", rows=["up", "down"])
    drawn = ax.images[0].get_array()
    assert drawn.shape == (63, 63) and drawn[0, 0] == 0.25  # the frame
    assert [drawn[2, 2], drawn[2, 40], drawn[40, 2], drawn[40, 40]] == [0.1, 0.2, 0.3, 0.4]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["up", "down"]


def luminance(colour):
    """Return the relative luminance of a colour (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot(linear, (0.2126, 0.7152, 0.0722))


def test_numbers_stand_out_from_their_tiles():
    means = np.linspace(-0.2, 0.2, 41)
    for clear in (True, False):
        fills, inks = plots.tile_colours(means, np.full(41, clear), 0.1)
        for fill, ink in zip(fills, inks, strict=True):
            low, high = sorted(map(luminance, (fill, ink)))
            assert (high + 0.05) / (low + 0.05) > 4.5


def test_tiles_are_coloured_where_a_difference_is_clear():
    rows = [
        ("dropout", 100, 0.0, 0.05, True),
        ("dropout", 1_000, 0.0, 0.0001, False),
        ("L2", 100, 0.0, -0.2, True),
        ("L2", 1_000, 0.0, -0.01, False),
    ]
    table = pd.DataFrame(rows, columns=["technique", "n_train", "label_noise", "mean", "clear"])
    ax = plots.tiles(table, lambda mean: f"{100 * mean:+.1f}", limit=0.1)
    colours = ax.collections[0].get_array().reshape(-1, 4)[:, :3].round(3)
    assert (colours == 1).all(axis=1).tolist() == [False, True, False, True]
    assert colours[0][0] > colours[0][2] and colours[2][2] > colours[2][0]  # orange, purple
    shown = [text.get_text() for text in ax.texts]
    assert shown[:4] == ["+5.0", "0.0", "−20.0", "−1.0"]
    assert shown[4:] == ["100 images", "1,000 images"]


def test_weights():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.set_weights([np.array([[0.1, -0.1], [0.1, 0.2]]), np.array([9.0, 9.0])])
    np.testing.assert_allclose(plots.kernel_weights(model), [0.1, -0.1, 0.1, 0.2])
    ax = plots.weight_histogram(plots.panels(), Runs({}, None, [model], "L1"))
    assert ax.patches[0].get_data().values.sum() == pytest.approx(1)
    assert ax.patches[0].get_label() == "L1"
    assert ax.patches[0].get_edgecolor() == to_rgba(plots.STYLE["L1"][0])


def test_figures_are_opaque_white_and_styles_tell_apart_in_grey():
    assert plots.panels().figure.get_facecolor() == (1, 1, 1, 1)
    upper, lower = plots.panels(2)
    assert upper.get_position().y0 > lower.get_position().y1, "below each other, for a phone"
    markers = [marker for _, marker in plots.STYLE.values()]
    assert len(set(markers)) == len(markers)
    for colour, _ in plots.STYLE.values():  # contrast with white, as WCAG measures it
        light = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        ]
        assert 1.05 / (np.dot(light, [0.2126, 0.7152, 0.0722]) + 0.05) > 2


class Full:
    x_test = np.empty(10_000)


class Sample:
    x_test = np.empty(1_500)


def ten(shift=0.0):
    return {"plain": runs(0.9 + shift + np.linspace(-0.01, 0.01, 10))}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "CHAPTERS", tmp_path / "chapters.csv")
    monkeypatch.setenv("STORE_REFERENCE", "1")
    for chapter in ("other", "mine"):
        plots.among_ours(plots.panels(), chapter, ten(), Full)
    monkeypatch.delenv("STORE_REFERENCE")
    return plots.CHAPTERS


def test_storing_replaces_a_chapter_and_keeps_the_others(stored, monkeypatch):
    monkeypatch.setenv("STORE_REFERENCE", "1")
    plots.among_ours(plots.panels(), "mine", ten(0.05), Full)
    means = pd.read_csv(stored).groupby("chapter")["test_accuracy"].mean()
    assert means.to_dict() == pytest.approx({"mine": 0.95, "other": 0.90})
    assert len(pd.read_csv(stored)) == 20


def test_a_run_among_ours(stored, capsys):
    for shift, mnist, said in (
        (0.0, Full, "agree with the book's."),
        (0.014, Full, "agree with the book's."),  # within 6.8 standard errors, 0.0144
        (0.02, Full, "plain by +2.0 points (at most 1.4)"),
        (-0.02, Sample, "5,000-digit sample"),
    ):
        capsys.readouterr()
        ax = plots.among_ours(plots.panels(), "mine", ten(shift), mnist)
        out = capsys.readouterr().out
        assert said in out and out.count("\n") == 1
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["plain"]
    with pytest.raises(BookError, match="mine has no 'other label', only plain"):
        plots.among_ours(plots.panels(), "mine", {"other label": ten()["plain"]}, Full)
