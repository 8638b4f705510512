from pathlib import Path

import pytest

from fscdata.base.errors import FsckitError
from fsctrain.weights import interpolate
from fsctrain.weights.load import find_checkpoint, load_base


def test_local_dir_names_a_run_or_a_checkpoint(make_run, small_config, pretrained: Path) -> None:
    folder, _ = make_run(small_config.model_copy(update={"pretrained": str(pretrained.parent)}))
    for path in (folder, folder / "checkpoint"):
        found = find_checkpoint(Path(f"local-dir:{path}"))
        assert found.folder == folder / "checkpoint"
        assert found.run == folder
        assert load_base(found, None).quick_gelu
    [mixed] = interpolate(Path(f"local-dir:{folder}"), "0.5")
    assert mixed == folder / "interpolated" / "alpha-0.50"


def test_a_hub_model_is_not_interpolated_inside_the_cache(
    make_run, small_config, monkeypatch
) -> None:
    folder, _ = make_run(small_config)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: folder / "checkpoint")
    assert find_checkpoint(Path("hf-hub:someone/clip")).folder == folder / "checkpoint"
    with pytest.raises(FsckitError, match="the hub's cache; choose another with `out`"):
        interpolate(Path("hf-hub:someone/clip"), "0.5")
