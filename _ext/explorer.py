"""Sphinx extension: the explorer's scripts, and its data, made from `results/` at build time.

All goes to `_static/explorer/` of the site, and not into `_static/` here, from where Jupyter Book
would load every script on every page. One data script per setting, `<n_train>-<label_noise, %>.js`,
calls `explorerData(setting, …)`; scripts, since a page opened from a folder may load those but no
other files. From `index.js` the page learns the map, the colours, and the quantiles of Student's t.
"""

import json
import shutil
from pathlib import Path
from urllib.parse import quote

from docutils import nodes
from scipy import stats
from sphinx import addnodes

from utils.evidence import chosen
from utils.plots import tile_colours
from utils.results import METRICS, RESULTS, SETTING, against_plain, load_results
from utils.techniques import ARMS, STYLE

# The views of a setting: a score, and the epoch at which it is looked at.
VIEWS = {
    "accuracy last": ("accuracy", "last"),
    "accuracy best": ("accuracy", "best accuracy"),
    "log_loss last": ("log_loss", "last"),
    "log_loss best": ("log_loss", "best log-loss"),
}
CONFIGURATION = ["learning_rate", "strength"]
LIMITS = {"accuracy": 0.08, "log_loss": -0.3}  # where the map's colours end


def key(learning_rate, strength):
    """Return the name of a configuration, as the page uses it."""
    return f"{learning_rate:g} {strength:g}"


def map_data():
    """Return the map of each view: technique, setting, and there mean, clarity and two colours.

    Techniques stand in the order of their gains in accuracy at the last epoch.
    """
    data, order = {}, []
    for view, (metric, end) in VIEWS.items():
        table = against_plain(f"test_{metric}", metric, end)
        fills, inks = tile_colours(table["mean"], table["clear"], LIMITS[metric])
        gains = table.groupby("technique")["mean"].mean().sort_values(ascending=False)
        order = order or list(gains.index)
        rows = data[view] = {technique: {} for technique in order}
        for row, fill, ink in zip(table.itertuples(), fills, inks, strict=True):
            cell = [round(row.mean, 5), bool(row.clear), fill, ink]
            rows[row.technique][name(row.n_train, row.label_noise)] = cell
    return data


def name(n_train, label_noise):
    """Return the name of a setting, and of its file."""
    return f"{n_train}-{100 * label_noise:.0f}"


def setting_data(search, scores, curves):
    """Return what the page shows of one setting: for each arm what was searched, and its runs."""
    data = {"epochs": curves["epoch"].iloc[0].astype(int).tolist(), "arms": {}}
    picks = {view: chosen(search, [(end, metric)]) for view, (metric, end) in VIEWS.items()}
    for arm, tried in search.groupby("technique", sort=False):
        entry = data["arms"][arm] = {"knob": ARMS[arm].knob or "learning rate", "tried": []}
        for configuration, rows in tried.groupby(CONFIGURATION):
            by_end = rows.groupby("end")[["val_accuracy", "val_log_loss"]].mean()
            seen = [by_end.loc[end, f"val_{metric}"] for metric, end in VIEWS.values()]
            entry["tried"].append([*configuration, *(round(x, 4) for x in seen)])
        picked = {view: rows[rows["technique"] == arm].iloc[0] for view, rows in picks.items()}
        entry["chosen"] = {view: key(*row[CONFIGURATION]) for view, row in picked.items()}
        entry["runs"] = {
            key(*configuration): run_data(rows, curves.loc[curves["technique"] == arm])
            for configuration, rows in scores[scores["technique"] == arm].groupby(CONFIGURATION)
        }
    return data


def run_data(scores, curves):
    """Return the pairs of one configuration: curves, best epochs, and test scores of each view."""
    ends = dict(iter(scores.sort_values("seed").groupby("end")))
    same = (curves[CONFIGURATION] == scores[CONFIGURATION].iloc[0]).all(axis=1)
    own = curves[same].sort_values("seed")
    data = {"curves": {m: [run.tolist() for run in own[m]] for m in METRICS}, "test": {}, "at": {}}
    for view, (metric, end) in VIEWS.items():
        data["test"][view] = ends[end][f"test_{metric}"].round(5).tolist()
        data["at"][view] = ends[end]["epoch"].tolist()
    return data


def _write(app, exception):
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir, "_static", "explorer")
    shutil.copytree(Path(__file__).parent / "explorer_page", folder, dirs_exist_ok=True)
    scores, curves = (load_results(table, RESULTS / "map") for table in ("scores", "curves"))
    search = dict(iter(load_results("scores", RESULTS / "search").groupby(SETTING)))
    runs = dict(iter(curves.groupby(SETTING)))
    settings = []
    for setting, rows in scores.groupby(SETTING):
        settings.append(name(*setting))
        data = setting_data(search[setting], rows, runs[setting])
        text = f'explorerData("{settings[-1]}",{json.dumps(data, separators=(",", ":"))});\n'
        (folder / f"{settings[-1]}.js").write_text(text, "utf-8")
    index = {
        "settings": settings,
        "map": map_data(),
        "colours": {arm: STYLE[arm][0] for arm in ARMS},
        "t": [round(stats.t.ppf(0.975, pairs - 1), 4) for pairs in range(2, 11)],
        "usual": key(0.001, 0),  # the plain network at Keras's learning rate
    }
    (folder / "index.js").write_text(f"explorerIndex({json.dumps(index)});\n", "utf-8")


def _note_view(app, doctree):
    """Remember the view in `[…](explorer.md "n_train=1000&…")` until links are resolved.

    The laboratory's links are of the same kind.
    """
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link.get("title", "").startswith(("n_train=", "technique=")):
            wrapper = nodes.inline(view=quote(link.attributes.pop("title"), safe="=&"))
            link.replace_self(wrapper)
            wrapper += link


def _open_at_view(app, doctree, page):
    for wrapper in doctree.findall(lambda node: isinstance(node, nodes.inline) and "view" in node):
        for link in wrapper.findall(nodes.reference):
            if "refuri" in link:  # the page is part of the book
                link["refuri"] += "#" + wrapper["view"]


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("doctree-read", _note_view)
    app.connect("doctree-resolved", _open_at_view)
    app.connect("build-finished", _write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
