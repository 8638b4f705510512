"""A small world in which bag-of-words models fail: two coloured shapes and their arrangement.

A scene is a graph (colour, shape, relation, colour, shape). 12 colours and 12 shapes, distinct
within a scene, and two relations give 34,848 graphs. Captions name the left or upper object first.
Training and test scenes share no graph.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = 48  # pixels
_RADIUS = 6
_OVERSAMPLING = 4
COLOURS = {
    "red": (214, 39, 40),
    "green": (30, 130, 50),
    "blue": (40, 80, 220),
    "yellow": (240, 205, 20),
    "purple": (125, 50, 165),
    "pink": (250, 130, 190),
    "brown": (125, 75, 35),
    "black": (20, 20, 20),
    "gray": (135, 135, 135),
    "cyan": (25, 195, 215),
    "lime": (140, 225, 50),
    "navy": (20, 25, 105),
}
SHAPES = (
    "circle", "square", "triangle", "diamond", "star", "cross",
    "heart", "ring", "moon", "frame", "hexagon", "chevron",
)  # fmt: skip
RELATIONS = {
    "left": (
        "A {} is to the left of a {}.",
        "There is a {} to the left of a {}.",
        "A {} is on the left side of a {}.",
        "A {} lies to the left of a {}.",
    ),
    "above": (
        "A {} is above a {}.",
        "There is a {} above a {}.",
        "A {} is placed over a {}.",
        "A {} floats above a {}.",
    ),
}
_CENTRES = {"left": ((8, 24), (40, 24)), "above": ((24, 8), (24, 40))}


@dataclass(frozen=True)
class Scene:
    """A graph and its caption's template; the first object is the left or upper one."""

    colours: tuple[str, str]
    shapes: tuple[str, str]
    relation: str
    template: int

    @property
    def graph(self) -> tuple[tuple[str, str], tuple[str, str], str]:
        """The scene's content, independent of the caption's template."""
        return self.colours, self.shapes, self.relation

    def caption(self, colours: tuple[str, str] = (), shapes: tuple[str, str] = ()) -> str:
        """The caption, optionally with other colours or shapes in the same template."""
        pairs = zip(colours or self.colours, shapes or self.shapes, strict=True)
        return RELATIONS[self.relation][self.template].format(*(f"{c} {s}" for c, s in pairs))

    def false_captions(self, rng: np.random.Generator) -> dict[str, str]:
        """One false caption of each kind, in the grammar of the true captions."""
        (c1, c2), (s1, s2) = self.colours, self.shapes
        if rng.random() < 0.5:
            other = str(rng.choice([c for c in COLOURS if c not in self.colours]))
            colours = (other, c2) if rng.random() < 0.5 else (c1, other)
            replaced = self.caption(colours=colours)
        else:
            other = str(rng.choice([s for s in SHAPES if s not in self.shapes]))
            shapes = (other, s2) if rng.random() < 0.5 else (s1, other)
            replaced = self.caption(shapes=shapes)
        return {
            "attribute swap": self.caption(colours=(c2, c1)),
            "object swap": self.caption(colours=(c2, c1), shapes=(s2, s1)),
            "word replacement": replaced,
        }

    def draw(self, rng: np.random.Generator) -> Image.Image:
        """The image, 48 × 48, on a pale background with light noise."""
        scale = _OVERSAMPLING
        shape = (SIZE * scale, SIZE * scale)
        image = Image.new("RGB", shape, tuple(rng.integers(225, 246, 3).tolist()))
        for (x, y), colour, name in zip(
            _CENTRES[self.relation], self.colours, self.shapes, strict=True
        ):
            dx, dy = rng.uniform(-1, 1, 2)
            mask = _mask(name, (x + dx) * scale, (y + dy) * scale, _RADIUS * scale, shape)
            image.paste(COLOURS[colour], mask=mask)
        pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS), np.float32)
        noisy = pixels + rng.normal(0, 4, pixels.shape)
        return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _polygon(corners: int, radius: float, turn: float, inner: float = 1.0) -> list[tuple]:
    points = []
    for i in range(corners):
        r = radius * (inner if i % 2 else 1.0)
        angle = 2 * math.pi * i / corners + turn
        points.append((r * math.sin(angle), -r * math.cos(angle)))
    return points


def _mask(name: str, x: float, y: float, r: float, size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size)
    pen = ImageDraw.Draw(mask)

    def ellipse(dx: float, dy: float, radius: float, fill: int = 255) -> None:
        pen.ellipse((x + dx - radius, y + dy - radius, x + dx + radius, y + dy + radius), fill=fill)

    def polygon(points: list[tuple]) -> None:
        pen.polygon([(x + px, y + py) for px, py in points], fill=255)

    def box(half_width: float, half_height: float, fill: int = 255) -> None:
        pen.rectangle((x - half_width, y - half_height, x + half_width, y + half_height), fill=fill)

    if name == "circle":
        ellipse(0, 0, r)
    elif name == "ring":
        ellipse(0, 0, r)
        ellipse(0, 0, 0.5 * r, fill=0)
    elif name == "moon":
        ellipse(0, 0, r)
        ellipse(0.55 * r, -0.2 * r, 0.85 * r, fill=0)
    elif name == "square":
        box(0.88 * r, 0.88 * r)
    elif name == "frame":
        box(0.95 * r, 0.95 * r)
        box(0.45 * r, 0.45 * r, fill=0)
    elif name == "cross":
        box(r, 0.33 * r)
        box(0.33 * r, r)
    elif name == "triangle":
        polygon(_polygon(3, 1.15 * r, 0))
    elif name == "diamond":
        polygon([(0, -1.1 * r), (0.75 * r, 0), (0, 1.1 * r), (-0.75 * r, 0)])
    elif name == "hexagon":
        polygon(_polygon(6, r, math.pi / 6))
    elif name == "star":
        polygon(_polygon(10, 1.15 * r, 0, inner=0.42))
    elif name == "heart":
        ellipse(-0.48 * r, -0.35 * r, 0.52 * r)
        ellipse(0.48 * r, -0.35 * r, 0.52 * r)
        polygon([(-0.98 * r, -0.15 * r), (0.98 * r, -0.15 * r), (0, 1.05 * r)])
    else:  # chevron
        polygon([(-r, -r), (0, -r), (r, 0), (0, r), (-r, r), (0, 0)])
    return mask


@dataclass(frozen=True)
class World:
    """Training and test scenes that share no graph."""

    train: list[Scene]
    test: list[Scene]


def make_world(train: int, test: int, seed: int) -> World:
    """Draw scenes uniformly from all graphs; training skips the graphs of the test scenes."""
    rng = np.random.default_rng(seed)
    kept: dict[tuple, Scene] = {}
    while len(kept) < test:
        scene = _scene(rng)
        kept.setdefault(scene.graph, scene)
    scenes: list[Scene] = []
    while len(scenes) < train:
        scene = _scene(rng)
        if scene.graph not in kept:
            scenes.append(scene)
    return World(scenes, list(kept.values()))


def _scene(rng: np.random.Generator) -> Scene:
    colours = rng.choice(list(COLOURS), 2, replace=False).tolist()
    shapes = rng.choice(SHAPES, 2, replace=False).tolist()
    relation = str(rng.choice(list(RELATIONS)))
    return Scene(tuple(colours), tuple(shapes), relation, int(rng.integers(4)))


def write_pairs(folder: Path, scenes: list[Scene], seed: int) -> None:
    """Write the images as PNG into `images/`, and their captions into `captions.tsv`."""
    rng = np.random.default_rng([seed, 1])
    images = folder / "images"
    images.mkdir(parents=True)
    with (folder / "captions.tsv").open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["image", "caption"])
        for i, scene in enumerate(scenes):
            name = f"{i:05d}.png"
            scene.draw(rng).save(images / name)
            table.writerow([name, scene.caption()])
