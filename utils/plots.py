"""Figures in one style: one colour and one marker per technique through the whole book."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator
from scipy import stats

from utils.techniques import STYLE


def panels(count=1, height=3.1, width=3.6):
    """Return `count` Axes side by side on an opaque white figure (sizes in inches per panel)."""
    _, axes = plt.subplots(
        1, count, figsize=(width * count, height), layout="constrained", facecolor="white"
    )
    for ax in np.atleast_1d(axes):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        ax.set_axisbelow(True)
    return axes


def curves(ax, runs, metric, technique="none", label=None):
    """Draw a metric over the epochs: training solid, validation dashed.

    The line is the mean over the seeds still training, the band reaches from the lowest to
    the highest of them. `runs` is what `train_seeds` returned, or a dict of arrays.
    """
    colour, _ = STYLE[technique]
    history = getattr(runs, "history", runs)
    for name, line, word in ((metric, "-", "training"), (f"val_{metric}", "--", "validation")):
        values = np.atleast_2d(history[name])
        values = values[:, np.isfinite(values).any(axis=0)]
        epochs = np.arange(1, values.shape[1] + 1)
        ax.fill_between(
            epochs, np.nanmin(values, 0), np.nanmax(values, 0), color=colour, alpha=0.18, lw=0
        )
        ax.plot(
            epochs,
            np.nanmean(values, 0),
            line,
            color=colour,
            label=f"{label}, {word}" if label else word,
        )
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def dots(ax, scores, techniques):
    """Draw one dot per seed and a bar at the mean for each labelled row of scores.

    `scores` maps a label to one value per seed, `techniques` maps it to its style.
    """
    for row, (label, values) in enumerate(scores.items()):
        colour, marker = STYLE[techniques[label]]
        heights = row + np.linspace(-0.18, 0.18, len(values))
        ax.plot(values, heights, marker, color=colour, alpha=0.6, markersize=5, lw=0)
        ax.plot([np.mean(values)] * 2, [row - 0.32, row + 0.32], color=colour, lw=2.5)
    ax.set_yticks(range(len(scores)), list(scores))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    return ax


def strengths(ax, values, scores, technique, label=None, line="-"):
    """Draw scores against a strength: the mean over seeds and its 95 % interval.

    `values` are the strengths, shape (k,); `scores` has the shape (k, seeds).
    """
    colour, marker = STYLE[technique]
    scores = np.asarray(scores, float)
    mean = scores.mean(axis=1)
    half = stats.t.ppf(0.975, scores.shape[1] - 1) * stats.sem(scores, axis=1)
    ax.errorbar(values, mean, half, fmt=line, marker=marker, color=colour, capsize=3, label=label)
    return ax


def digits(ax, images, titles=None, rows=("",)):
    """Draw images of shape (n, 28, 28, 1) in as many rows as there are names in `rows`."""
    gap, columns = 4, len(images) // len(rows)
    tiles = np.pad(images[..., 0], ((0, 0), (0, gap), (0, gap)))
    grid = tiles.reshape(len(rows), columns, 28 + gap, 28 + gap).swapaxes(1, 2)
    grid = grid.reshape(len(rows) * (28 + gap), -1)[:-gap, :-gap]
    ax.imshow(grid, cmap="gray_r", vmin=0, vmax=1)
    ax.set_yticks([14 + (28 + gap) * i for i in range(len(rows))], rows)
    centres = [14 + (28 + gap) * i for i in range(columns)]
    ax.set_xticks(centres, [""] * columns if titles is None else titles)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    return ax


def weight_histogram(ax, models, technique, label=None):
    """Draw how the kernel weights of several models are distributed (share per bin, log scale)."""
    weights = np.concatenate([kernel_weights(model) for model in models])
    bins = np.linspace(-0.3, 0.3, 121)  # the few larger weights fall into the outermost bins
    share = np.histogram(weights.clip(-0.3, 0.3), bins)[0] / len(weights)
    colour, _ = STYLE[technique]
    ax.stairs(share, bins, color=colour, label=label or technique, lw=1.5)
    ax.set_yscale("log")
    ax.set_xlabel("weight")
    ax.set_ylabel("share of the weights")
    return ax


def kernel_weights(model):
    """Return all kernel weights of a Keras model (biases left out) as one flat array."""
    kernels = [v.numpy().ravel() for v in model.trainable_variables if v.ndim >= 2]
    return np.concatenate(kernels)
