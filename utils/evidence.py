"""Compare runs seed by seed, and let a false sentence stop the build."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from utils import BookError


class Difference(NamedTuple):
    """A mean difference over pairs and its confidence interval, from `low` to `high`."""

    mean: float
    low: float
    high: float
    pairs: int

    def __str__(self):
        return f"{self.mean:+.4f} ({self.low:+.4f} to {self.high:+.4f}, {self.pairs} pairs)"


class ClaimFailed(BookError):
    """A sentence of the book that this run does not support."""


def paired_difference(treated, baseline):
    """Return the mean of `treated - baseline` over pairs, with its 95 % confidence interval.

    Both are Series over the same seeds, such as `runs.scores["test_accuracy"]`, in the unit
    of the result. The interval is Student's t for paired samples (`scipy.stats.ttest_rel`):
    it speaks of other seeds, not of other training images. Raises `BookError` for fewer than
    two pairs, different seeds or values that are not finite.
    """
    treated, baseline = pd.Series(treated), pd.Series(baseline)
    if len(treated) < 2 or not treated.index.equals(baseline.index):
        raise BookError(
            f"a paired difference needs the same seeds on both sides, at least two: got "
            f"{list(treated.index)} and {list(baseline.index)}."
        )
    differences = (treated - baseline).to_numpy(float)
    if not np.isfinite(differences).all():
        raise BookError("a paired difference needs finite numbers: a run gave NaN or infinity.")
    mean = differences.mean()
    low = high = mean
    if np.ptp(differences) > 0:
        low, high = stats.ttest_rel(treated, baseline).confidence_interval(0.95)
    return Difference(float(mean), float(low), float(high), len(differences))


def comparison(runs):
    """Return a table with a row per run and its paired difference from the first, the baseline.

    `runs` maps a label to what `train_seeds` returned, with `accuracy` and `log_loss` among
    the compiled metrics. Accuracies are in percent, differences of accuracy in percentage
    points; an interval is the 95 % interval of `paired_difference`.
    """
    (_, first), *_ = runs.items()
    rows = {}
    for label, run in runs.items():
        scores = run.scores
        rows[label] = {
            "train accuracy, %": f"{100 * scores.train_accuracy.mean():.1f}",
            "test accuracy, %": f"{100 * scores.test_accuracy.mean():.2f}",
            "difference, points": "baseline",
            "test log-loss": f"{scores.test_log_loss.mean():.3f}",
            "difference": "baseline",
        }
        if run is not first:
            points = paired_difference(100 * scores.test_accuracy, 100 * first.scores.test_accuracy)
            loss = paired_difference(scores.test_log_loss, first.scores.test_log_loss)
            rows[label]["difference, points"] = _interval(points, 2)
            rows[label]["difference"] = _interval(loss, 3)
    return pd.DataFrame.from_dict(rows, orient="index")


def _interval(difference, digits):
    """Write a difference as "mean (low to high)"."""
    mean, low, high = (f"{value:+.{digits}f}" for value in difference[:3])
    return f"{mean} ({low} to {high})"


def at_best_strength(scores, metric="accuracy"):
    """Keep the rows of the strength that validation chooses, for each setting and technique.

    `scores` is `utils.results.load_results("scores")`, `metric` is "accuracy" or "log_loss". The
    chosen strength has the best mean of `val_<metric>` over the seeds.
    """
    key = ["n_train", "label_noise", "technique"]
    means = scores.groupby([*key, "strength"], sort=False)[f"val_{metric}"].mean()
    best = (-means if metric == "log_loss" else means).groupby(key, sort=False).idxmax()
    return scores.set_index([*key, "strength"]).loc[list(best)].reset_index()


def differences(scores, metric="accuracy"):
    """Return each technique's paired difference from the baseline, all at their best strengths.

    A row per setting (`n_train`, `label_noise`) and `technique` of `scores`, which is
    `utils.results.load_results("scores")`, with the columns of `paired_difference`, in the unit
    of `test_<metric>`.
    """
    rows = []
    for setting, chosen in at_best_strength(scores, metric).groupby(["n_train", "label_noise"]):
        values = {
            technique: group.set_index("seed")[f"test_{metric}"]
            for technique, group in chosen.groupby("technique", sort=False)
        }
        baseline = values.pop("none")
        for technique, series in values.items():
            difference = paired_difference(series, baseline)._asdict()
            n_train, noise = setting
            key = {"n_train": n_train, "label_noise": noise, "technique": technique}
            rows.append(key | difference)
    return pd.DataFrame(rows)


def false_alarms(slack):
    """Return how often each condition of a claim failed, and the chance that it will.

    `slack` has a row per condition and a column per set of seeds, with the distance from turning
    false, negative where the condition failed, infinite where there is no distance, and missing
    where the set was not run. The chance is that of one more value below zero, by Student's
    predictive distribution for the mean and standard deviation of a row (Gelman et al., *Bayesian
    Data Analysis*, section 3.2). It is missing for a row without scatter: there only the count
    speaks. `deviations` is the mean slack in standard deviations.
    """
    values = slack.where(np.isfinite(slack))
    mean, deviation, sets = values.mean(axis=1), values.std(axis=1), values.count(axis=1)
    away = (mean / deviation).where(deviation > 1e-9)  # less is rounding
    return pd.DataFrame(
        {
            "sets": slack.count(axis=1),
            "failed": (slack < 0).sum(axis=1),
            "deviations": away,
            "chance": stats.t.sf(away / np.sqrt(1 + 1 / sets), sets - 1),
        }
    )


def claim(text, holds, *evidence):
    """Print the sentence with a tick if it holds; raise `ClaimFailed` with the evidence if not.

    `holds` is a single true or false value; anything else raises `BookError`.
    """
    if not isinstance(holds, (bool, np.bool_)):
        raise BookError(f"claim: {holds!r} is neither true nor false; pass a comparison.")
    if not holds:
        with np.printoptions(precision=4, legacy="1.25"):  # 0.5, not np.float64(0.5)
            seen = f" Seen instead: {'; '.join(map(str, evidence))}." if evidence else ""
        raise ClaimFailed(
            f"✗ “{text}” does not hold in this run.{seen} If you changed a line above, this is "
            "what your change did. If you changed nothing, see “A claim failed” in the FAQ."
        )
    print(f"✓ {text}")
