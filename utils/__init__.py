"""What the chapters share: data, training over seeds, evidence and figures."""


class BookError(ValueError):
    """A mistake that its one-sentence message explains; notebooks show no traceback."""

    def _render_traceback_(self):
        """Return the lines that IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]
