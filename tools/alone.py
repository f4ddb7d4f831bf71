"""Run notebooks as they run where they are opened alone: `python -m tools.alone ADDRESS [FILE …]`.

Each is copied into an empty folder and executed with a stand-in for `google.colab`; its first cell
then fetches the book from the address, a repository's. The Python that runs this must not have the
book installed. Prints seconds and peak memory per notebook, and ends with the first error.
"""

import argparse
import re
import shutil
import tempfile
from pathlib import Path

import nbformat

from tools.notebooks import NOTEBOOKS, notebook_file, read
from tools.refresh import refresh

STAND_IN = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')"


def alone(path, address):
    """Execute a copy of a notebook in an empty folder; return its seconds and peak memory in MB."""
    notebook = read(path)
    fetch = next(cell for cell in notebook.cells if 'BOOK = "' in cell.source)
    fetch.source = re.sub(r'BOOK = ".*?"', f'BOOK = "{address}"', fetch.source)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STAND_IN))
    folder = Path(tempfile.mkdtemp())
    nbformat.write(notebook, folder / path.name)
    try:
        return refresh(folder / path.name, copies=False)
    finally:
        shutil.rmtree(folder)


def main(arguments=None):
    """Run the notebooks, all of them unless files are named."""
    parser = argparse.ArgumentParser(prog="python -m tools.alone", description=__doc__)
    parser.add_argument("address", metavar="ADDRESS")
    parser.add_argument("files", nargs="*", type=notebook_file, metavar="FILE")
    options = parser.parse_args(arguments)
    for path in options.files or NOTEBOOKS:
        seconds, peak = alone(path, options.address)
        print(f"{path.name}  {seconds:.0f} s  {peak} MB", flush=True)


if __name__ == "__main__":
    main()
