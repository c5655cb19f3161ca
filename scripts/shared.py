"""What does a check do when ../shared, the texts and models that are not in the tree, is absent?

Under CI=true it fails; elsewhere it says so and counts as skipped, which is no pass.
"""

import os
import sys
from pathlib import Path

SHARED = Path(os.environ.get("NEUROGLOT_SHARED", Path(__file__).resolve().parent.parent.parent / "shared"))


def absent(check, *paths):
    """(failed, skipped): none of both when all paths exist; else which does not is said, and one counts."""
    missing = [path for path in paths if not Path(path).exists()]
    if missing and os.environ.get("CI") == "true":
        print(f"{check}: {missing[0]} is absent, which CI=true does not allow: NEUROGLOT_SHARED says where to look")
        return 1, 0
    if missing:
        print(f"skipped: {missing[0]} is absent")
    return 0, int(bool(missing))


def need(check, *paths):
    """Returns when all paths exist; else ends the program with the last line that scripts/check.sh counts. For
    programs that have judged nothing yet."""
    failed, skipped = absent(check, *paths)
    if failed or skipped:
        finish(check, 0, failed, skipped)


def finish(check, passed, failed, skipped=0):
    """Ends the program with that line: exit code 3 where anything failed."""
    print(f"{check}: {passed} passed, {failed} failed{f', {skipped} skipped' if skipped else ''}", flush=True)
    sys.exit(3 if failed else 0)
