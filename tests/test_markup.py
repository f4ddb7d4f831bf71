"""What the pages' last touch relies on: a theme that has something else is named."""

import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
from bs4 import BeautifulSoup
from sphinx.errors import ExtensionError

sys.path.insert(0, str(Path(__file__).parent.parent / "_ext"))
import markup

PAGE = """<html data-theme="auto"><head><script data-cfasync="false"></script>
<link rel="stylesheet" href="_static/styles/theme.css">
<script src="_static/documentation_options.js"></script></head>
<body><article class="bd-article"></article></body></html>"""


@pytest.mark.parametrize(
    ("now", "later", "missing"),
    [
        ("data-theme", "data-mode", "html[data-theme]"),
        ("data-cfasync", "data-first", "head script[data-cfasync]"),
        ("stylesheet", "preload", "head link[rel=stylesheet]"),
        ("documentation_options", "options", "script[src*=documentation_options]"),
        ("bd-article", "article", "article.bd-article, .bd-search-container"),
    ],
)
def test_a_page_without_what_is_expected(now, later, missing):
    markup._expect("selector", BeautifulSoup(PAGE, "html.parser").select_one)
    other = BeautifulSoup(PAGE.replace(now, later), "html.parser")
    with pytest.raises(ExtensionError) as error:
        markup._expect("selector", other.select_one)
    theme = f"sphinx-book-theme {version('sphinx-book-theme')} "
    assert str(error.value).startswith(theme) and f"lacks the selector {missing}," in str(
        error.value
    )


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ("a { color: red }", markup.ICON),
        ('.fa-bars { --fa: "\\f0c9" }', markup.ICON),
        ('.fa-bars:before{content:"\\f0c9"} @font-face { src: url(a.woff) }', markup.ADDRESS),
    ],
)
def test_style_sheets_without_what_is_expected(rules, missing, tmp_path):
    with pytest.raises(ExtensionError, match="lacks the pattern") as error:
        markup._icons(rules, {"fa-bars"}, tmp_path)
    assert missing in str(error.value)


def test_the_place_of_a_figure_is_kept_free(tmp_path):
    svg, png = tmp_path / "a.svg", tmp_path / "a.png"
    figure = plt.figure(figsize=(3.75, 1.5))
    for file in (svg, png):
        figure.savefig(file, dpi=100)
    plt.close(figure)
    assert markup._size(svg) == (360, 144) and markup._size(png) == (375, 150)


@pytest.mark.parametrize("theme", [None, "{% macro head_css() %}{% endmacro %}"])
def test_a_theme_with_other_macros(theme, tmp_path):
    (name,) = markup.EXPECTED["template"]
    folder = markup.TEMPLATES  # a theme with the same macros as ours
    app = SimpleNamespace(builder=SimpleNamespace(format="html", theme=SimpleNamespace()))
    app.builder.theme.get_theme_dirs = lambda: [str(folder)]
    markup._check_templates(app)
    folder = tmp_path
    if theme:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(theme)
    with pytest.raises(ExtensionError, match=f"lacks the template {name}"):
        markup._check_templates(app)
