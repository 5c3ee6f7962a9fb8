"""Pictures of scenes, drawn with PIL: simple solids, lit from the upper left, on a light ground."""

import io
import math

from PIL import Image, ImageDraw, ImageFilter

from mig_jax.data.synthetic.scenes import Scene, Thing

RGB = {
    "red": (208, 42, 42),
    "green": (44, 158, 68),
    "blue": (44, 92, 214),
    "yellow": (238, 196, 40),
    "purple": (146, 62, 184),
    "cyan": (38, 190, 202),
}
ZOOM = 4  # drawn so much larger, then averaged down: smooth edges
SLICES = 16  # of a ball's light and of a cone's mantle


def render(scene: Scene) -> Image.Image:
    """The picture, `size` × `size` pixels in RGB; the same for the same scene."""
    side = scene.size * ZOOM
    picture = _ground(side, scene.ground)
    shadow = Image.new("L", (side, side))
    for thing in scene.things:
        _shadow(ImageDraw.Draw(shadow), thing)
    picture.paste((40, 40, 60), mask=shadow.filter(ImageFilter.GaussianBlur(1.2 * ZOOM)))
    drawing = ImageDraw.Draw(picture)
    for thing in scene.things:
        _SOLIDS[thing.shape](drawing, thing)
    return picture.reduce(ZOOM)


def to_png(picture: Image.Image) -> bytes:
    """The picture as the bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _ground(side: int, brightness: float) -> Image.Image:
    """Brighter in front, with a breath of blue."""
    column = [round(255 * brightness * (0.93 + 0.07 * y / side)) for y in range(side)]
    strip = Image.new("RGB", (1, side))
    strip.putdata([(value, value, min(255, value + 4)) for value in column])
    return strip.resize((side, side))


def _shadow(drawing: ImageDraw.ImageDraw, thing: Thing) -> None:
    drawing.ellipse(_box(thing, 0.12, 0.78, 0.95, 0.28), fill=110)


def _ball(drawing: ImageDraw.ImageDraw, thing: Thing) -> None:
    """Discs inside each other, brighter and nearer to the light."""
    for i in range(SLICES):
        t = i / (SLICES - 1)
        disc = _box(thing, -0.33 * t, -0.36 * t, 0.96 * (1 - 0.94 * t), 0.96 * (1 - 0.94 * t))
        drawing.ellipse(disc, fill=_shade(thing, 0.55 + 0.85 * t))


def _cube(drawing: ImageDraw.ImageDraw, thing: Thing) -> None:
    """Front, top and right side."""
    left, right, up, down, back = -0.95, 0.45, -0.45, 0.95, 0.5
    top = [(left, up), (left + back, up - back), (right + back, up - back), (right, up)]
    flank = [(right, up), (right + back, up - back), (right + back, down - back), (right, down)]
    front = [(left, up), (right, up), (right, down), (left, down)]
    for face, light in ((front, 0.95), (top, 1.3), (flank, 0.62)):
        drawing.polygon([_point(thing, *corner) for corner in face], fill=_shade(thing, light))


def _cone(drawing: ImageDraw.ImageDraw, thing: Thing) -> None:
    """Slices from the tip to the front half of the base, darker towards the right."""

    def rim(angle: float) -> tuple[float, float]:
        return _point(thing, -0.9 * math.cos(angle), 0.68 + 0.27 * math.sin(angle))

    for i in range(SLICES):
        corners = [_point(thing, 0, -1.0), rim(math.pi * i / SLICES), rim(math.pi * (i + 1.2) / SLICES)]
        drawing.polygon(corners, fill=_shade(thing, 1.3 - 0.75 * abs(i / SLICES - 0.25)))


_SOLIDS = {"ball": _ball, "cube": _cube, "cone": _cone}


def _point(thing: Thing, x: float, y: float) -> tuple[float, float]:
    """Pixels of the enlarged picture, from radii around the centre of the thing."""
    return (thing.x + x * thing.radius) * ZOOM, (thing.y + y * thing.radius) * ZOOM


def _box(thing: Thing, x: float, y: float, half_width: float, half_height: float) -> list[tuple[float, float]]:
    return [_point(thing, x - half_width, y - half_height), _point(thing, x + half_width, y + half_height)]


def _shade(thing: Thing, light: float) -> tuple[int, int, int]:
    """The colour, darker below 1; above it goes towards white."""
    color = RGB[thing.color]
    if light <= 1:
        return tuple(round(light * value) for value in color)
    return tuple(round(value + (light - 1) * (255 - value)) for value in color)
