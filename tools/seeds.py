"""What the kernels of `SEED_OFFSET=1000 make test` run before a notebook, by $PYTHONSTARTUP."""

if __name__ == "__main__":
    import os

    from tools.alarms import shift

    shift(int(os.environ["SEED_OFFSET"]))
    del os, shift  # the notebook has names of its own
