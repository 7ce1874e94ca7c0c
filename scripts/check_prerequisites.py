"""Say in one sentence what is missing before anything is installed. Runs on any Python 3."""

import importlib.util
import shutil
import sys

if sys.version_info < (3, 11):
    sys.exit("retouch-gym needs Python 3.11 or newer; this is {}.{}.".format(*sys.version_info))
if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
    sys.exit("This Python has no venv module; install it (Debian: apt-get install python3-venv).")
if shutil.disk_usage(".").free < 4 * 2**30:
    sys.exit("Less than 4 GB of disk space is free here; the environment needs about 2 GB and its build some more.")
