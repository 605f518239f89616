"""`python -m rlxflow`: the command line."""

import sys

from rlxflow.cli.main import main

sys.exit(main())
