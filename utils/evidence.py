"""Compare runs seed by seed, and let a false sentence stop the build."""

import dataclasses
import html
import re
import sys

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from utils import BookError


@dataclasses.dataclass(frozen=True)
class Difference:
    """A mean difference over pairs and its 95 % confidence interval, from `low` to `high`.

    `higher` is the share of pairs in which the first side was higher, a tie counting half, and
    `deviations` the mean in standard deviations of the differences, infinite where all are equal.

    `f"{difference:points}"` writes a share in percentage points, with two decimals; any other
    format, such as `.3f`, writes the three numbers with it and their sign.
    """

    mean: float
    low: float
    high: float
    pairs: int
    higher: float
    deviations: float

    @property
    def p(self):
        """The p-value of the paired t-test, without a correction for other comparisons."""
        return float(2 * stats.t.sf(abs(self.deviations) * self.pairs**0.5, self.pairs - 1))

    def __format__(self, spec):
        if not spec:
            return str(self)
        scale, digits, unit = (100, ".2f", " points") if spec == "points" else (1, spec, "")
        mean, low, high = (f"{scale * x:+{digits}}" for x in (self.mean, self.low, self.high))
        return f"{mean}{unit} ({low} to {high})"

    def __str__(self):
        return f"{self:.4f}"[:-1] + f", {self.pairs} pairs)"


class ClaimFailed(BookError):
    """A sentence of the book that this run does not support."""


def paired_difference(treated, baseline, metric=None):
    """Return the mean of `treated - baseline` over pairs, with its 95 % confidence interval.

    Both are what `train_seeds` returned, or tables of scores with a row per seed, and `metric`
    names a column of these, such as "test_accuracy". Without a metric both are Series over the
    same seeds, or arrays of shape (pairs,). The result has the unit of what is compared. The
    interval is Student's t for paired samples. Raises `BookError` for fewer than two pairs,
    different or repeated seeds, a metric that is not there, and values that are not finite numbers.
    """
    treated, baseline = _values(treated, metric), _values(baseline, metric)
    unpaired = treated.index.symmetric_difference(baseline.index, sort=False)
    if len(treated) < 2 or len(unpaired):
        raise BookError(
            "a paired difference needs the same seeds on both sides, at least two: got "
            f"{_names(treated.index)} and {_names(baseline.index)}."
        )
    differences = (treated - baseline.loc[treated.index]).to_numpy()
    mean = low = high = differences.mean()
    if np.ptp(differences) > 0:
        low, high = stats.t.interval(0.95, len(differences) - 1, mean, stats.sem(differences))
    higher = np.mean((np.sign(differences) + 1) / 2)
    spread = differences.std(ddof=1)
    away = mean / spread if spread else np.sign(mean) * np.inf if mean else 0.0
    given = (float(value) for value in (mean, low, high))
    return Difference(*given, len(differences), float(higher), float(away))


def _values(runs, metric=None):
    """Return one side of a comparison as a Series of floats with a value per seed."""
    if metric is not None:
        runs = _scores(runs, metric)[metric]
    elif isinstance(runs, pd.DataFrame) or hasattr(runs, "scores"):
        raise BookError('name what to compare, as in paired_difference(a, b, "test_accuracy").')
    try:
        values = runs if isinstance(runs, pd.Series) else pd.Series(np.asarray(runs))
        kind = values.dtype
    except ValueError:
        kind = "list"
    if kind == "list" or kind.kind not in "biuf":  # truth values, integers, decimal numbers
        raise BookError(f"a comparison needs one number per seed, and got values of type {kind}.")
    values = pd.Series(values.to_numpy(float, na_value=np.nan), values.index)
    if not np.isfinite(values).all():
        raise BookError("a comparison needs finite numbers: a run gave NaN or infinity.")
    if not values.index.is_unique:
        raise BookError(
            f"a comparison needs each seed once, and the seeds are {_names(values.index)}: "
            "choose the rows of one setting and one strength."
        )
    return values


def _scores(runs, metric):
    """Return the table of scores, with a row per seed, or raise `BookError` without the metric."""
    table = runs if isinstance(runs, pd.DataFrame) else getattr(runs, "scores", None)
    if not isinstance(table, pd.DataFrame):
        raise BookError(
            f"{type(runs).__name__} holds no scores: pass what train_seeds returned, or a table "
            "of scores with a row per seed."
        )
    if not isinstance(metric, str) or metric not in table:
        raise BookError(
            f"there is no {metric!r} among the scores, only {', '.join(map(str, table))}: name "
            "one of these, or compile the network with that metric."
        )
    return table.set_index("seed") if "seed" in table else table


def _names(seeds):
    """Write a list of seeds in a few words."""
    seeds = [str(seed) for seed in seeds]
    return ", ".join(seeds if len(seeds) <= 10 else [*seeds[:3], "…", seeds[-1]]) or "none"


def comparison(runs):
    """Return a table with a row per run and its paired difference from the first, the baseline.

    `runs` maps a label to what `train_seeds` returned or to a table of scores with a row per
    seed, with `accuracy` and `log_loss` among the compiled metrics. Accuracies are in percent,
    differences of accuracy in percentage points, with the 95 % interval of `paired_difference`,
    which also says what raises `BookError`.
    """
    if not isinstance(runs, dict) or not runs:
        raise BookError("comparison takes a dictionary of labels and runs, the baseline first.")
    names = ("train_accuracy", "test_accuracy", "test_log_loss")
    scores = {label: [_values(run, name) for name in names] for label, run in runs.items()}
    _, first_test, first_loss = next(iter(scores.values()))
    rows = {}
    for label, (train, test, loss) in scores.items():
        points = change = "baseline"
        if rows:
            points = f"{paired_difference(100 * test, 100 * first_test):.2f}"
            change = f"{paired_difference(loss, first_loss):.3f}"
        rows[label] = {
            "train accuracy, %": f"{100 * train.mean():.1f}",
            "test accuracy, %": f"{100 * test.mean():.2f}",
            "difference, points": points,
            "test log-loss": f"{loss.mean():.3f}",
            "difference": change,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def means(*runs):
    """Write the mean test accuracies of what `train_seeds` returned, in percent."""
    return " and ".join(f"{100 * _values(run, 'test_accuracy').mean():.1f} %" for run in runs)


def tolerance(scores):
    """Return how far another mean over as many seeds may lie from that of `scores` by chance.

    Passed once in a thousand times where the seeds have nothing in common, as on another
    processor: √2 standard errors times the quantile of Student's t (6.8 for ten seeds).
    """
    quantile = stats.t.ppf(1 - 0.001 / 2, len(scores) - 1)
    return 2**0.5 * quantile * stats.sem(scores)


# At the last epoch accuracy and log-loss choose, and at each best epoch the score that is best.
CHOICES = (
    ("last", "accuracy"),
    ("last", "log_loss"),
    ("best accuracy", "accuracy"),
    ("best log-loss", "log_loss"),
)


def chosen(search, choices=CHOICES):
    """Return what validation chooses: a row per setting, technique, and choice of end and metric.

    `search` is a table of scores of a search. The best mean of validation scores over the pairs
    wins, and of equals the one with the lower learning rate.
    """
    key, parts = ["n_train", "label_noise", "technique"], []
    for end, metric in choices:
        rows = search[search["end"] == end]
        means = rows.groupby([*key, "learning_rate", "strength"], sort=False)[f"val_{metric}"]
        means = means.mean().sort_index(level="learning_rate", kind="stable")
        best = (-means if metric == "log_loss" else means).groupby(key, sort=False).idxmax()
        table = pd.DataFrame(list(best), columns=means.index.names)
        parts.append(table.assign(end=end, metric=metric))
    return pd.concat(parts, ignore_index=True)


def holm(p, planned):
    """Return p-values corrected for `planned` comparisons in all (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    left = planned - np.arange(len(p))
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.asarray(p)[order] * left).clip(max=1)
    return corrected


def components(table):
    """Return the variances of rows, of columns and of the rest in a table of crossed runs.

    `table` has a row per draw, a column per seed and one number in each cell. The estimates are
    those of the two-way analysis of variance with random effects and one value per cell (Searle,
    Casella and McCulloch, *Variance Components*, section 4.4); negative ones count as zero. They
    are in the square of the table's unit, named `draw`, `seed` and `rest`.
    """
    values = table.to_numpy(float)
    rows, columns = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = values - rows - columns + values.mean()
    n, m = values.shape
    left = (rest**2).sum() / (n - 1) / (m - 1)
    found = {"draw": rows.var(ddof=1) - left / m, "seed": columns.var(ddof=1) - left / n}
    return {name: max(float(value), 0.0) for name, value in (found | {"rest": left}).items()}


def calibration(p_val, y_val, p_test, y_test):
    """Return what is left of the log-loss once a network's confidence is put right.

    The arrays `p_…` hold probabilities of shape (images, classes). One temperature, by which the
    logarithms of the probabilities are divided, is fitted to the validation images. The expected
    calibration error, before and after, is that of 15 equal bins (Guo et al., 2017).
    """
    val, test = (np.log(np.maximum(p, 1e-37)) for p in (p_val, p_test))
    loss = lambda log_t: _log_loss_at(np.exp(log_t), val, y_val)  # noqa: E731
    temperature = np.exp(optimize.minimize_scalar(loss, bounds=(-4, 4), method="bounded").x)
    scaled = special.softmax(test / temperature, axis=1)
    return {
        "temperature": float(temperature),
        "test_scaled_log_loss": float(_log_loss_at(temperature, test, y_test)),
        "test_ece": calibration_error(p_test, y_test),
        "test_scaled_ece": calibration_error(scaled, y_test),
    }


def _log_loss_at(temperature, logarithms, labels):
    """Return the log-loss of probabilities whose logarithms are divided by a temperature."""
    scaled = special.log_softmax(logarithms / temperature, axis=1)
    return -scaled[np.arange(len(labels)), labels].mean()


def calibration_error(probabilities, labels, bins=15):
    """Return by how much confidence and accuracy differ in the mean over bins of confidence."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    sums = np.bincount(places, right - confidence, minlength=bins)
    return float(np.abs(sums).sum() / len(labels))


def false_alarms(slack):
    """Return how often each condition of a claim failed, and the chance that it will.

    `slack` has a row per condition and a column per set of seeds, with the distance from turning
    false, negative where the condition failed, infinite where there is no distance, and missing
    where the set was not run. The chance is that of one more value below zero, by Student's
    predictive distribution for the mean and standard deviation of a row (Gelman et al., *Bayesian
    Data Analysis*, section 3.2). It is missing for a row without scatter: there only the count
    speaks. `deviations` is the mean slack in standard deviations. `bound` assumes no distribution:
    a chance above it would have let so few sets fail in one of twenty such counts (Clopper and
    Pearson, 1934).
    """
    values = slack.where(np.isfinite(slack))
    mean, deviation, sets = values.mean(axis=1), values.std(axis=1), values.count(axis=1)
    away = (mean / deviation).where(deviation > 1e-9)  # less is rounding
    failed, counted = (slack < 0).sum(axis=1), slack.count(axis=1)
    return pd.DataFrame(
        {
            "sets": counted,
            "failed": failed,
            "bound": stats.beta.ppf(0.95, failed + 1, (counted - failed).clip(lower=1e-9)),
            "deviations": away,
            "chance": stats.t.sf(away / np.sqrt(1 + 1 / sets), sets - 1),
        }
    )


class _Verdict:
    """A tick or a cross, a sentence, and what was seen: a line of text, or a box in a notebook."""

    def __init__(self, text, seen, holds=True):
        self.text, self.seen, self.sign = text, seen, "✓" if holds else "✗"

    def __repr__(self):
        return f"{self.sign} {self.text}" + (f" [seen: {self.seen}]" if self.seen else "")

    def _repr_html_(self):
        kind, colour, name = {
            "✓": ("claim", "#1a7f37", "Holds:"),
            "✗": ("claim claim-broken", "#b3261e", "Breaks:"),
        }[self.sign]
        text = re.sub("`(.+?)`", r"<code>\1</code>", html.escape(self.text, quote=False))
        seen = f'<small class="claim-seen">seen: {html.escape(self.seen, quote=False)}</small>'
        return (
            f'<div class="{kind}" style="border-left: 4px solid {colour}; padding-left: 0.6em">'
            f'<span class="claim-tick" role="img" aria-label="{name}">{self.sign}</span> '
            f"{text}{' ' + seen if self.seen else ''}</div>"
        )


def claim(text, holds, *seen, breaks=None):
    """Show the sentence with a tick and what was seen; raise `ClaimFailed` if it does not hold.

    `holds` is a single true or false value; anything else raises `BookError`. Of several numbers
    the lowest and the highest are shown. The comparison of outputs leaves out what was seen
    (`tests/nbval.cfg`).

    `breaks` maps a change that a reader can make, such as "rate=0.9", to what the condition
    becomes by it and what is then seen. Each is shown with a cross, and raises `ClaimFailed` if
    the sentence holds all the same.
    """
    breaks = breaks or {}
    for value in (holds, *(value for value, *_ in breaks.values())):
        if not isinstance(value, (bool, np.bool_)):
            raise BookError(f"claim: {value!r} is neither true nor false; pass a comparison.")
    shown = _line(seen)
    if not holds:
        instead = f" Seen instead: {shown}." if shown else ""
        raise ClaimFailed(
            f"✗ “{text}” does not hold in this run.{instead} If you changed a line above, this is "
            "what your change did. If you changed nothing, see “A claim failed” in the FAQ."
        )
    verdicts = [_Verdict(text, shown)]
    for change, (still, *seen_then) in breaks.items():
        if still:
            raise ClaimFailed(
                f"✗ “{text}” should break by `{change}`, and holds all the same. Seen: "
                f"{_line(seen_then)}."
            )
        broken = f"With `{change}` this no longer holds."
        verdicts.append(_Verdict(broken, _line(seen_then), holds=False))
    show = print
    if "IPython" in sys.modules:  # which prints, too, where no notebook is running
        from IPython.display import display as show
    for verdict in verdicts:
        show(verdict)


def _line(seen):
    """Write what was seen in one line."""
    return " ".join("; ".join(map(_short, seen)).split())


def _short(value):
    """Write evidence so that it can be read in passing."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, Difference):
        return f"{value:.3f}"
    if isinstance(value, (str, bool, np.bool_)) or value is None:
        return str(value)
    numbers = np.ravel(value)
    if not np.issubdtype(numbers.dtype, np.number) or not len(numbers):
        return str(value)
    low, high = f"{numbers.min():.4g}", f"{numbers.max():.4g}"
    return low if low == high else f"{low} to {high}"
