"""Every measured number in a chapter's prose is one that the page itself has shown."""

import ast
import re

import pytest
from nbformat.v4 import new_notebook

from tools.notebooks import NOTEBOOKS, ROOT, as_text, cells, prose, read

PAGES = [p for p in NOTEBOOKS if p.name < "10" or p.name.startswith("wh")]
NUMBER = r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?"
SIGNED = rf"[+−-]?{NUMBER}"
INTERVAL = rf"({SIGNED})(?: points)? \(({SIGNED}) to ({SIGNED})\)"
KNOWN = {95.0, 0.001}  # the level of all intervals; Adam's learning rate in Keras


def measured(text):
    """Return the numbers of a text that look measured: with decimals, in percent or in points."""
    text = text.split("## Check yourself")[0]
    text = re.sub(r"^```.*?^```|\$\$.*?\$\$|\$.*?\$|`.*?`|^#.*?$", "", text, flags=re.S | re.M)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    unit = rf"\s?(?:%|points)|\s(?:to|and)\s{NUMBER}\s?%"
    found = re.finditer(rf"({NUMBER})(?P<unit>(?={unit}))?", text)
    return [number[1] for number in found if number["unit"] is not None or "." in number[1]]


def outputs(notebook):
    """Return the text of all outputs."""
    lines = as_text({"cells": cells(notebook, "code")}).splitlines()
    return "\n".join(line for line in lines if line.startswith("»"))


def written(notebook):
    """Return the numbers in the code, and the shares among them as percentages, too."""
    trees = [ast.parse(cell.source) for cell in cells(notebook, "code")]
    constants = [n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    numbers = {value for value in constants if type(value) in (int, float)}
    return {*numbers, *(round(100 * value, 9) for value in numbers if value < 1)}


def number(text):
    return float(text.replace(",", "").replace("−", "-"))


def rounds_to(value, text):
    """Tell whether a value is what the text says, as far as the text goes."""
    digits = len(text.partition(".")[2])
    return abs(value - number(text)) <= 0.5 * 10**-digits + 1e-9


def unshown(notebook, text):
    """Return what looks measured in a text and that no output rounds to, nor any code holds.

    A mean with its interval has to be the mean and the interval of one output.
    """
    seen = [number(found) for found in re.findall(NUMBER, outputs(notebook))]
    known = KNOWN | written(notebook)
    missing = [
        found
        for found in measured(text)
        if number(found) not in known and not any(rounds_to(value, found) for value in seen)
    ]
    triples = [tuple(map(number, found)) for found in re.findall(INTERVAL, outputs(notebook))]
    triples += [(-mean, -high, -low) for mean, low, high in triples]  # "cost 2.2", say
    for found in re.findall(INTERVAL, text):
        if not any(all(map(rounds_to, triple, found)) for triple in triples):
            missing.append(" ".join(found))
    return missing


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_numbers_in_prose_are_the_page_s_own(path):
    notebook = read(path)
    assert len(measured(prose(notebook))) >= 10, "summaries and results say how much"
    assert not unshown(notebook, prose(notebook))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_another_number_is_found_out(path):
    """The check above can fail: of intervals that are moved none is found, and few numbers are."""
    notebook = read(path)
    decimals = [found for found in measured(prose(notebook)) if "." in found]
    away = 17.3 if path.name.startswith("09") else 1.3  # chapter 9 prints its whole map
    moved = [f"{number(found) + away:.1f} points" for found in decimals]
    assert len(unshown(notebook, " ".join(moved))) > len(moved) / 3
    for mean, low, high in re.findall(INTERVAL, prose(notebook)):
        moved = f"{number(mean) + 0.2:.1f} points ({low} to {high})"
        assert unshown(notebook, moved), moved


FAQ = re.split("^### ", (ROOT / "chapters" / "faq.md").read_text("utf-8"), flags=re.M)[1:]


@pytest.mark.parametrize("answer", FAQ, ids=lambda answer: answer.splitlines()[0])
def test_numbers_of_an_answer_are_those_of_the_chapters_it_names(answer):
    answer = answer.split("\n## ")[0]
    named = {ROOT / "chapters" / name for name in re.findall(r"\]\((\w+\.ipynb)", answer)}
    pages = [cell for path in named for cell in read(path)["cells"]]
    assert not unshown(new_notebook(cells=pages), answer)


def test_the_questions_that_people_ask():
    assert len(FAQ) >= 25
    assert sum(bool(measured(answer)) for answer in FAQ) >= 10


def test_what_looks_measured():
    text = "From 78.2 to 85.7 % in 30 epochs, +7 points (6.8 to 8.1) with `rate=0.9` and $p = 0.3$."
    assert measured(text) == ["78.2", "85.7", "7", "6.8", "8.1"]
    assert measured("Of 1,000 images 5 and 6 % are [here](x.md#a-1.5).") == ["5", "6"]
