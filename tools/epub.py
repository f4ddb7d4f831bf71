"""Write the whole book as an EPUB: `make epub`.

Sphinx makes it. What it leaves to be mended is what a reader of e-books has no use for, scripts
and what needs them, and what the rules for EPUB forbid: `epubcheck` finds no error afterwards.
Formulas are MathML, code is folded as on the site.
"""

import argparse
import re
import zipfile
from pathlib import Path

import yaml
from bs4 import BeautifulSoup

from tools.notebooks import ROOT
from tools.pdf import build

BUILD = ROOT / "_build" / "epub"
LEFT_OUT = {  # extensions for a page in a browser
    "launch", "explorer", "laboratory", "markup", "notfound.extension", "sphinx_comments",
    "sphinx_copybutton", "sphinx_togglebutton", "sphinx-mathjax-offline",
}  # fmt: skip
DROPPED = "script, style, [data-lab], #explorer, #explorer-notice, button, summary .expanded"
NARROW = "pre { white-space: pre-wrap; overflow-wrap: anywhere; }\n"  # a line may be longer
# The site's own styles, for elements of its theme and with selectors that EPUB does not know.
STYLES = re.compile(r"_static/(book|mystnb|explorer).*\.css|_static/laboratory/")


def configuration():
    """Return the book's configuration, as Jupyter Book reads it, for an EPUB."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    sphinx = config["sphinx"]
    sphinx["local_extensions"] = {"mathml": str(ROOT / "_ext")}
    extensions = [name for name in sphinx["config"]["extensions"] if name not in LEFT_OUT]
    sphinx["config"] |= {
        "extensions": [*extensions, "mathml"],
        "html_math_renderer": "mathml",
        "project": config["title"],
        "epub_basename": "regularization",
        "epub_description": "An executable book whose claims are checked",
        "epub_publisher": config["author"],
        "epub_contributor": "",
        "epub_show_urls": "no",
        "epub_tocdup": False,
    }
    return config


def mended(name, text, formulas):
    """Return a file of the EPUB as the rules want it; `formulas` are the pages that have some."""
    if name.endswith(".svg"):
        text = re.sub(r"<!DOCTYPE.*?>", "", text, flags=re.S)
        text = re.sub(r'(<image\b[^>]*?) id="[^"]*"', r"\1", text)  # the same for equal pictures
        return re.sub(r"<path (?![^>]*\bd=)", '<path d="M0 0" ', text)  # of a space
    if name.endswith(".opf"):
        text = re.sub(r"<(meta|dc:\w+)[^>]*></\1>\n?", "", text)
        text = re.sub(rf'<item id="[^"]*" href="({STYLES.pattern})"[^>]*/>\n?', "", text)
        for page in formulas:
            text = text.replace(f'href="{page}"', f'href="{page}" properties="mathml"')
        return text
    if not name.endswith(".xhtml") or name == "nav.xhtml":
        return text
    page = BeautifulSoup(text, "html.parser")
    for element in page.select(DROPPED):
        element.decompose()
    for element in page.select("link[href], a[href]"):
        if STYLES.search(element["href"]):
            element.unwrap() if element.name == "a" else element.decompose()
    for paragraph in page.select("summary p"):
        paragraph.unwrap()
    for table in page.select("table[border]"):
        del table["border"]
    return str(page)


def write(source, target):
    """Write the EPUB that Sphinx has made, file by file, mended."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        texts = {
            item.filename: old.read(item).decode()
            for item in old.infolist()
            if item.filename.endswith((".svg", ".opf", ".xhtml"))
        }
        formulas = [name for name, text in texts.items() if "<math" in text]
        for item in old.infolist():
            name = item.filename
            if STYLES.match(name):
                continue
            data = mended(name, texts[name], formulas).encode() if name in texts else old.read(item)
            data += NARROW.encode() * (name == "_static/epub.css")
            packed = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            new.writestr(name, data, packed)


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.epub", description=__doc__)
    parser.add_argument("target", nargs="?", default=ROOT / "_build" / "regularization.epub")
    target = Path(parser.parse_args(arguments).target)
    BUILD.mkdir(parents=True, exist_ok=True)
    settings = BUILD / "config.yml"
    settings.write_text(yaml.safe_dump(configuration(), allow_unicode=True), "utf-8")
    build(BUILD, "--config", settings, "--builder", "custom", "--custom-builder", "epub")
    write(BUILD / "_build" / "epub" / "regularization.epub", target)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
