"""`python -m sidecar` is `meshkey`."""

from sidecar.cli import main

main()
