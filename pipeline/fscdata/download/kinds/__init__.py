"""The kinds of manifest: `kinds/NAME.py` defines `Kind`, found by the manifest's `kind: NAME`."""
