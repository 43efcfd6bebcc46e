"""The qsgw gateway: daemon, protocol cores and command line."""

__version__ = "0.1.0"
