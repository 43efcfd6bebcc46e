"""What a command group is given to add its parser to."""

from __future__ import annotations

import argparse
from typing import TypeAlias

# Private in argparse by name only: it is what ``add_subparsers`` returns.
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001
