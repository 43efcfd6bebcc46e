"""IKE and MKA daemons of other makers, run in the lab in place of qsgwd."""
