"""`python3 -m cc_source_routing` is the command `source-routing`."""

import sys

from .cli.main import main

sys.exit(main())
