"""Train one Keras network from many seeds, side by side in one graph."""

import copy
import gc
import itertools
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm.auto import tqdm

from utils import BookError

# Optimizers that treat every weight by itself, so that seeds stacked in one array stay apart.
CHUNK_BYTES = 32e6  # seeds whose weights together take more are trained in several groups
ELEMENTWISE = ("sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "lion")


@dataclass
class Runs:
    """What `train_seeds` returns: one training run per seed.

    `history` maps each metric that `fit` would record ("loss", "val_accuracy", …) to an array
    of shape (seeds, epochs), NaN after the epoch at which a seed stopped. `scores` has a row
    per seed: the number of epochs trained and, of the weights that the seed ended with, each
    metric on the training, validation and test images, with dropout and augmentation off.
    `models` holds the trained Keras models in the order of `scores.index`.
    """

    history: dict
    scores: pd.DataFrame
    models: list


def train_seeds(build_model, mnist, epochs, seeds=range(10), batch_size=128, callbacks=()):
    """Train the model that `build_model()` returns once per seed, all seeds at once.

    `build_model` takes no argument and returns a compiled Keras model whose inputs are
    `mnist.x_train` and whose targets are `mnist.y_train`. Each seed s does what
    `keras.utils.set_random_seed(s)`, `build_model()` and
    `fit(epochs=…, batch_size=…, validation_data=…)` would do: initial weights, order of the
    images, dropout masks and augmentation are its own and depend on no other seed. The order
    depends on the seed alone, so that two networks meet their mini-batches in the same order.
    `callbacks` may hold `keras.callbacks.EarlyStopping` objects, honoured seed by seed.

    Returns `Runs`. Raises `BookError` for no seeds, repeated seeds, fewer than one epoch,
    another callback, an optimizer that mixes weights, or a `build_model` that returns
    something other than a compiled Keras model.
    """
    seeds = _check(seeds, epochs, callbacks)
    models = [_build(build_model, seed, mnist) for seed in seeds]
    if len({id(model) for model in models}) < len(models):
        raise BookError(
            "build_model returned the same model twice, so that one seed would continue the "
            "other's training: build a new model in each call."
        )
    size = max(1, int(CHUNK_BYTES // (4 * models[0].count_params())))
    groups = np.array_split(np.arange(len(seeds)), -(-len(seeds) // size))
    with tqdm(total=len(groups) * epochs, desc=f"{len(seeds)} seeds", disable=None) as progress:
        parts = [
            _train_group(
                [models[i] for i in group],
                [seeds[i] for i in group],
                mnist,
                epochs,
                batch_size,
                callbacks,
                progress,
            )
            for group in groups
        ]
    history = {name: np.concatenate([p.history[name] for p in parts]) for name in parts[0].history}
    scores = pd.concat([part.scores for part in parts])
    return Runs(history, scores, models)


def _train_group(models, seeds, mnist, epochs, batch_size, callbacks, progress):
    """Train a few seeds side by side; see `train_seeds`."""
    graph = _SeedGraph(models, mnist, batch_size)
    stoppers = [[_attach(rule, model, mnist) for rule in callbacks] for model in models]
    orders = [np.random.default_rng(seed) for seed in seeds]
    history, running, trained = {}, np.ones(len(seeds), bool), np.zeros(len(seeds), int)

    for epoch in range(epochs):
        order = np.stack([rng.permutation(len(mnist.x_train)) for rng in orders])
        logs = graph.train(order) | graph.evaluate(mnist.x_val, mnist.y_val, "val_")
        for name, values in logs.items():
            blank = np.full((len(seeds), epochs), np.nan)
            history.setdefault(name, blank)[running, epoch] = values[running]
        trained[running] += 1
        if callbacks or epoch == epochs - 1:
            graph.store(running)
        for i in np.flatnonzero(running):
            for callback in stoppers[i]:
                callback.on_epoch_end(epoch, {name: logs[name][i] for name in logs})
            running[i] = not getattr(models[i], "stop_training", False)
        progress.update()
        if not running.any():
            break

    for callback in itertools.chain(*stoppers):
        callback.on_train_end()
    graph.load()
    scores = {"epochs": trained}
    for split in ("train", "val", "test"):
        images, labels = (getattr(mnist, f"{axis}_{split}") for axis in "xy")
        scores |= graph.evaluate(images, labels, f"{split}_")
    index = pd.Index(seeds, name="seed")
    del graph
    gc.collect()  # the graph and its variables refer to each other
    return Runs(history, pd.DataFrame(scores, index=index), models)


def _check(seeds, epochs, callbacks):
    """Return the seeds as a list, or raise `BookError`."""
    seeds = list(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise BookError(f"seeds={seeds!r}: give at least one seed, each only once.")
    if epochs < 1:
        raise BookError(f"epochs={epochs!r}: train for at least one epoch.")
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.EarlyStopping):
            raise BookError(
                f"callbacks: {type(callback).__name__} is not supported; train_seeds honours "
                "keras.callbacks.EarlyStopping only."
            )
    return seeds


def _build(build_model, seed, mnist):
    """Build one seed's model with its weights, or raise `BookError`."""
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
    optimizer = model.optimizer
    clips = optimizer.clipnorm or optimizer.global_clipnorm
    if type(optimizer).__name__.lower() not in ELEMENTWISE or clips:
        raise BookError(
            f"the optimizer {type(optimizer).__name__}{' with clipnorm' * bool(clips)} mixes "
            f"weights, so that seeds cannot be stacked: use one of {', '.join(ELEMENTWISE)}."
        )
    if not model.built:
        model(mnist.x_train[:1])
    return model


def _create_metrics(model, mnist):
    """Let Keras create the compiled metrics, which it does at their first use."""
    model.compute_metrics(None, mnist.y_train[:1], model(mnist.x_train[:1]))


def _attach(callback, model, mnist):
    """Return the callback's own copy for one seed's model."""
    _create_metrics(model, mnist)  # "auto" mode looks up which metrics are to be maximized
    callback = copy.deepcopy(callback)
    callback.set_model(model)
    callback.on_train_begin()
    return callback


class _SeedGraph:
    """The stacked variables of several models of one architecture, and the steps on them.

    Variable k of the stack has the shape of the models' variable k behind a first axis of
    seeds. `tf.vectorized_map` runs the first model over that axis, with the stacked values in
    place of its own, and turns its matrix products into batched ones. The gradient of the sum
    of all losses holds each seed's own gradient, since a seed's loss depends on no other's.
    """

    def __init__(self, models, mnist, batch_size):
        self.models, self.batch_size = models, batch_size
        self.model = model = models[0]
        _create_metrics(model, mnist)
        self.images, self.labels = tf.constant(mnist.x_train), tf.constant(mnist.y_train)
        self.weights = [keras.Variable(values) for values in self._stacked("trainable_variables")]
        self.state = [tf.Variable(values) for values in self._stacked("non_trainable_variables")]
        self.stacks = {
            "trainable_variables": [weight.value for weight in self.weights],
            "non_trainable_variables": self.state,
        }
        shapes = [(len(models), *v.shape) for v in model.metrics_variables]
        self.totals = [tf.Variable(tf.zeros(shape)) for shape in shapes]
        config = keras.optimizers.serialize(model.optimizer)
        self.optimizer = keras.optimizers.deserialize(config)
        self.optimizer.build(self.weights)
        # With one device the sum over devices is the identity, but TensorFlow registers it
        # for ever, together with this graph and all its variables: leave it out.
        self.optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars

    def _stacked(self, attribute):
        """Return the models' variables, stacked along a new first axis of seeds."""
        variables = zip(*(getattr(model, attribute) for model in self.models), strict=True)
        return [np.stack([np.asarray(v) for v in same]) for same in variables]

    def _forward(self, weights, state, totals, x, y, training):
        """Run one seed; return its loss and its new state and metric totals."""
        model = self.model
        variables = (
            model.trainable_variables + model.non_trainable_variables + model.metrics_variables
        )
        mapping = list(zip(variables, weights + state + totals, strict=True))
        with keras.StatelessScope(state_mapping=mapping) as scope:
            y_pred = model(x, training=training)
            loss = model.compute_loss(x, y, y_pred, training=training)
            model.metrics[0].update_state(loss, sample_weight=tf.shape(x)[0])  # "loss"
            model.compute_metrics(x, y, y_pred)
            after = [
                [tf.convert_to_tensor(scope.get_current_value(v)) for v in group]
                for group in (model.non_trainable_variables, model.metrics_variables)
            ]
        return loss, *after

    def _step(self, rows):
        """Update all seeds with one mini-batch each; `rows` has shape (seeds, batch)."""
        x, y = tf.gather(self.images, rows), tf.gather(self.labels, rows)
        weights = [tf.identity(w.value) for w in self.weights]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            loss, state, totals = tf.vectorized_map(
                lambda seed: self._forward(*seed, training=True),
                (weights, _values(self.state), _values(self.totals), x, y),
                warn=False,
            )
            loss = tf.reduce_sum(loss)
        self.optimizer.apply(tape.gradient(loss, weights))
        for variable, value in zip(self.state + self.totals, state + totals, strict=True):
            variable.assign(value)

    @tf.function
    def _epoch(self, order):
        """Run one epoch over `order`, image indices of shape (seeds, images)."""
        size, images = self.batch_size, order.shape[1]
        for total in self.totals:
            total.assign(tf.zeros_like(total))
        for step in tf.range(images // size):
            self._step(order[:, step * size : (step + 1) * size])
        if images % size:  # the last, smaller mini-batch, as in `fit`
            self._step(order[:, images - images % size :])

    @tf.function(reduce_retracing=True)
    def _totals_on(self, totals, x, y):
        """Add a batch of images, the same for all seeds, to the metric totals."""
        weights = [w.value for w in self.weights]
        return tf.vectorized_map(
            lambda seed: self._forward(*seed, x, y, training=False)[2],
            (weights, _values(self.state), totals),
            warn=False,
        )

    def train(self, order):
        """Train one epoch; return each metric as an array with a value per seed."""
        self._epoch(tf.constant(order))
        return self._results(_values(self.totals), "")

    def evaluate(self, images, labels, prefix, batch_size=1_000):
        """Return each metric, named with the prefix, as an array with a value per seed."""
        totals = [tf.zeros_like(total) for total in self.totals]
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            totals = self._totals_on(totals, tf.constant(images[rows]), tf.constant(labels[rows]))
        return self._results(totals, prefix)

    @tf.function
    def _scores(self, totals):
        """Turn the seeds' metric totals into the numbers that `fit` would report."""

        def one(values):
            mapping = list(zip(self.model.metrics_variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return self.model.get_metrics_result()

        return tf.vectorized_map(one, totals, warn=False)

    def _results(self, totals, prefix):
        """Return each metric, named with the prefix, as an array with a value per seed."""
        return {prefix + name: np.asarray(v) for name, v in self._scores(totals).items()}

    def store(self, running):
        """Copy the stacked variables into the models of the running seeds."""
        for attribute, stack in self.stacks.items():
            for k, values in enumerate(np.asarray(variable) for variable in stack):
                for i in np.flatnonzero(running):
                    getattr(self.models[i], attribute)[k].assign(values[i])

    def load(self):
        """Copy the models' variables back, since a seed may have ended with earlier weights."""
        for attribute, stack in self.stacks.items():
            for variable, values in zip(stack, self._stacked(attribute), strict=True):
                variable.assign(values)


def _values(variables):
    return [variable.value() for variable in variables]
