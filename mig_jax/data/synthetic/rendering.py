"""Images of scenes, drawn with PIL: simple solids, lit from the upper left, on a light background."""

import io
import math

from PIL import Image, ImageDraw, ImageFilter

from mig_jax.data.synthetic.scenes import Scene, SceneObject

RGB = {
    "red": (208, 42, 42),
    "green": (44, 158, 68),
    "blue": (44, 92, 214),
    "yellow": (238, 196, 40),
    "purple": (146, 62, 184),
    "cyan": (38, 190, 202),
}
SUPERSAMPLING = 4  # images are drawn this many times larger, then averaged down for smooth edges
SHADES = 16  # discs of a ball and slices of a cone, each in one shade


def render(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB image of `size` × `size` pixels; the result is deterministic."""
    side = scene.size * SUPERSAMPLING
    image = _background(side, scene.background)
    shadow = Image.new("L", (side, side))
    for item in scene.objects:
        _draw_shadow(ImageDraw.Draw(shadow), item)
    image.paste((40, 40, 60), mask=shadow.filter(ImageFilter.GaussianBlur(1.2 * SUPERSAMPLING)))
    drawing = ImageDraw.Draw(image)
    for item in scene.objects:
        _DRAW_FNS[item.shape](drawing, item)
    return image.reduce(SUPERSAMPLING)


def to_png(image: Image.Image) -> bytes:
    """Return the image as the bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _background(side: int, brightness: float) -> Image.Image:
    """Return a vertical gradient, brighter at the bottom and slightly blue."""
    column = [round(255 * brightness * (0.93 + 0.07 * y / side)) for y in range(side)]
    strip = Image.new("RGB", (1, side))
    strip.putdata([(value, value, min(255, value + 4)) for value in column])
    return strip.resize((side, side))


def _draw_shadow(drawing: ImageDraw.ImageDraw, item: SceneObject) -> None:
    drawing.ellipse(_box(item, 0.12, 0.78, 0.95, 0.28), fill=110)


def _draw_ball(drawing: ImageDraw.ImageDraw, item: SceneObject) -> None:
    """Draw nested discs, which get brighter and shift towards the light."""
    for i in range(SHADES):
        t = i / (SHADES - 1)
        disc = _box(item, -0.33 * t, -0.36 * t, 0.96 * (1 - 0.94 * t), 0.96 * (1 - 0.94 * t))
        drawing.ellipse(disc, fill=_shade(item, 0.55 + 0.85 * t))


def _draw_cube(drawing: ImageDraw.ImageDraw, item: SceneObject) -> None:
    """Draw the front, the top and the right side."""
    left, right, up, down, depth = -0.95, 0.45, -0.45, 0.95, 0.5
    top = [(left, up), (left + depth, up - depth), (right + depth, up - depth), (right, up)]
    right_side = [(right, up), (right + depth, up - depth), (right + depth, down - depth), (right, down)]
    front = [(left, up), (right, up), (right, down), (left, down)]
    for face, light in ((front, 0.95), (top, 1.3), (right_side, 0.62)):
        drawing.polygon([_point(item, *corner) for corner in face], fill=_shade(item, light))


def _draw_cone(drawing: ImageDraw.ImageDraw, item: SceneObject) -> None:
    """Draw slices from the tip to the front half of the base, darker towards the right."""

    def base_point(angle: float) -> tuple[float, float]:
        return _point(item, -0.9 * math.cos(angle), 0.68 + 0.27 * math.sin(angle))

    for i in range(SHADES):
        corners = [_point(item, 0, -1.0), base_point(math.pi * i / SHADES), base_point(math.pi * (i + 1.2) / SHADES)]
        drawing.polygon(corners, fill=_shade(item, 1.3 - 0.75 * abs(i / SHADES - 0.25)))


_DRAW_FNS = {"ball": _draw_ball, "cube": _draw_cube, "cone": _draw_cone}


def _point(item: SceneObject, x: float, y: float) -> tuple[float, float]:
    """Convert an offset from the object's center, in radii, to pixels of the enlarged image."""
    return (item.x + x * item.radius) * SUPERSAMPLING, (item.y + y * item.radius) * SUPERSAMPLING


def _box(item: SceneObject, x: float, y: float, half_width: float, half_height: float) -> list[tuple[float, float]]:
    """Return two opposite corners of a box around (x, y); arguments in radii, corners in pixels as in `_point`."""
    return [_point(item, x - half_width, y - half_height), _point(item, x + half_width, y + half_height)]


def _shade(item: SceneObject, light: float) -> tuple[int, int, int]:
    """Return the object's color, darkened if `light` < 1, blended towards white if `light` > 1."""

    def shade(channel: int) -> int:
        return round(light * channel) if light <= 1 else round(channel + (light - 1) * (255 - channel))

    red, green, blue = RGB[item.color]
    return shade(red), shade(green), shade(blue)
