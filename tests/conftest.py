"Shared by all tests: a throw-away workspace, small folders of photos, and where the real photos lie if they are there."
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if os.environ.get('PYTEST_XDIST_WORKER'): os.environ.setdefault('OMP_NUM_THREADS', '1') # the workers share the cores; torch reads it when it is loaded
root = Path(__file__).resolve().parents[1]
shared = root.parent/'shared'


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: minutes rather than seconds; only with `pytest -m slow`, or `pytest -m "slow or not slow"` for everything')


def pytest_collection_modifyitems(config, items):
    "Pass over slow tests unless `-m` asks for them"
    if 'slow' in (config.option.markexpr or ''): return
    for item in items:
        if 'slow' in item.keywords: item.add_marker(pytest.mark.skip(reason='slow; run it with `pytest -m slow`'))


@pytest.fixture(scope='session', autouse=True)
def home(tmp_path_factory):
    "The workspace of this test session; `CABLES_HOME` where the caller set one"
    if not os.environ.get('CABLES_HOME'): os.environ['CABLES_HOME'] = str(tmp_path_factory.mktemp('home'))
    return Path(os.environ['CABLES_HOME'])


@pytest.fixture(scope='session')
def embedded(home):
    "Folder with the embedded photos, unpacked"
    from cable_classifier.data import get_data
    return get_data()


def some_photos(embedded, out, n):
    "The first `n` embedded photos of each class, copied to the new folder `out`"
    for d in sorted(p for p in (embedded/'plugs').iterdir() if p.is_dir()):
        (out/d.name).mkdir(parents=True)
        for f in sorted(d.iterdir())[:n]: shutil.copy(f, out/d.name)
    return out


@pytest.fixture
def photos(embedded, tmp_path):
    "A folder of 24 photos of each class, whole cables, to train on or to spoil"
    return some_photos(embedded, tmp_path/'photos', 24)


@pytest.fixture(scope='session')
def small_run(embedded, tmp_path_factory):
    "A model folder of one quick epoch, and the folder of the 60 photos it comes from"
    from cable_classifier.run import run_course
    folder = tmp_path_factory.mktemp('small_run')
    data, out = some_photos(embedded, folder/'photos', 20), folder/'out'
    run_course(data, out, epochs=1, finetune_epochs=0, size=64, bs=16, device='cpu', say=lambda s: None, groups=r'^(.+)_\d+\.jpg$')
    return out/'model', data


@pytest.fixture(scope='session')
def real_photos():
    "Folder of real photos, for tests only"
    if not (shared/'real_photos').is_dir(): pytest.skip('no real photos beside this checkout')
    return shared/'real_photos'


@pytest.fixture
def cables():
    "Run the command line in a process of its own: `cables('run', '--data', ...)` gives exit code and what it printed"
    def run(*args, **kwargs):
        return subprocess.run([sys.executable, '-c', 'from cable_classifier.cli import main; main()', *map(str, args)], capture_output=True, text=True, timeout=900, **kwargs)
    return run


@pytest.fixture(scope='session')
def chromium():
    "A headless Chromium of this machine, driven by playwright"
    sync_api = pytest.importorskip('playwright.sync_api', reason='no playwright; pip install playwright')
    exe = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if not exe: pytest.skip('no Chromium on the PATH; on Debian: apt-get install chromium')
    args = ['--no-sandbox'] if getattr(os, 'geteuid', lambda: 1)() == 0 else []
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=exe, args=args)
        yield browser
        browser.close()
