"""Recompute from `results/` what `results/PROTOCOL.md` promises: `python -m tools.audit`.

It reads the tables by itself, without the functions that chapters use, prints what it finds, and
ends with 1 where a promise is broken.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from utils.evidence import holm
from utils.results import RESULTS
from utils.techniques import ARMS, RATES, second

SETTING = ["n_train", "label_noise"]
ARM = [*SETTING, "technique"]
CONFIGURATION = [*ARM, "learning_rate", "strength"]
RUN = ["draw", "seed"]
SCORES = {"accuracy": "best accuracy", "log_loss": "best log-loss"}  # each with its best epoch
EDGE = 0.1  # of the map's choices at most lie at the edge of a list
PLANNED = {"A": 144, "B": 144, "C": 132, "D": 120}  # the map's comparisons of a family and score
ELSEWHERE = {"A": 40, "B": 40, "C": 44, "D": 40}  # those with other images, or another network
PAIRS = 10
SEARCHES = {  # studies that report, and those that choose for them
    "map": "search",
    "confirmation": "confirmation-search",
    "fashion": "fashion-search",
    "conv": "conv-search",
    "memorizing": "memorizing-search",
    "long": "long-search",
    "crossed": "memorizing-search",
}
LEARNED = {"memorizing-search", "long-search"}  # one rate, all strengths of three arms
RATE = 1e-3


def read(folder):
    """Return the tables of scores in a folder of results, by the names of their studies."""
    tables = {file.parent.name: pd.read_csv(file) for file in sorted(folder.glob("*/scores.csv"))}
    return {name: table for name, table in tables.items() if "end" in table}


def unequal_searches(search, learned=False):
    """Return a line for each arm that did not search as every other does.

    Where the plain network has learned its images by heart, the rate is one and strengths vary.
    """
    faults = []
    for arm, rows in search.groupby(ARM):
        tried = rows.drop_duplicates(["learning_rate", "strength"])
        rates = [RATE] * 9 if learned else RATES
        if sorted(tried["learning_rate"]) != sorted(rates):
            faults.append(f"{arm} searched {len(tried)} configurations, or other learning rates")
        if len(set(rows.groupby(CONFIGURATION)["end"].value_counts())) != 1:
            faults.append(f"{arm} searched some configurations with more pairs than others")
    for setting, rows in search.groupby(SETTING):
        wanted = {name for name in ARMS if setting[0] <= 10_000 or "augmentation" not in name}
        wanted = {"L2", "dropout", "label smoothing"} if learned else wanted
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


def choices(search, learned=False):
    """Yield each choice that the protocol makes: its end, its score, and the configurations."""
    for metric, best in SCORES.items():
        for end in ("last", best):
            if not learned or (end, metric) == ("last", "accuracy"):
                yield end, metric, choose(search, end, metric)


def at_an_edge(search, learned=False):
    """Return all choices, and which of them lie at an edge of their list or at its weak end.

    An edge is the lowest or highest learning rate, or the strongest strength. At the weakest
    strength the technique is all but switched off, and beyond it lies nothing else.
    """
    tables = [t.assign(end=end, metric=metric) for end, metric, t in choices(search, learned)]
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
    """Return the number of runs whose scores are all those of another run of the same images.

    In a search only runs of the same arm are compared: at the lowest learning rate, the weakest
    strengths of two arms are the same network to five digits.
    """
    last = scores[scores["end"] == "last"]
    own = [name for name in last if name.endswith(("_accuracy", "_log_loss"))]
    among = SETTING if "test_accuracy" in last else ARM
    return int(last.duplicated([*among, *RUN, *own]).sum())


def shared(search, scores):
    """Return the draws and the seeds that both chose and report."""
    return {name: sorted(set(search[name]) & set(scores[name])) for name in RUN}


def unreported(search, scores, learned=False):
    """Return the choices that were not reported, where their setting was begun."""
    known = set(scores[CONFIGURATION].itertuples(index=False, name=None))
    begun = set(scores[SETTING].itertuples(index=False, name=None))
    return [
        row
        for _, _, table in choices(search, learned)
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


def families(search, scores, planned=PLANNED):
    """Return the eight families of comparisons, with p-values that Holm (1979) corrects in each.

    What is `planned` and not reported yet counts as a comparison without a difference.
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
    left = ordered["family"].map(planned) - each.cumcount()
    holm = (ordered["p"] * left).groupby([ordered["family"], ordered["metric"]]).cummax()
    return table.assign(holm=holm.clip(upper=1))


def audit(tables):
    """Print what is found in the tables of the studies, and return the promises that are broken."""
    faults = []
    for name, table in tables.items():
        if duplicates(table):
            faults.append(f"{name} holds {duplicates(table)} runs that are copies of others")
    for name in (name for name in tables if name.endswith("search")):
        learned = name in LEARNED
        faults += [f"{name}: {fault}" for fault in unequal_searches(tables[name], learned)]
        edges = at_an_edge(tables[name], learned)
        print(
            f"{name}: {tables[name].groupby(SETTING).ngroups} settings searched. "
            f"{edges['edge'].mean():.1%} of {len(edges)} choices lie at the edge of a list, "
            f"{edges['weak'].mean():.1%} at the weakest strength."
        )
        if name == "search" and edges["edge"].mean() > EDGE:
            faults.append(f"more than {EDGE:.0%} of the choices lie at the edge of a list")
    reported = {name: search for name, search in SEARCHES.items() if name in tables}
    for name, search in reported.items():
        faults += [f"{name}: {fault}" for fault in unlike(name, tables[search], tables[name])]
    if faults:
        return faults
    compared = {}
    for name, search in reported.items():
        if search in LEARNED:
            continue
        planned = PLANNED if name == "map" else ELSEWHERE
        compared[name] = families(tables[search], tables[name], planned)
        if name == "confirmation":  # it has no family of its own: it stands beside the map
            continue
        print(f"{name}: {compared[name].groupby(SETTING).ngroups} settings reported.")
        count(compared[name])
    if "crossed" in tables:
        luck(tables["crossed"])
    for name in [name for name in compared if name != "map" and "map" in compared]:
        agree(name, compared["map"], compared[name])
    if "confirmation" in compared and "map" in compared:
        confirmed(compared["map"], compared["confirmation"])
    if "memorizing" in tables and "long" in tables:
        print(longer(tables["memorizing"], tables["long"]).to_string(index=False))
    return faults


def unlike(name, search, scores):
    """Return in what the runs that report are not those that the protocol asks for."""
    faults = [
        f"the {key}s {values} choose and report"
        for key, values in shared(search, scores).items()
        if values
    ]
    left = unreported(search, scores, SEARCHES[name] in LEARNED)
    return faults + ([f"not reported: {left[0]} and its like"] if left else [])


def agree(name, ours, theirs):
    """Print how many mean differences of the map have the same sign in another study."""
    key = [*ARM, "family", "metric"]
    both = ours.merge(theirs, on=key, suffixes=("", "_other"))
    both = both.assign(same=np.sign(both["gain"]) == np.sign(both["gain_other"]))
    for metric in SCORES:
        for families, rows in (("A", both["family"] == "A"), ("A to D", both["family"] > "")):
            found = both[rows & (both["metric"] == metric)]
            clear = found[found["holm"] < 0.05]
            print(
                f"{name}, families {families}, {metric}: {found['same'].sum()} of {len(found)} "
                f"differences have the sign of the map; of those clear in the map "
                f"{clear['same'].sum()} of {len(clear)}."
            )


def confirmed(ours, theirs):
    """Print how many clear differences of A and B have the confirmation's interval on their side.

    The interval is that of Student's t, which has no zero in it where the p-value is below 0.05.
    """
    both = ours.merge(theirs, on=[*ARM, "family", "metric"], suffixes=("", "_other"))
    clear = both[(both["holm"] < 0.05) & both["family"].isin(["A", "B"])]
    same = (np.sign(clear["gain"]) == np.sign(clear["gain_other"])) & (clear["p_other"] < 0.05)
    print(
        f"confirmation: {same.sum()} of {len(clear)} clear differences of A and B have an "
        "interval on the same side of zero."
    )


def longer(short, long):
    """Return how each arm's gain in accuracy, in points, grows with the length of training.

    A row per setting, arm and end of the plain network: its gain over that end in each of the two
    studies, and the mean, the 95 % interval and the corrected p-value of the paired difference.
    """
    rows = []
    ours = long[(long["end"] == "last") & (long["technique"] != "none")]
    for (*setting, arm), _ in ours.groupby(ARM):
        for end in ("last", SCORES["accuracy"]):
            gains = [_gain(table, setting, arm, end) for table in (short, long)]
            grows = gains[1] - gains[0]
            low, high = stats.t.interval(0.95, len(grows) - 1, grows.mean(), stats.sem(grows))
            row = dict(zip(ARM, (*setting, arm), strict=True)) | {"plain": end}
            row |= {"short": gains[0].mean(), "long": gains[1].mean(), "grows": grows.mean()}
            rows.append(row | {"low": low, "high": high, "p": stats.ttest_1samp(grows, 0).pvalue})
    table = pd.DataFrame(rows)
    return table.assign(holm=holm(table.pop("p"), len(table))).round(3)


def _gain(scores, setting, arm, end):
    """Return an arm's last test accuracies less the plain network's at an end, in points."""
    here = scores[(scores[SETTING] == setting).all(axis=1)].set_index(RUN)
    ours = here[(here["technique"] == arm) & (here["end"] == "last")]
    plain = here[(here["technique"] == "none") & (here["end"] == end)]
    return 100 * (ours["test_accuracy"] - plain["test_accuracy"])


def count(table):
    """Print how many differences of each family are clear, and in which direction."""
    for (family, metric), rows in table.groupby(["family", "metric"]):
        clear = rows[rows["holm"] < 0.05]
        better = (clear["gain"] > 0).sum()
        print(
            f"{family}, {metric}: {len(rows)} comparisons, {(rows['p'] < 0.05).sum()} below 0.05 "
            f"by themselves, {len(clear)} clear: {better} better, {len(clear) - better} worse."
        )


def shares(table):
    """Return what part of the variance of crossed runs belongs to the draws, and to the seeds.

    From the sums of squares of the two-way analysis of variance with random effects.
    """
    n, m = table.shape
    parts = table.stack(), table.mean(axis=1), table.mean()
    total, draws, seeds = (n * m * part.var(ddof=0) for part in parts)
    rest = (total - draws - seeds) / (n - 1) / (m - 1)
    draw = max(0, draws / (n - 1) - rest) / m
    seed = max(0, seeds / (m - 1) - rest) / n
    return draw / (draw + seed + rest), seed / (draw + seed + rest)


def luck(scores):
    """Print where the scatter of crossed runs comes from, and how often one pair is wrong."""
    last = scores[scores["end"] == "last"]
    for noise, rows in last.groupby("label_noise"):
        arms = {arm: t.pivot(index="draw", columns="seed", values="test_accuracy")
                for arm, t in rows.groupby("technique")}  # fmt: skip
        for arm, table in arms.items():
            plain = arm == "none"
            table = table if plain else table - arms["none"]
            draw, seed = shares(table)
            wrong = (np.sign(table) != np.sign(table.to_numpy().mean())).to_numpy().mean()
            print(
                f"crossed, {noise:.0%} wrong, {arm}{'' if plain else ' minus none'}: "
                f"{draw:.0%} of the variance from the images, {seed:.0%} from the seed"
                + ("" if plain else f"; {wrong:.0%} of the pairs have the other sign")
            )


def article(folder):
    """Return in what the re-run of the article has not its sizes, or not ten pairs."""
    file = Path(folder, "famous", "article.csv")
    if not file.exists():
        return []
    table, faults = pd.read_csv(file), []
    sizes = set(table[["n_train", "n_val"]].itertuples(index=False, name=None))
    print(f"article: {', '.join(f'{n:,} training, {v:,} validation images' for n, v in sizes)}.")
    if sizes != {(34_300, 14_700)}:
        faults.append(f"article: sizes {sorted(sizes)} instead of 34,300 and 14,700")
    last = table[(table["end"] == "last") & (table["score"] == "test_accuracy")]
    short = [part for part, rows in last.groupby("part") if rows["seed"].nunique() != PAIRS]
    return faults + [f"article: {part} has not {PAIRS} pairs" for part in short]


def main(folder=RESULTS):
    """Audit the results of a folder; return the exit status."""
    tables = read(Path(folder))
    if "search" not in tables:
        print(f"{folder} holds no search/scores.csv: python -m tools.sweep search")
        return 1
    faults = audit(tables) + article(folder)
    for fault in faults:
        print(f"broken: {fault}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
