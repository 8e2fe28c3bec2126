"""Figures one can play with: on the static page, in Jupyter and in Colab.

Each is an anywidget: a `.py` file that holds the data and a `.js` file that draws it. What the reader sees is computed in
the browser, or chosen there, from data stored in the widget, so a page needs no kernel.
"""

from genai_lib.widgets.flipbook import Flipbook
from genai_lib.widgets.latent_map import LatentMap
from genai_lib.widgets.sokoban import Sokoban

__all__ = ["Flipbook", "LatentMap", "Sokoban"]
