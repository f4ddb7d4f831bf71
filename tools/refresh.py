"""Re-execute notebooks and store their outputs: `python tests/refresh.py chapters/*.ipynb`.

Stored outputs hold no stderr and no timestamps. Prints seconds and peak memory per notebook.
"""

import base64
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

COPIES = {  # figures that are shown elsewhere, too: by the README, and where there is no JavaScript
    "fig-dropout-curves": "_static/dropout.png",
    "fig-map-accuracy": "_static/map.png",
}
PEAK = """
import resource as _r
print(_r.getrusage(_r.RUSAGE_SELF).ru_maxrss // 1024)
"""


def refresh(path):
    """Execute one notebook and write it back; return its seconds and peak memory in MB."""
    notebook = nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": path.parent}}
    options = {"record_timing": False, "coalesce_streams": True}  # one output, however it arrived
    client = NotebookClient(notebook, **options, timeout=None, resources=folder)
    began = time.monotonic()
    probe = nbformat.v4.new_code_cell(PEAK)
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        seconds = time.monotonic() - began
        notebook.cells.append(probe)
        client.execute_cell(probe, len(notebook.cells) - 1)
    notebook.cells.pop()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
            if name in COPIES:
                image = base64.b64decode(cell.outputs[0].data["image/png"])
                Path(COPIES[name]).write_bytes(image)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)
    return seconds, probe.outputs[0].text.strip()


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["STORE_REFERENCE"] = "1"  # these runs become those that readers compare theirs with
    for name in sys.argv[1:]:
        seconds, peak = refresh(Path(name))
        print(f"{name}  {seconds:.0f} s  {peak} MB", flush=True)
