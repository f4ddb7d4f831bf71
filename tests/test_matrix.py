"""`train_seeds` against `fit`: networks, losses, metrics, optimizers, rules and data of many kinds.

Each case is trained by both, with two seeds, and has to give the same numbers: side by side, or by
`fit` with a word on why. A random part is tried in every run; `pytest --whole` tries them all.
"""

import contextlib
import io
import math
import os
import random
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import constraints, layers, losses, metrics, optimizers, regularizers

from utils.data import Mnist
from utils.training import train_seeds

SEEDS, EPOCHS, PART = [4, 7], 2, 10
CE = "sparse_categorical_crossentropy"


class Case(NamedTuple):
    """A network, what it is trained on and with; `why` is a word of the line on `fit`."""

    build: callable
    why: str = ""
    data: callable = lambda: blobs()
    batch_size: int = 16
    rules: tuple = ()
    epochs: int = EPOCHS


def blobs(shape=(2, 2, 1), sizes=(70, 30, 30)):
    """Return made-up images of three classes that can be learned."""
    rng = np.random.default_rng(0)

    def draw(n):
        labels = np.arange(n) % 3
        images = rng.normal(0, 0.7, (n, *shape)).astype("float32")
        images.reshape(n, -1)[:, 0] += labels
        images.reshape(n, -1)[:, -1] -= labels == 1
        return images, labels

    return Mnist(*(part for n in sizes for part in draw(n)), "made up")


def changed(x=lambda x: x, y=lambda y: y, **options):
    """Return a function that gives blobs whose images and labels are changed."""

    def data():
        mnist = blobs(**options)
        new = {f"x_{s}": x(getattr(mnist, f"x_{s}")) for s in ("train", "val", "test")}
        new |= {f"y_{s}": y(getattr(mnist, f"y_{s}")) for s in ("train", "val", "test")}
        return mnist._replace(**new)

    return data


def one_hot(labels):
    return np.eye(3, dtype="float32")[labels]


ONE_HOT = changed(y=one_hot)
LARGER = changed(shape=(6, 6, 1))


def network(*middle, front=(), shape=(2, 2, 1), opt="adam", loss=CE, score=("accuracy",), **more):
    """Return a function that builds a small compiled network; `middle` and `front` make layers."""
    compiling = {k: more.pop(k) for k in list(more) if k in COMPILING}

    def build():
        stack = [keras.Input(shape), *(make() for make in front), layers.Flatten()]
        stack += [layers.Dense(8, "relu", **more), *(make() for make in middle)]
        model = keras.Sequential([*stack, layers.Dense(3, activation="softmax")])
        optimizer = opt() if callable(opt) else opt
        model.compile(optimizer, loss, metrics=[m if isinstance(m, str) else m() for m in score],
                      **compiling)  # fmt: skip
        return model

    return build


COMPILING = ("steps_per_execution", "run_eagerly", "jit_compile", "weighted_metrics")
image = {"shape": (6, 6, 1)}


def pictures(*front):
    return Case(network(front=front, **image), data=LARGER)


# Classes of a reader's own


class Penalty(layers.Layer):
    def call(self, x):
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(x)))
        return x


class SumPenalty(layers.Layer):
    def call(self, x):
        self.add_loss(0.01 * keras.ops.sum(keras.ops.square(x)))
        return x


class OwnMean(layers.Layer):
    """Subtract a running mean, kept among Keras's own variables."""

    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1],), initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * keras.ops.mean(x, axis=0))
        return x - self.mean


class OwnNoise(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator()

    def call(self, x, training=False):
        noise = keras.random.normal(keras.ops.shape(x), seed=self.generator)
        return x + 0.1 * noise if training else x


class EvaluationNoise(OwnNoise):
    def call(self, x, training=False):
        return super().call(x, training=True)


class Counting(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = tf.Variable(0.0)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


class Shrinking(layers.Layer):
    """Shrink its own trainable weight whenever it is called."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        self.scale.assign(0.99 * self.scale)
        return x * self.scale


class AcrossImages(layers.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, axis=0)


class OwnStep(keras.Sequential):
    def train_step(self, data):
        return super().train_step(data)


class OwnTestStep(keras.Sequential):
    def test_step(self, data):
        return super().test_step(data)


class OwnFit(keras.Sequential):
    def fit(self, *args, **kwargs):
        return super().fit(*args, **kwargs)


class OwnLoss(keras.Sequential):
    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return 2 * super().compute_loss(x, y, y_pred, sample_weight, training)


class OwnMetrics(keras.Sequential):
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, y_pred, sample_weight)


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.flat, self.hidden = layers.Flatten(), layers.Dense(8, "relu")
        self.drop, self.out = layers.Dropout(0.3), layers.Dense(3, activation="softmax")

    def call(self, x, training=False):
        return self.out(self.drop(self.hidden(self.flat(x)), training=training))


class SilentNet(Net):
    def call(self, x):
        return self.out(self.hidden(self.flat(x)))


def of_class(kind):
    def build():
        stack = [keras.Input((2, 2, 1)), layers.Flatten(), layers.Dense(8, "relu")]
        model = kind() if issubclass(kind, Net) else kind([*stack, layers.Dense(3, "softmax")])
        model.compile("adam", CE, metrics=["accuracy"])
        return model

    return build


def functional(middle):
    """Return a function that builds a functional model around `middle(x)`."""

    def build():
        inputs = keras.Input((6, 6, 1))
        outputs = layers.Dense(3, activation="softmax")(layers.Flatten()(middle(inputs)))
        model = keras.Model(inputs, outputs)
        model.compile("adam", CE, metrics=["accuracy"])
        return model

    return Case(build, data=LARGER)


def residual(x):
    hidden = layers.Dense(4, "relu")(x)
    twice = layers.Dense(4)
    return layers.add([hidden, twice(twice(hidden))])


def attention(x):
    rows = layers.Reshape((6, 6))(x)
    return layers.MultiHeadAttention(2, 3, dropout=0.2)(rows, rows)


def rows(layer):
    return functional(lambda x: layer()(layers.Reshape((6, 6))(x)))


def frozen():
    model = network()()
    model.layers[1].trainable = False
    model.compile("adam", CE, metrics=["accuracy"])
    return model


def adapted():
    normal = layers.Normalization()
    normal.adapt(blobs().x_train)
    return normal


def trained_before(epochs=lambda: 3):
    def build():
        mnist, model = blobs(), network(opt=lambda: optimizers.Adam(0.05))()
        model.fit(mnist.x_train[:20], mnist.y_train[:20], epochs=epochs(), verbose=0, shuffle=False)
        return model

    return build


def other_settings(make):
    """Return a case whose seeds get other settings, in a network built by `make(number)`."""

    class Turns:
        def __init__(self):
            self.calls = 0

        def __call__(self):
            self.calls += 1
            return make(self.calls)()

    return Turns


def excluding(**kwargs):
    def make():
        optimizer = optimizers.AdamW(0.01, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(**kwargs)
        return optimizer

    return make


class WarmUp(optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.05 * tf.minimum(1.0, (tf.cast(step, "float32") + 1) / 4)


class OwnAdam(optimizers.Adam):
    pass


class OwnRegularizer(regularizers.Regularizer):
    def __call__(self, x):
        return 0.01 * keras.ops.sum(keras.ops.abs(x) ** 1.5)

    def get_config(self):
        return {}


class SilentRegularizer(regularizers.Regularizer):
    def __call__(self, x):
        return 0.01 * keras.ops.sum(keras.ops.abs(x))


class OwnMetric(metrics.Metric):
    def __init__(self, name="share", **kwargs):
        super().__init__(name=name, **kwargs)
        self.count, self.sum = (self.add_variable((), "zeros", name=n) for n in ("count", "sum"))

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.count.assign_add(1.0)
        self.sum.assign_add(keras.ops.max(y_pred))

    def result(self):
        return self.sum / self.count


def own_loss(y_true, y_pred):
    return keras.ops.sum(keras.ops.square(y_true - y_pred), axis=-1) ** 1.5


def log_loss():
    return metrics.SparseCategoricalCrossentropy(name="log_loss")


def stop(*args, **kwargs):
    return (keras.callbacks.EarlyStopping(*args, **kwargs),)


def fast(**options):
    return network(opt=lambda: optimizers.Adam(0.1), score=("accuracy", log_loss), **options)


adam = {
    "amsgrad": {"amsgrad": True},
    "weight decay": {"weight_decay": 0.1},
    "clipvalue": {"clipvalue": 0.01},
    "loss_scale_factor": {"loss_scale_factor": 64.0},
    "epsilon": {"epsilon": 1e-3},
    "betas": {"beta_1": 0.5, "beta_2": 0.9},
}
schedules = {
    "exponential": optimizers.schedules.ExponentialDecay(0.05, 2, 0.5),
    "cosine": optimizers.schedules.CosineDecay(0.05, 8),
    "piecewise": optimizers.schedules.PiecewiseConstantDecay([3], [0.05, 0.01]),
    "warm-up": optimizers.schedules.CosineDecay(0.0, 8, warmup_target=0.05, warmup_steps=3),
}
penalized = {
    "L2": {"kernel_regularizer": regularizers.L2(0.01)},
    "L1": {"kernel_regularizer": regularizers.L1(0.01)},
    "L1L2": {"kernel_regularizer": regularizers.L1L2(0.01, 0.02)},
    "orthogonal": {"kernel_regularizer": regularizers.OrthogonalRegularizer(0.01)},
    "own regularizer": {"kernel_regularizer": OwnRegularizer()},
    "bias regularizer": {"bias_regularizer": regularizers.L2(0.1)},
    "activity regularizer": {"activity_regularizer": regularizers.L2(0.1)},
    "max-norm": {"kernel_constraint": constraints.MaxNorm(0.7)},
    "non-negative": {"kernel_constraint": constraints.NonNeg()},
    "unit norm": {"kernel_constraint": constraints.UnitNorm(axis=0)},
    "He": {"kernel_initializer": "he_normal"},
    "orthogonal weights": {"kernel_initializer": "orthogonal"},
    "no bias": {"use_bias": False},
}
CASES = {
    # layers
    "plain": Case(network()),
    **{name: Case(network(**options)) for name, options in penalized.items()},
    **{
        name: Case(network(make))
        for name, make in {
            "dropout": lambda: layers.Dropout(0.5),
            "dropout, seed given": lambda: layers.Dropout(0.5, seed=1),
            "alpha dropout": lambda: layers.AlphaDropout(0.3),
            "Gaussian dropout": lambda: layers.GaussianDropout(0.3),
            "Gaussian noise": lambda: layers.GaussianNoise(0.3),
            "batch normalization": layers.BatchNormalization,
            "layer normalization": layers.LayerNormalization,
            "unit normalization": layers.UnitNormalization,
            "group normalization": lambda: layers.GroupNormalization(4),
            "RMS normalization": layers.RMSNormalization,
            "PReLU": layers.PReLU,
            "LeakyReLU": layers.LeakyReLU,
            "gelu": lambda: layers.Activation("gelu"),
            "Lambda": lambda: layers.Lambda(lambda x: 2 * x + 1),
            "ActivityRegularization": lambda: layers.ActivityRegularization(0.01, 0.01),
            "add_loss": Penalty,
            "add_loss, a sum": SumPenalty,
            "own running mean": OwnMean,
            "own seed generator": OwnNoise,
            "random at evaluation": EvaluationNoise,
            "across images": AcrossImages,
        }.items()
    },
    "no config": Case(network(kernel_regularizer=SilentRegularizer()), "cannot be compared"),
    "counting": Case(network(Counting), "keeps state"),
    "shrinking": Case(network(Shrinking), "trainable weights"),
    "spectral": Case(
        network(lambda: layers.SpectralNormalization(layers.Dense(8))), "trainable weights"
    ),
    "frozen": Case(frozen),
    "adapted": Case(network(front=[adapted])),
    "rescaling": Case(network(front=[lambda: layers.Rescaling(0.5, 0.1)])),
    "dropped pixels": Case(network(front=[lambda: layers.Dropout(0.2)])),
    "flip": pictures(layers.RandomFlip),
    "rotation": pictures(lambda: layers.RandomRotation(0.1)),
    "translation": pictures(lambda: layers.RandomTranslation(0.2, 0.2, fill_mode="constant")),
    "zoom": pictures(lambda: layers.RandomZoom(0.2)),
    "contrast": pictures(lambda: layers.RandomContrast(0.3)),
    "brightness": pictures(lambda: layers.RandomBrightness(0.3, value_range=(0, 1))),
    "shear": pictures(lambda: layers.RandomShear(0.2, 0.2)),
    "elastic": Case(
        network(front=[lambda: layers.RandomElasticTransform(1.0, 0.5)], **image),
        "otherwise",
        LARGER,
    ),
    "erasing": pictures(lambda: layers.RandomErasing(1.0)),
    "flip and dropout": Case(
        network(lambda: layers.Dropout(0.3), front=[layers.RandomFlip], **image), data=LARGER
    ),
    "convolution": pictures(lambda: layers.Conv2D(3, 3, activation="relu")),
    "convolution, padded": pictures(lambda: layers.Conv2D(3, 3, padding="same", strides=2)),
    "depthwise": pictures(lambda: layers.DepthwiseConv2D(3)),
    "separable": pictures(lambda: layers.SeparableConv2D(3, 3)),
    "transposed": pictures(lambda: layers.Conv2DTranspose(2, 3)),
    "max pooling": pictures(lambda: layers.Conv2D(3, 3), lambda: layers.MaxPooling2D(2)),
    "average pooling": pictures(lambda: layers.AveragePooling2D(2)),
    "spatial dropout": pictures(lambda: layers.Conv2D(4, 3), lambda: layers.SpatialDropout2D(0.5)),
    "convolution, normalized": pictures(lambda: layers.Conv2D(4, 3), layers.BatchNormalization),
    "residual": functional(residual),
    "attention": functional(attention),
    "two branches": functional(
        lambda x: layers.concatenate([layers.Dense(2)(x), layers.Dense(3, "tanh")(x)])
    ),
    "SimpleRNN": rows(lambda: layers.SimpleRNN(4, dropout=0.3)),
    "LSTM": rows(lambda: layers.LSTM(4)),
    "GRU": rows(lambda: layers.GRU(4, recurrent_dropout=0.2)),
    "bidirectional": rows(lambda: layers.Bidirectional(layers.SimpleRNN(3))),
    "time distributed": rows(lambda: layers.TimeDistributed(layers.Dense(3, "relu"))),
    "Conv1D": rows(lambda: layers.Conv1D(3, 3)),
    "embedding": Case(
        network(
            front=[
                layers.Flatten,
                lambda: layers.Lambda(
                    lambda x: keras.ops.cast(keras.ops.clip(2 * x + 3, 0, 5), "int32")
                ),
                lambda: layers.Embedding(6, 4),
            ]
        ),
        "Embedding",
    ),
    # models of one's own
    "train_step": Case(of_class(OwnStep), "its own train_step"),
    "test_step": Case(of_class(OwnTestStep), "its own test_step"),
    "fit": Case(of_class(OwnFit), "its own fit"),
    "compute_loss": Case(of_class(OwnLoss)),
    "compute_metrics": Case(of_class(OwnMetrics)),
    "subclass": Case(of_class(Net)),
    "subclass, no training argument": Case(of_class(SilentNet)),
    "trained before": Case(trained_before()),
    "other dropout rates": Case(
        other_settings(lambda k: network(lambda: layers.Dropout(0.2 * k))), "different settings"
    ),
    "other learning rates": Case(
        other_settings(lambda k: network(opt=lambda: optimizers.Adam(0.01 * k))),
        "different settings",
    ),
    "other widths": Case(
        other_settings(lambda k: network(lambda: layers.Dense(2 + k))), "different settings"
    ),
    "other losses": Case(
        other_settings(
            lambda k: network(loss=losses.CategoricalCrossentropy(label_smoothing=0.1 * k))
        ),
        "different settings",
        ONE_HOT,
    ),
    "other times before": Case(
        other_settings(lambda k: trained_before(lambda: k)), "trained before"
    ),
    # losses
    **{
        name: Case(network(loss=loss), data=ONE_HOT)
        for name, loss in {
            "one-hot": "categorical_crossentropy",
            "label smoothing": losses.CategoricalCrossentropy(label_smoothing=0.2),
            "focal": losses.CategoricalFocalCrossentropy(),
            "squared error": "mse",
            "Huber": losses.Huber(0.3),
            "divergence": "kl_divergence",
            "hinge": "categorical_hinge",
            "cosine": losses.CosineSimilarity(),
            "sum": losses.MeanSquaredError(reduction="sum"),
            "own loss": own_loss,
        }.items()
    },
    "sum of log-losses": Case(
        network(loss=losses.SparseCategoricalCrossentropy(reduction="sum"), opt="sgd")
    ),
    "logits": Case(network(loss=losses.SparseCategoricalCrossentropy(from_logits=True))),
    # metrics
    "no metric": Case(network(score=())),
    "log-loss": Case(network(score=(log_loss, "accuracy"))),
    "top 2": Case(network(score=(lambda: metrics.SparseTopKCategoricalAccuracy(2),))),
    "own metric": Case(network(score=(OwnMetric,))),
    "weighted": Case(network(weighted_metrics=["accuracy"], score=())),
    **{
        kind.__name__: Case(network(loss="categorical_crossentropy", score=(kind,)), data=ONE_HOT)
        for kind in (metrics.AUC, metrics.Precision, metrics.Recall, metrics.CategoricalHinge)
    },
    "F1": Case(
        network(loss="categorical_crossentropy", score=(lambda: metrics.F1Score("macro"),)),
        data=ONE_HOT,
    ),
    # optimizers
    **{
        name: Case(network(opt=lambda kind=name: getattr(optimizers, kind)(0.02)))
        for name in ("SGD", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Nadam", "Lion")
    },
    **{
        name: Case(network(opt=lambda kind=name: getattr(optimizers, kind)(0.02)), name)
        for name in ("Lamb", "Adafactor", "Ftrl", "Muon")
    },
    **{
        f"Adam, {name}": Case(network(opt=lambda o=options: optimizers.Adam(0.02, **o)))
        for name, options in adam.items()
    },
    **{
        f"schedule, {name}": Case(network(opt=lambda s=schedule: optimizers.Adam(s)))
        for name, schedule in schedules.items()
    },
    **{
        name: Case(network(opt=lambda n=name, v=value: optimizers.Adam(0.02, **{n: v})), name)
        for name, value in {
            "clipnorm": 0.1,
            "global_clipnorm": 0.1,
            "use_ema": True,
            "gradient_accumulation_steps": 2,
        }.items()
    },
    "momentum": Case(network(opt=lambda: optimizers.SGD(0.05, momentum=0.9))),
    "Nesterov": Case(network(opt=lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True))),
    "RMSprop, centred": Case(network(opt=lambda: optimizers.RMSprop(0.01, centered=True))),
    "no decay of biases": Case(network(opt=excluding(var_names=["bias"]))),
    "no decay at all": Case(network(opt=excluding(var_names=["bias", "kernel"]))),
    "own schedule": Case(network(opt=lambda: optimizers.Adam(WarmUp())), "cannot be co"),
    "a function": Case(network(opt=lambda: optimizers.Adam(lambda: 0.01)), "cannot be co"),
    "own optimizer": Case(network(opt=lambda: OwnAdam(0.02)), "OwnAdam"),
    "loss scaling": Case(
        network(opt=lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.02))), "LossScale"
    ),
    # ways to compile, and precision
    "steps_per_execution": Case(network(steps_per_execution=4)),
    "steps_per_execution, by fit": Case(
        network(opt=lambda: optimizers.Adam(clipnorm=1.0), steps_per_execution=4), "clipnorm"
    ),
    "run_eagerly": Case(network(run_eagerly=True), "run_eagerly"),
    "jit_compile": Case(network(jit_compile=True), "jit_compile"),
    "float64": Case(network(dtype="float64")),
    "mixed_float16": Case(network(dtype="mixed_float16"), None),
    "mixed_bfloat16": Case(network(dtype="mixed_bfloat16"), None),
    # rules
    "patience": Case(fast(), rules=stop(patience=2), epochs=12),
    "restored": Case(fast(), rules=stop(patience=1, restore_best_weights=True), epochs=12),
    "by accuracy": Case(fast(), rules=stop("val_accuracy", patience=1), epochs=12),
    "baseline": Case(fast(), rules=stop("val_log_loss", baseline=0.1, patience=2), epochs=8),
    "late start": Case(fast(), rules=stop(patience=0, start_from_epoch=3), epochs=8),
    "min_delta": Case(fast(), rules=stop(patience=1, min_delta=0.05), epochs=8),
    "two rules": Case(fast(), rules=stop(patience=4) + stop("loss", mode="max"), epochs=8),
    "rule, dropout": Case(
        fast(kernel_regularizer="l2"), rules=stop(patience=1, restore_best_weights=True), epochs=8
    ),
    "rule, by fit": Case(
        network(opt=lambda: optimizers.Adam(0.1, clipnorm=1.0)),
        "clipnorm",
        rules=stop(patience=1, restore_best_weights=True),
        epochs=8,
    ),
    # data
    "float64 images": Case(network(), data=changed(lambda x: x.astype("float64"))),
    "float16 images": Case(network(), data=changed(lambda x: x.astype("float16"))),
    "bytes": Case(network(), data=changed(lambda x: (20 * x + 100).astype("uint8"))),
    "yes and no": Case(network(), data=changed(lambda x: x > 0)),
    "uint8 labels": Case(network(), data=changed(y=lambda y: y.astype("uint8"))),
    "float labels": Case(network(), data=changed(y=lambda y: y.astype("float32"))),
    "columns of labels": Case(network(), data=changed(y=lambda y: y[:, None])),
    "a Series": Case(network(), data=changed(y=pd.Series)),
    "lists": Case(network(), data=changed(lambda x: x.tolist(), lambda y: y.tolist())),
    "tensors": Case(network(), data=changed(tf.constant, tf.constant)),
    "read-only": Case(network(), data=changed(lambda x: np.broadcast_to(x, x.shape))),
    "tensors, by fit": Case(
        network(opt=lambda: optimizers.Adam(clipnorm=1.0)), "clipnorm", changed(tf.constant)
    ),
    "one batch": Case(network(), batch_size=100),
    "whole batches": Case(network(), batch_size=35),
    "a last batch of one": Case(network(lambda: layers.Dropout(0.3)), batch_size=23),
    "batches of one": Case(network(), batch_size=1, data=changed(sizes=(9, 5, 5))),
    "normalized, small batches": Case(network(layers.BatchNormalization), batch_size=3),
}


def by_fit(case, seed, build):
    """Return the model, history and scores of plain Keras, on the order of `train_seeds`."""
    mnist = case.data()
    x, y = (np.asarray(values) for values in mnist[:2])
    keras.backend.clear_session()  # or metrics without a name are called otherwise
    keras.utils.set_random_seed(seed)
    model = build()
    rng = np.random.default_rng(seed)

    def batches():
        while True:
            order = rng.permutation(len(x))
            for start in range(0, len(x), case.batch_size):
                some = order[start : start + case.batch_size]
                yield x[some], y[some]

    steps = math.ceil(len(x) / case.batch_size)
    if model.steps_per_execution > 1:  # `fit` would go on beyond the end of an epoch
        model.steps_per_execution = 1
    log = model.fit(
        batches(), steps_per_epoch=steps, epochs=case.epochs, shuffle=False, verbose=0,
        validation_data=tuple(map(np.asarray, mnist[2:4])), validation_batch_size=case.batch_size,
        callbacks=[type(rule)(**options(rule)) for rule in case.rules],
    ).history  # fmt: skip
    scores = {"epochs": len(log["loss"])}
    for split in ("train", "val", "test"):
        images, labels = (np.asarray(getattr(mnist, f"{part}_{split}")) for part in "xy")
        values = model.evaluate(images, labels, case.batch_size, verbose=0, return_dict=True)
        scores |= {f"{split}_{name}": value for name, value in values.items()}
    return model, log, scores


def options(rule):
    names = ("monitor", "patience", "mode", "baseline", "restore_best_weights", "start_from_epoch")
    return {name: getattr(rule, name) for name in names} | {"min_delta": abs(rule.min_delta)}


def differs(ours, theirs):
    """Return what is not the same in what `train_seeds` and `fit` left, or None."""
    (runs, row), (model, log, scores) = ours, theirs
    for name, values in log.items():
        kept = runs.history[name][row]
        if not np.allclose(kept[: len(values)], values, rtol=3e-3, atol=2e-5):
            return f"{name}: {kept} instead of {values}"
        if not np.isnan(kept[len(values) :]).all():
            return f"{name} goes on after the seed has stopped"
    for name, value in scores.items():
        if not np.isclose(runs.scores[name].iloc[row], value, rtol=3e-3, atol=2e-5):
            return f"{name}: {runs.scores[name].iloc[row]} instead of {value}"
    ours, theirs = (np.concatenate([np.ravel(w) for w in m.get_weights()])
                    for m in (runs.models[row], model))  # fmt: skip
    gap, size = np.linalg.norm(ours - theirs), np.linalg.norm(theirs)
    if not gap <= 1e-2 * size:
        return f"the weights are {gap} away from weights of norm {size}"


def pytest_generate_tests(metafunc):
    """Try a part of the cases that $TEST_SEED draws, or all of them."""
    if "name" in metafunc.fixturenames:
        names = list(CASES)
        if not metafunc.config.getoption("--whole"):
            names = random.Random(os.environ["TEST_SEED"]).sample(names, PART)
        metafunc.parametrize("name", names)


def check(name):
    """Return how a case differs from `fit`, or None, and what was said."""
    case, said = CASES[name], io.StringIO()
    builds = [case.build() if isinstance(case.build, type) else case.build for _ in range(2)]
    theirs = [by_fit(case, seed, builds[0]) for seed in SEEDS]
    arguments = case.data(), case.epochs, SEEDS, case.batch_size, list(case.rules)
    keras.backend.clear_session()
    with contextlib.redirect_stdout(said):
        runs = train_seeds(builds[1], *arguments)
    found = [differs((runs, row), their) for row, their in enumerate(theirs)]
    return next(filter(None, found), None), said.getvalue()


def test_equals_fit(name):
    wrong, said = check(name)
    assert not wrong
    why = CASES[name].why
    if why is not None:
        assert (why in said) if why else (not said)


def test_there_are_enough():
    assert len(CASES) >= 120
