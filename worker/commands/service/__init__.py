"""`kiln service`: a worker, or this machine's servers, run by launchd or systemd."""
