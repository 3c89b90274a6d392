"""The service that renders on each machine."""
