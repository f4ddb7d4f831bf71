"""The form of every chapter: what nbval cannot see."""

import ast
import base64
import re
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.name[:2].isdigit()]
TECHNIQUES = [path for path in CHAPTERS if path.name < "07"]
PUZZLES = [path for path in CHAPTERS if path.name < "10"]
BANNED = {  # calls that are gone, that hide a seed, or that spoil stored outputs
    "ImageDataGenerator": "augmentation layers",
    "to_categorical": "integer labels",
    "input_dim=": "keras.Input",
    "input_shape=": "keras.Input",
    "np.random.seed": "np.random.default_rng",
    "RandomState": "np.random.default_rng",
    "%pylab": "imports",
    "plt.show": "nothing: the figure is shown by itself",
    "tqdm": "nothing: stored outputs hold no progress bar",
    "pip install": "requirements.txt",
    "nb_epoch": "epochs",
}
PICTURES = {"image/png", "image/svg+xml"}


def pages_in_toc():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    return [entry["file"] for part in toc["parts"] for entry in part["chapters"]]


def test_every_notebook_is_in_the_table_of_contents():
    listed = {page for page in pages_in_toc() if (ROOT / f"{page}.ipynb").exists()}
    assert listed == {f"chapters/{path.stem}" for path in NOTEBOOKS}
    assert len(CHAPTERS) >= 7


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request):
    return nbformat.read(request.param, as_version=4)


def cells(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def prose(notebook):
    return "\n\n".join(cell.source for cell in cells(notebook, "markdown"))


def without_fences(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def test_executed_from_first_to_last(notebook):
    counts = [cell.execution_count for cell in cells(notebook, "code")]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_hold_results_only(notebook):
    for cell in cells(notebook, "code"):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source
            text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
            assert not re.search(r"(?<!\S)(/\w+){2,}|[A-Z]:\\", text), "absolute path"
            assert "%|" not in text and "it/s" not in text, "a progress bar was stored"
            assert "WARNING" not in text, "a library's warning was stored"
        assert not any("timestamp" in key or "iopub" in key for key in cell.metadata)


def test_the_seeds_of_chapters_train_side_by_side(chapter):
    """A line on `fit` is for readers' networks; under one of ours it would be a false alarm."""
    text = "".join(o.get("text", "") for cell in cells(chapter, "code") for o in cell.outputs)
    assert "are trained by `fit`" not in text


def test_full_mnist_in_stored_outputs(notebook):
    if "load_mnist(" not in "".join(cell.source for cell in cells(notebook, "code")):
        return
    text = "".join(o.get("text", "") for cell in cells(notebook, "code") for o in cell.outputs)
    assert "MNIST:" in text and "sample" not in text.split("MNIST:")[1].split("\n")[0]


def test_one_sentence_a_line(notebook):
    """So that a change of one sentence is a change of one line; the rendered page is the same."""
    text = re.sub(r"^```(?!\{admonition\}).+?^```", "", prose(notebook), flags=re.S | re.M)
    for line in text.splitlines():
        if not line.startswith(("|", "#", "$$")):
            line = re.sub(r"^[-\s]*\*\*.+?\*\*|\[[^]]*\]\([^)]*\)|“.*?”|\".*?\"", "", line)
            assert len(line) <= 400, line
            assert not re.search(r"[a-z]{2}[.?!]\)? +\(?[A-Z]", line), line


def test_one_title(notebook):
    assert re.match(r"# \S", notebook.cells[0].source)
    titles = re.findall(r"^# .*", without_fences(prose(notebook)), flags=re.M)
    assert len(titles) == 1


def test_shape(chapter):
    text = prose(chapter)
    headings = re.findall(r"^## (.*)", text, flags=re.M)
    assert headings[-4:] == ["Summary", "Check yourself", "Exercises", "References"]
    assert "references.md" in text.split("## References")[1]


@pytest.mark.parametrize("path", sorted({*CHAPTERS} - {*PUZZLES}), ids=lambda path: path.stem)
def test_later_chapters_open_with_a_question(path):
    notebook = nbformat.read(path, as_version=4)
    head = notebook.cells[0].source
    assert "**The question.**" in head and "**You will be able to**" in head
    assert head.count("\n- ") >= 3
    assert re.search(r"\*\*Minutes:\*\* \d+ to read, \S+ to run", head)
    assert "Before you look" in prose(notebook), "a chapter asks for a prediction"
    assert "\n## Setup\n" in prose(notebook)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_titles_have_the_number_of_the_file(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].source.startswith(f"# {int(path.name[:2])} · ")


@pytest.mark.parametrize("path", PUZZLES, ids=lambda path: path.stem)
def test_five_minutes_come_first(path):
    """A puzzle, a drawing, a result, the tick and what breaks it."""
    notebook = nbformat.read(path, as_version=4)
    text = prose(notebook)
    assert "?" in text.split("\n\n")[1], "it opens with a puzzle"
    assert "*Five minutes for the idea, " in text.split("\n\n")[2]
    drawn = next(i for i, cell in enumerate(notebook.cells) if "mystnb" in cell.metadata)
    ticked = next(i for i, cell in enumerate(notebook.cells) if "breaks={" in cell.source)
    explained = next(
        i for i, c in enumerate(notebook.cells) if "A tick marks a sentence" in c.source
    )
    assert drawn < ticked < explained


@pytest.mark.parametrize("path", TECHNIQUES, ids=lambda path: path.stem)
def test_the_line_why_and_when_not(path):
    first, rest = prose(nbformat.read(path, as_version=4)).split("## By hand")
    for part in ("```python", "**Why it ", "**When it does not.**", "A tick marks a sentence"):
        assert part in first
    assert "## In Keras" in rest


@pytest.mark.parametrize("path", PUZZLES, ids=lambda path: path.stem)
def test_brackets_are_rare(path):
    """Below 3 % of the words outside of formulas and links."""
    text = prose(nbformat.read(path, as_version=4)).split("## Check yourself")[0]
    text = re.sub(r"\$.*?\$|\]\(.*?\)|`.*?`", " ", without_fences(text), flags=re.S)
    inside = re.findall(r"\(([^)]*)\)", text)
    inside = [each for each in inside if re.search("[a-z]{3}", each) and "to" not in each.split()]
    assert len(" ".join(inside).split()) < 0.03 * len(text.split()), inside


def test_questions_have_answers_that_explain(chapter):
    text = prose(chapter).split("## Check yourself")[1].split("## Exercises")[0]
    form = r"```\{admonition\} Answer\n:class: dropdown\n(.*?)\n```"
    answers = re.findall(form, text, flags=re.S)
    assert len(answers) == len(re.findall(r"^\*\*\d\.", text, flags=re.M)) >= 3
    assert min(len(answer.split()) for answer in answers) >= 15


def test_exercises_have_solutions(chapter):
    text = prose(chapter).split("## Exercises")[1]
    assert len(re.findall(r"^\*\*\d\.", text, flags=re.M)) >= 3
    assert text.count("```{admonition} Solution\n:class: dropdown") >= 2
    hidden = [c for c in cells(chapter, "code") if "hide-cell" in c.metadata.get("tags", [])]
    assert hidden, "one exercise is an experiment whose solution is executed"
    assert "claim(" in hidden[-1].source


def test_code_cells_are_short(notebook):
    lengths = [len(cell.source.splitlines()) for cell in cells(notebook, "code")]
    assert max(lengths) <= 20
    assert sorted(lengths)[len(lengths) // 2] <= 12


def test_no_banned_call(notebook):
    for cell in cells(notebook, "code"):
        code = ast.parse(cell.source)
        for node in ast.walk(code):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                node.value = ""  # a text may speak of what is gone
        for call, instead in BANNED.items():
            assert call not in ast.unparse(code), f"{call}: use {instead}"


def test_figures_have_alt_text_and_captions(notebook):
    names = []
    for cell in cells(notebook, "code"):
        images = [o for o in cell.outputs if PICTURES & set(o.get("data", {}))]
        meta = cell.metadata.get("mystnb", {})
        assert bool(images) == bool(meta), f"figure without alt text, or the reverse: {cell.source}"
        if images:
            assert len(images) == 1
            assert len(meta["image"]["alt"]) > 60, "alt text says what is seen"
            assert len(meta["figure"]["caption"]) > 20
            names.append(meta["figure"]["name"])
    is_chapter = "## Exercises" in prose(notebook)
    assert len(set(names)) == len(names) >= (2 if is_chapter else 1)


@pytest.mark.parametrize(
    ("figure", "chapter", "page"),
    [
        ("dropout.svg", "04_dropout", "README.md"),
        ("dropout.svg", "04_dropout", "intro.md"),
        ("map.svg", "09_which_technique_when", "chapters/explorer.md"),
    ],
)
def test_copies_of_figures_are_those_of_the_chapters(figure, chapter, page):
    shown = (ROOT / "_static" / figure).read_bytes()
    notebook = nbformat.read(ROOT / "chapters" / f"{chapter}.ipynb", as_version=4)
    data = [output.get("data", {}) for cell in cells(notebook, "code") for output in cell.outputs]
    stored = [base64.b64decode(each["image/png"]) for each in data if "image/png" in each]
    stored += [each["image/svg+xml"].encode() for each in data if "image/svg+xml" in each]
    assert shown in stored, "run `make refresh`"
    assert f"_static/{figure}" in (ROOT / page).read_text("utf-8")


def test_claims_are_compared_and_folded_cells(notebook):
    for cell in cells(notebook, "code"):
        calls = len(re.findall(r"^claim\(", cell.source, flags=re.M))
        tags = cell.metadata.get("tags", [])
        assert bool(calls) == ("nbval-check-output" in tags), cell.source
        if calls:  # a number printed beside a claim would be compared with it
            assert {"hide-input", "hide-cell"} & set(tags), cell.source
            shown = [output.get("data", {}) for output in cell.outputs]
            shown = [data for data in shown if not PICTURES & set(data)]
            signs = [data.get("text/plain", "")[:2] for data in shown]
            assert signs.count("✓ ") == calls and set(signs) <= {"✓ ", "✗ "}
            assert all('class="claim' in data["text/html"] for data in shown)
    assert not re.search(r"nbval-(skip|ignore-output|raises-exception)", str(notebook))


@pytest.mark.parametrize("path", TECHNIQUES, ids=lambda path: path.stem)
def test_technique_chapters_make_claims(path):
    notebook = nbformat.read(path, as_version=4)
    claims = sum(cell.source.count("\nclaim(") + cell.source.startswith("claim(")
                 for cell in cells(notebook, "code"))  # fmt: skip
    assert claims >= 3
    assert "train_seeds(" in "".join(cell.source for cell in cells(notebook, "code"))
    assert ".fit(" in "".join(cell.source for cell in cells(notebook, "code"))


@pytest.mark.parametrize("page", ["intro", *pages_in_toc()], ids=lambda page: Path(page).name)
def test_links_between_pages_resolve(page):
    path = next(p for p in (ROOT / f"{page}.md", ROOT / f"{page}.ipynb") if p.exists())
    for target in re.findall(r"\]\(([\w/.-]+\.(?:md|ipynb))[)#]", path.read_text("utf-8")):
        assert (path.parent / target).exists(), f"{page} links to {target}"


def test_template_passes_for_a_chapter():
    """The template of CONTRIBUTING names every part that the tests above ask for."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for part in ("```python", "**Why it ", "**When it does not.**", "## By hand", "## In Keras"):
        assert part in text
    for part in ("breaks=", "## Summary", "## Check yourself", "## Exercises", "## References"):
        assert part in text
