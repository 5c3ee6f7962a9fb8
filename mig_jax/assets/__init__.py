"""Files that come with the package: the policy that the quickstart starts from, and model shapes to compile for."""

from pathlib import Path

QUICKSTART = Path(__file__).parent / "quickstart"
SHAPES = Path(__file__).parent / "shapes"
