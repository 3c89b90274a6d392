"""The commands of a worker, mounted beside a producer's; all of `kiln`."""
