"""SIMULATED optics: what photons do between two QKD devices, and nothing after the detectors.

Sans-IO: no clock, no files, an injected ``numpy.random.Generator``. Only the channel process
and the tests import this package; devices see no more of it than ``qkd_adapters.records``.
"""
