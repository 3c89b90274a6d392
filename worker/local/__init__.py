"""Servers for a machine that has none: Valkey and SeaweedFS, on loopback, while their owner lives."""
