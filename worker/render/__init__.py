"""From a spec to a picture in memory: the resident models, their budget, their health."""
