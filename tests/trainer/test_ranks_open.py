"""torchrun's variables, set by another program."""

from __future__ import annotations

import pytest

from fscdata.base.errors import FsckitError
from fsctrain.distributed import open_ranks

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, .*RANK expected"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE is 2, .*MASTER_ADDR expected"),
        ({"WORLD_SIZE": "2", "RANK": "first"}, "WORLD_SIZE is 2, .*first"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is two, not a number of ranks"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is 0, not a number of ranks"),
    ],
)
def test_refuses_ranks_that_cannot_be_joined(
    variables: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FsckitError, match=sentence) as error, open_ranks("cpu"):
        pass
    assert "\n" not in str(error.value)
    assert "start several ranks with torchrun" in str(error.value)


def test_one_rank_needs_no_other_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "1")
    with open_ranks("cpu") as (ranks, device):
        assert (ranks.rank, ranks.size, device.type) == (0, 1, "cpu")
