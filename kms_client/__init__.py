"""Client side of ETSI GS QKD 014: asks key-management entities for keys."""
