"""From a spec to a picture in memory: the resident model, its budget, its health."""
