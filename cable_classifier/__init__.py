__version__ = "0.1.0"

import os, warnings

# Threads that wait for each other sleep, so that two programs can share the cores (nbs/15a_speed.ipynb). OpenMP reads it when torch is loaded.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

# fastai compiles two small functions as it is imported, of which torch 2.15 complains at the head of every notebook. No reader can mend that.
warnings.filterwarnings('ignore', message=r'`torch\.jit\.script` is deprecated', category=FutureWarning)
