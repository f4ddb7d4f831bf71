"""Print the whole book as one PDF: `make pdf`.

Sphinx writes all pages as one, and Chromium prints it: formulas, links between chapters, an outline
and alt texts are those of the site, and code is folded as there. What needs a browser to work, the
laboratory and the explorer, is replaced by what the site shows without JavaScript.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

from tools.notebooks import ROOT

BUILD = ROOT / "_build" / "pdf"
FOOTER = (
    '<div style="width: 100%; text-align: center; font-size: 8px"><span class="pageNumber"></span>'
)
LOADED = """() => Promise.all([...document.images].map((image) => {
  image.loading = "eager";
  return image.decode().then(() => null, () => image.src);
})).then((missing) => missing.filter(Boolean))"""


def build(folder, *options):
    """Build the book with these options of Jupyter Book in a folder. Raises `SystemExit`."""
    tool = Path(sys.executable).with_name("jupyter-book")
    command = [tool, "build", ROOT, "--path-output", folder, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2_000:])


def one_page():
    """Build the book as a single page of HTML and return its path."""
    build(BUILD, "--builder", "singlehtml")
    return BUILD / "_build" / "singlehtml" / "intro.html"


def print_page(source, target):
    """Print a page of HTML as a PDF. Raises `SystemExit` for a picture that is not there."""
    browsers = filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser")))
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=next(browsers, None), args=["--no-sandbox"]
            )
        except Error:
            raise SystemExit("A PDF is printed by Chromium: install it, or Chrome.") from None
        page = browser.new_page()
        page.goto(source.as_uri())
        page.evaluate("window.MathJax?.startup?.promise?.then(() => true)")
        missing = page.evaluate(LOADED)
        if missing:
            raise SystemExit(f"pictures are missing: {', '.join(missing)}")
        margins = dict.fromkeys(("top", "bottom", "left", "right"), "18mm")
        page.pdf(
            path=target, format="A4", margin=margins, print_background=True, outline=True,
            tagged=True, display_header_footer=True, header_template="<span></span>",
            footer_template=FOOTER,
        )  # fmt: skip
        browser.close()


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.pdf", description=__doc__)
    parser.add_argument("target", nargs="?", default=ROOT / "_build" / "regularization.pdf")
    target = Path(parser.parse_args(arguments).target)
    print_page(one_page(), target)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
