"""The demo's world: no overlap of training and test, and fair false captions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from scenes import COLOURS, RELATIONS, SHAPES, SIZE, make_world, write_pairs


def test_worlds_are_disjoint_and_reproducible() -> None:
    world = make_world(2_000, 200, seed=0)
    assert (len(world.train), len(world.test)) == (2_000, 200)
    assert not {s.graph for s in world.train} & {s.graph for s in world.test}
    assert len({s.graph for s in world.test}) == 200
    assert make_world(2_000, 200, seed=0) == world
    for scene in world.train:
        assert len(set(scene.colours)) == len(set(scene.shapes)) == 2


def test_the_world_has_34848_graphs() -> None:
    assert len(COLOURS) * 11 * len(SHAPES) * 11 * len(RELATIONS) == 34_848


def test_false_captions_are_false_and_follow_the_same_grammar() -> None:
    rng = np.random.default_rng(0)
    world = make_world(500, 50, seed=0)
    for scene in world.test:
        for kind, caption in scene.false_captions(rng).items():
            assert caption != scene.caption()
            words, true = Counter(caption.split()), Counter(scene.caption().split())
            if kind.endswith("swap"):
                strip = lambda c: sorted("".join(c).replace(".", ""))  # noqa: E731
                assert strip(words.elements()) == strip(true.elements())


def test_writes_images_and_captions(tmp_path: Path) -> None:
    world = make_world(5, 5, seed=0)
    write_pairs(tmp_path, world.train, seed=0)
    lines = (tmp_path / "captions.tsv").read_text().splitlines()
    assert len(lines) == 6
    assert lines[1] == f"00000.png\t{world.train[0].caption()}"
    image = np.asarray(world.train[0].draw(np.random.default_rng(0)))
    assert image.shape == (SIZE, SIZE, 3)
    assert len(list((tmp_path / "images").iterdir())) == 5
