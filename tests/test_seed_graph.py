"""What the engine of `train_seeds` uses of Keras's private parts, by name, and how it can break."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest
import test_matrix
from keras import layers, optimizers

from utils import seed_graph, training

UTILS = Path(seed_graph.__file__).parent
OF_MODEL = ["_symbolic_build", "_flatten_layers", "_call_has_training_arg"]
OF_MODEL += ["_compute_loss", "_loss_tracker"]
OF_OPTIMIZER = ["_use_weight_decay", "_all_reduce_sum_gradients", "_get_variable_index"]
OF_ADAM = ["_trainable_variables", "_momentums", "_velocities"]


def compiled():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("name", OF_MODEL)
def test_a_model_has(name):
    assert hasattr(compiled(), name)


@pytest.mark.parametrize("name", OF_OPTIMIZER + OF_ADAM)
def test_an_optimizer_has(name):
    assert hasattr(compiled().optimizer, name)


def test_keras_counts_names_under_this_attribute():
    keras.backend.clear_session()
    layers.Dense(1)
    assert seed_graph.global_state.get_global_attribute("object_name_uids")["dense"] == 1


def test_the_hooks_are_methods_of_a_model():
    assert all(hasattr(keras.Model, hook) for hook in seed_graph.HOOKS)
    assert all(hasattr(optimizers, name) for name in seed_graph.ELEMENTWISE)
    assert all(hasattr(compiled().optimizer, option) for option in seed_graph.MIXING)


@pytest.mark.parametrize(
    ("case", "size"),
    [
        ("plain", 512),
        ("dropout", 512),
        ("log-loss", 512),
        ("activity regularizer", 16),
        ("across images", 16),
        ("sum of log-losses", 16),
        ("own metric", 16),
        ("SimpleRNN", 16),
        ("AUC", 16),
    ],
)
def test_evaluation_is_quicker_where_batches_change_nothing(case, size):
    model = test_matrix.CASES[case].build()
    x, y = test_matrix.CASES[case].data()[:2]
    seed_graph.complete(model, x[:1], y[:1])
    assert seed_graph.evaluation_batch(model, 16) == size


def private(file):
    """Return the private names that a file takes from objects other than its own."""
    tree = ast.parse(file.read_text("utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
            if not (isinstance(node.value, ast.Name) and node.value.id == "self")}  # fmt: skip
    return {
        name
        for name in used - (own - set(OF_OPTIMIZER))
        if name.startswith("_") and not name.startswith("__")
    }


def test_private_names_stand_in_one_file_and_are_named_above():
    assert private(UTILS / "seed_graph.py") == {*OF_MODEL, *OF_OPTIMIZER, *OF_ADAM, "_replace"}
    others = set().union(*(private(f) for f in UTILS.glob("*.py") if f.name != "seed_graph.py"))
    assert others <= {"_replace", "_asdict", "_fields"}  # those of a NamedTuple are public
    text = "".join(f.read_text("utf-8") for f in UTILS.glob("*.py") if f.name != "seed_graph.py")
    assert "keras.src" not in text and "tensorflow.python" not in text


# Mutants of the engine: a fault in it is noticed before a reader's network is trained with it, or,
# where the first mini-batch cannot show it, by the comparison with `fit`.


def no_losses_of_layers(monkeypatch):
    old = seed_graph._Scope
    monkeypatch.setattr(
        seed_graph, "_Scope", lambda state_mapping, collect_losses: old(state_mapping)
    )


def a_shared_draw(monkeypatch):
    """All seeds draw what the first one draws."""
    old = seed_graph.SeedGraph._stacked

    def same(self, attribute):
        stacks = list(old(self, attribute))
        seeds = [np.issubdtype(stack.dtype, np.integer) for stack in stacks]
        return [np.stack([s[0]] * len(s)) if i else s for s, i in zip(stacks, seeds, strict=True)]

    monkeypatch.setattr(seed_graph.SeedGraph, "_stacked", same)


def a_stale_optimizer(monkeypatch):
    """The optimizer goes on with what it kept of the check's mini-batch."""
    monkeypatch.setattr(seed_graph.SeedGraph, "_load_optimizer", lambda self: None)


def adam_forgets_epsilon(monkeypatch):
    old = seed_graph._adam_step

    def step(optimizer, *args):
        kept, optimizer.epsilon = optimizer.epsilon, 1e-1
        old(optimizer, *args)
        optimizer.epsilon = kept

    monkeypatch.setattr(seed_graph, "_adam_step", step)


def state_is_not_kept(monkeypatch):
    old = seed_graph.SeedGraph._forward

    def forward(self, weights, state, *args, **kwargs):
        loss, _, totals = old(self, weights, state, *args, **kwargs)
        return loss, state, totals

    monkeypatch.setattr(seed_graph.SeedGraph, "_forward", forward)


def seeds_share_their_order(monkeypatch):
    def train(self, order, group):
        return old(self, order[:1] + 0 * order, group)

    old = seed_graph.SeedGraph.train
    monkeypatch.setattr(seed_graph.SeedGraph, "train", train)


def evaluation_trains(monkeypatch):
    def run(self, weights, x, y, shared, training):
        return old(self, weights, x, y, shared, training=True)

    old = seed_graph.SeedGraph._run
    monkeypatch.setattr(seed_graph.SeedGraph, "_run", run)


@pytest.mark.parametrize(
    ("mutant", "case"),
    [
        (no_losses_of_layers, "activity regularizer"),
        (no_losses_of_layers, "add_loss"),
        (a_shared_draw, "dropout"),
        (a_shared_draw, "flip"),
        (a_stale_optimizer, "plain"),
        (a_stale_optimizer, "trained before"),
        (adam_forgets_epsilon, "plain"),
        (state_is_not_kept, "batch normalization"),
        (seeds_share_their_order, "plain"),
        (evaluation_trains, "dropout"),
    ],
)
def test_a_fault_of_the_engine_is_noticed(mutant, case, monkeypatch):
    """Either `fit` takes over, which gives the right numbers, or the numbers are wrong."""
    mutant(monkeypatch)
    wrong, said = test_matrix.check(case)
    assert wrong or "otherwise than in `fit`" in said


@pytest.mark.parametrize(("faults", "by_fit"), [(1, False), (2, False), (3, True)])
def test_one_image_at_a_corner_of_relu_is_no_fault(faults, by_fit, tiny, monkeypatch, capsys):
    """What rounding decides shows in the mini-batch and in one of its halves, a fault in both."""
    looks, old = [], seed_graph.SeedGraph._differs

    def differs(self, order, group):
        looks.append(order.shape[1])
        assert not old(self, order, group)
        return "training" if len(looks) <= faults else ""

    monkeypatch.setattr(seed_graph.SeedGraph, "_differs", differs)
    training.train_seeds(test_matrix.CASES["plain"].build, tiny, 1, [4, 7], 15)
    assert ("the first training batch" in capsys.readouterr().out) == by_fit
    assert looks == [15, 7, 8][: faults + 1]


@pytest.mark.parametrize("fault", ["images", "labels"])
def test_other_images_than_the_seed_s_own_are_noticed(fault, monkeypatch, capsys):
    """The graph looks up a mini-batch in the rows of the first seed, Keras in the seed's own."""
    old = seed_graph.SeedGraph._in_order

    def in_order(self, order, group):
        rows, labels = old(self, order, group)
        split, some = self.splits["train"], order[:1] + 0 * order
        return (split.rows[0][some], labels) if fault == "images" else (
            rows, split.label_rows[0][some])  # fmt: skip

    monkeypatch.setattr(seed_graph.SeedGraph, "_in_order", in_order)
    sets = [test_matrix.blobs(), test_matrix.changed(lambda x: 1 - x, lambda y: (y + 1) % 3)()]
    training.train_seeds(test_matrix.CASES["plain"].build, sets, 1, [4, 7], 16)
    assert "the first training batch ends otherwise" in capsys.readouterr().out


def test_the_check_leaves_no_trace(tiny):
    """The variables of a model, and of its optimizer, are after the check what they were."""
    case = test_matrix.CASES["dropout"]
    splits = training._splits(tiny, [4, 7])
    models, _ = training._build_all(case.build, [4, 7], splits["train"])
    before = [[w.numpy().copy() for w in model.variables] for model in models]
    graph = seed_graph.SeedGraph(models, splits, 16)
    stacks = graph.weights + graph.state + graph.optimizer.variables
    kept = [np.array(keras.ops.convert_to_numpy(v)) for v in stacks]
    order = np.stack([np.random.default_rng(s).permutation(70) for s in (4, 7)])
    graph.check_first_batch(order, slice(0, 2))
    for model, values in zip(models, before, strict=True):
        for weight, value in zip(model.variables, values, strict=True):
            np.testing.assert_array_equal(weight.numpy(), value)
        assert int(model.optimizer.iterations) == 0
    for variable, value in zip(stacks, kept, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)
