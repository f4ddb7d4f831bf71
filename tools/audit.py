"""Recompute from `results/` what `results/PROTOCOL.md` promises: `python -m tools.audit`.

It reads the tables by itself, without the functions that chapters use, prints what it finds, and
ends with 1 where a promise is broken.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from utils.results import RESULTS
from utils.techniques import ARMS, RATES, second

SETTING = ["n_train", "label_noise"]
ARM = [*SETTING, "technique"]
CONFIGURATION = [*ARM, "learning_rate", "strength"]
RUN = ["draw", "seed"]
SCORES = {"accuracy": "best accuracy", "log_loss": "best log-loss"}  # each with its best epoch
EDGE = 0.1  # of the choices at most lie at the edge of a list
PLANNED = {"A": 144, "B": 144, "C": 132, "D": 120}  # comparisons of a family and score
PAIRS = 10


def read(folder):
    """Return the tables of scores in a folder of results, by the names of their studies."""
    tables = {file.parent.name: pd.read_csv(file) for file in sorted(folder.glob("*/scores.csv"))}
    return {name: table for name, table in tables.items() if "end" in table}


def unequal_searches(search):
    """Return a line for each arm that did not search as every other does."""
    faults = []
    for arm, rows in search.groupby(ARM):
        tried = rows.drop_duplicates(["learning_rate", "strength"])
        if sorted(tried["learning_rate"]) != sorted(RATES):
            faults.append(f"{arm} searched {len(tried)} configurations, or other learning rates")
        if len(set(rows.groupby(CONFIGURATION)["end"].value_counts())) != 1:
            faults.append(f"{arm} searched some configurations with more pairs than others")
    for setting, rows in search.groupby(SETTING):
        wanted = {name for name in ARMS if setting[0] <= 10_000 or "augmentation" not in name}
        missing = wanted - set(rows["technique"])
        if missing:
            faults.append(f"{setting} was not searched by {', '.join(sorted(missing))}")
    return faults


def choose(search, end, metric):
    """Return for each arm the configuration with the best mean validation score at an end."""
    rows = search[search["end"] == end]
    means = rows.groupby(CONFIGURATION)[f"val_{metric}"].mean().reset_index()
    order = means.sort_values(
        [f"val_{metric}", "learning_rate"], ascending=[metric == "log_loss", True], kind="stable"
    )
    return order.drop_duplicates(ARM)[CONFIGURATION]


def choices(search):
    """Yield each choice that the protocol makes: its end, its score, and the configurations."""
    for metric, best in SCORES.items():
        for end in ("last", best):
            yield end, metric, choose(search, end, metric)


def at_an_edge(search):
    """Return all choices, and which of them lie at an edge of their list or at its weak end.

    An edge is the lowest or highest learning rate, or the strongest strength. At the weakest
    strength the technique is all but switched off, and beyond it lies nothing else.
    """
    tables = [table.assign(end=end, metric=metric) for end, metric, table in choices(search)]
    table = pd.concat(tables, ignore_index=True)
    fast = table["learning_rate"].isin([RATES[0], RATES[-1]])
    strong, weak = [], []
    for name, rate, strength in table[CONFIGURATION[2:]].itertuples(index=False, name=None):
        arm = ARMS[name]
        tried = [(strength, arm.strengths)] if arm.strengths else []
        tried += [(second(arm, rate), arm.seconds)] if arm.seconds else []
        strong.append(any(value == values[-1] for value, values in tried))
        weak.append(bool(tried) and all(value == values[0] for value, values in tried))
    return table.assign(edge=fast | np.array(strong), weak=~fast & np.array(weak))


def duplicates(scores):
    """Return the number of runs whose scores are all those of another run of the same images."""
    last = scores[scores["end"] == "last"]
    own = [name for name in last if name.endswith(("_accuracy", "_log_loss"))]
    return int(last.duplicated([*SETTING, *RUN, *own]).sum())


def shared(search, scores):
    """Return the draws and the seeds that both chose and report."""
    return {name: sorted(set(search[name]) & set(scores[name])) for name in RUN}


def unreported(search, scores):
    """Return the choices that were not reported, where their setting was begun."""
    known = set(scores[CONFIGURATION].itertuples(index=False, name=None))
    begun = set(scores[SETTING].itertuples(index=False, name=None))
    return [
        row
        for _, _, table in choices(search)
        for row in table.itertuples(index=False, name=None)
        if row[:2] in begun and row not in known
    ]


def sides(search, scores, metric):
    """Return the reported scores of every arm at its last and at its best epoch."""
    found = {}
    for end in ("last", SCORES[metric]):
        picked = scores[scores["end"] == end].merge(choose(search, end, metric), on=CONFIGURATION)
        found["last" if end == "last" else "best"] = picked.set_index([*ARM, *RUN])[
            f"test_{metric}"
        ]
    return found


def families(search, scores):
    """Return the eight families of comparisons, with p-values that Holm (1979) corrects in each.

    What is planned and not reported yet counts as a comparison without a difference.
    """
    rows = []
    for metric in SCORES:
        ends = sides(search, scores, metric)
        for family, end, rival, of in (
            ("A", "last", "last", "none"),
            ("B", "last", "best", "none"),
            ("C", "best", "last", None),
            ("D", "best", "best", "none"),
        ):
            others = dict(iter(ends[rival].groupby(ARM)))
            for arm, values in ends[end].groupby(ARM):
                if arm[2] == of or (end == "best" and arm[0] > 10_000):
                    continue
                other = others[(*arm[:2], of or arm[2])]
                gain = values.droplevel(ARM) - other.droplevel(ARM)
                if len(gain) != PAIRS or gain.isna().any():
                    raise ValueError(f"{arm}, family {family}: not the same {PAIRS} pairs")
                if metric == "log_loss":
                    gain = -gain
                row = dict(zip(ARM, arm, strict=True)) | {"family": family, "metric": metric}
                row |= {"pairs": len(gain), "gain": gain.mean(), "better": (gain > 0).mean()}
                rows.append(row | {"p": stats.ttest_1samp(gain, 0).pvalue})
    table = pd.DataFrame(rows)
    table["p"] = table["p"].fillna(1.0)  # no pair differs
    ordered = table.sort_values("p", kind="stable")
    each = ordered.groupby(["family", "metric"])["p"]
    left = ordered["family"].map(PLANNED) - each.cumcount()
    holm = (ordered["p"] * left).groupby([ordered["family"], ordered["metric"]]).cummax()
    return table.assign(holm=holm.clip(upper=1))


def audit(tables):
    """Print what is found in the tables of the studies, and return the promises that are broken."""
    search, scores = tables["search"], tables.get("map")
    faults = unequal_searches(search)
    edges = at_an_edge(search)
    print(
        f"{search.groupby(SETTING).ngroups} settings searched. "
        f"{edges['edge'].mean():.1%} of {len(edges)} choices lie at the edge of a list, "
        f"{edges['weak'].mean():.1%} at the weakest strength."
    )
    if edges["edge"].mean() > EDGE:
        faults.append(f"more than {EDGE:.0%} of the choices lie at the edge of a list")
    for name, table in tables.items():
        if duplicates(table):
            faults.append(f"{name} holds {duplicates(table)} runs that are copies of others")
    if scores is None:
        print("Nothing is reported yet.")
        return faults
    for name, values in shared(search, scores).items():
        if values:
            faults.append(f"the {name}s {values} choose and report")
    if unreported(search, scores):
        faults.append(f"not reported: {unreported(search, scores)[0]} and its like")
    if not faults:
        count(families(search, scores))
    return faults


def count(table):
    """Print how many differences of each family are clear, and in which direction."""
    print(f"{table.groupby(SETTING).ngroups} settings reported.")
    for (family, metric), rows in table.groupby(["family", "metric"]):
        clear = rows[rows["holm"] < 0.05]
        better = (clear["gain"] > 0).sum()
        print(
            f"{family}, {metric}: {len(rows)} comparisons, {(rows['p'] < 0.05).sum()} below 0.05 "
            f"by themselves, {len(clear)} clear: {better} better, {len(clear) - better} worse."
        )


def main(folder=RESULTS):
    """Audit the results of a folder; return the exit status."""
    tables = read(Path(folder))
    if "search" not in tables:
        print(f"{folder} holds no search/scores.csv: python -m tools.sweep search")
        return 1
    faults = audit(tables)
    for fault in faults:
        print(f"broken: {fault}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
