"""Read notebooks, execute them, and print one as plain text: `python -m tools.notebooks FILE`.

The text is what `git diff` compares where git was told so (see CONTRIBUTING.md). Git starts this
module twice for each notebook, so that what takes long to import is imported where it is used.
"""

import argparse
import ast
import base64
import contextlib
import hashlib
import importlib.util
import json
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.name[:2].isdigit()]
DOCUMENTED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def notebook_file(text):
    """Return the path of a notebook that a command line names; say in a sentence if there is none.

    Raises `argparse.ArgumentTypeError`.
    """
    path = Path(text)
    if path.suffix != ".ipynb" or not path.is_file():
        raise argparse.ArgumentTypeError(
            f"{text} is no notebook: name a file such as chapters/04_dropout.ipynb."
        )
    return path


def read(notebook):
    """Return a notebook, given by its path or, if it lies in `chapters/`, by its stem."""
    import nbformat

    path = Path(notebook)
    path = path if path.suffix else ROOT / "chapters" / f"{path}.ipynb"
    return nbformat.read(path, as_version=4)


def cells(notebook, kind):
    """Return the cells of one kind, "code" or "markdown"."""
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def prose(notebook):
    """Return the Markdown cells as one text."""
    return "\n\n".join(cell.source for cell in cells(notebook, "markdown"))


def claims(notebook):
    """Return the texts of the claims, in order, of a notebook given as for `read`."""
    return [
        ast.literal_eval(node.args[0])
        for cell in cells(read(notebook), "code")
        for node in ast.walk(_tree(cell.source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "claim"
    ]


def execute(notebook, folder=ROOT / "chapters", **options):
    """Execute the cells of a notebook in a new kernel in this folder, and store their outputs.

    `options` are those of `nbclient.NotebookClient`.
    """
    from nbclient import NotebookClient

    where = {"metadata": {"path": folder}}
    return NotebookClient(notebook, timeout=None, resources=where, **options).execute()


def stale(path):
    """Tell whether a notebook's outputs are older than its code or than what it imports."""
    notebook = read(path)
    return notebook.metadata.get("source_digest") != digest(notebook)


def digest(notebook):
    """Return a SHA-256 of a notebook's code and of all that it imports from the project.

    Comments and docstrings make no difference, nor does the version of Python, nor a cell that
    the site leaves out: it fetches the book where a notebook was opened alone.
    """
    shown = [c for c in cells(notebook, "code") if "remove-cell" not in c.metadata.get("tags", [])]
    trees = [_tree(cell.source) for cell in shown]
    modules, todo = {}, [name for tree in trees for name in _imported(tree, "")]
    while todo:
        name = todo.pop()
        path = ROOT.joinpath(*name.split("."))
        file = next(filter(Path.is_file, (path.with_suffix(".py"), path / "__init__.py")), None)
        if file and name not in modules:
            module = ast.parse(file.read_bytes())
            todo += _imported(module, ".".join(file.parent.relative_to(ROOT).parts))
            module.body = module.body[bool(ast.get_docstring(module)) :]
            modules[name] = _plain(module)
    content = json.dumps([_plain(trees), modules], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _tree(source):
    """Return the syntax tree of a cell; of one with IPython's magics, its text."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Constant(source)


def _imported(tree, package):
    """Return the names of all modules that code in this package may import."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            source = importlib.util.resolve_name(source, package)
            names += [f"{source}.{alias.name}" for alias in node.names]
    parts = [name.split(".") for name in names]
    return {".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}


def _plain(node):
    """Return a syntax tree as nested lists, without docstrings and without what is empty.

    (`ast.dump` writes the same code differently in Python 3.11, 3.12 and 3.13.)
    """
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
        fields["body"] = node.body[1:]
    if isinstance(node, ast.JoinedStr):  # Python 3.12 ends some of them with an empty text
        fields["values"] = [part for part in node.values if getattr(part, "value", True) != ""]
    full = {name: value for name, value in fields.items() if value not in (None, [])}
    return [type(node).__name__, *([name, _plain(value)] for name, value in full.items())]


def as_text(notebook):
    """Return what a reader of a change wants to see of a notebook, loaded from its JSON."""
    lines = []
    for cell in notebook["cells"]:
        metadata = dict(cell["metadata"])
        lines.append(" ".join(["%%", cell["cell_type"], *metadata.pop("tags", [])]))
        lines += "".join(cell["source"]).splitlines()
        if metadata:
            lines += json.dumps(metadata, indent=1, ensure_ascii=False).splitlines()
        for output in cell.get("outputs", ()):
            lines += [f"» {line}" for line in _output(output).splitlines()]
        lines.append("")
    return "\n".join(lines)


def _output(output):
    """Return an output as text; of a figure its kind, its size in kB and, as PNG, in pixels."""
    data = {kind: "".join(content) for kind, content in output.get("data", {}).items()}
    if "image/png" in data:
        image = base64.b64decode(data["image/png"])
        width, height = struct.unpack(">II", image[16:24])
        return f"[image/png, {width}×{height}, {len(image) / 1e3:.1f} kB]"
    for kind, content in data.items():
        if kind.startswith("image/"):
            return f"[{kind}, {len(content.encode()) / 1e3:.1f} kB]"
    error = f"{output.get('ename')}: {output.get('evalue')}"
    return data.get("text/plain") or "".join(output.get("text", "")) or error


def main(arguments=None):
    """Print the notebook that the command line names, or what else the file holds."""
    parser = argparse.ArgumentParser(description="Print a notebook as plain text, for `git diff`.")
    parser.add_argument("file", type=Path)
    file = parser.parse_args(arguments).file
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        parser.error(f"{file} cannot be read: {error.strerror}.")
    with contextlib.suppress(ValueError):  # as with conflict markers in it
        text = as_text(json.loads(text))
    sys.stdout.buffer.write(text.encode())


if __name__ == "__main__":
    main()
