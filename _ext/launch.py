"""Sphinx extension: theme options that a file cannot know, above all the Binder button.

It leads to this very repository, or there is none.

The address comes from `$BOOK_REPOSITORY`, or else from the clone's `origin` where that is a
repository on a host that Binder serves; the branch from `$BOOK_BRANCH`, or else from git.
"""

import os
import re
import subprocess

# https://host/owner/name(.git) or git@host:owner/name(.git); nothing behind it, no password
ADDRESS = re.compile(
    r"^(?:https://|(?:ssh://)?git@)(github\.com|gitlab\.com)[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?$"
)


def _git(folder, *arguments):
    command = ["git", "-C", folder, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def repository(folder):
    """Return the (address, branch) of a public repository, or None where there is none."""
    given = os.environ.get("BOOK_REPOSITORY") or _git(folder, "remote", "get-url", "origin")
    match = ADDRESS.match(given)
    if not match:
        return None
    branch = os.environ.get("BOOK_BRANCH") or _git(folder, "branch", "--show-current") or "main"
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


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("config-inited", _configure)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
