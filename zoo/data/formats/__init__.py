"""Formats of users' data sets: each recognizes its layout on disk, and reads it into the same few contents.

A format is a module here that calls `register_format`. The more specific ones are imported, and tried, first.
"""

# isort: off
from . import coco_files as coco_files
from . import yolo as yolo
from . import pascal_voc as pascal_voc
from . import labelme as labelme
from . import image_list as image_list
from . import label_maps as label_maps
from . import class_folders as class_folders

# isort: on
from .base import FORMATS, DataFormat, read_data, register_format
from .contents import AnnotatedImages, Content, LabeledImages, LabelMaps

__all__ = [
    "FORMATS",
    "AnnotatedImages",
    "Content",
    "DataFormat",
    "LabelMaps",
    "LabeledImages",
    "read_data",
    "register_format",
]
