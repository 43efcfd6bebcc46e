"""Certificates: our own, those of peers and who vouches for them, and making them."""
