"""A small net for drawn shapes, and how to draw all patterns of a net."""
