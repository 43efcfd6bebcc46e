"""Scenarios of our gateway against IKE daemons of other makers."""
