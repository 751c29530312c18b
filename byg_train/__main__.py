"""`python -m byg_train`."""

import sys

try:
    from .cli.app import main
except ModuleNotFoundError as error:
    if error.name.startswith("byg_train"):
        raise
    # The node pack installs nothing, so this is how many meet the trainer.
    sys.exit(
        f"error: byg_train needs the package {error.name!r}, which is not installed: "
        'pip install -e ".[train]" in its folder, or pip install "byg-train[train]"'
    )

main()
