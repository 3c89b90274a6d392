"""`python -m pixelkiln` is `kiln`."""

from pixelkiln.worker.commands.app import main

main()
