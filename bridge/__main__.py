"""`python -m bridge` is `harvest-bridge`."""

from bridge.cli import main

main()
