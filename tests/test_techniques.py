"""The techniques build what they say, and their colours and markers tell them apart."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from utils import techniques
from utils.techniques import (
    ARTICLE,
    ARTICLE_BUDGET,
    BUDGETS,
    LABEL_NOISE,
    LARGE,
    STYLE,
    TECHNIQUES,
    network,
)


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


@pytest.mark.parametrize("name", TECHNIQUES | ARTICLE)
def test_each_strength_reaches_the_network(name):
    technique = (TECHNIQUES | ARTICLE)[name]
    for strength in technique.strengths:
        options = technique.options(strength)
        stopping = options.pop("stopping", None)
        model = network(**options)
        dropout = layers_of(model, keras.layers.Dropout)
        moves = layers_of(model, keras.layers.RandomTranslation)
        penalties = [x.kernel_regularizer for x in layers_of(model, keras.layers.Dense)]
        found = {
            "learning rate": [float(model.optimizer.learning_rate)],
            "rate": [layer.rate for layer in dropout],
            "shift": [layer.height_factor for layer in moves],
            "λ": [float(x.l2 if hasattr(x, "l2") else x.l1) for x in penalties if x],
            "patience": [stopping["patience"]] if stopping else [],
        }
        np.testing.assert_allclose(found[technique.knob], strength, rtol=1e-6)
        assert penalties[-1] is None  # none on the layer that answers
        assert {type(x).__name__ for x in penalties if x} <= {name[:2]}
        assert [bool(found[knob]) for knob in ("rate", "shift", "λ", "patience")] == [
            "dropout" in name, "augment" in name, "L" in name, "stop" in name,
        ]  # fmt: skip


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
    assert network(**LARGE).count_params() == 784 * 500 + 500 + 4 * (500 * 501) + 501 * 10


def test_each_technique_has_the_same_budget():
    assert {len(technique.strengths) for technique in TECHNIQUES.values()} == {6}
    for technique in TECHNIQUES.values():
        assert list(technique.strengths) == sorted(set(technique.strengths))
    for n_train, budget in (BUDGETS | ARTICLE_BUDGET).items():
        assert n_train + budget.validation <= 60_000
    assert LABEL_NOISE[0] == 0


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
    assert set(TECHNIQUES) | {"weight decay"} == set(STYLE)
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
