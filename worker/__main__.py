"""`python -m worker` is `kiln`."""

from worker.cli import main

main()
