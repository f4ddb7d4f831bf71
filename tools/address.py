"""Write the repository's address where it is needed: `python -m tools.address https://…`.

These places are the first code cell of each notebook, which fetches the book where a notebook was
opened alone, the links of README.md, and CITATION.cff, from which the site takes its buttons.
Where no address is set, nothing is made up.
"""

import re
import sys
from pathlib import Path

from tools.notebooks import ROOT

sys.path.insert(0, str(ROOT / "_ext"))
from launch import ADDRESS

FETCH = """import os
import subprocess
import sys
from importlib.util import find_spec

BOOK = ""  # the repository's address: `make address` writes it
if not find_spec("utils"):  # a notebook that was opened alone, as on Colab and Kaggle
    if "google.colab" not in sys.modules and "KAGGLE_KERNEL_RUN_TYPE" not in os.environ:
        raise SystemExit("This kernel lacks the book: open the notebook by `make lab` (README.md).")
    if not BOOK:
        raise SystemExit("This notebook does not know where its book is: upload the whole book.")
    clone = ["git", "clone", "--quiet", "--depth=1", BOOK, "book"]
    if not os.path.isdir("book") and subprocess.call(clone):
        raise SystemExit(f"{BOOK} was not reached: switch the internet on and run this cell again.")
    sys.path.insert(0, os.path.abspath("book"))
    print(f"The book's code and results were fetched from {BOOK}; no package was changed.")
"""
LINKS = """[Colab](https://colab.research.google.com/github/{name}/blob/main/{chapter}) ·
[Kaggle](https://kaggle.com/kernels/welcome?src={address}/blob/main/{chapter}) ·
[Binder](https://mybinder.org/v2/gh/{name}/main?urlpath=lab/tree/{chapter}) ·
[Codespaces](https://codespaces.new/{name})"""


def write(address, root=ROOT):
    """Write an address, or none where it is empty, into the files of the book in `root`.

    Raises `SystemExit` for what is no address of a repository on GitHub or GitLab.
    """
    match = ADDRESS.match(address)
    if address and not match:
        raise SystemExit(
            f"{address} is no address of a repository: give one like https://github.com/OWNER/NAME."
        )
    address = f"https://{match[1]}/{match[2]}" if match else ""
    for path in sorted(Path(root, "chapters").glob("*.ipynb")):
        _replace(path, r'BOOK = \\"[^"\\]*\\"', f'BOOK = \\"{address}\\"')
    links = ""
    if match and match[1] == "github.com":
        chapter = "chapters/04_dropout.ipynb"
        links = "\nOpen chapter 4 in one of these, with nothing to install:\n"
        links += LINKS.format(name=match[2], address=address, chapter=chapter) + "\n"
    _replace(Path(root, "README.md"), r"(?<=<!-- links -->\n)[^<]*", links)
    code = f'repository-code: "{address}"\n' if address else ""
    _replace(Path(root, "CITATION.cff"), r"(?m)(^repository-code: .*\n)?(?=^license:)", code)


def _replace(path, pattern, new):
    """Put a text in place of the one that a pattern matches in a file."""
    text = path.read_text("utf-8")
    changed, count = re.subn(pattern, lambda _: new, text, count=1)
    if not count:
        raise SystemExit(f"{path} has no place for the address: restore it from the repository.")
    path.write_text(changed, "utf-8")


if __name__ == "__main__":
    write(sys.argv[1] if len(sys.argv) > 1 else "")
