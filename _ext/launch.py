"""Sphinx extension: theme options that a file cannot know, above all the Binder button.

It leads to this very repository, or there is none.

The address comes from `$BOOK_REPOSITORY`, or else from the clone's `origin` where that is a
repository on a host that Binder serves; the branch from `$BOOK_BRANCH`, or else from git. Neither
git nor a clone is needed.
`$BOOK_URL` says where the site will be published. Only then are there a sitemap, and for each page
a description, an address and a picture for those who link to it.
"""

import os
import re
import subprocess
from os.path import samefile
from urllib.parse import urlsplit

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


def repository(folder):
    """Return the (address, branch) of a public repository, or None where there is none."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    mine = bool(top) and samefile(top, folder)  # not one that the folder merely lies in
    origin = _git(folder, "remote", "get-url", "origin") if mine else ""
    match = ADDRESS.match(os.environ.get("BOOK_REPOSITORY") or origin)
    if not match:
        return None
    current = _git(folder, "branch", "--show-current") if mine else ""
    branch = os.environ.get("BOOK_BRANCH") or current or "main"
    return f"https://{match[1]}/{match[2]}", branch


def _configure(app, config):
    found = repository(app.srcdir)
    address, branch = found or ("", "")
    launch = {"notebook_interface": "jupyterlab", "binderhub_url": "https://mybinder.org"}
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
    config.notfound_urls_prefix = start = f"{urlsplit(site).path}/"
    config.notfound_context = {
        "title": "Not found",
        "body": "<h1>This page does not exist</h1><p>It may have moved. "
        f'<a href="{start}index.html">The first page</a> lists all chapters, and the field in '
        "the sidebar searches them.</p>",
    }


def setup(app):
    """Register the extension with Sphinx."""
    if os.environ.get("BOOK_URL"):
        app.setup_extension("sphinx_sitemap")
        app.setup_extension("sphinxext.opengraph")
    app.connect("config-inited", _configure)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
