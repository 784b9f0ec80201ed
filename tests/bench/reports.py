"""How benchmarks tell what they measured."""

import sys


def say(*lines: str) -> None:
    """Print lines at once, whoever reads them."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
