"""An image to draw boxes, masks, label maps and text on.

Boxes and masks are drawn by torchvision.utils. What it cannot do is here: text that avoids other text (torchvision
writes every label into its box's corner), outlines, dashed boxes, label maps without one mask per class, legends, and
line widths and font sizes that grow with the image. Tiny images are enlarged first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from .colors import Color, text_color_on
from .fonts import load_font

Box = Sequence[float]
"""x1, y1, x2, y2 in pixels."""

_MIN_LONG_SIDE = 320  # pixels; smaller images are enlarged
_MIN_SHORT_SIDE = 96  # pixels; narrower images are padded to leave room for text
_FONT_SCALE = 0.026  # font size relative to the square root of the image's area
_MIN_FONT_SIZE = 12  # pixels
_BACKGROUND: Color = (250, 250, 250)
_TEXT: Color = (30, 30, 30)
_BAR_BACKGROUND: Color = (228, 232, 238)
_BAR: Color = (150, 190, 235)
_IGNORED: Color = (128, 128, 128)


class Canvas:
    """An image to draw on.

    Coordinates and masks passed to its methods refer to the original image, also if that was enlarged.

    Args:
        image: Image in any mode.
        downscale: Factor by which the result will be reduced later. Text and lines are larger by this factor.

    Attributes:
        image: The RGB image drawn so far.
        factor: Factor by which the original image was enlarged.
        font_size: Font size in pixels.
        line_width: Line width in pixels.
    """

    def __init__(self, image: Image.Image, downscale: float = 1.0) -> None:
        image = image.convert("RGB")
        self.factor = max(1, math.ceil(_MIN_LONG_SIDE / max(image.size)))
        if self.factor > 1:
            size = (image.width * self.factor, image.height * self.factor)
            image = image.resize(size, Image.Resampling.NEAREST)
        self._image_size = image.size
        if min(image.size) < _MIN_SHORT_SIDE:
            size = (max(image.width, _MIN_SHORT_SIDE), max(image.height, _MIN_SHORT_SIDE))
            padded = Image.new("RGB", size, _BACKGROUND)
            padded.paste(image, (0, 0))
            image = padded
        self.image = image
        area = self._image_size[0] * self._image_size[1]
        self.font_size = max(round(_MIN_FONT_SIZE * max(1.0, downscale)), round(_FONT_SCALE * math.sqrt(area)))
        self.line_width = max(1, round(self.font_size / 7))
        self._labels: list[tuple[float, float, float, float]] = []

    def draw_mask(self, mask: np.ndarray, color: Color, alpha: float = 0.45, outline: bool = True) -> None:
        """Blends a color over a region and draws the region's outline.

        Args:
            mask: (height, width) bool.
            color: Color of the region.
            alpha: Opacity of the color inside the region, 0 to 1.
            outline: Whether to draw the outline in full color.
        """
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return
        # Only the part around the region is processed: regions are often much smaller than the image.
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        region = torch.from_numpy(self._enlarge(mask[top:bottom, left:right]))
        left, top, right, bottom = (int(side) * self.factor for side in (left, top, right, bottom))
        pixels = pil_to_tensor(self.image.crop((left, top, right, bottom)))
        pixels = draw_segmentation_masks(pixels, region, alpha, colors=color)
        if outline:
            edge = region & ~_erode(region, max(1, round(self.line_width * 0.75)))
            pixels = draw_segmentation_masks(pixels, edge, 1.0, colors=color)
        self.image.paste(to_pil_image(pixels), (left, top))

    def draw_label_map(
        self, label_map: np.ndarray, colors: Sequence[Color], alpha: float = 0.6, ignore_index: int = 255
    ) -> None:
        """Blends the color of its class over every pixel; ignored pixels get stripes.

        torchvision needs one mask per class for this (1.8 GB for 150 classes at 12 megapixels), so colors are looked up
        here.

        Args:
            label_map: (height, width) integers.
            colors: Colors by label.
            alpha: Opacity of the colors, 0 to 1.
            ignore_index: Label of the pixels to ignore. Labels without a color are ignored, too.
        """
        table = np.array([*colors, _IGNORED], dtype=np.float32)
        valid = (label_map != ignore_index) & (label_map >= 0) & (label_map < len(colors))
        overlay = table[np.where(valid, label_map, len(colors)).astype(np.int64)]
        edges = np.zeros(label_map.shape, dtype=bool)
        edges[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
        edges[1:] |= label_map[1:] != label_map[:-1]
        overlay, valid, edges = self._enlarge(overlay), self._enlarge(valid), self._enlarge(edges)
        rows, columns = np.ogrid[: valid.shape[0], : valid.shape[1]]
        period = max(4, self.font_size)
        striped = ~valid & ((rows + columns) % period < period // 2)
        weight = np.where(valid, alpha, np.where(striped, 0.35, 0.0))[..., None].astype(np.float32)
        if self.factor == 1:  # in an enlarged image an edge would be as thick as an original pixel
            weight[edges & valid] = min(1.0, alpha + 0.25)
        width, height = self._image_size
        pixels = np.array(self.image.crop((0, 0, width, height)), dtype=np.float32)
        pixels += (overlay - pixels) * weight
        self.image.paste(Image.fromarray(pixels.round().astype(np.uint8)), (0, 0))

    def draw_boxes(self, boxes: Sequence[Box], colors: Sequence[Color]) -> None:
        """Draws rectangles, the last one on top."""
        if boxes:
            corners = torch.tensor([self._clip(box) for box in boxes])
            drawn = draw_bounding_boxes(pil_to_tensor(self.image), corners, colors=list(colors), width=self.line_width)
            self.image = to_pil_image(drawn)

    def draw_dashed_box(self, box: Box, color: Color) -> None:
        """Draws a dashed rectangle, for objects that are not evaluated."""
        draw = ImageDraw.Draw(self.image)
        x1, y1, x2, y2 = self._clip(box)
        dash = 4 * self.line_width
        for vertical, fixed, start, end in (
            (False, y1, x1, x2),
            (False, y2, x1, x2),
            (True, x1, y1, y2),
            (True, x2, y1, y2),
        ):
            for position in np.arange(start, end + 1, 2 * dash).tolist():
                stop = min(position + dash, end)
                line = (fixed, position, fixed, stop) if vertical else (position, fixed, stop, fixed)
                draw.line(line, fill=color, width=self.line_width)

    def draw_label(self, box: Box, text: str, color: Color, scale: float = 1.0) -> None:
        """Writes a box's label at one of its corners, where it covers the least of the labels drawn so far.

        Args:
            box: Box that the label belongs to.
            text: One line of text; shortened if it is wider than the image.
            color: Color of the background. The text is black or white.
            scale: Factor of the font size, which is at least 12 pixels.
        """
        font_size = max(_MIN_FONT_SIZE, round(scale * self.font_size))
        font, margin = load_font(font_size, text), max(2, font_size // 6)
        text = _shorten(text, font, self.image.width - 2 * margin)
        width, height = math.ceil(font.getlength(text)) + 2 * margin, font_size + 2 * margin
        left, top = self._place_label(box, width, height)
        draw = ImageDraw.Draw(self.image)
        draw.rectangle((left, top, left + width - 1, top + height - 1), fill=color)
        draw.text((left + margin, top + height / 2), text, fill=text_color_on(color), font=font, anchor="lm")

    def _place_label(self, box: Box, width: float, height: float) -> tuple[float, float]:
        """Chooses and reserves the top left corner of a label."""
        x1, y1, x2, y2 = self._clip(box)
        candidates = [(x1, y1 - height + 1), (x1, y1), (x1, y2), (x2 - width, y1 - height + 1), (x2 - width, y1)]
        candidates += [(x1, y2 - height), (x2 - width, y2 - height), (x1, y1 + height), (x1, y1 + 2 * height)]
        best, least = candidates[0], math.inf
        for x, y in candidates:
            left = min(max(0.0, x), self.image.width - width)
            top = min(max(0.0, y), self.image.height - height)
            covered = sum(_intersection((left, top, left + width, top + height), other) for other in self._labels)
            covered += abs(top - y) * width  # prefer a candidate that does not have to be moved into the image
            if covered < least:
                best, least = (left, top), covered
            if not covered:
                break
        self._labels.append((*best, best[0] + width, best[1] + height))
        return best

    def add_legend(self, entries: Iterable[tuple[Color, str]], max_entries: int = 24) -> None:
        """Adds a list of colors and their meaning below the image.

        Args:
            entries: Pairs of color and text, the most important first.
            max_entries: Number of entries to list. The others are counted in an additional line.
        """
        entries = list(entries)
        shown: list[tuple[Color | None, str]] = [*entries[:max_entries]]
        if len(entries) > max_entries:
            shown.append((None, f"and {len(entries) - max_entries} more"))
        if not shown:
            return
        font, margin = load_font(self.font_size, "".join(text for _, text in shown)), max(4, self.font_size // 2)
        swatch, row_height = self.font_size + margin // 2, round(1.5 * self.font_size)
        available = self.image.width - 2 * margin
        column_width = max(math.ceil(font.getlength(text)) for _, text in shown) + swatch + margin
        column_width = min(available, column_width)
        rows = math.ceil(len(shown) / max(1, available // column_width))
        height = rows * row_height + 2 * margin
        draw = self._extend(height)
        top = self.image.height - height + margin
        for index, (color, text) in enumerate(shown):
            left, y = margin + index // rows * column_width, top + index % rows * row_height
            if color is not None:
                draw.rectangle((left, y, left + self.font_size, y + self.font_size), fill=color, outline=_TEXT)
            text = _shorten(text, font, column_width - swatch)
            draw.text((left + swatch, y + self.font_size / 2), text, fill=_TEXT, font=font, anchor="lm")

    def add_bars(self, entries: Sequence[tuple[str, float]]) -> None:
        """Adds a bar chart below the image: one row per entry with its name, a bar and a percentage.

        Args:
            entries: Pairs of name and value, 0 to 1.
        """
        margin, row_height = max(4, self.font_size // 2), round(1.7 * self.font_size)
        height = len(entries) * row_height + 2 * margin
        draw = self._extend(height)
        top, width = self.image.height - height + margin, self.image.width - 2 * margin
        for index, (name, value) in enumerate(entries):
            font = load_font(self.font_size, name)
            y = top + index * row_height
            bottom, middle = y + row_height - 3, y + (row_height - 3) / 2
            draw.rectangle((margin, y, margin + width, bottom), fill=_BAR_BACKGROUND)
            if value * width >= 1:
                draw.rectangle((margin, y, margin + value * width, bottom), fill=_BAR)
            percentage = f"{100 * value:.1f} %"
            name = _shorten(name, font, width - font.getlength(percentage) - 3 * margin)
            draw.text((margin + margin // 2, middle), name, fill=_TEXT, font=font, anchor="lm")
            draw.text((margin + width - margin // 2, middle), percentage, fill=_TEXT, font=font, anchor="rm")

    def add_caption(self, text: str, color: Color = _TEXT) -> None:
        """Adds a line of text below the image; shortened if it is wider than the image."""
        font, margin = load_font(self.font_size, text), max(3, self.font_size // 3)
        height = self.font_size + 2 * margin
        draw = self._extend(height)
        text = _shorten(text, font, self.image.width - 2 * margin)
        draw.text((margin, self.image.height - height / 2), text, fill=color, font=font, anchor="lm")

    def _extend(self, height: int) -> ImageDraw.ImageDraw:
        """Adds empty space below, wide enough for a few words, and returns the object that draws on it."""
        extended = Image.new(
            "RGB", (max(self.image.width, 16 * self.font_size), self.image.height + height), _BACKGROUND
        )
        extended.paste(self.image, (0, 0))
        self.image = extended
        return ImageDraw.Draw(extended)

    def _enlarge(self, array: np.ndarray) -> np.ndarray:
        return array.repeat(self.factor, 0).repeat(self.factor, 1) if self.factor > 1 else array

    def _clip(self, box: Box) -> tuple[float, float, float, float]:
        """Converts a box to pixels of the canvas, clipped to the image, with the right and lower lines inside."""
        width, height = self._image_size
        x1, y1, x2, y2 = (float(side) * self.factor for side in box)
        x1, x2 = (min(max(0.0, x), width - 1.0) for x in (x1, x2 - 1))
        y1, y2 = (min(max(0.0, y), height - 1.0) for y in (y1, y2 - 1))
        return x1, y1, max(x1, x2), max(y1, y2)


def _erode(mask: torch.Tensor, width: int) -> torch.Tensor:
    """Removes the outermost pixels of a mask (height, width); outside of the array there is nothing."""
    outside = F.pad((~mask).float()[None], [width] * 4, value=1.0)
    return F.max_pool2d(outside, 2 * width + 1, stride=1)[0] == 0


def _intersection(first: Box, second: Box) -> float:
    """Computes the area that two boxes share."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return width * height if width > 0 and height > 0 else 0.0


def _shorten(text: str, font: Any, max_width: float) -> str:
    """Cuts a text to a width in pixels; a cut text ends with three dots."""
    if font.getlength(text) <= max_width:
        return text
    while text and font.getlength(text + "...") > max_width:
        text = text[:-1]
    return text + "..."
