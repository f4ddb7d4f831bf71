"""Sphinx extension: the explorer's scripts, and its data, made from `results/` at build time.

All goes to `_static/explorer/` of the site, and not into `_static/` here, from where Jupyter Book
would load every script on every page. One data script per setting, `<n_train>-<label_noise, %>.js`,
calls `explorerData(setting, …)`; scripts, since a page opened from a folder may load those but no
other files. From `index.js` the page learns which settings there are, and the colours.
"""

import json
import shutil
from pathlib import Path
from urllib.parse import quote

from docutils import nodes
from sphinx import addnodes

from utils.evidence import at_best_strength, paired_difference
from utils.results import METRICS, load_results
from utils.techniques import STYLE, TECHNIQUES

SHOWN = ("accuracy", "log_loss")


def setting_data(scores, curves):
    """Return what the page shows of one setting: baseline, techniques, strengths, runs."""
    baseline = {
        metric: at_best_strength(scores, metric).query("technique == 'none'").set_index("seed")
        for metric in SHOWN
    }
    data = {"seeds": len(baseline["accuracy"]), "techniques": {}}
    data["baseline"] = {
        metric: {
            "strength": f"{rows['strength'].iloc[0]:g}",
            "test": rows[f"test_{metric}"].round(4).tolist(),
        }
        for metric, rows in baseline.items()
    }
    for (technique, strength), rows in scores.groupby(["technique", "strength"], sort=False):
        rows = rows.set_index("seed")
        own = curves.loc[
            (curves["technique"] == technique) & (curves["strength"] == strength), list(METRICS)
        ]
        cell = {"epoch": rows["epoch"].tolist(), "curves": {}, "test": {}, "difference": {}}
        for metric in METRICS:
            cell["curves"][metric] = [row.round(3).tolist() for row in own[metric]]
        for metric, chosen in baseline.items():
            cell["test"][metric] = rows[f"test_{metric}"].round(4).tolist()
            difference = paired_difference(rows[f"test_{metric}"], chosen[f"test_{metric}"])
            ends = difference.mean, difference.low, difference.high
            cell["difference"][metric] = [round(x, 5) for x in ends]
        knob = TECHNIQUES[technique].knob
        entry = data["techniques"].setdefault(technique, {"knob": knob, "cells": {}})
        entry["cells"][f"{strength:g}"] = cell
    return data


def _write(app, exception):
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir, "_static", "explorer")
    shutil.copytree(Path(__file__).parent / "explorer_page", folder, dirs_exist_ok=True)
    scores, curves = load_results("scores"), load_results("curves")
    settings = []
    for (n_train, label_noise), rows in scores.groupby(["n_train", "label_noise"]):
        name = f"{n_train}-{100 * label_noise:.0f}"
        settings.append(name)
        same = curves.loc[rows.index]
        data = json.dumps(setting_data(rows, same), separators=(",", ":"))
        (folder / f"{name}.js").write_text(f'explorerData("{name}",{data});\n', "utf-8")
    colours = {technique: STYLE[technique][0] for technique in scores["technique"].unique()}
    index = json.dumps({"settings": settings, "colours": colours})
    (folder / "index.js").write_text(f"explorerIndex({index});\n", "utf-8")


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
