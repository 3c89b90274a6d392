"""An app's own package, which happens to be called like a folder of ours."""

NAME = "the app's jobs"
