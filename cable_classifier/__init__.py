__version__ = "0.1.0"

import warnings

# fastai compiles two small functions as it is imported, of which torch 2.15 complains at the head of every notebook. No reader can mend that.
warnings.filterwarnings('ignore', message=r'`torch\.jit\.script` is deprecated', category=FutureWarning)
