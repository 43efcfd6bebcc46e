"""``python -m qkd_adapters`` is ``qsgw-kme``."""

import sys

from qkd_adapters.cli import main

sys.exit(main())
