"""Pictures of what was predicted, or of what a data set says: boxes, masks, label maps, captions.

Lines and letters grow with the image, so that a picture reads the same at any size; tiny images are enlarged first.
"""

from __future__ import annotations

import colorsys
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

_LEAST_SIDE = 320  # pixels of the longer side, to which tiny images are enlarged
_NARROWEST = 96  # pixels of the shorter side, to which strips are padded, so that letters have a place
_EM = 0.026  # height of letters over the root of the image's area
_SMALLEST_LETTERS = 12  # pixels
_GROUND: Colour = (250, 250, 250)
_INK: Colour = (30, 30, 30)
_IGNORED: Colour = (128, 128, 128)
# Degrees of the colour circle that look equally far apart: the eye tells fewer greens than oranges from each other.
_HUES = (0, 25, 48, 75, 130, 180, 205, 230, 265, 295, 325, 360)
# Hues far apart come first; the later rounds differ in brightness and saturation.
_ROUNDS = ((0.85, 0.95), (0.60, 1.00), (0.95, 0.68), (0.45, 0.85))


@functools.cache
def class_colour(label: int) -> Colour:
    """The colour of a class, the same in every picture: classes that are near in number are far in hue.

    Args:
        label: from 0.

    Returns:
        Red, green and blue, 0 to 255.
    """
    place = (label * (math.sqrt(5) - 1) / 2) % 1 * (len(_HUES) - 1)
    below = _HUES[int(place)]
    hue = (below + (place - int(place)) * (_HUES[int(place) + 1] - below)) / 360
    saturation, value = _ROUNDS[(label // 8) % len(_ROUNDS)]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def load_font(size: int) -> Any:
    """PIL's own font at a size in pixels."""
    return ImageFont.load_default(max(_SMALLEST_LETTERS, size))


class Canvas:
    """An image to draw on, enlarged where it is tiny.

    Args:
        image: in any mode.
        shrunk: by how much the picture will be made smaller before it is looked at; letters and lines are larger by
            that.

    Attributes:
        image: the picture so far, RGB.
        factor: how much it is enlarged.
        em: height of letters in pixels.
        line: width of lines in pixels.
    """

    def __init__(self, image: Image.Image, shrunk: float = 1.0) -> None:
        image = image.convert("RGB")
        self.factor = max(1, math.ceil(_LEAST_SIDE / max(image.size)))
        if self.factor > 1:
            size = (image.width * self.factor, image.height * self.factor)
            image = image.resize(size, Image.Resampling.NEAREST)
        self._area = image.size
        if min(image.size) < _NARROWEST:
            wide = Image.new("RGB", (max(image.width, _NARROWEST), max(image.height, _NARROWEST)), _GROUND)
            wide.paste(image, (0, 0))
            image = wide
        self.image = image
        area = self._area[0] * self._area[1]
        self.em = max(round(_SMALLEST_LETTERS * max(1.0, shrunk)), round(_EM * math.sqrt(area)))
        self.line = max(1, round(self.em / 7))
        self._labels: list[tuple[float, float, float, float]] = []

    # -- Areas ---------------------------------------------------------------------------------------------------------

    def fill(self, mask: np.ndarray, colour: Colour, strength: float = 0.45, outline: bool = True) -> None:
        """Tints a region and draws its outline.

        Args:
            mask: (height, width) bool, as large as the image given.
            colour: of the region.
            strength: 0 to 1.
            outline: whether to draw the region's edge in full colour.
        """
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        part = mask[top:bottom, left:right]
        if self.factor > 1:
            part = self._enlarged(part)
            top, bottom, left, right = (int(side) * self.factor for side in (top, bottom, left, right))
        place = (int(left), int(top), int(right), int(bottom))
        pixels = np.array(self.image.crop(place), dtype=np.float32)
        pixels[part] += (np.array(colour, dtype=np.float32) - pixels[part]) * strength
        if outline:
            pixels[part & ~_eroded(part, max(1, round(self.line * 0.75)))] = colour
        self.image.paste(Image.fromarray(pixels.round().astype(np.uint8)), place[:2])

    def fill_labels(
        self, label_map: np.ndarray, colours: Sequence[Colour], strength: float = 0.6, ignored: int = 255
    ) -> None:
        """Tints every pixel by its class; pixels that do not count get stripes.

        Args:
            label_map: (height, width) integers, as large as the image given.
            colours: by label.
            strength: 0 to 1.
            ignored: the label of pixels that do not count.
        """
        table = np.array([*colours, _IGNORED], dtype=np.float32)
        counted = (label_map != ignored) & (label_map >= 0) & (label_map < len(colours))
        tint = table[np.where(counted, label_map, len(colours)).astype(np.int64)]
        edges = np.zeros(label_map.shape, dtype=bool)
        edges[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
        edges[1:] |= label_map[1:] != label_map[:-1]
        if self.factor > 1:
            tint, counted, edges = (self._enlarged(array) for array in (tint, counted, edges))
        rows, columns = np.indices(counted.shape, sparse=True)
        period = max(4, self.em)
        striped = ~counted & ((rows + columns) % period < period // 2)
        weight = np.where(counted, strength, np.where(striped, 0.35, 0.0))[..., None].astype(np.float32)
        if self.factor == 1:  # enlarged, an edge would be as thick as a pixel
            weight[edges & counted] = min(1.0, strength + 0.25)
        width, height = self._area
        pixels = np.array(self.image.crop((0, 0, width, height)), dtype=np.float32)
        pixels += (tint - pixels) * weight
        self.image.paste(Image.fromarray(pixels.round().astype(np.uint8)), (0, 0))

    def _enlarged(self, array: np.ndarray) -> Any:
        return array.repeat(self.factor, 0).repeat(self.factor, 1)

    # -- Boxes and letters ---------------------------------------------------------------------------------------------

    def box(self, box: Sequence[float], colour: Colour, dashed: bool = False) -> None:
        """Draws a rectangle.

        Args:
            box: x1, y1, x2, y2 in pixels of the image given.
            colour: of the line.
            dashed: for what does not count.
        """
        draw = ImageDraw.Draw(self.image)
        x1, y1, x2, y2 = self._inside(box)
        if not dashed:
            draw.rectangle((x1, y1, x2, y2), outline=colour, width=self.line)
            return
        step = 4 * self.line
        for ends in (((x1, y1), (x2, y1)), ((x1, y2), (x2, y2)), ((x1, y1), (x1, y2)), ((x2, y1), (x2, y2))):
            (ax, ay), (bx, by) = ends
            length = max(abs(bx - ax), abs(by - ay))
            for start in range(0, int(length) + 1, 2 * step):
                end = min(start + step, length)
                points = [
                    (ax + (bx - ax) * at / max(1, length), ay + (by - ay) * at / max(1, length)) for at in (start, end)
                ]
                draw.line(points, fill=colour, width=self.line)

    def tag(self, box: Sequence[float], text: str, colour: Colour, scale: float = 1.0) -> None:
        """Writes a box's text on a ground of its colour, where it covers no text that is already there.

        Args:
            box: x1, y1, x2, y2 in pixels of the image given.
            text: one line.
            colour: of the ground; letters are black or white, whichever is easier to read.
            scale: of the letters, as far as they can be read.
        """
        draw = ImageDraw.Draw(self.image)
        em = max(_SMALLEST_LETTERS, round(scale * self.em))
        font, gap = load_font(em), max(2, em // 6)
        x1, y1, x2, y2 = self._inside(box)
        text = _shortened(text, font, self.image.width - 2 * gap)
        width, height = math.ceil(font.getlength(text)) + 2 * gap, em + 2 * gap
        places = [(x1, y1 - height + 1), (x1, y1), (x1, y2), (x2 - width, y1 - height + 1), (x2 - width, y1)]
        places += [(x1, y2 - height), (x2 - width, y2 - height), (x1, y1 + height), (x1, y1 + 2 * height)]
        best, least = places[0], math.inf
        for left, top in places:
            left = min(max(0.0, left), self.image.width - width)
            moved = min(max(0.0, top), self.image.height - height)
            covered = sum(_shared((left, moved, left + width, moved + height), other) for other in self._labels)
            covered += abs(moved - top) * width  # where the image ends, another place is better than this one moved
            if covered < least:
                best, least = (left, moved), covered
            if not covered:
                break
        left, top = best
        self._labels.append((left, top, left + width, top + height))
        draw.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
        draw.text((left + gap, top + height / 2), text, fill=_readable_on(colour), font=font, anchor="lm")

    def _inside(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """A box in pixels of the picture, clipped to the image, its right and lower lines on the last pixels."""
        width, height = self._area
        x1, y1, x2, y2 = (float(side) * self.factor for side in box)
        x1, x2 = (min(max(0.0, x), width - 1.0) for x in (x1, x2 - 1))
        y1, y2 = (min(max(0.0, y), height - 1.0) for y in (y1, y2 - 1))
        return x1, y1, max(x1, x2), max(y1, y2)

    # -- Below the image -----------------------------------------------------------------------------------------------

    def legend(self, entries: Iterable[tuple[Colour, str]], most: int = 24) -> None:
        """Adds a list of colours and their meaning below the image.

        Args:
            entries: colour and text, the most important first.
            most: how many are listed; of the others, the number is told.
        """
        entries = list(entries)
        font, gap = load_font(self.em), max(4, self.em // 2)
        rest = len(entries) - most
        shown: list[tuple[Colour | None, str]] = [*entries[:most]]
        if rest > 0:
            shown.append((None, f"and {rest} more"))
        if not shown:
            return
        room = self.image.width - 2 * gap
        swatch = self.em + gap // 2
        widest = min(room, max(math.ceil(font.getlength(text)) for _, text in shown) + swatch + gap)
        columns = max(1, room // widest)
        rows = math.ceil(len(shown) / columns)
        height = rows * round(1.5 * self.em) + 2 * gap
        draw = self._extend(height)
        top = self.image.height - height + gap
        for number, (colour, text) in enumerate(shown):
            left, y = gap + number // rows * widest, top + number % rows * round(1.5 * self.em)
            if colour is not None:
                draw.rectangle((left, y, left + self.em, y + self.em), fill=colour, outline=_INK)
            text = _shortened(text, font, widest - swatch)
            draw.text((left + swatch, y + self.em / 2), text, fill=_INK, font=font, anchor="lm")

    def bars(self, entries: Sequence[tuple[str, float]]) -> None:
        """Adds names with a bar and a percentage each below the image.

        Args:
            entries: name and share of 0 to 1, the best first.
        """
        font, gap = load_font(self.em), max(4, self.em // 2)
        row = round(1.7 * self.em)
        height = len(entries) * row + 2 * gap
        draw = self._extend(height)
        top, width = self.image.height - height + gap, self.image.width - 2 * gap
        for number, (name, share) in enumerate(entries):
            y = top + number * row
            box = (gap, y, gap + width, y + row - 3)
            draw.rectangle(box, fill=(228, 232, 238))
            if share * width >= 1:
                draw.rectangle((gap, y, gap + share * width, y + row - 3), fill=(150, 190, 235))
            percent = f"{100 * share:.1f} %"
            length = font.getlength(percent)
            name = _shortened(name, font, width - length - 3 * gap)
            middle = y + (row - 3) / 2
            draw.text((gap + gap // 2, middle), name, fill=_INK, font=font, anchor="lm")
            draw.text((gap + width - gap // 2, middle), percent, fill=_INK, font=font, anchor="rm")

    def caption(self, text: str, colour: Colour = _INK) -> None:
        """Adds a line of text below the image, cut where it is too long."""
        font, gap = load_font(self.em), max(3, self.em // 3)
        height = self.em + 2 * gap
        draw = self._extend(height)
        text = _shortened(text, font, self.image.width - 2 * gap)
        draw.text((gap, self.image.height - height / 2), text, fill=colour, font=font, anchor="lm")

    def _extend(self, height: int) -> ImageDraw.ImageDraw:
        """Adds empty ground below, at least as wide as a few words are; gives what draws on it."""
        wide = max(self.image.width, 16 * self.em)
        larger = Image.new("RGB", (wide, self.image.height + height), _GROUND)
        larger.paste(self.image, (0, 0))
        self.image = larger
        return ImageDraw.Draw(larger)


def _eroded(mask: np.ndarray, width: int) -> np.ndarray:
    """A mask without its outermost pixels; beyond the crop's border there is nothing."""
    inner = np.pad(mask, width)
    for axis in (0, 1):
        inner = functools.reduce(np.logical_and, [np.roll(inner, shift, axis) for shift in range(-width, width + 1)])
    return inner[width:-width, width:-width]


def _shared(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _readable_on(colour: Colour) -> Colour:
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def _shortened(text: str, font: Any, room: float) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."
