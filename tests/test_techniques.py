"""The techniques build what they say, and their colours and markers tell them apart."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from utils import techniques
from utils.techniques import (
    ARMS,
    MAP,
    RATES,
    STYLE,
    configurations,
    network,
    options,
)


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def test_turns_are_half_as_large_as_shifts():
    model = network(shift=0.08)
    (turn,), (move,) = (
        layers_of(model, kind)
        for kind in (keras.layers.RandomRotation, keras.layers.RandomTranslation)
    )
    assert turn.factor == (-0.04, 0.04)
    assert move.height_factor == move.width_factor == 0.08


def test_the_networks_have_the_sizes_of_the_book():
    assert network().count_params() == 784 * 256 + 256 + 2 * (256 * 257) + 257 * 10
    assert network(hidden=(500,) * 5).count_params() == 784 * 500 + 500 + 4 * (500 * 501) + 501 * 10


def test_each_arm_has_the_same_search():
    """18 configurations, the same learning rates, each strength twice; all reach the network."""
    for name, arm in ARMS.items():
        tried = configurations(arm)
        assert [rate for rate, _ in tried] == sorted(RATES) and len(set(tried)) == 18
        given = [options(arm, *configuration) for configuration in tried]
        assert [each["learning_rate"] for each in given] == list(RATES)
        described = {str([getattr(v, "get_config", lambda v=v: v)() for v in each.values()])
                     for each in given}  # fmt: skip
        assert len(described) == 18, name
        if arm.strengths:
            places = [arm.strengths.index(strength) for _, strength in tried]
            assert sorted(places) == sorted(2 * list(range(9))), name
            for start in range(0, 18, 3):
                assert sorted(place // 3 for place in places[start : start + 3]) == [0, 1, 2]
    for name, other in (("L2 + dropout", "rate"), ("dropout + augmentation", "shift")):
        arm = ARMS[name]
        seconds = [options(arm, *configuration)[other] for configuration in configurations(arm)]
        assert sorted(seconds) == sorted(2 * arm.seconds)


def test_the_layer_that_answers_has_no_penalty():
    *hidden, last = layers_of(network(penalty=keras.regularizers.L2(0.1)), keras.layers.Dense)
    assert [layer.kernel_regularizer.l2 for layer in hidden] == pytest.approx([0.1] * 3)
    assert last.kernel_regularizer is None


def test_every_size_has_as_many_mini_batches():
    for n_train, budget in MAP.items():
        assert 1_340 <= budget.epochs * -(-n_train // 128) <= 1_350
        assert budget.epochs % budget.validation_freq == 0
        assert n_train + budget.validation <= 50_000


def test_dropout_with_inputs_and_max_norm():
    model = network(**options(ARMS["dropout + max-norm"], 1e-3, 9.0))
    assert [layer.rate for layer in layers_of(model, keras.layers.Dropout)] == [0.2, 0.5, 0.5, 0.5]
    assert isinstance(model.layers[0], keras.layers.Dropout)
    *hidden, last = layers_of(model, keras.layers.Dense)
    assert {layer.kernel_constraint.max_value for layer in hidden} == {9.0}
    assert last.kernel_constraint is None


def test_decay_is_of_the_kernels_alone():
    model = network(decay=0.4)
    optimizer = model.optimizer
    assert optimizer.weight_decay == 0.4
    decayed = [v.name for v in model.trainable_variables if optimizer._use_weight_decay(v)]
    assert set(decayed) == {"kernel"} and len(decayed) == 4


def test_smoothed_labels():
    """Against the formula, and against Keras's loss of labels that are one-hot."""
    p = np.array([[0.7, 0.2, 0.1, *[0.0] * 7], [0.1] * 10], "float32")
    y, wanted = np.array([0, 3]), keras.losses.CategoricalCrossentropy(label_smoothing=0.2)
    expected = wanted(np.eye(10, dtype="float32")[y], p)
    np.testing.assert_allclose(network(smoothing=0.2).loss(y, p), expected, rtol=1e-5)


def test_normalization_comes_before_the_activation():
    kinds = [type(layer).__name__ for layer in network(normalize=True, hidden=(4,)).layers]
    assert kinds == ["Flatten", "Dense", "BatchNormalization", "ReLU", "Dense"]


def test_a_convolutional_network():
    model = network(filters=(4, 8), hidden=(16,), max_norm=1.0)
    assert [type(layer).__name__ for layer in model.layers][:4] == ["Conv2D", "MaxPooling2D"] * 2
    kernel = 9 * np.ones((3, 3, 1, 4), "float32")
    limited = np.asarray(model.layers[0].kernel_constraint(kernel))
    np.testing.assert_allclose(np.linalg.norm(limited.reshape(-1, 4), axis=0), 1, rtol=1e-5)


def test_chapters_import_no_command_line():
    tree = ast.parse(Path(techniques.__file__).read_text("utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {getattr(node, "module", None) or node.names[0].name for node in nodes}
    assert names == {"collections.abc", "typing", "keras"}


# Colours and markers


def luminance(colours):
    """Return the relative luminance of colours of linear light, shape (n, 3), as WCAG has it."""
    return colours @ [0.2126, 0.7152, 0.0722]


def lab(colours):
    """Return CIELAB coordinates, shape (n, 3), of colours of linear light."""
    xyz = colours @ np.array(
        [[0.4125, 0.2127, 0.0193], [0.3576, 0.7152, 0.1192], [0.1804, 0.0722, 0.9503]]
    )
    xyz = xyz / [0.9505, 1, 1.089]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


SEEN_BY = {  # as Machado, Oliveira and Fernandes (2009) simulate full deficiencies
    "everyone": np.eye(3),
    "protanopes": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopes": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopes": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.fixture
def colours():
    """The colours in linear light, shape (n, 3)."""
    values = np.array([to_rgb(colour) for colour, _ in STYLE.values()])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def test_every_technique_has_a_style():
    assert {"early stopping", *ARMS} == set(STYLE)
    markers = [marker for _, marker in STYLE.values()]
    assert len(set(markers)) == len(markers)


def test_colours_stand_out_from_white(colours):
    assert (1.05 / (luminance(colours) + 0.05)).min() >= 3  # WCAG 1.4.11, for graphics


@pytest.mark.parametrize("reader", SEEN_BY)
def test_colours_differ_for_every_reader(reader, colours):
    seen = lab(np.clip(colours @ np.transpose(SEEN_BY[reader]), 0, 1))
    apart = np.linalg.norm(seen[:, None] - seen, axis=2)[~np.eye(len(seen), dtype=bool)]
    assert apart.min() > 12  # a just noticeable difference is about 2.3


def test_colours_differ_in_grey(colours):
    assert np.diff(np.sort(lab(colours)[:, 0])).min() > 4  # lightness, from 0 to 100
