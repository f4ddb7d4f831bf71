"""Repairs of the museum's programs: those that are none are refused, the others accepted."""

import logging

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import callbacks, layers, ops, optimizers, regularizers
from matplotlib.patches import Patch
from repairs import REPAIRS
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from utils import BookError, museum

LOSS = "sparse_categorical_crossentropy"


def network(*front):
    return museum._network(*front, width=32)


# Exhibit 1: augmentation


def fitted(images):
    """Return a program that trains on what `images(augment, x)` returns."""

    def program(augment, x, y, epochs):
        model, moved = network(), np.asarray(images(augment, x))
        labels = np.tile(y, len(moved) // len(y))
        model.fit(moved, labels, batch_size=200, epochs=epochs, verbose=0)
        return model

    return program


def in_turns(images):
    """Return a program that trains each epoch on what `images(augment, x, y)` returns."""

    def program(augment, x, y, epochs):
        model = network()
        for _ in range(epochs):
            model.fit(*images(augment, x, y), verbose=0)
        return model

    return program


def mapped(prepare):
    """Return a program whose data set is made by `prepare(examples, move)`."""

    def program(augment, x, y, epochs):
        model, examples = network(), tf.data.Dataset.from_tensor_slices((x, y))
        data = prepare(examples, lambda image, label: (augment(image), label))
        model.fit(data, epochs=epochs, verbose=0)
        return model

    return program


def moved_beside(augment, x, y):
    augment(x, training=True)
    return x, y


def moved_at_prediction(augment, x, y, epochs):
    model = network(layers.Lambda(lambda images: augment(images, training=True)))
    model.fit(x, y, epochs=epochs, verbose=0)
    return model


def moved_again_and_again(augment, x, y, epochs):
    model = network()
    for _ in range(epochs):
        x = augment(x, training=True)
        model.fit(x, y, verbose=0)
    return model


def another_network(augment, x, y, epochs):
    network(augment).fit(x, y, epochs=epochs, verbose=0)
    return network()


def moved_beforehand(augment, x, y, epochs):
    model = network()
    for moved in [augment(x, training=True) for _ in range(epochs)]:
        model.fit(moved, y, verbose=0)
    return model


def in_a_loop_by_hand(augment, x, y, epochs):
    model, optimizer = network(augment), optimizers.Adam(0.01)
    for i in [*range(0, len(x), 40)] * epochs:
        with tf.GradientTape() as tape:
            answers = model(x[i : i + 40], training=True)
            loss = keras.losses.sparse_categorical_crossentropy(y[i : i + 40], answers)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return model


def with_its_history(augment, x, y, epochs):
    return network(augment).fit(x, y, validation_split=0.2, epochs=epochs, verbose=0)


# Exhibit 2: a schedule


def halved_by(schedule):
    rule = callbacks.LearningRateScheduler(schedule)
    return lambda model, x, y, epochs: model.fit(x, y, 32, epochs, 0, rule)


def halve(model):
    model.optimizer.learning_rate = float(model.optimizer.learning_rate) / 2


def halved_afterwards(model, x, y, epochs):
    model.fit(x, y, epochs=epochs, verbose=0)
    halve(model)


def halved_each_step(model, x, y, epochs):
    model.optimizer.learning_rate = optimizers.schedules.ExponentialDecay(1e-3, 1, 0.5)
    model.fit(x, y, epochs=epochs, verbose=0)


def with_a_rate_of_its_own(model, x, y, epochs):
    for epoch in range(epochs):
        model.optimizer.learning_rate = 1e-3 / 2**epoch
        model.fit(x, y, verbose=0)


def all_epochs_in_each_turn(model, x, y, epochs):
    for _ in range(epochs):
        model.fit(x, y, epochs=epochs, verbose=0)
        halve(model)


def one_epoch_in_each_turn(model, x, y, epochs):
    for _ in range(epochs):
        model.fit(x, y, verbose=0)
        halve(model)


def not_trained(model, x, y, epochs):
    halve(model)


def by_a_callback(model, x, y, epochs):
    class Halve(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            halve(self.model)

    model.fit(x, y, epochs=epochs, validation_split=0.25, callbacks=[Halve()], verbose=0)


def compiled_with_a_schedule(model, x, y, epochs):
    rate = float(model.optimizer.learning_rate)
    model.compile(optimizers.SGD(optimizers.schedules.ExponentialDecay(rate, 2, 0.5, True)), LOSS)
    model.fit(x, y, epochs=epochs, verbose=0)


def batch_by_batch(model, x, y, epochs):
    for _ in range(epochs):
        for i in range(0, len(x), 16):
            model.train_on_batch(x[i : i + 16], y[i : i + 16])
        halve(model)


# Exhibits 3 and 5: rules that stop


def rule(*args, **kwargs):
    return lambda: callbacks.EarlyStopping(*args, **kwargs)


class Counting(callbacks.Callback):
    """A rule by hand; it can fail to recount after a better epoch, and to copy the weights."""

    def __init__(self, better, monitor="val_loss", patience=3, recounts=True, copies=True):
        super().__init__()
        self.better, self.monitor, self.patience = better, monitor, patience
        self.recounts, self.copies = recounts, copies
        self.best, self.waited = None, 0

    def on_epoch_end(self, epoch, logs=None):
        if self.best is None or self.better(logs[self.monitor], self.best):
            self.best, self.waited = logs[self.monitor], 0 if self.recounts else self.waited
            self.kept = self.model.get_weights() if self.copies else self.model.weights
        else:
            self.waited += 1
        self.model.stop_training = self.waited == self.patience

    def on_train_end(self, logs=None):
        self.model.set_weights(self.kept)


class FromTheHistory(callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        earlier = self.model.history.history.get("val_accuracy", []) if epoch else []
        seen = [*earlier[:epoch], logs["val_accuracy"]]
        self.model.stop_training = epoch >= 3 and max(seen[-3:]) <= max(seen[:-3])


# Exhibit 4: a second experiment


def again(renew):
    """Return a program that trains a network, renews it, and trains it once more."""

    def program(build, x, y, epochs):
        model = build()
        model.at_first = model.get_weights()
        runs = [model.fit(x, y, epochs=epochs, verbose=0)]
        model = renew(model) or model
        return [*runs, model.fit(x, y, epochs=epochs, verbose=0)]

    return program


def with_new_optimizer(renew):
    """Return `again(renew)` with a new optimizer for the second time."""

    def renew_both(model):
        model = renew(model) or model
        model.compile("adam", LOSS)
        return model

    return again(renew_both)


def set_all(change):
    return lambda model: model.set_weights([change(w) for w in model.get_weights()])


def copy(model):
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    return other


def new_layer(which):
    def renew(model):
        layer = model.layers[which]
        layer.kernel.assign(keras.initializers.GlorotUniform()(layer.kernel.shape))
        layer.bias.assign(ops.zeros_like(layer.bias))

    return renew


def nothing_trained(build, x, y, epochs):
    first = build().fit(x, y, epochs=epochs, verbose=0).history["loss"]
    return first, [first[0]] * epochs


def first_one_twice(build, x, y, epochs):
    first, _ = (build().fit(x, y, epochs=epochs, verbose=0).history["loss"] for _ in range(2))
    return first, first


def one_seed(build, x, y, epochs):
    for _ in range(2):
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        yield build().fit(x, y, 80, epochs, 0).history


def as_an_array(build, x, y, epochs):
    models = [build() for _ in range(2)]
    return np.array([[m.train_on_batch(x, y)[0] for _ in range(5 * epochs)] for m in models])


# Exhibit 6: shuffled labels


def in_place(labels, rng):
    rng.shuffle(labels)
    return labels


# Exhibit 7: dropout


def same_masks(model, x):
    model.layers[0].seed_generator.state.assign([0, 0])
    return model(x, training=True)


def without_dropout(model, x, rate=0.0):
    model.layers[0].rate = 0.0
    answers = model(x, training=True)
    model.layers[0].rate = rate
    return answers


def not_trainable(model, x):
    model.trainable = False
    return model(x, training=True)


def halved_weights(model, x):
    model.layers[-1].kernel.assign(ops.full((16, 10), 0.1))
    return model(x, training=False)


# Exhibit 8: standardizing


def scaled(numbers, axis=0, **options):
    """Return a program that scales each set by what it is given by `numbers(train, test)`."""

    def program(train, test):
        sets = zip((train, test), numbers(train, test), strict=True)
        return [(x - of.mean(axis, **options)) / of.std(axis, **options) for x, of in sets]

    return program


def deviation_of_both(train, test):
    both = np.concatenate([train, test])
    return tuple((x - train.mean(axis=0)) / both.std(axis=0) for x in (train, test))


def after_the_training_images(train, test):
    train = (train - train.mean(axis=0)) / train.std(axis=0)
    return train, (test - train.mean(axis=0)) / train.std(axis=0)


def by_scikit_learn(train, test):
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test)


def by_keras(train, test):
    layer = layers.Normalization()
    layer.adapt(train)
    return layer(train), layer(test)


def by_pandas(train, test):
    train, test = pd.DataFrame(train), pd.DataFrame(test)
    return (train - train.mean()) / train.std(), (test - train.mean()) / train.std()


def scaled_in_place(train, test):
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-7
    for x in (train, test):
        x -= mean
        x /= deviation
    return train, test


# Exhibit 9: a penalty on one side


def gap(of_new, of_train):
    return lambda model, x, y, x_new, y_new: of_new(model, x_new, y_new) - of_train(model, x, y)


def total(model, *data):
    return model.evaluate(*data, verbose=0, return_dict=True)["loss"]


def accuracy(model, *data):
    return model.evaluate(*data, verbose=0)[1]


def alone(model, x, y):
    return log_loss(y, model.predict(x, verbose=0))


def less_the_penalty(model, *data):
    return total(model, *data) - sum(model.losses)


def by_a_loss(model, x, y):
    return keras.losses.SparseCategoricalCrossentropy()(y, model(x))


def without_penalty(model, *data):
    model.layers[-1].kernel_regularizer.l2 = 0.0
    return total(model, *data)


# Exhibit 10: the wrong curve

RIGHT_CURVES = ("plain", "plain", "val_loss"), ("dropout", "dropped", "val_loss")


def drawn(*curves, **style):
    """Return a program that draws, for each (label, run, metric), a curve."""

    def program(ax, plain, dropped):
        runs = {"plain": plain, "dropped": dropped}
        for label, run, metric in curves:
            ax.plot(runs[run][metric], label=label, **style)

    return program


def legend(*args, **kwargs):
    """Return a program that draws the curves and a legend."""

    def program(ax, plain, dropped):
        drawn(*RIGHT_CURVES)(ax, plain, dropped)
        ax.legend(*args, **kwargs)

    return program


def named_in_the_legend(ax, plain, dropped):
    for history in (plain, dropped):
        ax.plot(history["val_loss"])
    ax.legend(["plain", "dropout"])


def named_in_the_figure(first, second):
    def program(ax, plain, dropped):
        epochs = range(1, len(plain["val_loss"]) + 1)
        lines = ax.plot(epochs, dropped["val_loss"], "k--", epochs, plain["val_loss"], "ko-")
        ax.figure.legend(lines, [first, second])

    return program


def with_patches(ax, plain, dropped):
    ax.semilogy(plain["val_loss"], color="C1", marker="o")
    ax.semilogy(dropped["val_loss"], color="C0", linestyle=":")
    keys = {"Dropout": "C0", "Plain": "C1"}
    ax.legend(handles=[Patch(color=colour, label=label) for label, colour in keys.items()])


def with_reference_lines(ax, plain, dropped):
    drawn(*RIGHT_CURVES, color="black")(ax, plain, dropped)
    best = int(np.argmin(dropped["val_loss"]))
    ax.axvline(best, linestyle=":", label="best epoch")
    ax.axhline(min(plain["val_loss"]), color="grey")
    ax.plot(best, dropped["val_loss"][best], "o")


def labels_in_a_list(ax, plain, dropped):
    values = np.transpose([plain["val_loss"], dropped["val_loss"]])
    ax.plot(np.arange(1, len(values) + 1), values, label=["plain", "dropout"])


def curves_by_pandas(ax, plain, dropped):
    table = pd.DataFrame({"plain": plain["val_loss"], "dropout": dropped["val_loss"]})
    table.plot(ax=ax, logy=True)


def over_the_training_loss(ax, plain, dropped):
    for label, history in (("plain", plain), ("dropout", dropped)):
        ax.plot(history["loss"], history["val_loss"], label=label)


def l2(factor):
    return lambda strength, n: regularizers.L2(factor(strength, n))


WRONG = {
    "augmentation": [
        fitted(lambda augment, x: augment(x, training=False)),
        fitted(lambda augment, x: augment(x, training=True)),
        fitted(lambda augment, x: [augment(image, training=True) for image in x]),
        fitted(lambda augment, x: np.concatenate([augment(x) for _ in range(10)])),
        in_turns(moved_beside),
        mapped(lambda examples, move: examples.batch(32).map(move).cache()),
        moved_at_prediction,
        moved_again_and_again,
        another_network,
    ],
    "schedule": [
        halved_by(lambda epoch, rate: rate / 2),  # one epoch too soon
        halved_by(lambda epoch, rate: 1e-3),
        halved_by(lambda epoch, rate: rate / (epoch + 1)),
        halved_afterwards,
        halved_each_step,
        with_a_rate_of_its_own,
        all_epochs_in_each_turn,
        not_trained,
    ],
    "monitor": [
        lambda: [callbacks.EarlyStopping("val_accuracy", 0.001, 3, mode="max")],  # slow rises
        rule("val_acc", patience=3),  # Keras refuses it
        rule("val_accuracy", mode="min", patience=3),
        rule("accuracy", mode="max", patience=3),
        rule("val_loss", patience=3),
        rule("val_accuracy", patience=0),
        rule("val_accuracy", patience=4),
        rule("val_accuracy", patience=3, min_delta=0.1),
        rule("val_accuracy", patience=3, baseline=0.9),
        rule("val_accuracy", patience=3, start_from_epoch=4),
        lambda: Counting(np.greater_equal, "val_accuracy"),
        lambda: Counting(np.greater, "val_accuracy", recounts=False),
    ],
    "fresh_start": [
        again(lambda model: keras.utils.set_random_seed(1)),
        again(lambda model: model.set_weights(model.at_first)),  # the optimizer goes on
        with_new_optimizer(lambda model: None),
        with_new_optimizer(set_all(lambda w: w + np.random.normal(0, 0.01, w.shape))),
        with_new_optimizer(set_all(lambda w: w / 2)),
        with_new_optimizer(copy),
        with_new_optimizer(new_layer(-1)),
        with_new_optimizer(new_layer(-2)),
        nothing_trained,
        first_one_twice,
    ],
    "best_weights": [
        rule("val_loss", patience=0),
        rule("val_loss", patience=1, restore_best_weights=True),
        rule("val_accuracy", patience=3, restore_best_weights=True),
        rule("loss", patience=3, restore_best_weights=True),
        rule("val_loss", mode="max", patience=3, restore_best_weights=True),
        rule("val_loss", patience=3, start_from_epoch=3, restore_best_weights=True),
        lambda: Counting(np.less, recounts=False),
        lambda: Counting(np.less, copies=False),
    ],
    "shuffled": [
        lambda y, rng: in_place(y[:][:1_000], rng),
        lambda y, rng: in_place(np.asarray(y), rng),
        lambda y, rng: np.sort(y),
        lambda y, rng: y.copy(),
        lambda y, rng: rng.shuffle(y.copy()),
        lambda y, rng: rng.permutation(len(y)),
        lambda y, rng: rng.integers(0, 10, len(y)),
        lambda y, rng: np.random.default_rng().permutation(y),
        lambda y, rng: np.random.default_rng(0).permutation(y),
        lambda y, rng: np.roll(y, rng.integers(len(y))),
        lambda y, rng: rng.permutation(10)[y],  # each class gets the name of another
        lambda y, rng: np.concatenate([y[:500], rng.permutation(y[500:])]),
    ],
    "inference": [
        same_masks,
        without_dropout,
        not_trainable,
        halved_weights,
        lambda model, x: np.mean([model(x, training=True) for _ in range(20)], axis=0),
        lambda model, x: 0.5 * model(x, training=False),
        lambda model, x: keras.models.clone_model(model).predict(x, verbose=0),
        lambda model, x: model.predict(x, verbose=0).argmax(axis=1),
        lambda model, x: model(x[:1]),
    ],
    "statistics": [
        scaled(lambda train, test: (train, test)),
        scaled(lambda train, test: (test, test)),
        scaled(lambda train, test: (train[:50], train[:50])),
        scaled(lambda train, test: (train, test), axis=1, keepdims=True),  # each image by itself
        deviation_of_both,
        after_the_training_images,
        lambda train, test: (train / train.max(axis=0), test / train.max(axis=0)),
        lambda train, test: scaled(lambda *sets: [train] * 2)(train, test)[::-1],
        scaled_in_place,
    ],
    "penalty": [
        lambda *given: abs(gap(alone, alone)(*given)),
        lambda *given: -gap(alone, alone)(*given),
        lambda *given: gap(alone, total)(*given) + 0.1,  # the strength is not the penalty
        gap(alone, without_penalty),
        gap(total, alone),
        gap(accuracy, accuracy),
        lambda model, x, y, x_new, y_new: alone(model, x, y) - alone(model, x, y),
    ],
    "curves": [
        drawn(("plain", "dropped", "val_loss"), ("dropout", "plain", "val_loss")),
        drawn(("plain", "plain", "loss"), ("dropout", "dropped", "loss")),
        drawn(("plain", "plain", "val_loss"), ("dropout", "dropped", "val_accuracy")),
        drawn(("plain", "plain", "val_loss")),
        drawn((None, "plain", "val_loss"), (None, "dropped", "val_loss")),
        drawn(("dropout", "plain", "val_loss"), *RIGHT_CURVES),  # the old curve lies beneath
        legend(["dropout", "plain"]),
        named_in_the_figure("plain", "dropout"),
        over_the_training_loss,
    ],
    "report": [
        lambda val, test: test.max(),
        lambda val, test: test.min(),
        lambda val, test: test.mean(),
        lambda val, test: test[1],
        lambda val, test: val[test.argmax()],
        lambda val, test: test[val.argmin()],
        lambda val, test: (val.max() + test[val.argmax()]) / 2,
        lambda val, test: test[np.argsort(val)[-3:]].max(),
        lambda val, test: max(zip(val, test, strict=True))[1],  # the test breaks a tie
    ],
    "convention": [
        l2(lambda strength, n: strength / 2),
        l2(lambda strength, n: strength / n),
        l2(lambda strength, n: strength / 2 * n),
        l2(lambda strength, n: strength // (2 * n)),
        l2(lambda strength, n: 5 / 2_000),
        lambda strength, n: regularizers.L1(strength / (2 * n)),
        lambda strength, n: regularizers.L1L2(strength / (2 * n), strength / (2 * n)),
        lambda strength, n: lambda w: strength / (2 * n) * ops.mean(ops.square(w)),
    ],
}
RIGHT = {
    "augmentation": [
        in_turns(lambda augment, x, y: (augment(x, training=True), y)),
        mapped(lambda examples, move: examples.batch(32).map(move).prefetch(tf.data.AUTOTUNE)),
        mapped(lambda examples, move: examples.cache().map(move, 2).shuffle(160).batch(32)),
        moved_beforehand,
        in_a_loop_by_hand,
        with_its_history,
    ],
    "schedule": [
        halved_by(lambda epoch, rate: rate / 2 if epoch else rate),
        one_epoch_in_each_turn,
        by_a_callback,
        compiled_with_a_schedule,
        batch_by_batch,
    ],
    "monitor": [
        rule("val_accuracy", patience=3, restore_best_weights=True),
        lambda: Counting(np.greater, "val_accuracy"),
        FromTheHistory,
    ],
    "fresh_start": [
        with_new_optimizer(lambda model: model.set_weights(model.at_first)),
        with_new_optimizer(keras.models.clone_model),
        one_seed,
        as_an_array,
    ],
    "best_weights": [
        rule(patience=3, mode="min", restore_best_weights=True),
        lambda: Counting(np.less),
        lambda: [Counting(np.less, patience=99), callbacks.EarlyStopping(patience=3)],
    ],
    "shuffled": [
        lambda y, rng: in_place(list(y), rng),
        lambda y, rng: tuple(y[rng.permutation(len(y))]),
        lambda y, rng: rng.choice(y, len(y), replace=False),
        lambda y, rng: pd.Series(y).sample(frac=1, random_state=rng),
        lambda y, rng: tf.constant(rng.permutation(y)),
    ],
    "inference": [
        lambda model, x: model(x),
        lambda model, x: model.predict(x, 16, 0),
        lambda model, x: pd.DataFrame(model.predict_on_batch(x)),
        lambda model, x: [model(image[None])[0] for image in x],
        lambda model, x: without_dropout(model, x, rate=0.5),  # and puts it back
    ],
    "statistics": [
        scaled(lambda train, test: (train, train), axis=None),
        by_scikit_learn,
        by_keras,
        by_pandas,
    ],
    "penalty": [gap(total, total), gap(alone, less_the_penalty), gap(by_a_loss, by_a_loss)],
    "curves": [
        legend(),
        legend(reverse=True),
        named_in_the_legend,
        named_in_the_figure("with dropout", "without dropout"),
        with_patches,
        with_reference_lines,
        labels_in_a_list,
        curves_by_pandas,
    ],
    "report": [
        lambda val, test: float(test[val.argmax()]),
        lambda val, test: tf.constant(test)[tf.argmax(val)],
        lambda val, test: pd.Series(test)[pd.Series(val).idxmax()],
    ],
    "convention": [
        lambda strength, n: regularizers.L1L2(l2=strength / n / 2),
        lambda strength, n: lambda w: strength / (2 * n) * np.sum(np.square(w), keepdims=True),
    ],
}


def silent(*given):
    raise NotImplementedError


def left(*given):
    raise SystemExit


class Untold(Exception):
    def __str__(self):
        raise ValueError


def untold(*given):
    raise Untold


BROKEN = [silent, left, untold, lambda: None, lambda *given: print, "no function"]
BROKEN += [lambda *given: None, lambda *given: "text", lambda *given: (1, 2, 3)]


def cases(programs):
    return [
        pytest.param(name, program, id=f"{name}-{number}-{program.__name__}")
        for name, several in programs.items()
        for number, program in enumerate(several)
    ]


@pytest.mark.parametrize(("name", "program"), cases(WRONG))
def test_repairs_that_are_none_are_refused(name, program):
    found = museum.fault(name, program)
    assert found and "the program ends" not in found


@pytest.mark.parametrize(("name", "program"), cases(RIGHT))
def test_another_repair_than_the_book_s_is_accepted(name, program):
    assert museum.fault(name, program) is None


@pytest.mark.parametrize("name", museum.CHECKS)
def test_no_program_ends_a_check(name):
    faults = [museum.fault(name, program) for program in BROKEN]
    assert all(isinstance(found, str) for found in faults), faults
    assert faults[0] == "the program ends with NotImplementedError"
    assert faults[1] == "the program ends with SystemExit"


def test_words(capsys):
    museum.check("report", lambda val, test: 1 / 0)
    museum.check("report", lambda val, test: None)
    museum.check("report", lambda val, test: test[val.argmax()])
    assert capsys.readouterr().out.splitlines() == [
        "Not yet: the program ends with ZeroDivisionError: division by zero.",
        "Not yet: it returns None, which the check cannot use: TypeError: float() argument must be "
        "a string or a real number, not 'NoneType'.",
        "Repaired.",
    ]


@pytest.mark.parametrize("name", ["dropuot", ["report"]])
def test_an_unknown_name(name):
    with pytest.raises(BookError, match="there is no exhibit"):
        museum.check(name, print)


def test_what_a_check_switches_on_it_switches_off():
    def state():
        level = logging.getLogger("tensorflow").level
        return tf.config.functions_run_eagerly(), optimizers.Optimizer.apply, level

    def interrupted(*given):
        raise KeyboardInterrupt

    before = state()
    for name in ("schedule", "fresh_start"):
        museum.fault(name, silent)
        with pytest.raises(KeyboardInterrupt):
            museum.fault(name, interrupted)
        assert state() == before


def test_an_error_of_a_later_call_is_the_program_s():
    found = museum.fault("shuffled", lambda y, rng: y.copy() if rng.integers(9) > 4 else 1 / 0)
    assert found == "the program ends with ZeroDivisionError: division by zero"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "program"),
    [
        pytest.param(name, kind, program, id=f"{name}-{kind}-{program.__name__}")
        for name, kinds in REPAIRS.items()
        for kind, programs in kinds.items()
        for program in programs
    ],
)
def test_repairs_of_somebody_else(name, kind, program):
    assert (museum.fault(name, program) is None) == (kind == "right")
