"""Watches a quantum link: from the counts of each block to named alarms. No I/O, no clock."""
