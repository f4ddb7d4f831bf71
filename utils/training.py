"""Train one Keras network from many seeds, side by side in one graph."""

import copy
import functools
import gc
import itertools
import math
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm.auto import tqdm

from utils import BookError

gc.freeze()  # TensorFlow's million objects stay anyway; no collection has to look at them again
GROUP_BYTES = 32e6  # seeds whose weights together take more are trained in several groups
STEPS = 24  # mini-batches between two looks at the keyboard, so that Ctrl-C ends a run at once
# Optimizers that treat every weight by itself, so that seeds stacked in one array stay apart.
ELEMENTWISE = {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Nadam", "Lion"}
MIXING = ("clipnorm", "global_clipnorm", "use_ema", "gradient_accumulation_steps")


@dataclass
class Runs:
    """What `train_seeds` returns: one training run per seed.

    `history` maps each metric that `fit` would record ("loss", "val_accuracy", …) to an array
    of shape (seeds, epochs), NaN after the epoch at which a seed stopped. `scores` has a row
    per seed: the number of epochs trained and, of the weights that the seed ended with, each
    metric on the training, validation and test images, with dropout and augmentation off.
    `models` holds the trained Keras models in the order of `scores.index`; it is empty where
    they were not kept. `technique` names the style in which figures draw the runs.
    """

    history: dict
    scores: pd.DataFrame
    models: list
    technique: str = "none"


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
):
    """Train the model that `build_model()` returns once per seed, all seeds at once.

    `build_model` takes no argument and returns a compiled Keras model whose inputs are
    `mnist.x_train` and whose targets are `mnist.y_train`. Each seed s does what
    `keras.utils.set_random_seed(s)`, `build_model()` and
    `fit(epochs=…, batch_size=…, validation_data=…)` would do: initial weights, order of the
    images, dropout masks and augmentation are its own and depend on no other seed. The order
    depends on the seed alone, so that two networks meet their mini-batches in the same order.
    `callbacks` may hold `keras.callbacks.EarlyStopping` objects, honoured seed by seed.

    What cannot be stacked (a `train_step` of one's own, an optimizer that mixes weights, a
    layer with state or randomness that Keras does not know) is trained by `fit`, one seed after
    the other, and one printed line says so.

    Returns `Runs`. Raises `BookError` for no seeds, repeated seeds, fewer than one epoch,
    another callback, or a `build_model` that returns something other than a new, compiled
    Keras model.
    """
    seeds = _check(seeds, epochs, callbacks)
    models = [_build(build_model, seed, mnist) for seed in seeds]
    if len({id(model) for model in models}) < len(models):
        raise BookError(
            "build_model returned the same model twice, so that one seed would continue the "
            "other's training: build a new model in each call."
        )
    arguments = seeds, mnist, epochs, batch_size, callbacks
    try:
        _check_stackable(models)
        history, scores = _train_side_by_side(models, *arguments)
    except _NotStackableError as reason:
        print(f"train_seeds: {reason}, so the seeds are trained by `fit`, one after the other.")
        models = [_build(build_model, seed, mnist) for seed in seeds]
        history, scores = _train_one_by_one(models, *arguments)
    scores = pd.DataFrame(scores, index=pd.Index(seeds, name="seed"))
    return Runs(history, scores, models if keep_models else [], technique)


class _NotStackableError(Exception):
    """Why the seeds of a model cannot be trained in one graph."""


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
    if not model.built:
        model(mnist.x_train[:1])
    return model


def _check_stackable(models):
    """Raise `_NotStackableError` for what is known before a step is traced."""
    model, optimizer = models[0], models[0].optimizer
    for method in ("train_step", "test_step"):
        if getattr(type(model), method) is not getattr(keras.Model, method):
            raise _NotStackableError(f"{type(model).__name__} has its own {method}")
    name = type(optimizer).__name__
    if type(optimizer) is not getattr(keras.optimizers, name, None) or name not in ELEMENTWISE:
        raise _NotStackableError(f"the optimizer {name} may mix the weights of several seeds")
    for option in MIXING:
        if getattr(optimizer, option):
            raise _NotStackableError(f"{option} is not a matter of single weights")
    if hasattr(optimizer, "_exclude_from_weight_decay_pattern"):
        raise _NotStackableError("exclude_from_weight_decay goes by the names of the weights")
    if len({str([v.shape for v in model.variables]) for model in models}) > 1:
        raise _NotStackableError("build_model returned networks of different shapes")


def _train_side_by_side(models, seeds, mnist, epochs, batch_size, callbacks):
    """Return history and scores of all seeds, trained in groups that fit in the memory."""
    n_groups = math.ceil(len(models) * models[0].count_params() * 4 / GROUP_BYTES)
    size = math.ceil(len(models) / n_groups)
    graph, parts = None, []
    with tqdm(total=n_groups * epochs, desc=f"{len(seeds)} seeds", disable=None) as progress:
        for group in (slice(start, start + size) for start in range(0, len(models), size)):
            if graph is None or len(models[group]) < size:
                graph = _SeedGraph(models[group], mnist, batch_size)
            else:
                graph.start(models[group])
            parts.append(_train_group(graph, seeds[group], mnist, epochs, callbacks, progress))
    del graph
    gc.collect()  # the graph and its variables refer to each other
    return ({k: np.concatenate([p[i][k] for p in parts]) for k in parts[0][i]} for i in (0, 1))


def _train_group(graph, seeds, mnist, epochs, callbacks, progress):
    """Train the seeds of one graph; return their history and scores."""
    models = graph.models
    stoppers = [[_attach(rule, model, mnist) for rule in callbacks] for model in models]
    orders = [np.random.default_rng(seed) for seed in seeds]
    history, running, trained = {}, np.ones(len(seeds), bool), np.zeros(len(seeds), int)

    for epoch in range(epochs):
        order = np.stack([rng.permutation(len(mnist.x_train)) for rng in orders])
        try:
            logs = graph.train(order) | graph.evaluate(mnist.x_val, mnist.y_val, "val_")
        except _NotStackableError:
            raise
        except Exception as error:  # the reader's own mistakes come back when `fit` is tried
            reason = f"the network does not run for several seeds at once ({type(error).__name__})"
            raise _NotStackableError(reason) from error
        for name, values in logs.items():
            _rows(history, name, len(seeds), epochs)[running, epoch] = values[running]
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
    for split, images, labels in _splits(mnist):
        scores |= graph.evaluate(images, labels, split)
    return history, scores


def _train_one_by_one(models, seeds, mnist, epochs, batch_size, callbacks):
    """Return history and scores of all seeds, each trained by Keras's own `fit`."""
    history, scores = {}, {}
    for i, model in enumerate(tqdm(models, desc="seeds", disable=None)):
        keras.utils.set_random_seed(seeds[i])
        log = model.fit(
            _batches(mnist, seeds[i], batch_size),
            steps_per_epoch=math.ceil(len(mnist.x_train) / batch_size),
            epochs=epochs,
            shuffle=False,
            verbose=0,
            validation_data=(mnist.x_val, mnist.y_val),
            callbacks=copy.deepcopy(list(callbacks)),
        ).history
        row = {"epochs": len(log["loss"])}
        for split, images, labels in _splits(mnist):
            values = model.evaluate(images, labels, verbose=0, return_dict=True)
            row |= {split + name: value for name, value in values.items()}
        for name, values in log.items():
            _rows(history, name, len(models), epochs)[i, : len(values)] = values
        for name, value in row.items():
            scores.setdefault(name, []).append(value)
    return history, scores


def _rows(history, name, seeds, epochs):
    """Return the array of one metric, of NaN where nothing was recorded yet."""
    return history.setdefault(name, np.full((seeds, epochs), np.nan))


def _batches(mnist, seed, size):
    """Yield the mini-batches of one seed without end, in another order in every epoch."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(mnist.x_train))
        for rows in (order[start : start + size] for start in range(0, len(order), size)):
            yield mnist.x_train[rows], mnist.y_train[rows]


def _splits(mnist):
    """Return the prefix of the scores, the images and the labels of each split."""
    names = ("train", "val", "test")
    return [(f"{n}_", getattr(mnist, f"x_{n}"), getattr(mnist, f"y_{n}")) for n in names]


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
        model.reset_metrics()
        self.images, self.labels = tf.constant(mnist.x_train), tf.constant(mnist.y_train)
        self.weights = [keras.Variable(values) for values in self._stacked("trainable_variables")]
        for weight, own in zip(self.weights, model.trainable_variables, strict=True):
            if own.constraint:
                weight.constraint = functools.partial(tf.vectorized_map, own.constraint)
        self.state = [tf.Variable(values) for values in self._stacked("non_trainable_variables")]
        self.stacks = {
            "trainable_variables": [weight.value for weight in self.weights],
            "non_trainable_variables": self.state,
        }
        zeros = [np.stack([np.asarray(v)] * len(models)) for v in model.metrics_variables]
        self.zeros, self.totals = zeros, [tf.Variable(values) for values in zeros]
        self.optimizer = self._new_optimizer(self.weights)
        # With one device the sum over devices is the identity, but TensorFlow registers it
        # for ever, together with this graph and all its variables: leave it out.
        self.optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars
        if isinstance(self.optimizer, keras.optimizers.Adam) and not self.optimizer.amsgrad:
            self.optimizer.update_step = functools.partial(_adam_step, self.optimizer)

    def start(self, models):
        """Put other models of the same architecture in the place of those of before."""
        self.models = models
        self.load()
        small = self._new_optimizer([keras.Variable(0.0) for _ in self.weights])
        for ours, new in zip(self.optimizer.variables, small.variables, strict=True):
            ours.assign(tf.broadcast_to(new, ours.shape))  # what it keeps of a weight starts equal

    def _new_optimizer(self, weights):
        """Return the models' optimizer, untrained, for these weights."""
        config = keras.optimizers.serialize(self.model.optimizer)
        optimizer = keras.optimizers.deserialize(config)
        optimizer.build(weights)
        return optimizer

    def _stacked(self, attribute):
        """Return the models' variables, stacked along a new first axis of seeds."""
        variables = zip(*(getattr(model, attribute) for model in self.models), strict=True)
        return [np.stack([np.asarray(v) for v in same]) for same in variables]

    def _forward(self, weights, state, totals, x, y, training):
        """Run one seed; return its loss and its new state and metric totals."""
        model, graph = self.model, tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
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
        for operation in graph.get_operations()[before:]:
            if operation.op_def.is_stateful and operation.type != "Placeholder":
                raise _NotStackableError(
                    f"the network keeps state or draws random numbers ({operation.type}) "
                    "outside Keras's own variables"
                )
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

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None], tf.int64)])
    def _steps(self, order):
        """Take one step per mini-batch of `order`; the last one may be smaller, as in `fit`."""
        order = tf.ensure_shape(order, [len(self.models), None])

        def body(start):
            self._step(order[:, start : start + self.batch_size])
            return [start + self.batch_size]

        tf.while_loop(lambda start: start < tf.shape(order)[1], body, [0])

    @tf.function(autograph=False, reduce_retracing=True)
    def _totals_on(self, totals, x, y):
        """Add a batch of images, the same for all seeds, to the metric totals."""
        weights = [w.value for w in self.weights]
        return tf.vectorized_map(
            lambda seed: self._forward(*seed, x, y, training=False)[2],
            (weights, _values(self.state), totals),
            warn=False,
        )

    def train(self, order):
        """Train one epoch over `order`, image indices of shape (seeds, images).

        Returns each metric as an array with a value per seed.
        """
        for total, zero in zip(self.totals, self.zeros, strict=True):
            total.assign(zero)
        for columns in range(0, order.shape[1], STEPS * self.batch_size):
            self._steps(tf.constant(order[:, columns : columns + STEPS * self.batch_size]))
        return self._results(_values(self.totals), "")

    def evaluate(self, images, labels, prefix, batch_size=500):
        """Return each metric, named with the prefix, as an array with a value per seed."""
        totals = [tf.constant(zero) for zero in self.zeros]
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            totals = self._totals_on(totals, tf.constant(images[rows]), tf.constant(labels[rows]))
        return self._results(totals, prefix)

    @tf.function(autograph=False)
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


def _adam_step(optimizer, gradient, variable, learning_rate):
    """Do what Keras's Adam does in a dozen passes over the memory in one, by TensorFlow's kernel.

    Both follow the form with ε̂ at the end of section 2 of Kingma and Ba (2015).
    """
    index = optimizer._get_variable_index(variable)
    stacks = optimizer._trainable_variables, optimizer._momentums, optimizer._velocities
    variable, m, v = (stack[index].value for stack in stacks)
    step, rate = (tf.cast(x, variable.dtype) for x in (optimizer.iterations + 1, learning_rate))
    beta1, beta2 = optimizer.beta_1, optimizer.beta_2
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=m.handle,
        v=v.handle,
        beta1_power=beta1**step,
        beta2_power=beta2**step,
        lr=rate,
        beta1=beta1,
        beta2=beta2,
        epsilon=optimizer.epsilon,
        grad=gradient,
    )


def _values(variables):
    return [variable.value() for variable in variables]
