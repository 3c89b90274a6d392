"""The seam between the service and the models: what an engine is, and how one is loaded."""
