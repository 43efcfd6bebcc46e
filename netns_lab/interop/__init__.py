"""Scenarios of our gateway against IKE and MKA daemons of other makers."""
