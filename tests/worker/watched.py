"""Asking a worker, or a server, as Prometheus does."""

from __future__ import annotations

import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Numbers = dict[str, dict[tuple[tuple[str, str], ...], float]]


def get(address: str, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(f"{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def parsed(text: str) -> Numbers:
    """Each sample, by its name and its labels."""
    found: Numbers = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def scraped(address: str) -> Numbers:
    """What /metrics tells."""
    status, body = get(address, "/metrics")
    assert status == 200, body
    return parsed(body)


def total(numbers: Numbers, name: str, **labels: str) -> float:
    """The sum of the samples that have these labels; there is one, at least."""
    some = [value for found, value in numbers[name].items() if labels.items() <= dict(found).items()]
    assert some, f"{name} {labels}"
    return sum(some)
