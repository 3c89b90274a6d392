"""Telling the operator's addresses of jobs and batches that end, beside the render path: docs/telling.md."""
