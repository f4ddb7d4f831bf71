"""The book's own scores, to hold a reader's run against."""

import os
from pathlib import Path

import pandas as pd
from scipy import stats

from utils.data import write_atomically
from utils.plots import dots

FILE = Path(__file__).parent.parent / "results" / "chapters.csv"


def tolerance(scores):
    """Return how far another mean over as many seeds may lie from that of `scores` by chance.

    Passed once in a thousand times where the seeds have nothing in common, as on another
    processor: √2 standard errors times the quantile of Student's t (6.8 for ten seeds).
    """
    quantile = stats.t.ppf(1 - 0.001 / 2, len(scores) - 1)
    return 2**0.5 * quantile * stats.sem(scores)


def among_ours(ax, chapter, runs, techniques, mnist):
    """Draw a dot per seed over the band of the book's own run, and print whether they agree.

    `runs` maps a label to what `train_seeds` returned, `techniques` maps it to its style. The
    band reaches `tolerance` to both sides of the book's mean test accuracy. `make refresh`
    sets STORE_REFERENCE, and the run becomes the book's own.
    """
    scores = {label: run.scores["test_accuracy"] for label, run in runs.items()}
    if os.environ.get("STORE_REFERENCE"):
        _store(chapter, scores)
    table = pd.read_csv(FILE)
    book = table[table["chapter"] == chapter].groupby("run")["test_accuracy"]
    apart = []
    for row, (label, values) in enumerate(scores.items()):
        ours = book.get_group(label)
        allowed, gap = tolerance(ours), values.mean() - ours.mean()
        band = ours.mean() - allowed, ours.mean() + allowed
        ax.fill_betweenx([row - 0.42, row + 0.42], *band, color="#C8C8C8", lw=0)
        if abs(gap) > allowed:
            apart.append(f"{label} by {100 * gap:+.1f} points (at most {100 * allowed:.1f})")
    dots(ax, scores, techniques).set_xlabel("test accuracy")
    if len(mnist.x_test) < 10_000:
        print("Your digits are the 5,000-digit sample, so your scores lie below the book's bands.")
    elif apart:
        print(
            f"Your means lie further from the book's than chance and another processor explain: "
            f"{'; '.join(apart)}. The usual causes are a changed line above, cells run out of "
            "order, and other versions than those in requirements.txt."
        )
    else:
        print("Your mean test accuracies agree with the book's.")
    return ax


def _store(chapter, scores):
    """Put the scores into the file, in place of what the chapter had there."""
    rows = pd.DataFrame(scores).rename_axis("seed").reset_index()
    rows = rows.melt("seed", var_name="run", value_name="test_accuracy").assign(chapter=chapter)
    if FILE.exists():
        others = pd.read_csv(FILE)
        rows = pd.concat([others[others["chapter"] != chapter], rows])
    columns = ["chapter", "run", "seed", "test_accuracy"]
    table = rows.sort_values(columns[:3])[columns].round(6)
    write_atomically(FILE, table.to_csv(index=False).encode())
