"""`python -m byg_train`."""

from .cli.app import main

main()
