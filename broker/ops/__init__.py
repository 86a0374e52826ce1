"""The HTTP port for those who operate the broker: probes, metrics, a live page."""
