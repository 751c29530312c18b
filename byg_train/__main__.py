"""`python -m byg_train`."""

from .cli import main

main()
