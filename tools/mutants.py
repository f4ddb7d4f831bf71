"""Sabotage chapters from outside, and see which claims notice: `make mutants`.

A mutant changes Keras, NumPy or `utils` in a chapter's kernel before its first cell runs, never the
chapter's text. The chapter is executed with it from the first cell to the last, and a claim that no
longer holds has *killed* the mutant. A mutant that no claim kills would go unnoticed in the book; a
claim that no mutant can break checks nothing.

    python -m tools.mutants                   what results/mutants.csv does not hold yet
    python -m tools.mutants penalties 02_l2   of it, what has such a word in its name or chapter

A chapter whose claims are worded otherwise than in the table is run again. Where only a comparison
or what is compared changed, delete the rows of the chapter.
"""

# A mutant's name says what it does.
# ruff: noqa: D102, D103

import contextlib
import dataclasses
import inspect
import json
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import layers, regularizers
from nbformat.v4 import new_code_cell, new_notebook
from scipy import stats

from tools.notebooks import CHAPTERS, cells, claims, execute, read
from tools.tables import fill_table
from utils import data, evidence, museum, plots, results, techniques, training

FILE = results.RESULTS / "mutants.csv"
KEY = ["chapter", "mutant", "claim"]
MUTANTS = {}  # name: (function, chapters)
SIX = [path.stem for path in CHAPTERS if path.name < "07"]  # those that draw images for each pair


def mutant(*chapters):
    """Register a function under its name, to be tried on these chapters."""

    def register(function):
        MUTANTS[function.__name__.replace("_", " ")] = function, chapters
        return function

    return register


def wrap(owner, name):
    """Replace `owner.name` by what the decorated function makes of it: `new(old, *arguments)`."""

    def replace(function):
        old = getattr(owner, name)

        def new(*args, **kwargs):
            return function(old, *args, **kwargs)

        with contextlib.suppress(ValueError):  # Keras looks at it; what is written in C has none
            new.__signature__ = inspect.signature(old)
        setattr(owner, name, new)

    return replace


def call_of(function, args, kwargs):
    """Return the arguments of a call, defaults included, to be changed by their names."""
    call = inspect.signature(function).bind(*args, **kwargs)
    call.apply_defaults()
    return call


def train_with_other_seeds(offset, train_seeds, args, kwargs):
    """Shift the seeds of a call; the scores that are returned name those that were asked for."""
    call = call_of(train_seeds, args, kwargs)
    call.arguments["seeds"] = [seed + offset for seed in call.arguments["seeds"]]
    runs = train_seeds(*call.args, **call.kwargs)
    for end in (runs, *runs.best.values()):
        end.scores.index -= offset
    return runs


def by_notebook():
    """Tell whether the wrapped function is called from a cell, not from a library or `utils`."""
    frame = sys._getframe(1)
    while frame.f_globals["__name__"].startswith("tools."):
        frame = frame.f_back
    return frame.f_globals["__name__"] == "__main__"


# The technique does nothing, or something else


@mutant("04_dropout", "10_bug_museum")
def dropout_drops_nothing():
    layers.Dropout.call = lambda self, inputs, training=False: inputs


@mutant("04_dropout")
def dropout_also_at_inference():
    old = layers.Dropout.call
    layers.Dropout.call = lambda self, inputs, training=False: old(self, inputs, training=True)


@mutant("02_l2", "03_l1")
def penalties_are_zero():
    for kind in (regularizers.L1, regularizers.L2):
        kind.__call__ = lambda self, x: keras.ops.zeros(())


@mutant("02_l2", "03_l1")
def L1_and_L2_are_swapped():
    regularizers.L1, regularizers.L2 = regularizers.L2, regularizers.L1


@mutant("02_l2", "03_l1")
def λ_is_taken_for_its_inverse():
    for kind in (regularizers.L1, regularizers.L2):

        @wrap(kind, "__init__")
        def inverted(old, self, strength=0.01):
            old(self, 1e-3 / strength if strength else 0.0)


@mutant("02_l2")
def weight_decay_is_ignored():
    @wrap(keras.optimizers.AdamW, "__init__")
    def without(old, self, *args, weight_decay=0.0, **kwargs):
        old(self, *args, weight_decay=0.0, **kwargs)


AUGMENTERS = [
    getattr(layers, f"Random{name}")
    for name in ("Rotation", "Translation", "Zoom", "Shear", "Flip", "ElasticTransform")
]


@mutant("05_data_augmentation", "09_which_technique_when")
def augmentation_returns_its_input():
    for layer in AUGMENTERS:
        layer.call = lambda self, data, training=True: data


@mutant("05_data_augmentation")
def augmentation_also_at_inference():
    for layer in AUGMENTERS:
        old = layer.call
        layer.call = lambda self, data, training=True, old=old: old(self, data, training=True)


def change_stopping(change):
    """Let `change(callback)` alter every `EarlyStopping` that is created."""

    @wrap(keras.callbacks.EarlyStopping, "__init__")
    def changed(old, self, *args, **kwargs):
        old(self, *args, **kwargs)
        change(self)


@mutant("06_early_stopping", "10_bug_museum")
def early_stopping_never_stops():
    change_stopping(lambda rule: setattr(rule, "patience", 10**6))


@mutant("06_early_stopping", "10_bug_museum")
def the_best_weights_are_not_restored():
    change_stopping(lambda rule: setattr(rule, "restore_best_weights", False))


@mutant("06_early_stopping")
def the_worst_epoch_is_taken_for_the_best():
    other = {"val_loss": "max", "val_accuracy": "min"}
    change_stopping(lambda rule: setattr(rule, "mode", other.get(rule.monitor, rule.mode)))

    @wrap(np, "argmin")
    def largest(old, *args, **kwargs):
        return np.argmax(*args, **kwargs) if by_notebook() else old(*args, **kwargs)


@mutant("06_early_stopping")
def an_unknown_monitor_is_replaced_and_stops_the_training():
    @wrap(keras.callbacks.EarlyStopping, "on_epoch_end")
    def stop(old, self, epoch, logs=None):
        if self.monitor in (logs or {}):
            old(self, epoch, logs)
        else:
            self.model.stop_training = True


@mutant("06_early_stopping")
def compiling_starts_from_new_weights():
    @wrap(keras.Model, "compile")
    def fresh(old, self, *args, **kwargs):
        again = self.compiled
        old(self, *args, **kwargs)
        for weight in self.trainable_variables if again else ():
            weight.assign(0.05 * np.random.default_rng(0).normal(size=weight.shape))


# The comparison is not what it says


@mutant("02_l2", "07_case_study")
def the_baseline_has_L2():
    @wrap(layers.Dense, "__init__")
    def penalized(old, self, *args, kernel_regularizer=None, **kwargs):
        penalty = kernel_regularizer or regularizers.L2(5e-3)
        old(self, *args, kernel_regularizer=penalty, **kwargs)


@mutant("03_l1")
def the_baseline_has_L1():
    @wrap(layers.Dense, "__init__")
    def penalized(old, self, *args, kernel_regularizer=None, **kwargs):
        penalty = kernel_regularizer or regularizers.L1(5e-4)
        old(self, *args, kernel_regularizer=penalty, **kwargs)


@mutant("04_dropout")
def the_baseline_has_dropout():
    @wrap(techniques, "network")
    def dropped(old, *args, rate=0.0, **kwargs):
        return old(*args, rate=rate or 0.5, **kwargs)


@mutant("05_data_augmentation")
def the_baseline_has_augmentation():
    @wrap(keras.Sequential, "__init__")
    def augmented(old, self, stack=None, **kwargs):
        if stack and len(stack) > 2 and not any(isinstance(x, tuple(AUGMENTERS)) for x in stack):
            moves = layers.RandomRotation(0.04, fill_mode="constant")
            stack = [stack[0], moves, layers.RandomTranslation(0.08, 0.08), *stack[1:]]
        old(self, stack, **kwargs)


@mutant("06_early_stopping")
def the_baseline_is_stopped_early():
    rule = keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)

    @wrap(training, "train_seeds")
    def stopped(old, *args, **kwargs):
        call = call_of(old, args, kwargs)
        call.arguments["callbacks"] = call.arguments["callbacks"] or (rule,)
        return old(*call.args, **call.kwargs)


@mutant("02_l2", "03_l1", "04_dropout", "05_data_augmentation", "06_early_stopping")
def two_runs_are_swapped():
    returned = []

    @wrap(training, "train_seeds")
    def swapped(old, *args, **kwargs):
        runs = old(*args, **kwargs)
        returned.append(runs)
        if len(returned) == 2:
            first, second = (vars(runs) for runs in returned)
            for name, value in list(first.items()):
                first[name], second[name] = second[name], value
        return runs


@mutant("02_l2", "03_l1", "04_dropout", "06_early_stopping")
def differences_have_the_wrong_sign():
    @wrap(evidence, "paired_difference")
    def backwards(old, a, b, metric=None):
        return old(b, a, metric)


@mutant("04_dropout", "famous_results")
def differences_are_half_as_large():
    @wrap(evidence, "paired_difference")
    def halved(old, *args):
        whole = old(*args)
        half = {name: getattr(whole, name) / 2 for name in ("mean", "low", "high")}
        return dataclasses.replace(whole, **half)


@mutant("famous_results")
def intervals_take_the_pairs_apart():
    @wrap(evidence, "paired_difference")
    def unpaired(old, *args):
        whole = old(*args)
        a, b = (evidence._values(side, *args[2:]) for side in args[:2])
        interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
        return dataclasses.replace(whole, low=interval.low, high=interval.high)


def change_famous_results(change):
    """Let what is read of a famous result, a table with a column of parts, be changed."""

    @wrap(pd, "read_csv")
    def changed(old, file, **kwargs):
        table = old(file, **kwargs)
        return change(table) if "part" in table else table


@mutant("famous_results")
def the_first_and_the_last_part_of_a_result_are_swapped():
    @change_famous_results
    def swapped(table):
        first, *_, last = table["part"].unique()
        return table.assign(part=table["part"].replace({first: last, last: first}))


def give_part(of, to):
    """Give one part of a famous result the values of another of as many rows."""

    @change_famous_results
    def given(table):
        for part in to:
            values = table.loc[table["part"] == of, "value"].to_numpy()
            table.loc[table["part"] == part, "value"] = values
        return table


@mutant("07_case_study")
def whitening_is_thrown_away_once_more():
    give_part("printed: dropout", ["meant: whitening"])


@mutant("07_case_study")
def all_that_is_tuned_has_the_scores_of_augmentation():
    give_part("tuned: augmentation", ["tuned: L2", "tuned: L1", "tuned: dropout"])


@mutant("07_case_study")
def the_strongest_of_three_settings_is_chosen():
    change_famous_results(lambda table: table.assign(choice=2 - table["choice"]))


@mutant("07_case_study", "famous_results")
def what_is_stored_of_a_result_is_turned_round():
    @change_famous_results
    def turned(table):
        for _, rows in table.groupby(["score", "end"]):
            table.loc[rows.index, "value"] = rows["value"].to_numpy()[::-1]
        return table


@mutant("05_data_augmentation", "ten_seeds")
def runs_do_not_share_their_seeds():
    calls = []

    @wrap(training, "train_seeds")
    def unpaired(old, *args, **kwargs):
        calls.append(args)
        return train_with_other_seeds(100 * len(calls), old, args, kwargs)


@mutant("07_case_study")
def all_seeds_are_the_same():
    @wrap(training, "train_seeds")
    def same(old, *args, **kwargs):
        runs = old(*args, **kwargs)
        runs.scores.iloc[:] = runs.scores.iloc[0].to_numpy()
        return runs


# The data are not what they should be


@mutant(*SIX)
def wrong_labels_are_right():
    @wrap(data, "load_mnist")
    def clean(old, *args, **kwargs):
        call = call_of(old, args, kwargs)
        call.arguments["label_noise"] = 0.0
        return old(*call.args, **call.kwargs)


@mutant("01_overfitting")
def all_pairs_share_a_draw():
    @wrap(data, "load_mnist")
    def reused(old, *args, **kwargs):
        found = old(*args, **kwargs)
        return found if isinstance(found, data.Mnist) else [found[0]] * len(found)


def change_data(change):
    """Let `change(mnist)` alter each data set that is loaded, one or several."""

    @wrap(data, "load_mnist")
    def changed(old, *args, **kwargs):
        found = old(*args, **kwargs)
        return change(found) if isinstance(found, data.Mnist) else [change(each) for each in found]


@mutant("01_overfitting")
def one_training_image_in_a_hundred_is_a_test_image():
    @change_data
    def leak(mnist):
        x, y = mnist.x_train.copy(), mnist.y_train.copy()
        count = len(y) // 100
        x[:count], y[:count] = mnist.x_test[:count], mnist.y_test[:count]
        return mnist._replace(x_train=x, y_train=y)


@mutant("05_data_augmentation")
def the_map_has_only_plain_networks():
    @wrap(results, "tuned")
    def plain(old, technique, *args):
        return old("none", *args)


@mutant("02_l2", "03_l1", "04_dropout", "08_choosing_the_strength", "09_which_technique_when")
def the_rival_is_not_tuned():
    """Let the plain network of the map have the learning rate that every other run has."""

    @wrap(results, "tuned")
    def untuned(old, technique, n_train, label_noise, end="last", metric="accuracy"):
        if technique != "none":
            return old(technique, n_train, label_noise, end, metric)
        runs = results.load_results("scores", results.RESULTS / "map")
        plain = runs[(runs["technique"] == "none") & (runs["learning_rate"] == 1e-3)]
        here = (plain["n_train"] == n_train) & (plain["label_noise"] == label_noise)
        return plain[here & (plain["end"] == end)].drop_duplicates("seed").set_index("seed")

    @wrap(results, "against_plain")
    def untuned_map(old, score="test_accuracy", metric="accuracy", **options):
        return old(score, metric, **options | {"plain_rate": 1e-3})


@mutant("02_l2")
def adam_does_not_divide_by_the_size_of_slopes():
    @wrap(np, "sqrt")
    def one(old, x, *args, **kwargs):
        return np.ones_like(x) if by_notebook() else old(x, *args, **kwargs)


@mutant("03_l1")
def nothing_is_pruned():
    @wrap(np, "quantile")
    def least(old, *args, **kwargs):
        return 0.0 if by_notebook() else old(*args, **kwargs)


@mutant("06_early_stopping")
def directions_are_ten_times_as_curved():
    @wrap(np, "geomspace")
    def steeper(old, *args, **kwargs):
        return 10 * old(*args, **kwargs)


@mutant("01_overfitting")
def networks_are_judged_on_their_training_images():
    @change_data
    def leak(mnist):
        x, y = mnist.x_train, mnist.y_train
        return mnist._replace(x_val=x, y_val=y, x_test=x, y_test=y)


@mutant("01_overfitting", "06_early_stopping")
def nothing_is_learned():
    @wrap(keras.optimizers.Adam, "__init__")
    def still(old, self, learning_rate=0.001, **kwargs):
        old(self, learning_rate=0.0, **kwargs)


class Lame(np.random.Generator):
    """Numbers of chance that are neither fair nor independent, and permutations that do nothing."""

    def random(self, *args, **kwargs):
        return super().random(*args, **kwargs) ** 2

    def normal(self, loc=0.0, scale=1.0, size=None):
        count = int(np.prod(size or 1))
        half = np.repeat(super().normal(loc, scale, -(-count // 16)), 8)
        return np.tile(half, 2)[:count].reshape(size or ())

    def integers(self, low, high=None, size=None, **kwargs):
        numbers = super().integers(low, high, size, **kwargs)
        return numbers if np.ndim(numbers) < 2 else numbers[:, :1] + 0 * numbers

    def permutation(self, x, **kwargs):
        return np.arange(x) if np.ndim(x) == 0 else np.array(x)


@mutant("01_overfitting", "04_dropout", "07_case_study", "08_choosing_the_strength")
def chance_is_neither_fair_nor_independent():
    np.random.default_rng = lambda seed=None: Lame(np.random.PCG64(seed))


@mutant("03_l1")
def a_step_goes_past_zero():
    np.maximum = lambda a, b: a


@mutant("03_l1")
def weights_are_rounded_before_they_are_counted():
    @wrap(plots, "kernel_weights")
    def rounded(old, model):
        return old(model).round(2)


# The results of the sweep are mixed up


def change_scores(change):
    """Let `change(scores)` alter each table of scores that a chapter reads, in place."""

    @wrap(results, "load_results")
    def changed(old, *args, **kwargs):
        table = old(*args, **kwargs)
        if call_of(old, args, kwargs).arguments["name"] == "scores":
            change(table)
        return table


def scores_of(table):
    """Return the names of a table's columns of scores."""
    return [name for name in table if name.startswith(("train_", "val_", "test_"))]


def give(table, of, to):
    """Copy the scores `of` one technique, in any one strength, to all runs of others."""
    key, columns = ["n_train", "label_noise", "seed"], scores_of(table)
    key += ["end"] if "end" in table else []
    source = table[table["technique"] == of].drop_duplicates(key).set_index(key)[columns]
    known = len(source) and "test_accuracy" in table  # a search chooses as it did
    rows = table[table["technique"].isin(to)] if known else table[:0]
    table.loc[rows.index, columns] = source.reindex(pd.MultiIndex.from_frame(rows[key])).to_numpy()


def copy_the_first(table, *key):
    """Let all runs with the same key have the scores of the first of them."""
    columns = scores_of(table)
    key = [*key, "end"] if "end" in table else [*key]
    table[columns] = table.groupby(["n_train", "label_noise", *key])[columns].transform("first")


@mutant("08_choosing_the_strength")
def log_loss_is_the_share_of_errors():
    change_scores(lambda s: s.__setitem__("val_log_loss", 1 - s["val_accuracy"]))


@mutant("08_choosing_the_strength")
def all_settings_of_a_technique_are_the_same():
    change_scores(lambda s: copy_the_first(s, "technique", "seed"))


@mutant("08_choosing_the_strength")
def all_draws_of_a_setting_are_the_same():
    change_scores(lambda s: copy_the_first(s, "technique", "learning_rate", "strength"))


@mutant("08_choosing_the_strength", "09_which_technique_when")
def learning_rates_are_turned_round():
    @wrap(keras.optimizers, "Adam")
    def turned(old, learning_rate=1e-3, **options):
        return old(1e-3 / learning_rate, **options)


@mutant("08_choosing_the_strength")
def random_search_tries_the_grid():
    class Grid(np.random.Generator):
        def permutation(self, x):
            return np.repeat(np.asarray(x)[2::6], 3)

    np.random.default_rng = lambda seed=None: Grid(np.random.PCG64(seed))


@mutant("09_which_technique_when")
def augmentation_has_the_scores_of_the_baseline():
    change_scores(lambda s: give(s, "none", ["augmentation", "dropout + augmentation"]))


@mutant("09_which_technique_when")
def dropout_was_confirmed_by_the_scores_of_the_baseline():
    change_scores(lambda s: s["draw"].min() == 300 and give(s, "none", ["dropout"]))


@mutant("07_case_study")
def dropout_has_the_scores_of_L1():
    change_scores(lambda s: give(s, "L1", ["dropout"]))


@mutant("09_which_technique_when")
def penalties_have_the_scores_of_dropout():
    change_scores(lambda s: give(s, "dropout", ["L1", "L2"]))


@mutant("09_which_technique_when")
def pairs_that_are_lost_count_as_won():
    @wrap(results, "paired_difference")
    def turned(old, *args):
        found = old(*args)
        return dataclasses.replace(found, higher=1 - found.higher)


@mutant("09_which_technique_when")
def two_techniques_have_the_scores_of_one():
    change_scores(lambda s: give(s, "augmentation", ["dropout + augmentation"]))


@mutant("where_luck_lives")
def draws_and_seeds_change_places():
    change_scores(lambda s: s.__setitem__(["draw", "seed"], s[["seed", "draw"]].to_numpy()))


@mutant("09_which_technique_when", "where_luck_lives")
def all_stored_pairs_are_one():
    def change(scores):
        if "test_accuracy" in scores:
            copy_the_first(scores, "technique", "learning_rate", "strength")

    change_scores(change)


@mutant("09_which_technique_when")
def temperatures_stay_as_they_are():
    def change(scores):
        if "test_log_loss" in scores:
            scores["test_scaled_log_loss"] = scores["test_log_loss"]

    change_scores(change)


@mutant("07_case_study", "09_which_technique_when")
def few_images_are_taken_for_many():
    def change(scores):
        scores["n_train"] = scores["n_train"].replace({1_000: 10_000, 10_000: 1_000})

    change_scores(change)


# Keras and NumPy do something else


@mutant("07_case_study")
def a_generator_of_NumPy_seeds_Keras():
    @wrap(np.random, "default_rng")
    def seeding(old, seed=None):
        keras.utils.set_random_seed(seed or 0)
        return old(seed)


# The tables of mutants and of false alarms


@mutant("how_checked")
def no_claim_notices_anything():
    @wrap(pd, "read_csv")
    def unnoticed(old, *args, **kwargs):
        table = old(*args, **kwargs)
        return table.assign(killed=False) if "killed" in table else table


@mutant("how_checked")
def one_claim_fails_with_other_seeds():
    @wrap(pd, "read_csv")
    def failing(old, *args, **kwargs):
        table = old(*args, **kwargs)
        if "killed" not in table:
            table.iloc[0, 0] = -1.0
        return table


@mutant("how_checked")
def seeds_scatter_five_times_as_much():
    @wrap(pd, "read_csv")
    def scattered(old, *args, **kwargs):
        table = old(*args, **kwargs)
        if "killed" in table:
            return table
        mean = table.mean(axis=1)
        return table.where(np.isinf(table), table.sub(mean, axis=0).mul(5).add(mean, axis=0))


# The museum


@mutant("10_bug_museum")
def every_repair_is_accepted():
    museum.fault = lambda *args: None


@mutant("10_bug_museum")
def every_repair_is_refused():
    museum.fault = lambda *args: "it is not the book's"


# The page on ten seeds at once


@mutant("ten_seeds")
def seeds_are_mixed_up():
    import tensorflow as tf

    @wrap(np, "matmul")
    def rolled(old, a, b):
        return old(np.roll(a, 1, axis=0), b)

    @wrap(tf, "vectorized_map")
    def mixed(old, function, stacks, **kwargs):
        if by_notebook():
            stacks = stacks[0], tf.roll(stacks[1], 1, axis=0)
        return old(function, stacks, **kwargs)

    @wrap(training, "train_seeds")
    def exchanged(old, *args, **kwargs):
        runs = old(*args, **kwargs)
        runs.history = {name: np.roll(rows, 1, axis=0) for name, rows in runs.history.items()}
        return runs


@mutant("ten_seeds")
def no_network_is_stacked():
    from utils import seed_graph

    @wrap(seed_graph, "check_stackable")
    def refuse(old, *args, **kwargs):
        raise seed_graph.NotStackableError("a mutant refuses every network")


@mutant("ten_seeds")
def the_benchmark_is_three_times_slower():
    @wrap(json, "loads")
    def slower(old, text, **kwargs):
        loaded = old(text, **kwargs)
        for row in loaded.get("race", {}).values():
            row["train_seeds"] *= 3
        return loaded


def apply(name):
    """Change what is imported; without a name, nothing."""
    if name:
        MUTANTS[name][0]()


def record(log):
    """Let no claim stop a chapter; write what each says and whether it holds to the file `log`."""

    def claim(text, holds, *seen, slack=None, breaks=None):
        good = holds and not any(still for still, *_ in (breaks or {}).values())
        with open(log, "a", encoding="utf-8") as file:
            print(json.dumps([text, [bool(good), slack]]), file=file)

    evidence.claim = claim


def observe(chapter, setup, change=str):
    """Execute a chapter after some code; return, for each claim it comes to, (holds, slack).

    `change` makes the code that is run of the code of each cell.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "claims")
        log.touch()
        prelude = f"from tools import mutants\nmutants.record({str(log)!r})\n{setup}"
        code = [prelude, *(change(cell.source) for cell in cells(read(chapter), "code"))]
        notebook = execute(new_notebook(cells=list(map(new_code_cell, code))), allow_errors=True)
        held = dict(json.loads(line) for line in log.read_text("utf-8").splitlines())
        if not held:
            outputs = [output for cell in notebook.cells for output in cell.outputs]
            errors = [output.evalue for output in outputs if output.output_type == "error"]
            raise RuntimeError(f"{chapter} comes to no claim after {setup}: {errors[:1]}")
    return held


def judge(chapter, name):
    """Execute a chapter with a mutant; return, for each claim, whether it killed the mutant.

    Without a name nothing is changed, and no claim should fail.
    """
    held = observe(chapter, f"mutants.apply({name!r})")
    return {text: held.get(text, [None])[0] is False for text in claims(chapter)}


def main(words):
    """Run what is missing of the table, and return the exit status."""
    jobs = [(c, name, "killed") for name, (_, chapters) in MUTANTS.items() for c in chapters]
    table = fill_table(FILE, KEY, jobs, lambda chapter, name, _: judge(chapter, name), words)
    alive = table["killed"].groupby(["chapter", "mutant"]).any()
    weak = table["killed"].groupby(["chapter", "claim"]).any()
    for chapter, name in alive.index[~alive]:
        print(f"{chapter}: no claim notices that {name}")
    for chapter, text in weak.index[~weak]:
        print(f"{chapter}: no mutant breaks “{text}”")
    print(f"{alive.sum()} of {len(alive)} mutants and {weak.sum()} of {len(weak)} claims killed")
    return int(not (alive.all() and weak.all()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
