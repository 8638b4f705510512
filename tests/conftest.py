"""Fixtures that several parts of the suite share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Threads that wait for one another slow tiny models down on shared machines.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from support.captions import FLICKR_CAPTIONS, ODD, TEMPLATES

# A shell that runs the suite in the background has it ignore Ctrl-C, and so would the commands that
# the tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def captions() -> list[str]:
    """A few hundred captions, odd ones included."""
    return [*TEMPLATES, *ODD]


@pytest.fixture(scope="session")
def flickr_captions() -> list[str]:
    """Every fortieth caption of Flickr8k, or a skip."""
    if not FLICKR_CAPTIONS.is_file():
        pytest.skip(f"no {FLICKR_CAPTIONS.name} (set FSCKIT_FLICKR8K to its folder)")
    return FLICKR_CAPTIONS.read_text().splitlines()[::40]


@pytest.fixture(scope="session")
def wordnet_folder() -> Path:
    """WordNet's database folder on this machine."""
    candidates = [Path("/usr/share/wordnet")]
    try:
        import nltk

        candidates += [Path(p, "corpora", "wordnet") for p in nltk.data.path]
    except ImportError:
        pass
    for folder in candidates:
        if (folder / "index.sense").is_file():
            return folder
    pytest.skip("no WordNet here: apt-get install wordnet-base wordnet-sense-index")
