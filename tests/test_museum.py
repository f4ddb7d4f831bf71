"""Repairs of the museum's programs: those that are none are refused, the others accepted."""

import logging

import keras
import matplotlib.patches
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import callbacks, layers, ops, optimizers, regularizers
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


def once(augment, x):
    return augment(x, training=True)


def once_in_batches(augment, x):
    return np.concatenate([augment(x[i : i + 10], training=True) for i in range(0, len(x), 10)])


def copies_for_all_epochs(augment, x):
    return np.concatenate([augment(x, training=True) for _ in range(10)])


def nothing_moved(augment, x):
    return augment(x, training=False)


def augmented_beside(augment, x, y, epochs):
    model = network()
    for _ in range(epochs):
        augment(x, training=True)
        model.fit(x, y, verbose=0)
    return model


def augmented_always(augment, x, y, epochs):
    model = network(layers.Lambda(lambda images: augment(images, training=True)))
    model.fit(x, y, epochs=epochs, verbose=0)
    return model


def moved_again_and_again(augment, x, y, epochs):
    model = network()
    for _ in range(epochs):
        x = augment(x, training=True)
        model.fit(x, y, verbose=0)
    return model


def another_network_returned(augment, x, y, epochs):
    network(augment).fit(x, y, epochs=epochs, verbose=0)
    return network()


def mapped(prepare):
    """Return a program whose data set is made by `prepare(examples, move)`."""

    def program(augment, x, y, epochs):
        def move(images, labels):
            return augment(images), labels

        model = network()
        examples = tf.data.Dataset.from_tensor_slices((x, y))
        model.fit(prepare(examples, move), epochs=epochs, verbose=0)
        return model

    return program


def in_batches(examples, move):
    return examples.batch(32).map(move).prefetch(tf.data.AUTOTUNE)


def one_by_one(examples, move):
    return examples.cache().map(move, num_parallel_calls=2).shuffle(160).batch(32)


def kept_in_the_cache(examples, move):
    return examples.batch(32).map(move).cache()


def augmented_in_turns(augment, x, y, epochs):
    model = network()
    for _ in range(epochs):
        model.fit(augment(x, training=True), y, verbose=0)
    return model


def augmented_beforehand(augment, x, y, epochs):
    model = network()
    for moved in [augment(x, training=True) for _ in range(epochs)]:
        model.fit(moved, y, verbose=0)
    return model


def augmented_in_a_loop(augment, x, y, epochs):
    model, optimizer = network(augment), optimizers.Adam(0.01)
    for start in [*range(0, len(x), 40)] * epochs:
        with tf.GradientTape() as tape:
            answers = model(x[start : start + 40], training=True)
            loss = ops.mean(
                keras.losses.sparse_categorical_crossentropy(y[start : start + 40], answers)
            )
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return model


def augmented_with_its_history(augment, x, y, epochs):
    return network(augment).fit(x, y, validation_split=0.2, epochs=epochs, verbose=0)


# Exhibit 2: a schedule


def halved_by(schedule):
    def train(model, x, y, epochs):
        rule = callbacks.LearningRateScheduler(schedule)
        model.fit(x, y, epochs=epochs, callbacks=[rule], verbose=0)

    return train


def halved_afterwards(model, x, y, epochs):
    model.fit(x, y, epochs=epochs, verbose=0)
    model.optimizer.learning_rate = model.optimizer.learning_rate / 2**epochs


def halved_each_step(model, x, y, epochs):
    model.optimizer.learning_rate = optimizers.schedules.ExponentialDecay(1e-3, 1, 0.5)
    model.fit(x, y, epochs=epochs, verbose=0)


def fitted_in_turns(model, x, y, epochs):
    for epoch in range(epochs):
        model.optimizer.learning_rate = 1e-3 / 2**epoch
        model.fit(x, y, verbose=0)


def all_epochs_in_each_turn(model, x, y, epochs):
    for _ in range(epochs):
        model.fit(x, y, epochs=epochs, verbose=0)
        model.optimizer.learning_rate = float(model.optimizer.learning_rate) / 2


def not_trained(model, x, y, epochs):
    for _ in range(epochs):
        model.optimizer.learning_rate = float(model.optimizer.learning_rate) / 2


def halved_in_turns(model, x, y, epochs):
    for _ in range(epochs):
        model.fit(x, y, verbose=0)
        model.optimizer.learning_rate = float(model.optimizer.learning_rate) / 2


def positional(model, x, y, epochs):
    rule = callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)
    return model.fit(x, y, 16, epochs, 0, rule)


def by_a_callback(model, x, y, epochs):
    class Halve(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate.assign(self.model.optimizer.learning_rate / 2)

    model.fit(x, y, epochs=epochs, validation_split=0.25, callbacks=[Halve()], verbose=0)


def compiled_with_a_schedule(model, x, y, epochs):
    rate = float(model.optimizer.learning_rate)
    model.compile(optimizers.SGD(optimizers.schedules.ExponentialDecay(rate, 2, 0.5, True)), LOSS)
    model.fit(x, y, epochs=epochs, verbose=0)


def batch_by_batch(model, x, y, epochs):
    rate = float(model.optimizer.learning_rate)
    for epoch in range(epochs):
        model.optimizer.learning_rate = rate * 0.5**epoch
        for start in range(0, len(x), 16):
            model.train_on_batch(x[start : start + 16], y[start : start + 16])


# Exhibits 3 and 5: rules that stop


def rule(*args, **kwargs):
    return lambda: callbacks.EarlyStopping(*args, **kwargs)


class Counting(callbacks.Callback):
    """A rule by hand; `better` says when an epoch counts as one, `forgives` whether it recounts."""

    def __init__(self, better, monitor="val_loss", forgives=True, copies=True):
        super().__init__()
        self.better, self.monitor, self.forgives, self.copies = better, monitor, forgives, copies

    def on_train_begin(self, logs=None):
        self.best, self.waited = None, 0

    def on_epoch_end(self, epoch, logs=None):
        value = logs[self.monitor]
        if self.best is None or self.better(value, self.best):
            self.best, self.waited = value, self.waited * (not self.forgives)
            self.kept = self.model.get_weights() if self.copies else self.model.weights
        else:
            self.waited += 1
        self.model.stop_training = self.waited == 3

    def on_train_end(self, logs=None):
        self.model.set_weights(self.kept)


class OnTheLastThree(callbacks.Callback):
    """A rule that looks into the history of the network."""

    def on_epoch_end(self, epoch, logs=None):
        earlier = self.model.history.history.get("val_accuracy", [])
        seen = [*earlier, logs["val_accuracy"]][: epoch + 1]
        self.model.stop_training = len(seen) > 3 and max(seen[-3:]) <= max(seen[:-3])


def two_rules():
    class Best(callbacks.Callback):
        low = np.inf

        def on_epoch_end(self, epoch, logs=None):
            if logs["val_loss"] < self.low:
                self.low, self.weights = logs["val_loss"], self.model.get_weights()

        def on_train_end(self, logs=None):
            self.model.set_weights(self.weights)

    return [Best(), callbacks.EarlyStopping(patience=3)]


# Exhibit 4: a second experiment


def again(before_the_second, build, x, y, epochs):
    model = build()
    first = model.fit(x, y, epochs=epochs, verbose=0).history["loss"]
    model = before_the_second(model) or model
    return first, model.fit(x, y, epochs=epochs, verbose=0).history["loss"]


def new_optimizer(*given):
    return again(lambda model: model.compile("adam", LOSS), *given)


def new_seed(*given):
    return again(lambda model: keras.utils.set_random_seed(1), *given)


def stored_weights(*given):
    return again(lambda model: model.set_weights(model.get_weights()), *given)


def copied(*given):
    def copy(model):
        other = keras.models.clone_model(model)
        other.set_weights(model.get_weights())
        other.compile("adam", LOSS)
        return other

    return again(copy, *given)


def with_noise(*given):
    def shake(model):
        model.set_weights([w + np.random.normal(0, 0.01, w.shape) for w in model.get_weights()])
        model.compile("adam", LOSS)

    return again(shake, *given)


def new_layer(which):
    def program(*given):
        def renew(model):
            layer = model.layers[which]
            layer.kernel.assign(keras.initializers.GlorotUniform()(layer.kernel.shape))
            layer.bias.assign(ops.zeros_like(layer.bias))
            model.compile("adam", LOSS)

        return again(renew, *given)

    return program


def old_optimizer(build, *given):
    def renew(model):
        model.set_weights(build().get_weights())

    return again(renew, build, *given)


def nothing_trained(build, x, y, epochs):
    first = build().fit(x, y, epochs=epochs, verbose=0).history["loss"]
    return first, [first[0]] * epochs


def first_one_twice(build, x, y, epochs):
    first, _ = (build().fit(x, y, epochs=epochs, verbose=0).history["loss"] for _ in range(2))
    return first, first


def initial_weights(build, x, y, epochs):
    model = build()
    weights = model.get_weights()
    first = model.fit(x, y, epochs=epochs, verbose=0).history["loss"]
    model.set_weights(weights)
    model.compile("adam", LOSS)
    return first, model.fit(x, y, epochs=epochs, verbose=0).history["loss"]


def cloned(*given):
    def clone(model):
        other = keras.models.clone_model(model)
        other.compile("adam", LOSS)
        return other

    return again(clone, *given)


def same_seed(build, x, y, epochs):
    runs = []
    for _ in range(2):
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        runs.append(build().fit(x, y, 80, epochs, 0))
    return runs


def as_arrays(build, x, y, epochs):
    return np.array(
        [
            [build_and_train(x, y) for _ in range(epochs)]
            for build_and_train in map(_epoch, [build] * 2)
        ]
    )


def _epoch(build):
    model = build()
    return lambda x, y: np.mean(
        [model.train_on_batch(x[i : i + 20], y[i : i + 20])[0] for i in range(0, len(x), 20)]
    )


# Exhibit 6: shuffled labels


def of_a_view(y, rng):
    labels = y[:][:100_000]
    rng.shuffle(labels)
    return labels


def of_an_array(y, rng):
    labels = np.asarray(y)
    rng.shuffle(labels)
    return labels


def sorted_labels(y, rng):
    return np.sort(y)


def not_shuffled(y, rng):
    labels = y.copy()
    rng.shuffle(y.copy())
    return labels


def by_another_generator(y, rng):
    return np.random.default_rng().permutation(y)


def by_a_fixed_generator(y, rng):
    return np.random.default_rng(0).permutation(y)


def drawn_anew(y, rng):
    return rng.integers(0, 10, len(y))


def turned(y, rng):
    return np.roll(y, rng.integers(len(y)))


def renamed(y, rng):
    return rng.permutation(10)[y]


def half_of_them(y, rng):
    return np.concatenate([y[:500], rng.permutation(y[500:])])


def as_a_list(y, rng):
    labels = list(y)
    rng.shuffle(labels)
    return labels


# Exhibit 7: dropout


def same_masks(model, x):
    model.layers[0].seed_generator.state.assign([0, 0])
    return model(x, training=True)


def average_of_masks(model, x):
    return np.mean([model(x, training=True) for _ in range(20)], axis=0)


def without_dropout(model, x):
    model.layers[0].rate = 0.0
    return model(x, training=True)


def halved(model, x):
    return 0.5 * model(x, training=False)


def not_trainable(model, x):
    model.trainable = False
    return model(x, training=True)


def other_weights(model, x):
    return keras.models.clone_model(model).predict(x, verbose=0)


def classes(model, x):
    return model.predict(x, verbose=0).argmax(axis=1)


def rate_put_back(model, x):
    model.layers[0].rate = 0.0
    answers = model(x, training=True)
    model.layers[0].rate = 0.5
    return answers


def one_by_one_in_a_list(model, x):
    return [model(image[None])[0] for image in x]


# Exhibit 8: standardizing


def scaled(numbers):
    """Return a program that scales each set by the mean and deviation of `numbers(train, test)`."""

    def program(train, test):
        return [
            (x - np.mean(of)) / np.std(of)
            for x, of in zip((train, test), numbers(train, test), strict=True)
        ]

    return program


def each_image_by_itself(train, test):
    return tuple(
        (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True) for x in (train, test)
    )


def deviation_of_both(train, test):
    both = np.concatenate([train, test])
    return tuple((x - train.mean(axis=0)) / both.std(axis=0) for x in (train, test))


def after_the_training_images(train, test):
    train = (train - train.mean(axis=0)) / train.std(axis=0)
    return train, (test - train.mean(axis=0)) / train.std(axis=0)


def scaled_to_one(train, test):
    return train / train.max(axis=0), test / train.max(axis=0)


def only_the_training_images(train, test):
    return (train - train.mean(axis=0)) / train.std(axis=0), test


def by_one_number(train, test):
    train, test = train.astype("float32"), test.astype("float32")
    return tuple((x - train.mean()) / train.std() for x in (train, test))


def by_the_mean_image(train, test):
    return [(x - train.mean(axis=0)) / train.std() for x in (train, test)]


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


def in_place(train, test):
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-7
    for x in (train, test):
        x -= mean
        x /= deviation
    return train, test


# Exhibit 9: a penalty on one side


def total(model, x, y):
    return model.evaluate(x, y, verbose=0, return_dict=True)["loss"]


def gap_without_sign(model, x, y, x_new, y_new):
    return abs(total(model, x, y) - total(model, x_new, y_new))


def gap_less_strength(model, x, y, x_new, y_new):
    return log_loss(y_new, model.predict(x_new, verbose=0)) - (total(model, x, y) - 0.1)


def gap_of_the_same(model, x, y, x_new, y_new):
    return total(model, x, y) - total(model, x, y)


def gap_the_other_way(model, x, y, x_new, y_new):
    return total(model, x, y) - total(model, x_new, y_new)


def gap_of_accuracies(model, x, y, x_new, y_new):
    return model.evaluate(x, y, verbose=0)[1] - model.evaluate(x_new, y_new, verbose=0)[1]


def without_penalty(model, x, y, x_new, y_new):
    model.layers[-1].kernel_regularizer.l2 = 0.0
    return log_loss(y_new, model.predict(x_new, verbose=0)) - total(model, x, y)


def gap_with_both(model, x, y, x_new, y_new):
    return total(model, x_new, y_new) - total(model, x, y)


def less_the_penalty(model, x, y, x_new, y_new):
    train = total(model, x, y) - sum(model.losses)
    return log_loss(y_new, model.predict(x_new, verbose=0)) - train


def by_a_loss(model, x, y, x_new, y_new):
    of = keras.losses.SparseCategoricalCrossentropy()
    return of(y_new, model(x_new)) - of(y, model(x))


# Exhibit 10: the wrong curve


def drawn(*curves, **style):
    """Return a program that draws, for each (label, run, metric), a curve."""

    def program(ax, plain, dropped):
        runs = {"plain": plain, "dropped": dropped}
        for label, run, metric in curves:
            ax.plot(runs[run][metric], label=label, **style)

    return program


RIGHT_CURVES = ("plain", "plain", "val_loss"), ("dropout", "dropped", "val_loss")


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


def with_handles(ax, plain, dropped):
    epochs = range(1, len(plain["val_loss"]) + 1)
    lines = ax.plot(epochs, dropped["val_loss"], "k--", epochs, plain["val_loss"], "ko-")
    ax.legend(lines, ["with dropout", "without dropout"])


def with_patches(ax, plain, dropped):
    ax.semilogy(plain["val_loss"], color="C1", marker="o")
    ax.semilogy(dropped["val_loss"], color="C0", linestyle=":")
    keys = {"Dropout": "C0", "Plain": "C1"}.items()
    ax.legend(handles=[matplotlib.patches.Patch(color=c, label=label) for label, c in keys])


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
    table = pd.DataFrame({"plain": plain["val_loss"], "dropout": pd.Series(dropped["val_loss"])})
    table.plot(ax=ax)


def over_the_training_loss(ax, plain, dropped):
    for label, history in (("plain", plain), ("dropout", dropped)):
        ax.plot(history["loss"], history["val_loss"], label=label)


# Exhibit 11: the number in the abstract


def peeking(val, test):
    return test[np.argsort(val)[-3:]].max()


# Exhibit 12: another book's λ


class Textbook(regularizers.Regularizer):
    def __init__(self, strength, n):
        self.factor = strength / n

    def __call__(self, weights):
        return self.factor * ops.sum(ops.square(weights)) / 2


WRONG = {
    "augmentation": [
        fitted(once),
        fitted(once_in_batches),
        fitted(copies_for_all_epochs),
        fitted(nothing_moved),
        augmented_beside,
        augmented_always,
        moved_again_and_again,
        another_network_returned,
        mapped(kept_in_the_cache),
    ],
    "schedule": [
        halved_by(lambda epoch, rate: rate / 2),  # one epoch too soon
        halved_by(lambda epoch, rate: 1e-3),
        halved_by(lambda epoch, rate: rate / 2 if epoch % 2 == 0 and epoch else rate),
        halved_by(lambda epoch, rate: rate / (epoch + 1)),
        halved_afterwards,
        halved_each_step,
        fitted_in_turns,  # with a rate of its own
        all_epochs_in_each_turn,
        not_trained,
    ],
    "monitor": [
        rule("val_acc", patience=3),  # Keras refuses it
        rule("val_accuracy", mode="min", patience=3),
        rule("accuracy", mode="max", patience=3),
        rule("val_loss", patience=3),
        rule("val_accuracy", mode="max", patience=0),
        rule("val_accuracy", mode="max", patience=4),
        rule("val_accuracy", mode="max", patience=3, min_delta=0.1),
        rule("val_accuracy", mode="max", patience=3, baseline=0.9),
        rule("val_accuracy", mode="max", patience=3, start_from_epoch=4),
        lambda: Counting(np.greater_equal, "val_accuracy"),
        lambda: Counting(np.greater, "val_accuracy", forgives=False),
    ],
    "fresh_start": [
        new_optimizer,
        new_seed,
        stored_weights,
        copied,
        with_noise,
        new_layer(-1),
        new_layer(-2),
        old_optimizer,
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
        lambda: Counting(np.less, forgives=False),
        lambda: Counting(np.less, copies=False),
    ],
    "shuffled": [
        of_a_view,
        of_an_array,
        sorted_labels,
        not_shuffled,
        drawn_anew,
        by_another_generator,
        by_a_fixed_generator,
        turned,
        renamed,
        half_of_them,
        lambda y, rng: rng.shuffle(y.copy()),
        lambda y, rng: rng.permutation(len(y)),
    ],
    "inference": [
        same_masks,
        average_of_masks,
        without_dropout,
        halved,
        not_trainable,
        other_weights,
        classes,
    ],
    "statistics": [
        scaled(lambda train, test: (train, test)),
        scaled(lambda train, test: (test, test)),
        scaled(lambda train, test: (train[:50], train[:50])),
        each_image_by_itself,
        deviation_of_both,
        after_the_training_images,
        scaled_to_one,
        only_the_training_images,
        lambda train, test: by_one_number(test, train)[::-1],
    ],
    "penalty": [
        gap_without_sign,
        gap_less_strength,
        gap_of_the_same,
        gap_the_other_way,
        gap_of_accuracies,
        without_penalty,
    ],
    "curves": [
        drawn(("plain", "dropped", "val_loss"), ("dropout", "plain", "val_loss")),
        drawn(("plain", "plain", "loss"), ("dropout", "dropped", "loss")),
        drawn(("plain", "plain", "val_loss"), ("dropout", "dropped", "val_accuracy")),
        drawn(("plain", "plain", "val_loss")),
        drawn((None, "plain", "val_loss"), (None, "dropped", "val_loss")),
        drawn(
            ("plain", "plain", "val_loss"),
            ("dropout", "plain", "val_loss"),  # the old curve lies beneath the new one
            ("dropout", "dropped", "val_loss"),
        ),
        legend(["dropout", "plain"]),
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
        peeking,
    ],
    "convention": [
        lambda strength, n: regularizers.L2(strength / 2),
        lambda strength, n: regularizers.L2(strength / n),
        lambda strength, n: regularizers.L2(strength / 2 * n),
        lambda strength, n: regularizers.L2(strength // (2 * n)),
        lambda strength, n: regularizers.L2(5 / 2_000),
        lambda strength, n: regularizers.L1(strength / (2 * n)),
        lambda strength, n: regularizers.L1L2(strength / (2 * n), strength / (2 * n)),
        lambda strength, n: lambda w: strength / (2 * n) * ops.mean(ops.square(w)),
    ],
}
RIGHT = {
    "augmentation": [
        mapped(in_batches),
        mapped(one_by_one),
        augmented_in_turns,
        augmented_beforehand,
        augmented_in_a_loop,
        augmented_with_its_history,
    ],
    "schedule": [
        halved_in_turns,
        positional,
        by_a_callback,
        compiled_with_a_schedule,
        batch_by_batch,
    ],
    "monitor": [
        rule("val_accuracy", patience=3, restore_best_weights=True),
        lambda: [callbacks.EarlyStopping("val_accuracy", 0.001, 3, mode="max")],
        lambda: Counting(np.greater, "val_accuracy"),
        OnTheLastThree,
    ],
    "fresh_start": [initial_weights, cloned, same_seed, as_arrays],
    "best_weights": [
        rule(patience=3, mode="min", restore_best_weights=True),
        lambda: Counting(np.less),
        two_rules,
    ],
    "shuffled": [
        as_a_list,
        lambda y, rng: tuple(y[rng.permutation(len(y))]),
        lambda y, rng: rng.choice(y, len(y), replace=False),
        lambda y, rng: pd.Series(y).sample(frac=1, random_state=rng),
        lambda y, rng: tf.constant(rng.permutation(y)),
    ],
    "inference": [
        lambda model, x: model(x),
        lambda model, x: model.predict(x, 16, 0),
        lambda model, x: pd.DataFrame(model.predict_on_batch(x)),
        rate_put_back,
        one_by_one_in_a_list,
    ],
    "statistics": [
        by_one_number,
        by_the_mean_image,
        by_scikit_learn,
        by_keras,
        by_pandas,
        in_place,
    ],
    "penalty": [gap_with_both, less_the_penalty, by_a_loss],
    "curves": [
        legend(),
        legend(reverse=True),
        named_in_the_legend,
        with_handles,
        with_patches,
        with_reference_lines,
        labels_in_a_list,
        curves_by_pandas,
    ],
    "report": [
        lambda val, test: float(test[val.argmax()]),
        lambda val, test: test[val == val.max()],
        lambda val, test: tf.constant(test)[tf.argmax(val)],
        lambda val, test: pd.Series(test)[pd.Series(val).idxmax()],
        lambda val, test: max(zip(val, test, strict=True))[1],
    ],
    "convention": [
        Textbook,
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


BROKEN = [
    silent,
    left,
    untold,
    lambda *given: None,
    lambda *given: "text",
    lambda *given: (1, 2, 3),
]
BROKEN += [lambda: None, lambda *given: print, "no function"]


def cases(programs):
    return [
        pytest.param(name, program, id=f"{name}-{n}-{program.__name__}")
        for name, several in programs.items()
        for n, program in enumerate(several)
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
    assert faults[:2] == [
        "the program ends with NotImplementedError",
        "the program ends with SystemExit",
    ]


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
