"""User-mode Linux as the lab kernel: a Linux kernel that is an ordinary program."""
