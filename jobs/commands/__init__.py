"""The commands of a producer. `pixelkiln.worker.commands` mounts the worker's own beside them."""
