"""Runs ``transformers serve FOLDER --port PORT`` with the tiny model's processor known to it.

Without that it would start all the same, answer with status 200, and leave every photo out.
"""

from __future__ import annotations

import sys

from transformers.cli.transformers import app

from retouch_agents.tiny import register_tiny_processor

if __name__ == "__main__":
    if "--unregistered" in sys.argv:
        sys.argv.remove("--unregistered")
    else:
        register_tiny_processor()
    app(["serve", *sys.argv[1:], "--host", "127.0.0.1", "--device", "cpu"])
