"""Execute notebooks and store their outputs: `python -m tools.refresh [FILE …]`; without, all.

Stored outputs hold no stderr and no timestamps, and figures are as small as they can be. With them
goes a digest of the code that they come from. Prints seconds and peak memory per notebook.
"""

import argparse
import base64
import io
import os
import sys
import time

import nbformat
import numpy as np
from nbclient.exceptions import CellExecutionError
from PIL import Image

from tools.notebooks import NOTEBOOKS, ROOT, cells, digest, execute, notebook_file, read
from utils.data import load_mnist, write_atomically

COPIES = {  # figures that are shown elsewhere, too: by the README, and where there is no JavaScript
    "fig-dropout-gains": "_static/dropout.svg",
    "fig-map-accuracy": "_static/map.svg",
}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "python",
    },
}
PEAK = """
import resource as _r
print(_r.getrusage(_r.RUSAGE_SELF).ru_maxrss // 1024)
"""
UNSEEN = 12  # of the 255 steps of a colour channel: what no eye sees in one pixel of an edge


def refresh(path, copies=True):
    """Execute one notebook and write it back; return its seconds and peak memory in MB.

    With `copies`, figures that are shown elsewhere, too, are written there.
    Raises `CellExecutionError`, and leaves the file as it is, if a cell fails.
    """
    notebook = read(path)
    source_digest = digest(notebook)
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
    began = time.monotonic()
    execute(notebook, path.parent, record_timing=False, coalesce_streams=True)
    seconds = time.monotonic() - began
    peak = notebook.cells.pop().outputs[0].text.strip()
    for cell in cells(notebook, "code"):
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for output in cell.outputs:
            name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
            _shrink(output, name if copies else None)
    notebook.metadata = METADATA | {"source_digest": source_digest}
    write_atomically(path, f"{nbformat.writes(notebook).rstrip()}\n".encode())
    return seconds, peak


def _shrink(output, name):
    """Make the figure in an output smaller, if there is one, and write the copy of one so named."""
    data = output.get("data", {})
    picture = data.get("image/svg+xml", "").encode()
    if "image/png" in data:
        picture = smaller(base64.b64decode(data["image/png"]))
        data["image/png"] = base64.b64encode(picture).decode()
    if picture and name in COPIES:
        write_atomically(ROOT / COPIES[name], picture)


def smaller(png):
    """Return a PNG that looks the same in fewer bytes; white stays white.

    It has a palette of 256 colours where no colour then moves by more than `UNSEEN`.
    """
    image = Image.open(io.BytesIO(png))
    if image.convert("RGBA").getextrema()[-1] == (255, 255):  # nothing shines through
        image = image.convert("RGB")
    versions = [png, _encoded(image)]
    if image.mode == "RGB":
        few = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        before, after = (np.asarray(i.convert("RGB"), int) for i in (image, few))
        white = (before == 255).all(axis=-1)
        if abs(after - before).max() <= UNSEEN and (after[white] == 255).all():
            versions.append(_encoded(few))
    return min(versions, key=len)


def _encoded(image):
    """Return an image as the bytes of a PNG, without a note of what drew it."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def main(arguments=None):
    """Refresh the notebooks, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.refresh", description=__doc__)
    parser.add_argument("files", nargs="*", type=notebook_file, metavar="FILE")
    paths = parser.parse_args(arguments).files or NOTEBOOKS
    loading = any("load_mnist(" in path.read_text("utf-8") for path in paths)
    if loading and len(load_mnist(n_train=10, n_val=10).x_test) < 10_000:
        print("Stored outputs are those of the full MNIST: name it by MNIST_NPZ.", file=sys.stderr)
        return 1
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["STORE_REFERENCE"] = "1"  # these runs become those that readers compare theirs with
    failed = False
    for path in paths:
        try:
            seconds, peak = refresh(path)
            print(f"{path.name}  {seconds:.0f} s  {peak} MB", flush=True)
        except CellExecutionError as error:
            failed = True
            print(f"{path.name} is as it was: {error.ename}: {error.evalue}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
