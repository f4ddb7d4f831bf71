"""Sphinx extension: theme options that a file cannot know, above all the launch buttons.

They lead to this very repository, or there are none.

The address comes from `$BOOK_REPOSITORY`, or else from CITATION.cff, where `make address` puts it,
or else from the clone's `origin`, if it is a repository on a host that Binder serves; the branch
from `$BOOK_BRANCH`, or else from git. Neither git nor a clone is needed.
`$BOOK_BINDER` names a branch that holds nothing but `binder/`, if there is one: Binder then builds
no new image for a new sentence, and nbgitpuller fetches the book when a reader starts it.
`$BOOK_URL` says where the site will be published. Only then are there a sitemap, links to the book
as one file, and for each page a description, an address and a picture for those who link to it.
"""

import os
import re
import subprocess
from os.path import samefile
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

KEPT = "pdf", "epub"  # what publish.yml puts beside the site
# https://host/owner/name(.git) or git@host:owner/name(.git); nothing behind it, no password
ADDRESS = re.compile(
    r"^(?:https://|(?:ssh://)?git@)(github\.com|gitlab\.com)[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?$"
)


def _git(folder, *arguments):
    """Return git's answer, or nothing where there is no git or this is no repository."""
    command = ["git", "-C", folder, *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def _cited(folder):
    """Return the address in CITATION.cff, or nothing."""
    file = Path(folder, "CITATION.cff")
    found = file.exists() and re.search(r'(?m)^repository-code: "(.+)"', file.read_text("utf-8"))
    return found[1] if found else ""


def repository(folder):
    """Return the (address, branch) of a public repository, or None where there is none."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    mine = bool(top) and samefile(top, folder)  # not one that the folder merely lies in
    origin = _git(folder, "remote", "get-url", "origin") if mine else ""
    match = ADDRESS.match(os.environ.get("BOOK_REPOSITORY") or _cited(folder) or origin)
    if not match:
        return None
    current = _git(folder, "branch", "--show-current") if mine else ""
    branch = os.environ.get("BOOK_BRANCH") or current or "main"
    return f"https://{match[1]}/{match[2]}", branch


def _configure(app, config):
    found = repository(app.srcdir)
    address, branch = found or ("", "")
    launch = {"notebook_interface": "jupyterlab", "binderhub_url": "https://mybinder.org"}
    if address.startswith("https://github.com/"):  # Colab opens notebooks of GitHub alone
        launch["colab_url"] = "https://colab.research.google.com"
    config.html_theme_options |= {
        "repository_url": address,
        "repository_branch": branch,
        "path_to_docs": "",
        "use_repository_button": bool(found),
        "launch_buttons": launch if found else {},
        "navbar_persistent": [],  # the search field stands in the sidebar already
    }
    site = os.environ.get("BOOK_URL", "").rstrip("/")
    if site:
        config.html_baseurl = config.ogp_site_url = f"{site}/"
        config.sitemap_url_scheme = "{link}"
        config.ogp_site_name = config.project
        config.ogp_enable_meta_description = True
        config.ogp_social_cards = {"line_color": "#D55E00"}
        kept = (f'<a href="{site}/regularization.{kind}">{kind.upper()}</a>' for kind in KEPT)
        config.html_theme_options["extra_footer"] = f"<p>To keep: {', '.join(kept)}.</p>"
    config.notfound_urls_prefix = start = f"{urlsplit(site).path}/"
    config.notfound_context = {
        "title": "Not found",
        "body": "<h1>This page does not exist</h1><p>It may have moved. "
        f'<a href="{start}index.html">The first page</a> lists all chapters, and the field in '
        "the sidebar searches them.</p>",
    }


def _pull(app, page, template, context, doctree):
    """Lead a page's Binder button through the branch that holds the environment alone."""
    environment = os.environ.get("BOOK_BINDER")
    if not environment:
        return
    theme = app.config.html_theme_options
    address, branch = theme["repository_url"], theme["repository_branch"]
    place = f"lab/tree/book/{page}.ipynb"
    pull = {"repo": address, "branch": branch, "targetPath": "book", "urlpath": place}
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if "mybinder.org" in button.get("url", ""):
                start = button["url"].split("?")[0].removesuffix(branch)
                what = quote(f"git-pull?{urlencode(pull)}", safe="")
                button["url"] = f"{start}{environment}?urlpath={what}"


def setup(app):
    """Register the extension with Sphinx."""
    if os.environ.get("BOOK_URL"):
        app.setup_extension("sphinx_sitemap")
        app.setup_extension("sphinxext.opengraph")
    app.connect("config-inited", _configure)
    app.connect("html-page-context", _pull, priority=900)  # behind the theme, which makes buttons
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
