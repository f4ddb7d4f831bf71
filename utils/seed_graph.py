"""Several seeds of one Keras network in one TensorFlow graph: the engine of `train_seeds`.

All that the book uses of Keras's and TensorFlow's private names stands in this file, and
`tests/test_seed_graph.py` names each, so that a new version which drops one is noticed by name.
"""

import collections
import contextlib
import functools
import math
import random
import warnings
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state

STEPS = 24  # mini-batches between two looks at the keyboard, so that Ctrl-C ends a run at once
# Optimizers that treat every weight by itself, so that seeds stacked in one array stay apart.
ELEMENTWISE = {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Nadam", "Lion"}
MIXING = ("clipnorm", "global_clipnorm", "use_ema", "gradient_accumulation_steps")
HOOKS = ("fit", "evaluate", "train_step", "test_step", "reset_metrics", "get_metrics_result")
HOOKS += ("make_train_function", "make_test_function")
# Layers that answer an image alike whatever images are beside it, and keep nothing of it.
APART = {"Sequential", "InputLayer", "Flatten", "Dense", "ReLU", "Dropout", "BatchNormalization"}
AVERAGED = {"sum_over_batch_size", "sparse_categorical_crossentropy", "categorical_crossentropy"}
APART |= {"Conv2D", "MaxPooling2D", "RandomFlip", "RandomRotation", "RandomTranslation"}
SOME = 2_000  # images at least of those that are evaluated at a time
FEW = 500  # images that are answered at a time
ROUNDING = 1e-5  # of the largest gradient: what is smaller may be no gradient at all
ROWS = tf.TensorSpec([None, None], tf.int64)  # of images or labels: (seeds or 1, any number)
CLOSE = 2e-3  # of the first step, by which graph and `fit` may differ: float32 leaves 1e-4


class NotStackableError(Exception):
    """Why the seeds of a network cannot be trained in one graph."""


# Building the models, as `fit` would find them


def names():
    """Return Keras's counters of the names it has given: "dense" to 3, and so on."""
    empty = collections.defaultdict(int)
    return global_state.get_global_attribute("object_name_uids", empty, set_to_default=True)


def restore_names(counters):
    """Let the next model's layers and metrics have the names of those made from here before."""
    names().clear()
    names().update(counters)


def random_state():
    """Return what `restore_random_state` needs to draw the same numbers again."""
    return random.getstate(), np.random.get_state()


def restore_random_state(seed, state):
    """Put Keras, NumPy and Python back to where they were after a model was built."""
    keras.utils.set_random_seed(seed)
    random.setstate(state[0])
    np.random.set_state(state[1])


def complete(model, x, y):
    """Create the weights and the metrics that a model lacks, without a computation.

    `fit` does so at its first mini-batch. The optimizer's variables are left for later.
    """
    built, model.optimizer.built = model.optimizer.built, True
    try:
        model._symbolic_build(data_batch=(x, y))
    finally:
        model.optimizer.built = built


# What cannot be stacked


def check_stackable(models):
    """Raise `NotStackableError` for what is known before a mini-batch is looked at."""
    model, optimizer = models[0], models[0].optimizer
    for hook in HOOKS:
        if getattr(type(model), hook) is not getattr(keras.Model, hook):
            raise NotStackableError(f"{type(model).__name__} has its own {hook}")
    name = type(optimizer).__name__
    if type(optimizer) is not getattr(keras.optimizers, name, None) or name not in ELEMENTWISE:
        raise NotStackableError(f"the optimizer {name} may mix the weights of several seeds")
    for option in MIXING:
        if getattr(optimizer, option):
            raise NotStackableError(f"{option} is not a matter of single weights")
    compiled = model.jit_compile and not tf.config.list_physical_devices("GPU")  # there by default
    if model.run_eagerly or compiled:
        raise NotStackableError("run_eagerly or jit_compile is set")
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Embedding):
            raise NotStackableError("an Embedding has gradients for single rows")
    first = _settings(model)
    if any(_settings(other) != first for other in models[1:]):
        raise NotStackableError("build_model gives the seeds networks of different settings")


def _settings(model):
    """Return all that should be equal in the models of all seeds, as a text."""
    try:
        with warnings.catch_warnings(action="ignore"):
            parts = [model.get_config(), model.get_compile_config()]
    except Exception as error:  # what a class of one's own may raise
        reason = f"{type(model).__name__} or what it is compiled with cannot be compared"
        raise NotStackableError(f"{reason} ({type(error).__name__})") from error
    parts += [(v.shape, v.dtype) for v in model.variables]
    parts += [model.optimizer._use_weight_decay(v) for v in model.trainable_variables]
    text = repr(parts)
    for i, layer in enumerate(model._flatten_layers()):
        text = text.replace(repr(layer.name), f"name {i}")  # Keras counts all layers that it made
    return text


def evaluation_batch(model, batch_size):
    """Return a quicker size of mini-batches for evaluation where none changes the result.

    That is a multiple of `batch_size`; what averages in a way of its own gets that, as in `fit`.
    """
    layers, loss = model._flatten_layers(), model.loss
    metrics = [metric for group in model.metrics for metric in getattr(group, "metrics", [group])]
    usual = (
        all(type(part).__module__.startswith("keras.") for part in (*layers, *metrics))
        and all(
            type(layer).__name__ in APART and not layer.activity_regularizer for layer in layers
        )
        and all(isinstance(metric, keras.metrics.Mean) for metric in metrics)
        and not any(type(metric) is keras.metrics.MeanMetricWrapper for metric in metrics)
        and (loss if isinstance(loss, str) else getattr(loss, "reduction", "")) in AVERAGED
    )
    return batch_size * math.ceil(500 / batch_size) if usual else batch_size


# The graph


class _Scope(keras.StatelessScope):
    """A scope in which no gradient flows through what is assigned, as through a variable."""

    def add_update(self, update):
        """Note the new value of a variable."""
        variable, value = update
        super().add_update((variable, tf.stop_gradient(value)))


class Split(NamedTuple):
    """The images and labels of a split, for all seeds.

    Seed i has the images `pixels[rows[i]]` and the labels `labels[label_rows[i]]`; where there is
    only one row, all seeds have the same. `scale` says that the pixels are bytes, 0 to 255, which
    the network is to see as 0 to 1.
    """

    pixels: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    label_rows: np.ndarray
    scale: bool = False

    def of(self, seed, which=slice(None)):
        """Return the images and labels of one seed as arrays, or those at some places."""
        seed = seed if len(self.rows) > 1 else 0
        rows, label_rows = self.rows[seed, which], self.label_rows[seed, which]
        return tuple(part.numpy() for part in self.gather(rows, label_rows))

    def gather(self, rows, label_rows):
        """Return the images and labels of a mini-batch, as tensors."""
        images = tf.gather(self.pixels, rows)
        if self.scale:
            images = tf.cast(images, "float32") / 255
        return images, tf.gather(self.labels, label_rows)


class _ForEachSeed(keras.constraints.Constraint):
    """A constraint that holds for each seed's part of a stacked variable."""

    def __init__(self, own):
        self.own = own

    def __call__(self, weights):
        return tf.vectorized_map(self.own, weights)


class SeedGraph:
    """The stacked variables of several models of one architecture, and the steps on them.

    Variable k of the stack has the shape of the models' variable k behind a first axis of
    seeds. `tf.vectorized_map` runs the first model over that axis, with the stacked values in
    place of its own, and turns its matrix products into batched ones. The gradient of the sum
    of all losses holds each seed's own gradient, since a seed's loss depends on no other's.
    What happens to one seed is what Keras's `train_step` and `test_step` do.
    """

    def __init__(self, models, splits, batch_size):
        self.models, self.batch_size = models, batch_size
        self.n_train = splits["train"].rows.shape[1]
        self.model = model = models[0]
        self.splits = _as_tensors(splits)
        self.an_image = splits["train"].of(0, slice(1))
        complete(model, *self.an_image)
        self.evaluation_batch = evaluation_batch(model, batch_size)
        model.reset_metrics()
        self.weights = [keras.Variable(values) for values in self._stacked("trainable_variables")]
        for weight, own in zip(self.weights, model.trainable_variables, strict=True):
            if own.constraint:
                weight.constraint = _ForEachSeed(own.constraint)
        self.state = [tf.Variable(values) for values in self._stacked("non_trainable_variables")]
        zeros = [np.stack([np.asarray(v)] * len(models)) for v in model.metrics_variables]
        self.zeros, self.totals = zeros, [tf.Variable(values) for values in zeros]
        self.optimizer = self._new_optimizer(self.weights)
        # With one device the sum over devices is the identity, but TensorFlow registers it
        # for ever, together with this graph and all its variables: leave it out.
        self.optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars
        self.optimizer._use_weight_decay = self._use_weight_decay
        if isinstance(self.optimizer, keras.optimizers.Adam) and not self.optimizer.amsgrad:
            self.optimizer.update_step = functools.partial(_adam_step, self.optimizer)
        self._load_optimizer()
        self._evaluators = {}

    def start(self, models):
        """Put other models of the same architecture in the place of those of before."""
        self.models = models
        self.load()
        self._load_optimizer()

    def load(self):
        """Copy the models' variables into the stack."""
        for attribute, stack in self._stacks().items():
            for variable, values in zip(stack, self._stacked(attribute), strict=True):
                variable.assign(values)

    def store(self, running):
        """Copy the stacked variables into the models of the running seeds."""
        for attribute, stack in self._stacks().items():
            for k, values in enumerate(np.asarray(variable) for variable in stack):
                for i in np.flatnonzero(running):
                    getattr(self.models[i], attribute)[k].assign(values[i])

    def copy(self):
        """Return the stacked variables as arrays."""
        return [np.asarray(variable).copy() for variable in (*self.weights, *self.state)]

    def put(self, arrays):
        """Give the stacked variables the values of arrays that `copy` returned."""
        for variable, values in zip((*self.weights, *self.state), arrays, strict=True):
            variable.assign(values)

    def _stacks(self):
        return {"trainable_variables": self.weights, "non_trainable_variables": self.state}

    def _stacked(self, attribute):
        """Yield the models' variables, stacked along a new first axis of seeds."""
        for same in zip(*(getattr(model, attribute) for model in self.models), strict=True):
            yield np.stack([np.asarray(variable) for variable in same])

    def _new_optimizer(self, weights):
        """Return the models' optimizer, untrained, for these weights."""
        try:
            with warnings.catch_warnings(action="ignore"):  # of functions that no file could hold
                config = keras.optimizers.serialize(self.model.optimizer)
                optimizer = keras.optimizers.deserialize(config)
        except Exception as error:  # a schedule of one's own, a function
            raise NotStackableError("the optimizer cannot be copied by its config") from error
        optimizer.build(weights)
        return optimizer

    def _load_optimizer(self):
        """Give the stacked optimizer what those of the models hold, or a fresh start."""
        fresh = self._new_optimizer([keras.Variable(0.0) for _ in self.weights]).variables
        own = [m.optimizer.variables if m.optimizer.built else fresh for m in self.models]
        for ours, *theirs in zip(self.optimizer.variables, *own, strict=True):
            if len(ours.shape):
                ours.assign(np.stack([np.broadcast_to(v, ours.shape[1:]) for v in theirs]))
            elif len({float(v) for v in theirs}) == 1:
                ours.assign(theirs[0])
            else:
                raise NotStackableError("the models have been trained before, for other times")

    def _use_weight_decay(self, weight):
        """Ask the model's own optimizer, which may leave out some of its weights."""
        own = zip(self.weights, self.model.trainable_variables, strict=True)
        (variable,) = (v for w, v in own if w is weight or w.value is weight)
        return self.model.optimizer._use_weight_decay(variable)

    def _forward(self, weights, state, totals, x, y, training):
        """Run one seed; return its loss and its new state and metric totals."""
        model, graph = self.model, tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
        variables = (
            model.trainable_variables + model.non_trainable_variables + model.metrics_variables
        )
        mapping = list(zip(variables, weights + state + totals, strict=True))
        with _Scope(state_mapping=mapping, collect_losses=True) as scope:
            given = [scope.get_current_value(v) for v in model.trainable_variables]
            y_pred = model(x, **({"training": training} if model._call_has_training_arg else {}))
            loss = model._compute_loss(x, y, y_pred, None, training=training)
            model._loss_tracker.update_state(loss, sample_weight=tf.shape(x)[0])
            model.compute_metrics(x, y, y_pred, None)
            after = [scope.get_current_value(v) for v in variables]
        for operation in graph.get_operations()[before:]:
            if operation.op_def.is_stateful and operation.type != "Placeholder":
                raise NotStackableError(
                    f"the network keeps state or draws random numbers ({operation.type}) "
                    "outside Keras's own variables"
                )
        if any(a is not b for a, b in zip(given, after[: len(given)], strict=True)):
            raise NotStackableError("a layer changes its trainable weights when it is called")
        after = [tf.convert_to_tensor(value) for value in after[len(given) :]]
        return loss, after[: len(state)], after[len(state) :]

    def _run(self, weights, x, y, shared, training):
        """Run all seeds on a mini-batch, keep their state, and return the sum of their losses."""
        stacks = weights, _values(self.state), _values(self.totals)
        if shared:
            one = lambda seed: self._forward(*seed, x, y, training=training)  # noqa: E731
        else:
            one, stacks = lambda seed: self._forward(*seed, training=training), (*stacks, x, y)
        loss, state, totals = tf.vectorized_map(one, stacks, warn=False)
        for variable, value in zip(self.state + self.totals, state + totals, strict=True):
            variable.assign(value)
        return tf.reduce_sum(loss)

    @functools.cached_property
    def _train(self):
        return _traced(self._train_steps, ROWS, ROWS)

    def _train_steps(self, rows, label_rows):
        """Take one step per mini-batch of the rows; the last one may be smaller, as in `fit`."""

        def step(rows, label_rows):
            x, y = self.splits["train"].gather(rows, label_rows)
            weights = [tf.identity(w.value) for w in self.weights]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(weights)
                loss = self._run(weights, x, y, shared=False, training=True)
                loss = self.optimizer.scale_loss(loss)
            gradients = tape.gradient(loss, weights)
            self.optimizer.apply([g if g is None else tf.convert_to_tensor(g) for g in gradients])

        self._in_batches(step, rows, label_rows, len(self.models), self.batch_size)

    def _in_batches(self, step, rows, label_rows, seeds, size):
        """Call `step` on one mini-batch after the other, within the graph."""
        rows, label_rows = (tf.ensure_shape(r, [seeds, None]) for r in (rows, label_rows))

        def body(start):
            batch = slice(start, start + size)
            step(rows[:, batch], label_rows[:, batch])
            return [start + size]

        tf.while_loop(lambda start: start < tf.shape(rows)[1], body, [0])

    def _evaluator(self, split):
        """Return the function that adds a split to the metric totals, traced once per kind."""
        shared = len(split.rows) == 1
        shapes = [[None, *array.shape[1:]] for array in (split.pixels, split.labels)]
        types = [tf.as_dtype(array.dtype) for array in (split.pixels, split.labels)]
        kind = shared, split.scale, str(shapes), *types
        if kind not in self._evaluators:

            def evaluate(pixels, labels, rows, label_rows):
                weights = [w.value for w in self.weights]

                def step(rows, label_rows):
                    if shared:
                        rows, label_rows = rows[0], label_rows[0]
                    some = split._replace(pixels=pixels, labels=labels)
                    self._run(weights, *some.gather(rows, label_rows), shared, training=False)

                seeds = 1 if shared else len(self.models)
                self._in_batches(step, rows, label_rows, seeds, self.evaluation_batch)

            specs = map(tf.TensorSpec, shapes, types)
            self._evaluators[kind] = _traced(evaluate, *specs, ROWS, ROWS)
        return self._evaluators[kind]

    def train(self, order, group):
        """Train one epoch over a seed's images in the order given, of shape (seeds, images).

        `group` is the slice of all seeds that these are. Returns each metric as an array with a
        value per seed.
        """
        self._reset_totals()
        rows, label_rows = self._in_order(order, group)
        for start in range(0, order.shape[1], STEPS * self.batch_size):
            some = slice(start, start + STEPS * self.batch_size)
            self._train(tf.constant(rows[:, some]), tf.constant(label_rows[:, some]))
        return self._results("")

    def _in_order(self, order, group):
        """Return the rows of the training images and labels in each seed's order."""
        split = self.splits["train"]
        if len(split.rows) == 1:
            return order, order
        return (np.take_along_axis(i[group], order, 1) for i in (split.rows, split.label_rows))

    def evaluate(self, name, group, first=None):
        """Return each metric on a split, on the first images only where asked, for each seed."""
        split, size = (
            self.splits[name],
            self.evaluation_batch * math.ceil(SOME / self.evaluation_batch),
        )
        run = self._evaluator(split)
        self._reset_totals()
        if len(split.rows) > 1:
            rows = (tf.constant(index[group, :first]) for index in (split.rows, split.label_rows))
            run(split.pixels, split.labels, *rows)
        else:  # some at a time, as the test images are many
            end = min(first or math.inf, split.rows.size)
            for start in range(0, end, size):
                part = slice(start, min(start + size, end))
                rows = tf.range(part.stop - start, dtype=tf.int64)[None]
                run(tf.constant(split.pixels[part]), tf.constant(split.labels[part]), rows, rows)
        return self._results(f"{name}_")

    def answers(self, name, group):
        """Return what the networks answer on a split, an array of shape (seeds, images, …)."""
        split, parts = self.splits[name], []
        shared = len(split.rows) == 1
        rows, label_rows = (
            index[0] if shared else index[group] for index in (split.rows, split.label_rows)
        )
        for start in range(0, rows.shape[-1], FEW):
            some = slice(start, start + FEW)
            images, _ = split.gather(rows[..., some], label_rows[..., some])
            parts.append(self._answers[shared](images).numpy())
        return np.concatenate(parts, axis=1)

    @functools.cached_property
    def _answers(self):
        """Return the functions that run all seeds on each one's images, and on those of all."""

        def run(images, shared):
            def one(seed):
                weights, state, *own = seed
                x = images if shared else own[0]
                return self.model.stateless_call(weights, state, x, training=False)[0]

            stacks = [w.value for w in self.weights], _values(self.state)
            return tf.vectorized_map(one, stacks if shared else (*stacks, images), warn=False)

        return [
            tf.function(functools.partial(run, shared=s), autograph=False) for s in (False, True)
        ]

    def _reset_totals(self):
        for total, zero in zip(self.totals, self.zeros, strict=True):
            total.assign(zero)

    @functools.cached_property
    def _scores(self):
        return _traced(self._metric_results)

    def _metric_results(self):
        """Turn the seeds' metric totals into the numbers that `fit` would report."""

        def one(values):
            mapping = list(zip(self.model.metrics_variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return self.model.get_metrics_result()

        return tf.vectorized_map(one, _values(self.totals), warn=False)

    def _results(self, prefix):
        """Return each metric, named with the prefix, as an array with a value per seed."""
        return {prefix + name: np.asarray(v) for name, v in self._scores().items()}

    def check_first_batch(self, order, group):
        """Raise `NotStackableError` where a first mini-batch ends otherwise than in `fit`.

        A unit whose sum is zero but for rounding may fall on either side of ReLU's corner, and Adam
        makes a whole step of it. Where training differs, each half of the mini-batch is looked at,
        too: one of them is without the image that did it. Afterwards all is as before.
        """
        size = min(self.batch_size, order.shape[1])
        halves = slice(None, size // 2), slice(size // 2, size)
        for part in (slice(None, size), *(halves if size > 1 else ())):
            differs = self._differs(order[:, part], group)
            if differs != "training":
                break
        if differs:
            raise NotStackableError(f"the first {differs} batch ends otherwise than in `fit`")

    def _differs(self, order, group):
        """Return where the last seed differs from what Keras does: validation, training or ""."""
        seed, model = len(self.models) - 1, self.models[-1]
        mine = group.start + seed  # its place among all seeds
        train_batch = self.splits["train"].of(mine, order[seed])
        val_batch = self.splits["val"].of(mine, slice(self.batch_size))
        complete(model, *train_batch)
        model.optimizer.build(model.trainable_variables)
        ours = [*self.weights, *self.optimizer.variables], [*self.state, *self.totals]
        theirs = (
            [*model.trainable_variables, *model.optimizer.variables],
            model.non_trainable_variables + model.metrics_variables,
        )
        model.reset_metrics()
        start, gradients = [[v.numpy().copy() for v in part] for part in theirs], []
        self._reset_totals()
        try:
            model.test_step(val_batch)
            self.evaluate("val", group, self.batch_size)
            evaluated = _close(ours[1], theirs[1], start[1], seed)
            model.reset_metrics()
            self._reset_totals()
            with _seen(model.optimizer, gradients):
                model.train_step(train_batch)
            self._train(*map(tf.constant, self._in_order(order, group)))
            trained = _close(ours[0], theirs[0], start[0], seed, gradients)
            trained = trained and _close(ours[1], theirs[1], start[1], seed)
        finally:
            for variables, values in zip(theirs, start, strict=True):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)
        self.start(self.models)
        return "validation" if not evaluated else "" if trained else "training"


@contextlib.contextmanager
def _seen(optimizer, gradients):
    """Note the gradients that an optimizer gets, as arrays, None where there is none."""
    apply = optimizer.apply_gradients

    def noting(pairs):
        pairs = list(pairs)
        gradients.extend(g if g is None else tf.convert_to_tensor(g).numpy() for g, _ in pairs)
        return apply(pairs)

    optimizer.apply_gradients = noting
    try:
        yield
    finally:
        del optimizer.apply_gradients


def _traced(function, *signature):
    """Return the graph of a function; TensorFlow warns where many are traced at a call."""
    return tf.function(function, signature, autograph=False).get_concrete_function()


def _as_tensors(splits):
    """Return the splits with tensors for arrays, one for what several share, but for the test."""
    often = {name: split for name, split in splits.items() if name != "test"}
    arrays = {id(a): a for split in often.values() for a in (split.pixels, split.labels)}
    tensors = {key: tf.constant(array) for key, array in arrays.items()}
    return splits | {
        name: split._replace(pixels=tensors[id(split.pixels)], labels=tensors[id(split.labels)])
        for name, split in often.items()
    }


def _close(ours, theirs, start, seed, gradients=()):
    """Tell whether a seed's variables and Keras's differ by rounding only, on the way from `start`.

    The weights come first. Where a weight's gradient is rounding itself, an optimizer such as
    Adam turns it into a step of any sign, and the weight is left out.
    """
    largest = max((np.abs(g).max() for g in gradients if g is not None), default=0)
    for i, (own, their, before) in enumerate(zip(ours, theirs, start, strict=True)):
        a, b = np.asarray(own[seed] if len(own.shape) > len(before.shape) else own), their.numpy()
        if not np.issubdtype(b.dtype, np.inexact):
            if not np.array_equal(a, b):
                return False
            continue
        kept = ...
        if i < len(gradients) and gradients[i] is not None:
            kept = np.abs(gradients[i]) > ROUNDING * largest
        gap, step, size = (np.linalg.norm(x[kept]) for x in (a - b, b - before, b))
        if not gap <= CLOSE * step + 1e-6 * size + ROUNDING * largest:
            return False
    return True


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
