"""A farm in memory, for the tests of programs that submit jobs. `pixelkiln.testing` is its door."""
