"""Everything after the detectors: from two ends' raw records to identical named keys. REAL.

Sans-IO: no clock, no socket, no randomness of its own. ``blocks`` carries one block of one end
through its messages; every other module is one step of it and can be used alone.
"""
