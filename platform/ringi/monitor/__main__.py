"""`python -m ringi.monitor`."""

import sys

from ringi.monitor.main import main

sys.exit(main())
