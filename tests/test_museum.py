"""Repairs of the museum's programs that are none: each is refused."""

import keras
import numpy as np
import pytest
from keras import layers, regularizers
from sklearn.metrics import log_loss

from utils import BookError, museum


def network(*front):
    return museum._network(*front, width=32)


def augmented_once(augment, x, y, epochs):
    model = network()
    model.fit(augment(x, training=True), y, epochs=epochs, verbose=0)
    return model


def augmented_once_in_batches(augment, x, y, epochs):
    model = network()
    batches = [augment(x[i : i + 10], training=True) for i in range(0, len(x), 10)]
    model.fit(np.concatenate(batches), y, epochs=epochs, verbose=0)
    return model


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


def augmented_in_the_data(augment, x, y, epochs):
    """Another repair, and a good one: the data are augmented on their way to the network."""
    model = network()
    for _ in range(epochs):
        model.fit(augment(x, training=True), y, verbose=0)
    return model


def again(before_the_second, build, x, y, epochs):
    model = build()
    first = model.fit(x, y, epochs=epochs, verbose=0).history["loss"]
    before_the_second(model)
    return first, model.fit(x, y, epochs=epochs, verbose=0).history["loss"]


def new_optimizer(build, x, y, epochs):
    loss = "sparse_categorical_crossentropy"
    return again(lambda m: m.compile(keras.optimizers.Adam(), loss), build, x, y, epochs)


def new_seed(build, x, y, epochs):
    return again(lambda m: keras.utils.set_random_seed(1), build, x, y, epochs)


def stored_weights(build, x, y, epochs):
    return again(lambda m: m.set_weights(m.get_weights()), build, x, y, epochs)


def nothing_trained(build, x, y, epochs):
    first = build().fit(x, y, epochs=epochs, verbose=0).history["loss"]
    return first, [first[0]] * epochs


def initial_weights(build, x, y, epochs):
    """Another repair: the weights of the beginning are put back."""
    model = build()
    weights = model.get_weights()
    first = model.fit(x, y, epochs=epochs, verbose=0).history["loss"]
    model.set_weights(weights)
    model.compile("adam", "sparse_categorical_crossentropy")
    return first, model.fit(x, y, epochs=epochs, verbose=0).history["loss"]


def rule(*args, **kwargs):
    return lambda: keras.callbacks.EarlyStopping(*args, **kwargs)


def scaled_apart(train, test):
    return tuple((x - x.mean(axis=0)) / x.std(axis=0) for x in (train, test))


def scaled_by_the_test_set(train, test):
    return tuple((x - test.mean(axis=0)) / test.std(axis=0) for x in (train, test))


def by_one_number(train, test):
    """Another repair, usual for images: one mean and one deviation, in float32."""
    train, test = train.astype("float32"), test.astype("float32")
    return tuple((x - train.mean()) / train.std() for x in (train, test))


def scaled_to_one(train, test):
    return train / train.max(axis=0), test / train.max(axis=0)


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


def of_a_view(y, rng):
    labels = y[:][:100]
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


def drawn_anew(y, rng):
    return rng.integers(0, 10, len(y)) * 0 + rng.integers(0, 5, len(y))


def halved_by(schedule):
    def train(model, x, y, epochs):
        rule = keras.callbacks.LearningRateScheduler(schedule)
        model.fit(x, y, epochs=epochs, callbacks=[rule], verbose=0)

    return train


def halved_afterwards(model, x, y, epochs):
    model.fit(x, y, epochs=epochs, verbose=0)
    model.optimizer.learning_rate = model.optimizer.learning_rate / 2**epochs


def halved_each_step(model, x, y, epochs):
    model.optimizer.learning_rate = keras.optimizers.schedules.ExponentialDecay(1e-3, 1, 0.5)
    model.fit(x, y, epochs=epochs, verbose=0)


def fitted_in_turns(model, x, y, epochs):
    for epoch in range(epochs):
        model.optimizer.learning_rate = 1e-3 / 2**epoch
        model.fit(x, y, verbose=0)


def halved_in_turns(model, x, y, epochs):
    """Another repair: one epoch at a time."""
    for _ in range(epochs):
        model.fit(x, y, verbose=0)
        model.optimizer.learning_rate = float(model.optimizer.learning_rate) / 2


def drawn(*curves):
    """Return a program that draws, for each (label, run, metric), a curve."""

    def program(ax, plain, dropped):
        runs = {"plain": plain, "dropped": dropped}
        for label, run, metric in curves:
            ax.plot(runs[run][metric], label=label)

    return program


def named_in_the_legend(ax, plain, dropped):
    """Another repair: the names stand in the legend only."""
    for history in (plain, dropped):
        ax.plot(history["val_loss"])
    ax.legend(["plain", "dropout"])


def gap_without_sign(model, x, y, x_new, y_new):
    train = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    return abs(log_loss(y_new, model.predict(x_new, verbose=0)) - train)


def gap_less_strength(model, x, y, x_new, y_new):
    train = model.evaluate(x, y, verbose=0, return_dict=True)["loss"] - 0.1
    return log_loss(y_new, model.predict(x_new, verbose=0)) - train


def gap_of_the_same(model, x, y, x_new, y_new):
    of = [model.evaluate(x, y, verbose=0, return_dict=True) for _ in range(2)]
    return of[0]["log_loss"] - of[1]["log_loss"]


def gap_with_both(model, x, y, x_new, y_new):
    """Another repair: the penalty stands in both losses, and cancels."""
    of = [model.evaluate(*z, verbose=0, return_dict=True)["loss"] for z in ((x, y), (x_new, y_new))]
    return of[1] - of[0]


WRONG = {
    "augmentation": [
        augmented_once,
        augmented_once_in_batches,
        augmented_beside,
        augmented_always,
    ],
    "fresh_start": [new_optimizer, new_seed, stored_weights, nothing_trained],
    "monitor": [
        rule("val_acc", patience=3),  # Keras refuses it
        rule("val_accuracy", mode="min", patience=3),
        rule("accuracy", mode="max", patience=3),
        rule("val_loss", patience=3),
        rule("val_accuracy", mode="max", patience=0),
    ],
    "best_weights": [
        rule("val_loss", patience=0),
        rule("val_loss", patience=1, restore_best_weights=True),
        rule("val_accuracy", patience=3, restore_best_weights=True),
        rule("loss", patience=3, restore_best_weights=True),
    ],
    "statistics": [scaled_apart, scaled_by_the_test_set, scaled_to_one],
    "inference": [same_masks, average_of_masks, without_dropout, halved],
    "shuffled": [
        of_a_view,
        of_an_array,
        sorted_labels,
        not_shuffled,
        drawn_anew,
        by_another_generator,
    ],
    "schedule": [
        halved_by(lambda epoch, rate: rate / 2),  # one epoch too soon
        halved_by(lambda epoch, rate: 1e-3),
        halved_afterwards,
        halved_each_step,
        fitted_in_turns,  # with a rate of its own
    ],
    "report": [
        lambda val, test: test.max(),
        lambda val, test: test.min(),
        lambda val, test: test.mean(),
        lambda val, test: test[1],
    ],
    "curves": [
        drawn(("plain", "dropped", "val_loss"), ("dropout", "plain", "val_loss")),
        drawn(("plain", "plain", "loss"), ("dropout", "dropped", "loss")),
        drawn(("plain", "plain", "val_loss")),
        drawn(
            ("plain", "plain", "val_loss"),
            ("dropout", "plain", "val_loss"),  # the old curve lies beneath the new one
            ("dropout", "dropped", "val_loss"),
        ),
    ],
    "convention": [
        lambda strength, n: regularizers.L2(strength / 2),
        lambda strength, n: regularizers.L2(strength / n),
        lambda strength, n: regularizers.L1(strength / (2 * n)),
    ],
    "penalty": [gap_without_sign, gap_less_strength, gap_of_the_same],
}
OTHERS = {
    "augmentation": augmented_in_the_data,
    "fresh_start": initial_weights,
    "schedule": halved_in_turns,
    "statistics": by_one_number,
    "curves": named_in_the_legend,
    "penalty": gap_with_both,
}


@pytest.mark.parametrize("name", museum.CHECKS)
def test_repairs_that_are_none_are_refused(name):
    faults = [museum.fault(name, program) for program in WRONG[name]]
    assert len(faults) >= 2 and all(faults), faults


@pytest.mark.parametrize("name", OTHERS)
def test_another_repair_than_the_book_s_is_accepted(name):
    assert museum.fault(name, OTHERS[name]) is None


def test_misuse(capsys):
    with pytest.raises(BookError, match="there is no exhibit 'dropuot'"):
        museum.check("dropuot", print)
    museum.check("report", lambda val, test: 1 / 0)
    assert (
        capsys.readouterr().out
        == "Not yet: the program ends with ZeroDivisionError: division by zero.\n"
    )
