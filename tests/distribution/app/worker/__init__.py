"""Another."""

NAME = "the app's worker"
