"Notebooks that are tested in one process after another leave nothing behind"
import weakref
from multiprocessing import get_context

import pytest

from cable_classifier.start import side_by_side

pytest.importorskip('execnb')


def two_notebooks(out):
    "What `nbdev_test` does in a worker: is the first notebook's array still there, and is the second's?"
    from execnb.shell import CaptureShell
    first, second = CaptureShell(), CaptureShell()
    first.run('import numpy as np\nx = np.ones(3)\nx\n1')
    x = weakref.ref(first.user_ns['x'])
    second.run('import torch\nfrom cable_classifier.start import side_by_side\ny = 1\ndone = side_by_side(globals())\nz = y+1')
    out.put((x() is None, second.user_ns.get('done'), second.user_ns.get('z'), second.user_ns['torch'].get_num_threads()))


def test_a_worker_forgets_the_notebook_before():
    ctx = get_context('spawn')
    out = ctx.Queue()
    worker = ctx.Process(target=two_notebooks, args=(out,))
    worker.start()
    assert out.get(timeout=120) == (True, True, 2, 1)
    worker.join()


def test_elsewhere_it_does_nothing():
    assert side_by_side({}) is False
