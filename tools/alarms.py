"""Run chapters with other images and seeds, and see how near a claim comes to failing.

The *slack* of a claim is how far its comparison is from turning false, in the unit of what it
compares (a share of the tolerance, where two values should be close); it is negative where the
claim fails. Its mean and its scatter over sets of seeds that have no seed in common tell how often
a true claim would fail by chance.

    python -m tools.alarms              what results/false_alarms.csv does not hold yet
    python -m tools.alarms 04_dropout   of it, what has such a word in its chapter or source

As with mutants, a chapter whose claims are worded otherwise is run again; where only a comparison
or what is compared changed, delete the rows of the chapter.
"""

import ast
import re
import sys
import tempfile

import keras
import numpy as np

from tools.mutants import by_notebook, call_of, observe, train_with_other_seeds, wrap
from tools.notebooks import NOTEBOOKS, claims
from tools.tables import fill_table
from utils import data, training
from utils.evidence import false_alarms
from utils.results import RESULTS

FILE = RESULTS / "false_alarms.csv"
# Of draws and seeds, of which a chapter uses 0 to 19 at most. Fixed in results/PROTOCOL.md: no
# margin of a claim was ever chosen by these.
OFFSETS = [100_000 + 1_000 * k for k in range(1, 21)]
SOURCES = "full", "sample"
KEY = ["chapter", "source", "claim", "part"]
# Those that train; what reads stored results has nothing that scatters.
CHAPTERS = [p.stem for p in NOTEBOOKS if re.search(r"train_seeds\(|\.fit\(", p.read_text("utf-8"))]


def least(values):
    """Return the smallest number of an array."""
    return float(np.min(np.asarray(values, float)))


def smallest(lists):
    """Return, part by part, the smallest of several lists of slacks."""
    return [min(part) for part in zip(*lists, strict=True)]


def closeness(a, b, rtol=1e-5, atol=1e-8):
    """Return how far two arrays are from failing `numpy.allclose`, as a share of the tolerance."""
    return least(1 - np.abs(np.asarray(a) - b) / (atol + rtol * np.abs(b)))


def exact(holds):
    """Return the slack of what is true or false, each of it, and has no distance from either."""
    return np.inf if np.all(holds) else -np.inf


ORDER = ast.Lt | ast.LtE | ast.Gt | ast.GtE


def slacks(node):
    """Return the code of a list of slacks, one per part of a condition, from its syntax tree.

    It names this module `_alarms`, for chapters have variables of their own, `least` and `exact`.
    """
    match node:
        case ast.BoolOp(op=ast.And(), values=parts):
            return " + ".join(map(slacks, parts))
        case ast.Compare(ops=ops) if all(isinstance(order, ORDER) for order in ops):
            terms = [f"({ast.unparse(term)})" for term in (node.left, *node.comparators)]
            rising = [isinstance(order, ast.Lt | ast.LtE) for order in ops]
            pairs = zip(rising, terms, terms[1:], strict=False)
            gaps = [
                f"_alarms.least({b} - {a})" if up else f"_alarms.least({a} - {b})"
                for up, a, b in pairs
            ]
            return f"[{', '.join(gaps)}]"
        case ast.Call(func=ast.Attribute(value=ast.Compare() as each, attr="all")):
            return slacks(each)
        case ast.Call(func=ast.Name("all"), args=[ast.GeneratorExp(elt=each, generators=loops)]):
            return f"_alarms.smallest([{slacks(each)} {' '.join(map(ast.unparse, loops))}])"
        case ast.Call(func=ast.Name("all"), args=[each]):
            return slacks(each)
        case ast.Call(func=ast.Attribute(attr="isclose" | "allclose"), args=args, keywords=options):
            return f"[_alarms.closeness({', '.join(map(ast.unparse, (*args, *options)))})]"
    return f"[_alarms.exact({ast.unparse(node)})]"


def marked(source):
    """Let each claim of a cell say how much slack it has."""
    tree = ast.parse(source)
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "claim":
            value = ast.parse(slacks(call.args[1]), mode="eval").body
            call.keywords.append(ast.keyword("slack", value))
    return ast.unparse(tree)


def shift(offset):
    """Shift the draws of images, the seeds of `train_seeds` and Keras, and the notebook's own."""

    @wrap(data, "load_mnist")
    def drawn(old, *args, **kwargs):
        call = call_of(old, args, kwargs)
        call.arguments["seed"] += offset
        return old(*call.args, **call.kwargs)

    @wrap(training, "train_seeds")
    def shifted(old, *args, **kwargs):
        return train_with_other_seeds(offset, old, args, kwargs)

    @wrap(keras.utils, "set_random_seed")
    def seeded(old, seed):
        old(seed + offset if by_notebook() else seed)

    @wrap(np.random, "default_rng")
    def generator(old, seed=None):
        return old(seed + offset if by_notebook() and seed is not None else seed)


def measure(chapter, source, offset):
    """Execute a chapter with other seeds; return the slack of each part of each of its claims."""
    with tempfile.TemporaryDirectory() as home:
        setup = f"import tools.alarms as _alarms\n_alarms.shift({offset})\n"
        if source == "sample":  # no file, no cache and no network
            away = {"KERAS_HOME": home, "https_proxy": "http://127.0.0.1:9"}
            setup += f"import os\nos.environ.pop('MNIST_NPZ', None)\nos.environ |= {away}\n"
        seen = observe(chapter, setup, marked)
    never = False, [-np.inf]  # the chapter ended with an error before it came to this claim
    return {
        (text, part): value
        for text in claims(chapter)
        for part, value in enumerate(seen.get(text, never)[1])
    }


def main(words):
    """Run what is missing of the table, print the doubtful claims, and return the exit status."""
    jobs = [(c, source, str(o)) for o in OFFSETS for source in SOURCES for c in CHAPTERS]
    found = false_alarms(fill_table(FILE, KEY, jobs, measure, words))
    doubtful = found[(found["failed"] > 0) | (found["chance"] > 1e-3)]
    print(doubtful.to_string() if len(doubtful) else "no claim is doubtful")
    for source, part in found.groupby("source"):
        print(f"{source}: of whole runs {part['chance'].sum():.2%} give a false alarm, by estimate")
    return int(len(doubtful) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
