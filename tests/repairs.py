"""Repairs of the museum's exhibits, right and wrong, by somebody who had not seen the checks."""

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops, regularizers
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

LOSS = "sparse_categorical_crossentropy"


def network(*front, penalty=None):
    stack = [keras.Input((28, 28, 1)), *front, layers.Flatten()]
    stack += [layers.Dense(64, activation="relu", kernel_regularizer=penalty)]
    model = keras.Sequential([*stack, layers.Dense(10, activation="softmax")])
    model.compile("adam", LOSS, metrics=["accuracy"])
    return model


def batches(n, rng, size=32):
    order = rng.permutation(n)
    return [order[i : i + size] for i in range(0, n, size)]


def layer_in_the_network(augment, x, y, epochs):
    model = network(augment)
    model.fit(x, y, epochs=epochs, verbose=0)
    return model


def own_gradient_loop(augment, x, y, epochs):
    model, rng = network(), np.random.default_rng()
    loss = keras.losses.SparseCategoricalCrossentropy()
    for _ in range(epochs):
        for rows in batches(len(x), rng):
            moved = augment(x[rows], training=True)
            with tf.GradientTape() as tape:
                value = loss(y[rows], model(moved, training=True))
            gradients = tape.gradient(value, model.trainable_weights)
            model.optimizer.apply(gradients, model.trainable_weights)
    return model


def dataset_repeated_in_one_fit(augment, x, y, epochs):
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(32).repeat(epochs)
    model = network()
    model.fit(data.map(lambda a, b: (augment(a, training=True), b)).prefetch(2), verbose=0)
    return model


def only_half_of_the_images_moved(augment, x, y, epochs):
    # the second half is never moved
    model, half = network(), len(x) // 2
    for _ in range(epochs):
        moved = augment(x[:half], training=True)
        model.fit(np.concatenate([moved, x[half:]]), y, verbose=0)
    return model


def each_move_kept_for_many_epochs(augment, x, y, epochs):
    # trains epochs times too long, and moves only after each round
    model = network()
    for _ in range(epochs):
        model.fit(augment(x, training=True), y, epochs=epochs, verbose=0)
    return model


def network_rebuilt_in_each_epoch(augment, x, y, epochs):
    # only the last epoch is left in the network returned
    for _ in range(epochs):
        model = network()
        model.fit(augment(x, training=True), y, verbose=0)
    return model


def moved_in_every_second_epoch(augment, x, y, epochs):
    # the other epochs see the images as they are
    model = network()
    for epoch in range(epochs):
        model.fit(x if epoch % 2 else augment(x, training=True), y, verbose=0)
    return model


def one_half_kept_for_validation(augment, x, y, epochs):
    # half the images are never trained on
    model = network(augment)
    model.fit(x, y, epochs=epochs, validation_split=0.5, verbose=0)
    return model


def halve(epoch, rate):
    return rate / 2 if epoch else rate


class Halving(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            self.model.optimizer.learning_rate = self.model.optimizer.learning_rate / 2


def own_callback(model, x, y, epochs):
    model.fit(x, y, epochs=epochs, callbacks=[Halving()], verbose=0)


def halved_between_single_fits(model, x, y, epochs):
    for epoch in range(epochs):
        if epoch:
            model.optimizer.learning_rate.assign(model.optimizer.learning_rate / 2)
        model.fit(x, y, verbose=0)


def gradient_tape_and_apply(model, x, y, epochs):
    rng, loss = np.random.default_rng(), keras.losses.SparseCategoricalCrossentropy()
    for epoch in range(epochs):
        model.optimizer.learning_rate = model.optimizer.learning_rate / (2 if epoch else 1)
        for rows in batches(len(x), rng):
            with tf.GradientTape() as tape:
                value = loss(y[rows], model(x[rows], training=True))
            gradients = tape.gradient(value, model.trainable_variables)
            model.optimizer.apply(gradients, model.trainable_variables)


def first_epoch_halved_too(model, x, y, epochs):
    # the first epoch has half the rate it should begin with
    halving = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    model.fit(x, y, epochs=epochs, callbacks=[halving], verbose=0)


def powers_of_the_current_rate(model, x, y, epochs):
    # the powers compound: 1, 1/2, 1/8, 1/64
    falling = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5**epoch)
    model.fit(x, y, epochs=epochs, callbacks=[falling], verbose=0)


def three_rates_written_in(model, x, y, epochs):
    # from the fourth epoch on the rate stays
    first = float(model.optimizer.learning_rate)
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: first / (1, 2, 4)[min(epoch, 2)])
    model.fit(x, y, epochs=epochs, callbacks=[rates], verbose=0)


def replaced_by_adam(model, x, y, epochs):
    # the network may have another optimizer
    first = float(model.optimizer.learning_rate)
    model.compile(keras.optimizers.Adam(first), LOSS)
    halving = keras.callbacks.LearningRateScheduler(halve)
    model.fit(x, y, epochs=epochs, callbacks=[halving], verbose=0)


def not_below_a_quarter(model, x, y, epochs):
    # from the fourth epoch on the rate stays
    low = float(model.optimizer.learning_rate) / 4
    halving = keras.callbacks.LearningRateScheduler(lambda e, r: max(r / 2, low) if e else r)
    model.fit(x, y, epochs=epochs, callbacks=[halving], verbose=0)


def the_name_corrected():
    return keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=3)


class StopsOnError(keras.callbacks.EarlyStopping):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, {"val_error": 1 - logs["val_accuracy"]})


def lowest_error_rate():
    return StopsOnError("val_error", mode="min", patience=3)


def patience_of_numpy():
    seen = []

    def look(epoch, logs):
        seen.append(logs["val_accuracy"])
        rises = np.flatnonzero(np.diff(np.maximum.accumulate([-1, *seen])) > 0)
        callback.model.stop_training = bool(epoch - rises[-1] >= 3)

    callback = keras.callbacks.LambdaCallback(on_epoch_end=look)
    return callback


def validation_loss():
    # another curve, with its best epoch elsewhere
    return keras.callbacks.EarlyStopping("val_loss", mode="min", patience=3)


def training_accuracy():
    # of the images trained on, and it goes on rising
    return keras.callbacks.EarlyStopping("accuracy", mode="max", patience=3)


def rises_of_a_point_only():
    # a rise of less than one point is a rise
    return keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=3, min_delta=0.01)


def rises_of_a_tenth_of_a_point_only():
    # one image in more than a thousand is a rise
    return keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=3, min_delta=1e-3)


class StopsAtMax(keras.callbacks.EarlyStopping):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if logs["val_accuracy"] > 0.9:
            self.model.stop_training = True


def good_enough():
    # stops while accuracy is rising
    return StopsAtMax("val_accuracy", mode="max", patience=3)


def cloned_with_a_new_optimizer(build, x, y, epochs):
    model = build()
    first = model.fit(x, y, epochs=epochs, verbose=0).history["loss"]
    clone = keras.models.clone_model(model)
    clone.compile_from_config(model.get_compile_config())
    return first, clone.fit(x, y, epochs=epochs, verbose=0).history["loss"]


def losses_by_a_callback(build, x, y, epochs):
    losses = [], []
    for curve in losses:
        note = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, curve=curve: curve.append(logs["loss"])
        )
        build().fit(x, y, epochs=epochs, callbacks=[note], verbose=0)
    return losses


def tape_losses(model, x, y, epochs):
    losses, rng, weights = [], np.random.default_rng(), model.trainable_variables
    for _ in range(epochs):
        total = 0.0
        for rows in batches(len(x), rng):
            with tf.GradientTape() as tape:
                value = model.compute_loss(x[rows], y[rows], model(x[rows], training=True))
            total += float(value) * len(rows)
            model.optimizer.apply(tape.gradient(value, weights), weights)
        losses.append(total / len(x))
    return losses


def gradient_tape_in_a_helper(build, x, y, epochs):
    return tape_losses(build(), x, y, epochs), tape_losses(build(), x, y, epochs)


def first_curve_twice(build, x, y, epochs):
    # there is no second experiment
    first = build().fit(x, y, epochs=epochs, verbose=0).history["loss"]
    return first, list(first)


def one_long_run_cut_in_two(build, x, y, epochs):
    # the second half is the same network
    losses = build().fit(x, y, epochs=2 * epochs, verbose=0).history["loss"]
    return losses[:epochs], losses[epochs:]


def second_one_epoch_shorter(build, x, y, epochs):
    # the second experiment is not as long as the first
    first = build().fit(x, y, epochs=epochs, verbose=0).history["loss"]
    return first, build().fit(x, y, epochs=epochs - 1, verbose=0).history["loss"]


def second_without_epochs(build, x, y, epochs):
    # one epoch, however many are asked for
    first = build().fit(x, y, verbose=0).history["loss"]
    return first, build().fit(x, y, verbose=0).history["loss"]


def one_epoch_short_on_both_sides(build, x, y, epochs):
    # one epoch too few
    first = build().fit(x, y, epochs=epochs - 1, verbose=0).history["loss"]
    return first, build().fit(x, y, epochs=epochs - 1, verbose=0).history["loss"]


def best_ones_restored():
    return keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)


class KeepsBest(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.best, self.waited, self.weights = np.inf, 0, None

    def on_epoch_end(self, epoch, logs=None):
        self.waited += 1
        if logs["val_loss"] < self.best:
            self.best, self.waited = logs["val_loss"], 0
            self.weights = self.model.get_weights()
        self.model.stop_training = self.waited >= 3

    def on_train_end(self, logs=None):
        self.model.set_weights(self.weights)


def lambda_with_a_dictionary():
    kept = {"loss": np.inf, "epoch": 0}

    def look(epoch, logs):
        if logs["val_loss"] < kept["loss"]:
            kept.update(loss=logs["val_loss"], epoch=epoch, w=callback.model.get_weights())
        callback.model.stop_training = epoch - kept["epoch"] >= 3

    def restore(logs):
        callback.model.set_weights(kept["w"])

    callback = keras.callbacks.LambdaCallback(on_epoch_end=look, on_train_end=restore)
    return callback


def default_monitor():
    return keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)


class RestoresLastLayer(KeepsBest):
    def on_train_end(self, logs=None):
        n = len(self.model.layers[-1].get_weights())
        self.model.layers[-1].set_weights(self.weights[-n:])


def only_the_last_layer_restored():
    # the other layers are those of the last epoch
    return RestoresLastLayer()


class FirstLayerToo(KeepsBest):
    def on_train_end(self, logs=None):
        n = len(self.model.layers[0].get_weights()) or len(self.model.layers[1].get_weights())
        self.model.set_weights([*self.weights[:n], *self.model.get_weights()[n:]])


def only_the_first_weights_restored():
    # the layers behind are those of the last epoch
    return FirstLayerToo()


class KeepsKernels(KeepsBest):
    def on_train_end(self, logs=None):
        pairs = zip(self.weights, self.model.get_weights(), strict=True)
        self.model.set_weights([a if a.ndim > 1 else b for a, b in pairs])


def only_the_kernels_restored():
    # the biases are those of the last epoch
    return KeepsKernels()


def falls_of_less_than_a_hundredth_ignored():
    # a loss that is lower by less than 0.01 is lower
    return keras.callbacks.EarlyStopping(
        "val_loss", patience=3, min_delta=0.01, restore_best_weights=True
    )


class KeepsTrainable(KeepsBest):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if not self.waited:
            self.kept = [np.array(v) for v in self.model.trainable_variables]

    def on_train_end(self, logs=None):
        for variable, kept in zip(self.model.trainable_variables, self.kept, strict=True):
            variable.assign(kept)


def only_trainable_weights_restored():
    # the moving averages of BatchNormalization are those of the last epoch
    return KeepsTrainable()


def permutation(y, rng):
    return rng.permutation(y)


def swapped_one_by_one(y, rng):
    labels = np.array(y)
    for i in range(len(labels) - 1, 0, -1):
        j = rng.integers(i + 1)
        labels[i], labels[j] = labels[j], labels[i]
    return labels


def permuted_by_numpy(y, rng):
    return rng.permuted(y, axis=0)


def drawn_with_replacement(y, rng):
    # some labels come twice, and others not at all
    return rng.choice(y, size=len(y))


def own_fixed_seed(y, rng):
    # the same order each time, whatever the generator
    return np.random.default_rng(0).permutation(y)


def reversed_order(y, rng):
    # backwards is not random
    return y[::-1].copy()


def first_label_kept(y, rng):
    # one place off: the first label never moves
    return np.concatenate([y[:1], rng.permutation(y[1:])])


def shuffled_within_batches(y, rng):
    # a label never leaves its batch
    return np.concatenate([rng.permutation(y[i : i + 32]) for i in range(0, len(y), 32)])


def argument_left_out(model, x):
    return model(x)


def image_by_image(model, x):
    return np.vstack([np.asarray(model(x[i : i + 1])) for i in range(len(x))])


def saved_and_loaded(model, x):
    path = Path(tempfile.mkdtemp()) / "model.keras"
    model.save(path)
    return keras.models.load_model(path).predict(x, verbose=0)


def average_over_twenty_masks(model, x):
    # still random, only less so
    return np.mean([model(x, training=True) for _ in range(20)], axis=0)


def average_over_many_masks(model, x):
    # the mean of the answers is not the answer
    return np.mean([model(x, training=True) for _ in range(300)], axis=0)


def frozen_for_good(model, x):
    # the network can no longer be trained
    model.trainable = False
    return model(x)


def optimizer_replaced(model, x):
    # the network has lost its optimizer and its loss
    model.compile()
    return model.predict(x, verbose=0)


def right_answers_remembered(model, x):
    # other images get the answers of the first
    if not hasattr(model, "remembered"):
        model.remembered = model.predict(x, verbose=0)
    return model.remembered


def standard_scaler(train, test):
    scaler = StandardScaler().fit(train.reshape(len(train), -1))
    return tuple(scaler.transform(a.reshape(len(a), -1)).reshape(a.shape) for a in (train, test))


def normalization_layer(train, test):
    layer = layers.Normalization(axis=tuple(range(1, train.ndim)))
    layer.adapt(train)
    return np.asarray(layer(train)), np.asarray(layer(test))


def scaler_in_a_function(train, test):
    mean = train.mean(axis=0, keepdims=True)
    deviation = np.sqrt(((train - mean) ** 2).mean(axis=0, keepdims=True))
    deviation[deviation == 0] = 1

    def scale(images):
        return np.divide(np.subtract(images, mean), deviation)

    return scale(train), scale(test)


def guarded(deviation):
    return np.where(deviation == 0, 1, deviation)


def in_place(train, test):
    # the caller's arrays are overwritten
    mean, deviation = train.mean(axis=0), guarded(train.std(axis=0))
    for images in (train, test):
        images -= mean
        images /= deviation
    return train, test


def only_the_training_images_overwritten(train, test):
    # the caller's training images are gone
    mean, deviation = train.mean(axis=0), guarded(train.std(axis=0))
    train -= mean
    train /= deviation
    return train, (test - mean) / deviation


def one_mean_and_many_deviations(train, test):
    # the mean of a pixel is not 0
    mean, deviation = train.mean(), guarded(train.std(axis=0))
    return (train - mean) / deviation, (test - mean) / deviation


def constant_pixels_removed(train, test):
    # the images have lost pixels
    kept = train.std(axis=0) > 0
    mean, deviation = train.mean(axis=0)[kept], train.std(axis=0)[kept]
    return (train[:, kept] - mean) / deviation, (test[:, kept] - mean) / deviation


def only_the_training_images_guarded(train, test):
    # a test image is divided by zero where the training images are all the same
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    return (train - mean) / guarded(deviation), (test - mean) / deviation


def log_loss_on_both_sides(model, x, y, x_new, y_new):
    train = log_loss(y, model.predict(x, verbose=0), labels=range(10))
    return log_loss(y_new, model.predict(x_new, verbose=0), labels=range(10)) - train


def metric_of_keras(model, x, y, x_new, y_new):
    values = []
    for images, labels in ((x_new, y_new), (x, y)):
        metric = keras.metrics.SparseCategoricalCrossentropy()
        metric.update_state(labels, model.predict(images, verbose=0))
        values.append(float(metric.result()))
    return values[0] - values[1]


def penalty_on_both_sides(model, x, y, x_new, y_new):
    train = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    new = log_loss(y_new, model.predict(x_new, verbose=0), labels=range(10))
    return new + float(sum(model.losses)) - train


def both(model, x, y, x_new, y_new):
    train = log_loss(y, model.predict(x, verbose=0), labels=range(10))
    return train, log_loss(y_new, model.predict(x_new, verbose=0), labels=range(10))


def first_penalty_only(model, x, y, x_new, y_new):
    # other layers may have a penalty, too
    train = model.evaluate(x, y, verbose=0, return_dict=True)["loss"] - float(model.losses[0])
    return both(model, x, y, x_new, y_new)[1] - train


def training_mode_for_training_images(model, x, y, x_new, y_new):
    # dropout makes the training loss too high
    train = log_loss(y, np.asarray(model(x, training=True)), labels=range(10))
    return both(model, x, y, x_new, y_new)[1] - train


def fixed_gap(model, x, y, x_new, y_new):
    # a constant
    return 0.25


def first_hundred_images(model, x, y, x_new, y_new):
    # not the training loss of all images
    train, new = both(model, x[:100], y[:100], x_new, y_new)
    return new - train


def cut_to_the_same_length(model, x, y, x_new, y_new):
    # leaves out training images
    n = len(x_new)
    train, new = both(model, x[:n], y[:n], x_new, y_new)
    return new - train


def both_in_one_call(ax, plain, dropped):
    epochs = range(1, len(plain["val_loss"]) + 1)
    lines = ax.plot(epochs, plain["val_loss"], "k", epochs, dropped["val_loss"], "b--")
    for line, name in zip(lines, ("plain", "dropout"), strict=True):
        line.set_label(name)


def columns_of_a_matrix(ax, plain, dropped):
    losses = np.column_stack([plain["val_loss"], dropped["val_loss"]])
    ax.plot(np.arange(1, len(losses) + 1), losses, label=["plain", "dropout"])


def lines_filled_later(ax, plain, dropped):
    lines = ax.plot([], [], "k-", [], [], "k--")
    for line, name, run in zip(lines, ("plain", "dropout"), (plain, dropped), strict=True):
        line.set_data(range(1, len(run["val_loss"]) + 1), run["val_loss"])
        line.set_label(name)
    ax.relim()
    ax.autoscale_view()


def draw_two(ax, first, second, labels=("plain", "dropout")):
    for loss, style, label in zip((first, second), ("-", "--"), labels, strict=True):
        ax.plot(range(1, len(loss) + 1), loss, style, label=label)


def names_exchanged(ax, plain, dropped):
    # each curve has the name of the other
    draw_two(ax, plain["val_loss"], dropped["val_loss"], ("dropout", "plain"))


def training_loss_of_dropout(ax, plain, dropped):
    # with dropout on, and of images trained on
    draw_two(ax, plain["val_loss"], dropped["loss"])


def sorted_in_place(ax, plain, dropped):
    # neither the curve nor the history is left
    for run in (plain, dropped):
        run["val_loss"].sort(reverse=True)
    draw_two(ax, plain["val_loss"], dropped["val_loss"])


def epochs_of_dropout_moved(ax, plain, dropped):
    # the curve with dropout is one epoch late
    n = len(dropped["val_loss"])
    ax.plot(range(1, n + 1), plain["val_loss"], label="plain")
    ax.plot(range(2, n + 2), dropped["val_loss"], "--", label="dropout")


def drawn_and_hidden(ax, plain, dropped):
    # the second curve cannot be seen
    draw_two(ax, plain["val_loss"], dropped["val_loss"])
    ax.lines[1].set_visible(False)


def test_accuracy_of_the_winner(val, test):
    return test[np.argmax(val)]


def candidate_by_candidate(val, test):
    best = 0
    for i in range(1, len(val)):
        if val[i] > val[best]:
            best = i
    return test[best]


def index_of_a_list(val, test):
    return list(test)[list(val).index(max(val))]


def ties_broken_by_the_test(val, test):
    # where validation ties, the test set chooses
    return max(zip(val, test, strict=True))[1]


def rounded_before_the_choice(val, test):
    # rounding makes ties where there are none
    return test[val.round(2).argmax()]


def worse_of_the_two(val, test):
    # a validation accuracy whenever that is lower
    return min(val.max(), test[val.argmax()])


def chosen_on_the_first_twenty(val, test):
    # enough for the numbers shown only
    return test[val[:20].argmax()]


def validation_sorted_afterwards(val, test):
    # the caller's validation scores have lost their order
    winner = val.argmax()
    val.sort()
    return test[winner]


def nearly_as_good(val, test):
    # among those nearly as good the test set chooses
    return test[val >= val.max() - 0.002].max()


def divided_by_two_n(strength, n):
    return regularizers.L2(strength / (2 * n))


class TextbookL2(regularizers.L2):
    def __init__(self, strength, n):
        super().__init__(l2=strength / (2 * n))


def subclass_of_l2(strength, n):
    return TextbookL2(strength, n)


def config_changed(strength, n):
    config = regularizers.L2(strength).get_config()
    config["l2"] = float(config["l2"]) / (2 * n)
    return regularizers.L2.from_config(config)


def half_forgotten(strength, n):
    # twice the penalty wanted
    return regularizers.L2(strength / n)


def n_forgotten(strength, n):
    # n times the penalty wanted
    return regularizers.L2(strength / 2)


class KernelsOnly(regularizers.L2):
    def __call__(self, weights):
        return self.l2 * ops.sum(ops.square(weights[:, :10]))


def ten_columns_only(strength, n):
    # leaves out most of the weights
    return KernelsOnly(strength / (2 * n))


def capped(strength, n):
    # a strong penalty is weaker than wanted
    return regularizers.L2(min(strength / (2 * n), 0.01))


def never_weaker_than(strength, n):
    # a weak penalty is stronger than wanted
    return regularizers.L2(max(strength / (2 * n), 1e-4))


REPAIRS = {
    "augmentation": {
        "right": [layer_in_the_network, dataset_repeated_in_one_fit, own_gradient_loop],
        "wrong": [
            only_half_of_the_images_moved,
            each_move_kept_for_many_epochs,
            network_rebuilt_in_each_epoch,
            moved_in_every_second_epoch,
            one_half_kept_for_validation,
        ],
    },
    "schedule": {
        "right": [own_callback, halved_between_single_fits, gradient_tape_and_apply],
        "wrong": [
            three_rates_written_in,
            replaced_by_adam,
            not_below_a_quarter,
            first_epoch_halved_too,
            powers_of_the_current_rate,
        ],
    },
    "monitor": {
        "right": [the_name_corrected, lowest_error_rate, patience_of_numpy],
        "wrong": [
            rises_of_a_point_only,
            rises_of_a_tenth_of_a_point_only,
            good_enough,
            validation_loss,
            training_accuracy,
        ],
    },
    "fresh_start": {
        "right": [gradient_tape_in_a_helper, cloned_with_a_new_optimizer, losses_by_a_callback],
        "wrong": [
            one_epoch_short_on_both_sides,
            first_curve_twice,
            one_long_run_cut_in_two,
            second_one_epoch_shorter,
            second_without_epochs,
        ],
    },
    "best_weights": {
        "right": [best_ones_restored, default_monitor, lambda_with_a_dictionary],
        "wrong": [
            only_the_last_layer_restored,
            only_the_first_weights_restored,
            only_the_kernels_restored,
            falls_of_less_than_a_hundredth_ignored,
            only_trainable_weights_restored,
        ],
    },
    "shuffled": {
        "right": [permutation, permuted_by_numpy, swapped_one_by_one],
        "wrong": [
            first_label_kept,
            shuffled_within_batches,
            drawn_with_replacement,
            own_fixed_seed,
            reversed_order,
        ],
    },
    "inference": {
        "right": [argument_left_out, image_by_image, saved_and_loaded],
        "wrong": [
            frozen_for_good,
            optimizer_replaced,
            right_answers_remembered,
            average_over_twenty_masks,
            average_over_many_masks,
        ],
    },
    "statistics": {
        "right": [standard_scaler, normalization_layer, scaler_in_a_function],
        "wrong": [
            in_place,
            only_the_training_images_overwritten,
            one_mean_and_many_deviations,
            constant_pixels_removed,
            only_the_training_images_guarded,
        ],
    },
    "penalty": {
        "right": [log_loss_on_both_sides, penalty_on_both_sides, metric_of_keras],
        "wrong": [
            first_penalty_only,
            training_mode_for_training_images,
            first_hundred_images,
            cut_to_the_same_length,
            fixed_gap,
        ],
    },
    "curves": {
        "right": [columns_of_a_matrix, both_in_one_call, lines_filled_later],
        "wrong": [
            sorted_in_place,
            epochs_of_dropout_moved,
            drawn_and_hidden,
            names_exchanged,
            training_loss_of_dropout,
        ],
    },
    "report": {
        "right": [test_accuracy_of_the_winner, index_of_a_list, candidate_by_candidate],
        "wrong": [
            ties_broken_by_the_test,
            rounded_before_the_choice,
            worse_of_the_two,
            chosen_on_the_first_twenty,
            validation_sorted_afterwards,
            nearly_as_good,
        ],
    },
    "convention": {
        "right": [divided_by_two_n, subclass_of_l2, config_changed],
        "wrong": [ten_columns_only, capped, never_weaker_than, half_forgotten, n_forgotten],
    },
}
