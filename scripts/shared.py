"""What does a check do when ../shared, the texts and models that are not in the tree, is absent?

Under CI=true it fails; elsewhere it says so and counts as skipped, which is no pass.
"""

import os
import sys
from pathlib import Path

SHARED = Path(os.environ.get("NEUROGLOT_SHARED", Path(__file__).resolve().parent.parent.parent / "shared"))


def need(check, *paths):
    """Returns when all paths exist; else ends the program with the last line that scripts/check.sh counts."""
    missing = [path for path in paths if not Path(path).exists()]
    if not missing:
        return
    if os.environ.get("CI") == "true":
        print(f"{check}: {missing[0]} is absent, which CI=true does not allow: NEUROGLOT_SHARED says where to look")
        print(f"{check}: 0 passed, 1 failed", flush=True)
        sys.exit(3)
    print(f"skipped: {missing[0]} is absent")
    print(f"{check}: 0 passed, 0 failed, 1 skipped", flush=True)
    sys.exit(0)
