"""``python -m llt_nncf.cli`` is ``llt-nncf``."""

import sys

from llt_nncf.cli.main import main

sys.exit(main())
