"""Sphinx extension: pages that are valid HTML, and quick on a phone.

What pandas, myst-nb, Docutils and the theme write is brought in line with the HTML standard: header
cells get a scope, which screen readers need. A page waits for one style sheet and for no script,
and what this book has no use for is dropped: Thebe, icons drawn by a script of 1.5 MB (the theme
has them as a font as well), and nearly all of the font's 1,900 icons.
"""

import functools
import hashlib
import re
import struct
import textwrap
from pathlib import Path

from bs4 import BeautifulSoup
from fontTools import subset

UNUSED = re.compile(r"thebe|fontawesome\.js", re.IGNORECASE)
# At once, since the theme's own script, which asks the same, comes after the content.
LIGHT_OR_DARK = """
    if (document.documentElement.dataset.theme === "auto")
      document.documentElement.dataset.theme =
        matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
"""
NAME = re.compile(r"\bfa-[\w-]+")  # of an icon
ICON = re.compile(r"(?:\.fa-[\w-]+:+before,?)+\{[^}]*\}")
CODE = re.compile(r'"\\(f?[0-9a-f]{3,4})"')
IMPORT = re.compile(r'@import "([^"]+)";')


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
    for preload in page.select("link[rel=preload]"):
        preload.decompose()
    page.html.attrs.pop("data-theme", None)  # light where there are no scripts
    page.select_one("script[data-cfasync]").append(LIGHT_OR_DARK)
    for image in page.select(".bd-article img[src$='.png']"):
        header = (static.parent / "_images" / Path(image["src"]).name).read_bytes()[16:24]
        image["width"], image["height"] = struct.unpack(">II", header)  # its place is kept free
        image["loading"] = "lazy"
    formulas = page.select_one(".math")
    seen = set()
    for element in page.select("link[rel=stylesheet], script:not([data-cfasync])"):
        text = str(element)
        if UNUSED.search(text) or text in seen or ("mathjax" in text and not formulas):
            element.decompose()
        elif element.name == "script":
            if "documentation_options" in text:  # what follows sets some of them at once
                element.string = _file(element["src"], static).read_text("utf-8")
                del element["src"]
            elif element.get("src"):
                element["defer"] = ""
            page.body.append(element.extract())
        seen.add(text)
    sheets = page.head.select("link[rel=stylesheet]")
    name = _bundle(tuple(_file(sheet["href"], static) for sheet in sheets), icons, static)
    for sheet in sheets[1:]:
        sheet.decompose()
    sheets[0]["href"] = re.sub("_static/.*", f"_static/{name}", sheets[0]["href"])


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

    rules = ICON.sub(kept, rules)
    options = subset.Options(flavor="woff")
    font = subset.load_font(static / "vendor/fontawesome/webfonts/fa-solid-900.ttf", options)
    cut = subset.Subsetter(options)
    cut.populate(unicodes=[int(code, 16) for code in CODE.findall(rules)])
    cut.subset(font)
    subset.save_font(font, static / "styles/icons.woff", options)
    return re.sub(r"url\([^)]*fa-solid-900\.woff2\) format\(\"woff2\"\)", "url(icons.woff)", rules)


def _finish(app, error):
    """Go over the pages that this build has written."""
    if error or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static").resolve()
    files = sorted(Path(app.outdir).rglob("*.html"))
    texts = {file: file.read_text("utf-8") for file in files}
    script = (static / "scripts/pydata-sphinx-theme.js").read_text("utf-8")
    icons = frozenset(NAME.findall(" ".join([script, *texts.values()])))
    for file, text in texts.items():
        if "</body>" in text and "styles/theme.css" in text:  # not done in an earlier build
            page = BeautifulSoup(text, "html.parser")
            _mend(page)
            _lighten(page, static, icons)
            file.write_text(str(page), "utf-8")


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("build-finished", _finish, priority=900)  # when all style sheets are there
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
