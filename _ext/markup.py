"""Sphinx extension: bring what pandas, myst-nb and Docutils write in line with the HTML standard.

pandas gives tables a style of their own, and header cells without a scope, which screen readers
need; myst-nb puts paragraphs into summaries; Docutils gives the entries of a bibliography a role
that has been withdrawn.
"""

from bs4 import BeautifulSoup


def _mend(app, pagename, templatename, context, doctree):
    body = BeautifulSoup(context.get("body", ""), "html.parser")
    for style in body.select("div.output style"):
        style.decompose()
    for cell in body.select("th"):
        group, span = ("col", "colspan") if cell.find_parent("thead") else ("row", "rowspan")
        cell["scope"] = f"{group}group" if span in cell.attrs else group
        del cell["valign"]
    for row in body.select("tr[style]"):
        del row["style"]
    for line in body.select("summary p"):
        line.name = "span"
    for entry in body.select('[role="doc-biblioentry"]'):
        entry["role"] = "listitem"
    if body.contents:
        context["body"] = str(body)


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("html-page-context", _mend)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
