"""Train one Keras network from many seeds, side by side in one graph."""

import copy
import functools
import gc
import itertools
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm.auto import tqdm

from utils import BookError, seed_graph
from utils.data import Draws
from utils.seed_graph import NotStackableError, SeedGraph, Split

GROUP_BYTES = 32e6  # seeds whose weights together take more are trained in several groups


@dataclass
class Runs:
    """What `train_seeds` returns: one training run per seed.

    `history` maps each metric that `fit` would record ("loss", "val_accuracy", …) to an array
    of shape (seeds, epochs), NaN after the epoch at which a seed stopped, and without validation.
    `scores` has a row per seed: the number of epochs trained and, of the weights that the seed
    ended with, each metric on the training, validation and test images, with dropout and
    augmentation off. `models` holds the trained Keras models in the order of `scores.index`, or
    nothing where they were not to be kept; their optimizers are as they were compiled.
    `technique` is what the figures take their colour from.

    `best["val_accuracy"]`, where it was asked for, is the same runs with the scores and answers
    that each seed had at its best epoch by that metric. `answers["test"]`, too, is an array of
    shape (seeds, images, classes).
    """

    history: dict
    scores: pd.DataFrame
    models: list
    technique: str = "none"
    best: dict = field(default_factory=dict)
    answers: dict = field(default_factory=dict)


def train_seeds(
    build_model,
    mnist,
    epochs,
    seeds=range(10),
    batch_size=128,
    callbacks=(),
    *,
    technique="none",
    keep_models=True,
    validation_freq=1,
    best=(),
    answers=(),
):
    """Train the model that `build_model()` returns once per seed, all seeds at once.

    `build_model` takes no argument and returns a compiled Keras model whose inputs are
    `mnist.x_train` and whose targets are `mnist.y_train`. Each seed s does what
    `keras.utils.set_random_seed(s)`, `build_model()` and
    `fit(epochs=…, batch_size=…, validation_data=…)` would do: initial weights, order of the
    images, dropout masks and augmentation are its own and depend on no other seed. The order
    depends on the seed alone, so that two networks meet their mini-batches in the same order.
    `callbacks` may hold `keras.callbacks.EarlyStopping` objects, honoured seed by seed.

    `mnist` may also be one data set per seed, all of the same size: what
    `load_mnist(draws=…)` returns, or a list.

    `validation_freq` is that of `fit`: how many epochs from one validation to the next. `best`
    lists validation metrics by whose best epoch the runs are to be scored as well, those called
    …accuracy by the highest value and others by the lowest; `answers` lists the splits ("train",
    "val", "test") for which the networks' outputs are to be kept.

    Before training, a first mini-batch is computed by Keras, too. Where it ends otherwise, and
    for what cannot be stacked (a `train_step` of one's own, an optimizer that mixes weights, a
    layer with state or randomness that Keras does not know), the seeds are trained by `fit`, one
    after the other, and one printed line says why. (On a graphics card `fit` compiles by itself,
    and then draws other dropout masks.)

    Returns `Runs`. Raises `BookError` for arguments that are no numbers of seeds, epochs or
    images, for other callbacks, for data sets whose sizes differ, and for a `build_model` that
    returns something other than a new, compiled Keras model.
    """
    _spare_what_is_there()
    numbers = {"epochs": epochs, "batch_size": batch_size, "validation_freq": validation_freq}
    seeds, callbacks = _check(seeds, callbacks, **numbers)
    if best and validation_freq > epochs:
        raise BookError(f"best={best!r}: in {epochs} epochs there is no validation.")
    splits = _splits(mnist, seeds)
    for name in answers:
        if name not in splits:
            raise BookError(f"answers={name!r} is no split: choose from {', '.join(splits)}.")
    models, states = _build_all(build_model, seeds, splits["train"])
    plan = _Plan(epochs, batch_size, callbacks, validation_freq, tuple(best), tuple(answers))
    try:
        seed_graph.check_stackable(models)
        history, ends = _train_side_by_side(models, seeds, splits, plan, keep_models)
    except NotStackableError as reason:
        print(f"train_seeds: {reason}, so the seeds are trained by `fit`, one after the other.")
        history, ends = _train_one_by_one(models, states, seeds, splits, plan)
    if not keep_models:
        models.clear()
    gc.collect()  # graphs, models and their variables refer to each other
    index = pd.Index(seeds, name="seed")
    tables = [(pd.DataFrame(scores, index), outputs) for scores, outputs in ends]
    (scores, outputs), *others = tables
    at_best = {
        metric: Runs(history, table, [], technique, answers=kept)
        for metric, (table, kept) in zip(plan.best, others, strict=True)
    }
    return Runs(history, scores, models, technique, at_best, outputs)


class _Plan(NamedTuple):
    """How seeds are to be trained: arguments of `train_seeds`."""

    epochs: int
    batch_size: int
    callbacks: list
    validation_freq: int
    best: tuple
    answers: tuple

    def validates(self, epoch):
        """Tell whether `fit` looks at the validation images after this epoch, from 0 on."""
        return (epoch + 1) % self.validation_freq == 0


def _check(seeds, callbacks, **numbers):
    """Return the seeds and the callbacks as lists, or raise `BookError`."""
    for name, value in numbers.items():
        if not _whole(value, 1):
            raise BookError(f"{name}={value!r} is not a whole number of at least 1.")
    try:
        listed = list(seeds)
    except TypeError:
        raise BookError(f"seeds={seeds!r}: give a list of seeds, such as range(10).") from None
    if not listed or len(set(listed)) < len(listed):
        raise BookError(f"seeds={seeds!r}: give at least one seed, each only once.")
    if not all(_whole(seed, 0) and seed < 2**32 for seed in listed):
        raise BookError(f"seeds={seeds!r}: a seed is a whole number from 0 to 2**32 - 1.")
    if isinstance(callbacks, keras.callbacks.Callback):
        callbacks = [callbacks]
    for callback in callbacks or ():
        if type(callback) is not keras.callbacks.EarlyStopping:
            raise BookError(
                f"callbacks: {type(callback).__name__} is not supported; train_seeds honours "
                "keras.callbacks.EarlyStopping itself only."
            )
    return [int(seed) for seed in listed], list(callbacks or ())


def _whole(value, least):
    """Tell whether a value is a whole number, and not too small."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least


def _splits(mnist, seeds):
    """Return the images and labels of training, validation and test, each a `Split`."""
    several = isinstance(mnist, Draws) or not hasattr(mnist, "x_train")
    if several and len(mnist) != len(seeds):
        raise BookError(
            f"mnist holds {len(mnist)} data sets for {len(seeds)} seeds: give one per seed, as "
            f"load_mnist(…, draws={len(seeds)}) does, or a single one."
        )
    if isinstance(mnist, Draws) and len(mnist) > 1:
        test = _split([mnist], "test")
        parts = {name: _drawn(mnist, name) for name in ("train", "val")}
        return parts | {"test": test}
    sets = list(mnist) if several else [mnist]
    return {name: _split(sets, name) for name in ("train", "val", "test")}


def _drawn(draws, name):
    """Return a split of several draws, whose pixels are kept once."""
    labels = getattr(draws, f"y_{name}")
    rows = np.arange(labels.size).reshape(labels.shape)
    return Split(draws.pixels, getattr(draws, f"{name}_rows"), labels.ravel(), rows, scale=True)


def _split(sets, name):
    """Return a split of one data set for all seeds, or of one per seed."""
    images, labels = ([getattr(mnist, f"{part}_{name}") for mnist in sets] for part in "xy")
    if all(x is images[0] for x in images) and all(y is labels[0] for y in labels):
        images, labels = images[:1], labels[:1]
    images = [_array(values, f"x_{name}") for values in images]
    labels = [_array(values, f"y_{name}") for values in labels]
    if len({x.shape for x in images}) > 1 or len({y.shape for y in labels}) > 1:
        raise BookError(f"the data sets of the seeds differ in the shape of x_{name} or y_{name}.")
    n = len(images[0])
    if n == 0 or n != len(labels[0]):
        raise BookError(
            f"x_{name} holds {n} images and y_{name} {len(labels[0])} labels: give one per image."
        )
    rows = np.arange(len(images) * n).reshape(-1, n)
    join = np.concatenate if len(images) > 1 else lambda arrays: arrays[0]
    return Split(join(images), rows, join(labels), rows)


def _array(values, name):
    """Return numbers as `fit` would take them: an array, of float32 where they are fractions."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, NotImplementedError):
        array = np.array(None)
    if array.dtype.kind not in "biuf" or array.ndim == 0:
        raise BookError(f"{name} is no array of numbers but {type(values).__name__}: pass one.")
    return array.astype("float32", copy=False) if array.dtype.kind == "f" else array


def _build_all(build_model, seeds, train):
    """Return a new model per seed, and the state of the random numbers after each was built."""
    models, states, names = [], [], dict(seed_graph.names())
    for seed in seeds:
        seed_graph.restore_names(names)
        models.append(_build(build_model, seed, train.of(len(models), slice(1))))
        states.append(seed_graph.random_state())
    owners = [[*model.variables, model.optimizer] for model in models]
    if len({id(thing) for own in owners for thing in own}) < sum(map(len, owners)):
        raise BookError(
            "build_model returned the same model twice, or models that share a layer, a weight or "
            "an optimizer, so that one seed would continue the other's training: build all of it "
            "anew in each call."
        )
    return models, states


def _build(build_model, seed, batch):
    """Build one seed's model with its weights and metrics, or raise `BookError`."""
    keras.utils.set_random_seed(seed)
    model = build_model() if callable(build_model) else build_model
    if not callable(build_model) or not isinstance(model, keras.Model):
        raise BookError(
            f"build_model gave {type(model).__name__} instead of a Keras model: pass a "
            "function without arguments that returns a compiled model."
        )
    if not model.compiled:
        raise BookError(
            "build_model returned a model that is not compiled: call "
            "model.compile(optimizer=…, loss=…, metrics=…) before returning it."
        )
    if not model.built:
        seed_graph.complete(model, *batch)
    model.stop_training = False
    return model


@functools.cache
def _spare_what_is_there():
    """Let no collection of garbage look at TensorFlow's million objects again: they stay."""
    gc.collect()
    gc.freeze()


def _train_side_by_side(models, seeds, splits, plan, keep_models):
    """Return history and ends of all seeds, trained in groups that fit in the memory."""
    n_groups = math.ceil(len(models) * models[0].count_params() * 4 / GROUP_BYTES)
    size = math.ceil(len(models) / n_groups)
    graph, parts = None, []
    with tqdm(total=n_groups * plan.epochs, desc=f"{len(seeds)} seeds", disable=None) as progress:
        for group in (slice(start, start + size) for start in range(0, len(models), size)):
            if graph is None or len(models[group]) < size:
                graph = SeedGraph(models[group], splits, plan.batch_size)
            else:
                graph.start(models[group])
            parts.append(_train_group(graph, seeds[group], group, plan, keep_models, progress))
    return _joined(parts)


def _joined(parts):
    """Return what groups of seeds gave, nested in tuples and dictionaries, as if by one group."""
    if isinstance(parts[0], dict):
        return {key: _joined([part[key] for part in parts]) for key in parts[0]}
    if isinstance(parts[0], tuple):
        return tuple(map(_joined, zip(*parts, strict=True)))
    return np.concatenate(parts)


def _train_group(graph, seeds, group, plan, keep_models, progress):
    """Train the seeds of one graph; return their history and their ends.

    An end is the scores and the answers of some weights: the last and, for each metric of
    `plan.best`, those of the best epoch.
    """
    models = graph.models
    if plan.callbacks:  # they look up whether a metric is to be high or low
        for model in models:
            seed_graph.complete(model, *graph.an_image)
    rules = [[_attach(rule, model) for rule in plan.callbacks] for model in models]
    generators = [np.random.default_rng(seed) for seed in seeds]
    history, running, trained = {}, np.ones(len(seeds), bool), np.zeros(len(seeds), int)
    records = [_Best(metric, len(seeds)) for metric in plan.best]

    for epoch in range(plan.epochs):
        order = np.stack([rng.permutation(graph.n_train) for rng in generators])
        if epoch == 0 and group.start == 0:
            graph.check_first_batch(order, group)
        logs = graph.train(order, group)
        if plan.validates(epoch):
            logs |= graph.evaluate("val", group)
        for name, values in logs.items():
            _rows(history, name, values, (len(seeds), plan.epochs))[running, epoch] = values[
                running
            ]
        trained[running] += 1
        for record in records:
            record.look(epoch, logs, running, graph.copy)
        if plan.callbacks or (keep_models and epoch == plan.epochs - 1):
            graph.store(running)
        for i in np.flatnonzero(running):
            for rule in rules[i]:
                rule.on_epoch_end(epoch, {name: logs[name][i] for name in logs})
            running[i] = not models[i].stop_training
        progress.update()
        if not running.any():
            break

    for rule in itertools.chain(*rules):
        rule.on_train_end()
    if plan.callbacks:
        graph.load()  # a seed may have ended with earlier weights
    ends = [_end(graph, group, plan, trained)]
    for record in records:
        graph.put(record.arrays)
        ends.append(_end(graph, group, plan, record.epochs))
    return history, tuple(ends)


def _end(graph, group, plan, epochs):
    """Return the scores of the present weights, and the answers that are to be kept."""
    scores = {"epochs": epochs}
    for split in ("train", "val", "test"):
        scores |= graph.evaluate(split, group)
    return scores, {split: graph.answers(split, group) for split in plan.answers}


class _Best:
    """What each seed's network had learned at its best epoch by a validation metric."""

    def __init__(self, metric, seeds):
        self.metric, self.sign = metric, 1 if metric.endswith("accuracy") else -1
        self.values, self.epochs = np.full(seeds, -np.inf), np.zeros(seeds, int)
        self.arrays = None

    def look(self, epoch, logs, running, copy):
        """Keep what `copy()` returns, arrays with a row per seed, of those that are better now."""
        if not any(name.startswith("val_") for name in logs):
            return
        if not self.metric.startswith("val_") or self.metric not in logs:
            known = ", ".join(sorted(name for name in logs if name.startswith("val_")))
            raise BookError(f"best={self.metric!r} is no validation metric: choose from {known}.")
        values = self.sign * np.asarray(logs[self.metric])
        better = running & (values > self.values)
        if self.arrays is None:
            better = running.copy()  # a first value may be NaN
            self.arrays = copy()
        elif better.any():
            for kept, new in zip(self.arrays, copy(), strict=True):
                kept[better] = new[better]
        self.values[better] = np.nan_to_num(values[better], nan=-np.inf)
        self.epochs[better] = epoch + 1


def _attach(rule, model):
    """Return the callback's own copy for one seed's model."""
    rule = copy.copy(rule)
    rule.set_model(model)
    rule.on_train_begin()
    return rule


def _train_one_by_one(models, states, seeds, splits, plan):
    """Return history and ends of all seeds, each trained by Keras's own `fit`."""
    history, parts = {}, []
    for i, model in enumerate(tqdm(models, desc="seeds", disable=None)):
        seed_graph.restore_random_state(seeds[i], states[i])
        data = {name: split.of(i) for name, split in splits.items()}
        records = [_Best(metric, 1) for metric in plan.best]
        log = model.fit(
            _shuffled(*data["train"], plan.batch_size, seeds[i]),
            epochs=plan.epochs,
            shuffle=False,
            verbose=0,
            validation_data=data["val"],
            validation_batch_size=plan.batch_size,
            validation_freq=plan.validation_freq,
            callbacks=[_looking(model, records), *(copy.copy(rule) for rule in plan.callbacks)],
        ).history
        validated = range(plan.validation_freq - 1, len(log["loss"]), plan.validation_freq)
        for name, values in log.items():
            epochs = list(validated if name.startswith("val_") else range(len(log["loss"])))
            _rows(history, name, values, (len(models), plan.epochs))[i, epochs] = values
        ends = [_end_of(model, data, plan, len(log["loss"]))]
        last = model.get_weights()
        for record in records:
            model.set_weights([array[0] for array in record.arrays])
            ends.append(_end_of(model, data, plan, *record.epochs))
        model.set_weights(last)
        parts.append(tuple(ends))
    return history, _joined(parts)


def _looking(model, records):
    """Return a callback that shows the records a model's weights after each epoch."""

    def look(epoch, logs):
        for record in records:
            some = {name: [value] for name, value in logs.items()}
            record.look(
                epoch, some, np.ones(1, bool), lambda: [w[None] for w in model.get_weights()]
            )

    return keras.callbacks.LambdaCallback(on_epoch_end=look)


def _end_of(model, data, plan, epochs):
    """Return what `_end` does for a model by itself."""
    scores = {"epochs": [epochs]}
    for split, (x, y) in data.items():
        values = model.evaluate(x, y, plan.batch_size, verbose=0, return_dict=True)
        scores |= {f"{split}_{name}": [value] for name, value in values.items()}
    kept = {s: model.predict(data[s][0], plan.batch_size, verbose=0)[None] for s in plan.answers}
    return scores, kept


def _rows(history, name, values, shape):
    """Return the array of one metric, of NaN where nothing was recorded yet."""
    if np.ndim(values) != 1:
        raise BookError(
            f"the metric {name} gives several numbers at a time: choose one that gives a single "
            "number, for example by its argument `average`."
        )
    return history.setdefault(name, np.full(shape, np.nan))


def _shuffled(x, y, batch_size, seed):
    """Return a data set of mini-batches, in another order whenever `fit` starts an epoch."""
    rng = np.random.default_rng(seed)

    def epoch():
        order = rng.permutation(len(x))
        for rows in (order[start : start + batch_size] for start in range(0, len(x), batch_size)):
            yield x[rows], y[rows]

    shapes = [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in (x, y)]
    batches = tf.data.Dataset.from_generator(epoch, output_signature=tuple(shapes))
    return batches.apply(tf.data.experimental.assert_cardinality(math.ceil(len(x) / batch_size)))
