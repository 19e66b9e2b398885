"""The command line, run in the tests' own process."""

from mtl_jax import cli


def mtl_jax(*args):
    """Run it; the exit status."""
    try:
        cli.main([str(a) for a in args])
    except SystemExit as end:
        return end.code
    return 0
