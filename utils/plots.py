"""Figures in one style: one colour and one marker per technique through the whole book."""

import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.ticker import MaxNLocator
from matplotlib_inline.backend_inline import set_matplotlib_formats
from scipy import stats

from utils import BookError
from utils.data import write_atomically
from utils.evidence import paired_difference, tolerance
from utils.results import RESULTS
from utils.techniques import STYLE

CHAPTERS = RESULTS / "chapters.csv"  # the book's own scores, to hold a reader's run against
WIDTH = 3.75  # inches: 360 pixels, and no text of it smaller than 9
FONT = {"font.size": 9, "axes.labelsize": 8.5, "xtick.labelsize": 8, "ytick.labelsize": 8}
FONT |= {"legend.fontsize": 8, "axes.titlesize": 9, "svg.hashsalt": "regularization"}


def panels(count=1, height=2.3):
    """Return `count` Axes below each other, each of this height in inches, on a white figure.

    A figure is as wide as a phone, and becomes an SVG, which is sharp on every screen.
    """
    set_matplotlib_formats("svg", metadata={"Date": None})
    plt.rcParams.update(FONT)
    _, axes = plt.subplots(
        count, figsize=(WIDTH, height * count), layout="constrained", facecolor="white"
    )
    for ax in np.atleast_1d(axes):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        ax.set_axisbelow(True)
    return axes


def _style(runs):
    """Return the colour and the marker of the runs' technique."""
    if runs.technique not in STYLE:
        raise BookError(
            f"technique={runs.technique!r} has no colour: choose from {', '.join(STYLE)}."
        )
    return STYLE[runs.technique]


def _column(table, metric):
    """Return a metric of a history or of scores, or say which there are."""
    if metric not in table:
        raise BookError(f"there is no {metric!r}, only {', '.join(table)}: name one of these.")
    return np.asarray(table[metric], float)


def curves(ax, runs, metric, label=None):
    """Draw a metric of what `train_seeds` returned: training solid, validation dashed.

    The line is the mean over the seeds still training, the band reaches from the lowest to
    the highest of them.
    """
    colour, _ = _style(runs)
    for name, line, word in ((metric, "-", "training"), (f"val_{metric}", "--", "validation")):
        values = _column(runs.history, name)
        values = values[:, np.isfinite(values).any(axis=0)]
        epochs = np.arange(1, values.shape[1] + 1)
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        ax.fill_between(epochs, low, high, color=colour, alpha=0.18, lw=0)
        label_line = f"{label}, {word}" if label else word
        ax.plot(epochs, np.nanmean(values, axis=0), line, color=colour, label=label_line)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _in_percent(ax.yaxis, metric)
    return ax


def percent(share, _=None):
    """Return a share as a percentage, for axes as well: `set_major_formatter(percent)`."""
    return f"{100 * share:.6g} %"


def _in_percent(axis, metric):
    """Write what is a share of images as a percentage."""
    if metric.endswith("accuracy"):
        axis.set_major_formatter(percent)


def dots(ax, runs, metric):
    """Draw one dot per seed and a bar at the mean for each labelled row of scores.

    `runs` maps a label to what `train_seeds` returned, `metric` is a column of its scores.
    """
    for row, run in enumerate(runs.values()):
        (colour, marker), values = _style(run), _column(run.scores, metric)
        heights = row + np.linspace(-0.18, 0.18, len(values))
        ax.plot(values, heights, marker, color=colour, alpha=0.6, markersize=5, lw=0)
        ax.plot([np.mean(values)] * 2, [row - 0.32, row + 0.32], color=colour, lw=2.5)
    ax.set_yticks(range(len(runs)), list(runs))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    _in_percent(ax.xaxis, metric)
    return ax


def gains(plain, treated, label):
    """Draw the test accuracies of two arms at their last and best epochs, and their differences.

    Both are what `train_seeds` returned for the same pairs, with `best=["val_accuracy"]`. Below
    are the differences, pair by pair, with their 95 % intervals, in percentage points. Returns
    the two differences, as shares.
    """
    arms = {"plain": plain, label: treated}
    last = {f"{name}, last epoch": runs for name, runs in arms.items()}
    best = {f"{name}, best epoch": runs.best["val_accuracy"] for name, runs in arms.items()}
    top, bottom = panels(2, height=1.6)
    dots(top, last | best, "test_accuracy").set_xlabel("test accuracy")
    colour, marker = _style(treated)
    differences = []
    for row, ends in enumerate((last, best)):
        before, after = (runs.scores["test_accuracy"] for runs in ends.values())
        gain, places = paired_difference(after, before), row + np.linspace(-0.2, 0, len(after))
        bottom.plot(100 * (after - before), places, marker, color=colour, alpha=0.5, markersize=4)
        half = [[100 * (gain.mean - gain.low)], [100 * (gain.high - gain.mean)]]
        where = 100 * gain.mean, row + 0.25
        bottom.errorbar(*where, xerr=half, fmt="|", color=colour, capsize=3, lw=2)
        differences.append(gain)
    bottom.axvline(0, color="black", lw=0.8, ls=":")
    bottom.set_yticks(range(2), ["gain, last epoch", "gain, best epoch"])
    bottom.set_ylim(1.5, -0.5)
    bottom.grid(axis="y", visible=False)
    bottom.set_xlabel("difference, percentage points")
    return differences


def units(ax, image, hidden, answers):
    """Draw an image, some units of each hidden layer and the ten answers, darker where larger.

    `hidden` holds the outputs of a few units per layer. A unit that gives 0 is a cross without
    connections.
    """
    columns = [*hidden, answers]
    heights = [np.linspace(1.25, -1.25, len(column)) for column in columns]
    on = [*(column > 0 for column in hidden), np.full(len(answers), True)]
    place = {"extent": (-1.9, -0.9, -0.75, 0.75), "aspect": "auto", "interpolation": "none"}
    ax.imshow(image[..., 0], cmap="gray_r", **place)
    for x, (column, y, live) in enumerate(zip(columns, heights, on, strict=True)):
        if column is not answers:
            ends = np.meshgrid(y[live], heights[x + 1][on[x + 1]])
            ax.plot([x, x + 1], [np.ravel(end) for end in ends], color="#BBBBBB", lw=0.4, zorder=0)
        look = {"cmap": "Oranges", "vmin": 0, "vmax": column.max(), "edgecolors": "#444444"}
        ax.scatter([x] * live.sum(), y[live], 30 if column is answers else 70, column[live], **look)
        ax.scatter([x] * (~live).sum(), y[~live], 60, "#888888", marker="x")
    for digit, y in enumerate(heights[-1]):
        ax.text(len(hidden) + 0.2, y, digit, va="center", fontsize=7.5)
    ax.set(xlim=(-2, len(hidden) + 0.5), ylim=(-1.45, 1.45))
    ax.axis("off")
    return ax


def strengths(ax, values, runs, metric, label=None, line="-"):
    """Draw a score against a strength: the mean over seeds and its 95 % interval.

    `runs` lists what `train_seeds` returned for each of the `values`, and `metric` is a column
    of its scores. The style is that of the last one's technique: the first may be the baseline.
    """
    colour, marker = _style(runs[-1])
    scores = np.stack([_column(run.scores, metric) for run in runs])
    mean = scores.mean(axis=1)
    half = stats.t.ppf(0.975, scores.shape[1] - 1) * stats.sem(scores, axis=1)
    ax.errorbar(values, mean, half, fmt=line, marker=marker, color=colour, capsize=3, label=label)
    _in_percent(ax.yaxis, metric)
    return ax


def tile_colours(means, clear, limit):
    """Return for each tile of a map its colour and that of its number: white where not clear.

    The colours end at a mean of `limit`, which may be negative where less is better.
    """
    fills = plt.get_cmap("PuOr_r")(np.clip(0.5 + np.asarray(means) / limit / 2, 0.1, 0.9))
    clear = np.asarray(clear, bool)
    fills[~clear] = 1
    linear = np.where(fills <= 0.04045, fills / 12.92, ((fills + 0.055) / 1.055) ** 2.4)[..., :3]
    dark = clear & (linear @ (0.2126, 0.7152, 0.0722) < 0.179)  # white stands out more (WCAG 2.2)
    inks = np.select([dark, clear], ["#FFFFFF", "#000000"], "#666666")
    hexes = [to_hex(fill) for fill in fills.reshape(-1, 4)]
    return np.reshape(hexes, clear.shape), inks


def tiles(table, text, limit):
    """Draw a map: a tile per technique and setting, coloured where the difference is clear.

    `table` is that of `utils.results.against_plain`, `text` writes a mean, and the colours end at
    a mean of `limit`, which may be negative where less is better.
    """
    ax = panels(height=2.9)
    means, clear = (
        table.pivot(index="technique", columns=["n_train", "label_noise"], values=name)
        for name in ("mean", "clear")
    )
    order = (means * np.sign(limit)).mean(axis=1).sort_values(ascending=False).index
    means, clear = means.loc[order], clear.loc[order]
    fills, inks = tile_colours(means, clear, limit)
    edges = np.arange(-0.5, means.shape[1]), np.arange(-0.5, len(means))
    ax.pcolormesh(*edges, to_rgba_array(fills.ravel()).reshape(*means.shape, 4))
    ax.invert_yaxis()
    for (y, x), mean in np.ndenumerate(means):
        label = text(mean).replace("-", "−")
        label = label if label.strip("+−0.") else label.lstrip("+−")  # no sign before a zero
        ax.text(x, y, label, ha="center", va="center", fontsize=7.5, color=inks[y, x])
    ax.set_yticks(range(len(means)), means.index)
    ax.set_xticks(range(len(means.columns)), [percent(noise) for _, noise in means])
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    sizes = means.columns.get_level_values(0)
    for n_train in dict.fromkeys(sizes):
        middle = np.flatnonzero(sizes == n_train).mean()
        ax.text(middle, -1.35, f"{n_train:,} images", ha="center", fontsize=8.5)
    ax.axvline(np.flatnonzero(np.diff(sizes))[0] + 0.5, color="white", lw=4)
    ax.set_title("labels wrong", loc="left", fontsize=8, x=-0.47, y=1.0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    return ax


def digits(ax, images, titles=None, rows=("",)):
    """Draw images of shape (n, 28, 28, 1) in as many rows as there are names in `rows`."""
    framed = np.pad(images[..., 0], ((0, 0), (1, 1), (1, 1)), constant_values=0.25)
    gap, columns = 3, len(images) // len(rows)
    tiles = np.pad(framed, ((0, 0), (0, gap), (0, gap)))
    grid = tiles.reshape(len(rows), columns, 30 + gap, 30 + gap).swapaxes(1, 2)
    grid = grid.reshape(len(rows) * (30 + gap), -1)[:-gap, :-gap]
    ax.imshow(grid, cmap="gray_r", vmin=0, vmax=1, interpolation="none")
    ax.set_yticks([15 + (30 + gap) * i for i in range(len(rows))], rows)
    centres = [15 + (30 + gap) * i for i in range(columns)]
    ax.set_xticks(centres, [""] * columns if titles is None else titles)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    return ax


def weight_histogram(ax, runs, label=None, ls="-"):
    """Draw how the kernel weights of all models are distributed (share per bin, log scale).

    Weights beyond 0.3 on either side are counted and not drawn.
    """
    if not runs.models:
        raise BookError("these runs kept no models: train them without keep_models=False.")
    weights = np.concatenate([kernel_weights(model) for model in runs.models])
    share, edges = np.histogram(weights, np.linspace(-0.3, 0.3, 121))
    look = {"color": _style(runs)[0], "label": label or runs.technique, "ls": ls, "lw": 1.5}
    ax.stairs(share / len(weights), edges, **look)
    ax.set_yscale("log")
    ax.set(xlabel="weight", ylabel="share of the weights")
    return ax


def kernel_weights(model):
    """Return all kernel weights of a Keras model (biases left out) as one flat array."""
    kernels = [v.numpy().ravel() for v in model.trainable_variables if v.ndim >= 2]
    return np.concatenate(kernels)


def among_ours(ax, chapter, runs, mnist):
    """Draw a dot per seed over the band of the book's own run, and print whether they agree.

    `runs` maps a label to what `train_seeds` returned. The band reaches `tolerance` to both
    sides of the book's mean test accuracy. `make refresh` sets STORE_REFERENCE, and the run
    becomes the book's own.
    """
    scores = {label: run.scores["test_accuracy"] for label, run in runs.items()}
    if os.environ.get("STORE_REFERENCE"):
        _store(chapter, scores)
    table = pd.read_csv(CHAPTERS)
    book = table[table["chapter"] == chapter].set_index("run")["test_accuracy"]
    apart = []
    for row, (label, values) in enumerate(scores.items()):
        if label not in book:
            known = ", ".join(book.index.unique())
            raise BookError(f"the book's {chapter} has no {label!r}, only {known}.")
        ours = book[label]
        allowed, gap = tolerance(ours), values.mean() - ours.mean()
        band = ours.mean() - allowed, ours.mean() + allowed
        ax.fill_betweenx([row - 0.42, row + 0.42], *band, color="#C8C8C8", lw=0)
        if abs(gap) > allowed:
            apart.append(f"{label} by {100 * gap:+.1f} points (at most {100 * allowed:.1f})")
    dots(ax, runs, "test_accuracy").set_xlabel("test accuracy")
    if len(mnist.x_test) < 10_000:
        print("Your digits are the 5,000-digit sample, so your scores may lie beside our bands.")
    elif apart:
        print(
            f"Your means lie further from the book's than chance and another processor explain: "
            f"{'; '.join(apart)}. The usual causes are a changed line above, cells run out of "
            "order, and other versions than those in requirements.txt."
        )
    else:
        print("The mean test accuracies agree with the book's.")
    return ax


def _store(chapter, scores):
    """Put the scores into the file, in place of what the chapter had there."""
    rows = pd.DataFrame(scores).rename_axis("seed").reset_index()
    rows = rows.melt("seed", var_name="run", value_name="test_accuracy").assign(chapter=chapter)
    if CHAPTERS.exists():
        others = pd.read_csv(CHAPTERS)
        rows = pd.concat([others[others["chapter"] != chapter], rows])
    columns = ["chapter", "run", "seed", "test_accuracy"]
    table = rows.sort_values(columns[:3])[columns].round(6)
    write_atomically(CHAPTERS, table.to_csv(index=False).encode())
