"""See what a convolutional network has learned, and find out what is wrong with it.

Plain functions on arrays, for any Keras 3 image classifier on the TensorFlow backend. Nothing is
rebuilt: the model runs as it is, in inference mode, and what its layers return is recorded on the
way. So Sequential, functional, subclassed and nested models all work, and none is changed. The
first call compiles, as that of Keras' `predict` does, and later ones on images of that shape reuse
what it compiled.

`images` are always (n, height, width, channels), uint8 or float, with the values that the model
takes. Every function returns NumPy arrays. What cannot be done raises ValueError with a sentence.

`__init__.pyi` lists what is public. Each module is imported when one of its names is first used, so
that `import debugcnn` takes no time and does not load TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
