"""Sphinx extension: pages that are valid HTML, and quick on a phone.

What pandas, myst-nb, Docutils and the theme write is brought in line with the HTML standard: header
cells get a scope, which screen readers need. A page waits for one style sheet and for no script,
and what this book has no use for is left out: by `templates/` the icons drawn by a script of 1.5 MB
(the theme has them as a font as well), and nearly all of the font's 1,900 icons.
"""

import functools
import hashlib
import re
import struct
import textwrap
from importlib.metadata import version
from pathlib import Path

from bs4 import BeautifulSoup
from docutils import nodes
from fontTools import subset
from sphinx.errors import ExtensionError

THEMES = ("pydata-sphinx-theme", "sphinx-book-theme")  # the second is built on the first
ONE_PANEL = 520  # pixels; a figure that is wider would be illegible on a phone if it had to fit
TEMPLATES = Path(__file__).parent / "templates"
MACRO = re.compile(r"\{%-? macro (\w+)")
SCRIPT = "scripts/pydata-sphinx-theme.js"
FONT = "vendor/fontawesome/webfonts/fa-solid-900.ttf"
ICON = r"(?:\.fa-[\w-]+:+before,?)+\{[^}]*\}"
ADDRESS = r"url\([^)]*fa-solid-900\.woff2\) format\(\"woff2\"\)"
# What is taken for granted of the theme, and what for. The build ends where any of it is missing;
# all else in this module is done where it applies.
EXPECTED = {
    "template": {  # has the macros of the one in `templates/`, which takes its place
        "static/webpack-macros.html": "leaves out what is loaded before the page is drawn",
    },
    "selector": {  # finds something on every page
        "html[data-theme]": "makes a page light where there are no scripts",
        "head script[data-cfasync]": "says there, before the page is drawn, if it is light or dark",
        "head link[rel=stylesheet]": "makes all style sheets one",
        "script[src*=documentation_options]": "puts it into the page, for scripts that change it",
        "article.bd-article, .bd-search-container": "describes the page by its first words",
    },
    "file": {  # in `_static/` of the site
        SCRIPT: "keeps the icons that it draws",
        FONT: "cuts it to the icons that are used",
    },
    "pattern": {  # matches in the style sheets
        ICON: "drops the rules for icons that are not used",
        ADDRESS: "puts the font that it has cut there",
    },
}
FORMULAS = (nodes.math, nodes.math_block)
# At once, since the theme's own script, which asks the same, comes after the content.
LIGHT_OR_DARK = """
    if (document.documentElement.dataset.theme === "auto")
      document.documentElement.dataset.theme =
        matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
"""
NAME = re.compile(r"\bfa-[\w-]+")  # of an icon
CODE = re.compile(r'"\\(f?[0-9a-f]{3,4})"')
IMPORT = re.compile(r'@import "([^"]+)";')
DONE = re.compile(r"_static/styles/[0-9a-f]{12}\.css")  # the one style sheet of a finished page


def _expect(kind, found):
    """End the build with a sentence where `found(what)` is not true of all that is expected."""
    for what, reason in EXPECTED[kind].items():
        if not found(what):
            base, theme = (f"{name} {version(name)}" for name in THEMES)
            raise ExtensionError(
                f"{theme} (on {base}) lacks the {kind} {what}, with which _ext/markup.py {reason}: "
                "adapt that file to the theme, or install the versions in requirements.txt."
            )


def _mend(page):
    """Bring the page in line with the HTML standard."""
    for style in page.select("div.output style"):
        style.decompose()
    for cell in page.select("th"):
        group, span = ("col", "colspan") if cell.find_parent("thead") else ("row", "rowspan")
        cell["scope"] = f"{group}group" if span in cell.attrs else group
        del cell["valign"]
    for row in page.select("tr[style]"):
        del row["style"]
    for line in page.select("summary p"):
        line.name = "span"
    for entry in page.select('[role="doc-biblioentry"]'):  # a role that has been withdrawn
        entry["role"] = "listitem"
    for button in page.select("button"):
        button.attrs.setdefault("type", "button")
        if not button.text.strip() and button.get("title"):
            button.attrs.setdefault("aria-label", button["title"])
    for element in page.select('main[role="main"]'):
        del element["role"]
    first = page.select_one(".bd-article section > p")
    if first and not page.select_one("meta[name=description]"):
        content = textwrap.shorten(first.text, 160, placeholder="…")
        page.head.append(page.new_tag("meta", attrs={"name": "description", "content": content}))


def _lighten(page, static, icons):
    """Let the page be drawn after one style sheet and before any script; drop what is not used."""
    del page.html["data-theme"]  # light where there are no scripts
    page.head.select_one("script[data-cfasync]").append(LIGHT_OR_DARK)
    for place, image in enumerate(page.select(".bd-article img:is([src$='.png'], [src$='.svg'])")):
        image["width"], image["height"] = _size(static.parent / "_images" / Path(image["src"]).name)
        name, value = ("loading", "lazy") if place else ("fetchpriority", "high")  # in sight
        image[name] = value
        if image["width"] > ONE_PANEL:
            image["class"] = [*image.get("class", []), "wide"]
    for script in page.select("script:not([data-cfasync])"):
        if "documentation_options" in script.get("src", ""):  # what follows sets some of them
            script.string = _file(script["src"], static).read_text("utf-8")
            del script["src"]
        elif script.get("src"):
            script["defer"] = ""
        page.body.append(script.extract())
    sheets = page.head.select("link[rel=stylesheet]")
    name = _bundle(tuple(_file(sheet["href"], static) for sheet in sheets), icons, static)
    for sheet in sheets[1:]:
        sheet.decompose()
    sheets[0]["href"] = re.sub("_static/.*", f"_static/{name}", sheets[0]["href"])


def _size(file):
    """Return the width and the height of an image in pixels: its place is kept free."""
    content = file.read_bytes()
    if file.suffix == ".png":
        return struct.unpack(">II", content[16:24])
    sides = re.search(rb'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"', content)
    return tuple(round(float(side) / 0.75) for side in sides.groups())  # matplotlib writes points


@functools.cache  # all pages have the same style sheets
def _bundle(files, icons, static):
    """Write one style sheet in place of several, and return its name."""
    text = _icons("\n".join(_rules(file, static) for file in files), icons, static)
    name = f"styles/{hashlib.sha256(text.encode()).hexdigest()[:12]}.css"
    (static / name).write_text(text, "utf-8")
    return name


def _file(address, static):
    """Return the file behind the address of a script or style sheet on a page."""
    return static / address.split("_static/")[1].split("?")[0]


def _rules(sheet, static):
    """Return a style sheet with those it imports, its addresses as seen from `styles/`."""
    text = sheet.read_text("utf-8")
    if sheet.parent == static:
        text = re.sub(r"url\((?!data:|/)", "url(../", text)
    text = text.replace("summary>p.", "summary>span.")  # as on the pages
    return IMPORT.sub(lambda found: _rules((sheet.parent / found[1]).resolve(), static), text)


def _icons(rules, used, static):
    """Keep of the font of icons, and of the rules for it, what is used."""

    def kept(found):
        return found[0] if used.intersection(NAME.findall(found[0])) else ""

    _expect("pattern", lambda pattern: re.search(pattern, rules))
    rules = re.sub(ICON, kept, rules)
    options = subset.Options(flavor="woff")
    font = subset.load_font(static / FONT, options)
    cut = subset.Subsetter(options)
    cut.populate(unicodes=[int(code, 16) for code in CODE.findall(rules)])
    cut.subset(font)
    subset.save_font(font, static / "styles/icons.woff", options)
    return re.sub(ADDRESS, "url(icons.woff)", rules)


def _put_first(app, config):
    config.templates_path.append(str(TEMPLATES))


def _check_templates(app):
    """Compare the macros of the theme's templates with those that stand in for them."""
    if app.builder.format != "html":
        return
    folders = [Path(folder) for folder in app.builder.theme.get_theme_dirs()]

    def same(name):
        theirs = next((f / name for f in folders if (f / name).is_file()), None)
        return theirs and _macros(theirs) == _macros(TEMPLATES / name)

    _expect("template", same)


def _leave_out_mathjax(app, pagename, templatename, context, doctree):
    """Of pages without formulas; Sphinx loads it also where a page below has some."""
    if not (doctree and any(doctree.findall(lambda node: isinstance(node, FORMULAS)))):
        context["script_files"] = [
            script
            for script in context["script_files"]
            if "mathjax" not in f"{script.filename} {script.attributes.get('body')}".lower()
        ]


def _macros(file):
    return set(MACRO.findall(file.read_text("utf-8")))


def _finish(app, error):
    """Go over the pages that this build has written."""
    if error or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static").resolve()
    _expect("file", lambda name: (static / name).is_file())
    texts = {file: file.read_text("utf-8") for file in sorted(Path(app.outdir).rglob("*.html"))}
    script = (static / SCRIPT).read_text("utf-8")
    icons = frozenset(NAME.findall(" ".join([script, *texts.values()])))
    for file, text in texts.items():
        if "</body>" in text and not DONE.search(text):
            page = BeautifulSoup(text, "html.parser")
            _expect("selector", page.select_one)
            _mend(page)
            _lighten(page, static, icons)
            file.write_text(str(page), "utf-8")


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("config-inited", _put_first)
    app.connect("builder-inited", _check_templates)
    app.connect("html-page-context", _leave_out_mathjax, priority=900)  # when it has been added
    app.connect("build-finished", _finish, priority=900)  # when all style sheets are there
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
