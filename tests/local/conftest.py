"""The servers that the tests here share."""

from tests.servers import local_instance

__all__ = ["local_instance"]
