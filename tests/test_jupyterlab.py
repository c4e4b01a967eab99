"""The notebooks as a person opens them: JupyterLab in a browser, run all, look.

A plain `pytest` opens the quick ones; `pytest -m slow tests/test_jupyterlab.py` opens the rest. Screenshots stay in the folder pytest names with `--basetemp`.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from conftest import root
from test_house import notebooks

quick = ['00_data', '10_photos']
chapters = [pytest.param(p, id=p.stem, marks=[] if p.stem in quick else pytest.mark.slow) for p in notebooks if p.parent.name == 'nbs' and p.stem != 'index']
settings = {'@jupyterlab/notebook-extension:tracker': {'windowingMode': 'none', 'scrollPastEnd': False}, '@jupyterlab/apputils-extension:notification': {'fetchNews': 'false', 'checkForUpdates': False}}


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "Address and folder of a JupyterLab of its own: this machine alone, its own token, a copy of the notebooks, no settings of the user's"
    pytest.importorskip('jupyterlab')
    work = tmp_path_factory.mktemp('lab')
    shutil.copytree(root/'nbs', work/'nbs', ignore=shutil.ignore_patterns('.*', '_*'))
    (work/'config'/'labconfig').mkdir(parents=True)
    (work/'config'/'labconfig'/'default_setting_overrides.json').write_text(json.dumps(settings))
    own = dict(JUPYTER_CONFIG_DIR='config', JUPYTER_RUNTIME_DIR='runtime', JUPYTERLAB_SETTINGS_DIR='settings', JUPYTERLAB_WORKSPACES_DIR='workspaces', IPYTHONDIR='ipython')
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(root), **{k: str(work/v) for k, v in own.items()})
    args = ['--no-browser', '--allow-root', '--ServerApp.ip=127.0.0.1', '--ServerApp.port=0', '--IdentityProvider.token=of-this-test', f'--ServerApp.root_dir={work/"nbs"}',
            '--LabApp.news_url=None', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate', '--LabApp.extension_manager=readonly']
    with open(work/'lab.log', 'w') as log: server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', *args], env=env, cwd=work, stdout=log, stderr=log)
    try:
        for _ in range(120):
            found = list((work/'runtime').glob('jpserver-*.json'))
            if found and found[0].read_text().strip(): break
            assert server.poll() is None, (work/'lab.log').read_text()[-2000:]
            time.sleep(0.5)
        yield json.loads(found[0].read_text())['url'], work/'nbs'
    finally:
        server.terminate()
        try: server.wait(20)
        except subprocess.TimeoutExpired: server.kill()


@pytest.fixture
def page(chromium):
    "A page of its own, shut afterwards"
    context = chromium.new_context(viewport=dict(width=1200, height=900))
    yield context.new_page()
    context.close()


# what a package of others says of itself to its own developers; no user can mend it
of_others = re.compile(r'site-packages\S+: (Future|Deprecation)Warning: ')
prompts = "[...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].map(p => p.textContent.trim())"
finished = f"() => {{ const ps = {prompts}; return ps.some(p => /\\[\\d+\\]/.test(p)) && !ps.some(p => p.includes('*')) }}"
sights = """() => ({
    red: [...document.querySelectorAll('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"], .jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]')].map(e => e.innerText),
    bars: document.querySelectorAll('.jp-OutputArea progress, .jp-OutputArea .progress').length,
    plots: [...document.querySelectorAll('.jp-OutputArea-output img')].filter(i => !i.closest('.jupyter-widgets')).map(i => i.naturalWidth * i.clientWidth) })"""


def open_and_run(page, url, name, minutes):
    "Open notebook `name`, choose Run All Cells in the menu as a person does, and wait"
    page.goto(f'{url}lab/tree/{name}?token=of-this-test&reset')
    page.locator('.jp-Notebook .jp-CodeCell').first.wait_for(timeout=60_000)
    page.locator('#jp-main-statusbar', has_text=re.compile(r'\(ipykernel\) \| Idle')).wait_for(timeout=60_000)
    page.wait_for_timeout(1000)
    page.locator('.lm-MenuBar-itemLabel', has_text=re.compile('^Run$')).click()
    page.locator('.lm-Menu-itemLabel', has_text=re.compile('^Run All Cells$')).click()
    page.wait_for_function(finished, timeout=minutes*60_000, polling=500)
    page.wait_for_timeout(1000)


def take_picture(page, path):
    "The whole notebook in one picture, as far down as a browser draws"
    height = min(page.evaluate("Math.max(...[...document.querySelectorAll('.jp-NotebookPanel *')].map(e => e.scrollHeight))")+150, 12_000)
    page.set_viewport_size(dict(width=1200, height=height))
    page.wait_for_timeout(500)
    page.screenshot(path=path)


@pytest.mark.parametrize('path', chapters)
def test_run_all(path, lab, page, tmp_path):
    "Run all: every cell ran, no error, nothing on stderr, no bar left standing, as many plots on screen as are stored in the notebook"
    url, _ = lab
    stored = sum(any(k.startswith('image/') for k in o.get('data', {})) for c in json.loads(path.read_text(encoding='utf-8'))['cells'] for o in c.get('outputs', []))
    open_and_run(page, url, path.name, minutes=30)
    seen, ran = page.evaluate(sights), page.evaluate(prompts)
    take_picture(page, tmp_path/f'{path.stem}.png')
    assert [e[-1000:] for e in seen['red'] if 'Traceback (most recent' in e] == []
    assert [p for p in ran if not re.match(r'\[\d+\]', p)] == []
    assert seen['bars'] == 0
    assert [e[:400] for e in seen['red'] if not of_others.search(e)] == []
    assert len(seen['plots']) == stored and all(seen['plots'])


def test_front_page_shows_its_pictures(lab, page, tmp_path):
    "The index has nothing to run; each of its pictures is on screen"
    url, _ = lab
    page.goto(f'{url}lab/tree/index.ipynb?token=of-this-test&reset')
    page.locator('.jp-Notebook .jp-MarkdownOutput img').first.wait_for(timeout=60_000)
    page.wait_for_timeout(3000)
    take_picture(page, tmp_path/'index.png')
    widths = page.evaluate("[...document.querySelectorAll('.jp-Notebook .jp-MarkdownOutput img')].map(i => i.naturalWidth * i.clientWidth)")
    text = (root/'nbs'/'index.ipynb').read_text(encoding='utf-8')
    assert len(widths) == text.count('](images/') and all(widths)


@pytest.mark.slow
def test_widgets_answer(lab, page, tmp_path):
    "Every slider of 18_explore draws another picture when it is moved by the keyboard"
    url, _ = lab
    open_and_run(page, url, '18_explore.ipynb', minutes=10)
    boxes = page.locator('.jp-OutputArea-output .widget-interact')
    assert boxes.count() == 4
    for i in range(4):
        box = boxes.nth(i)
        box.scroll_into_view_if_needed()
        picture = box.locator('img')
        picture.wait_for(timeout=20_000)
        before = picture.get_attribute('src')
        box.screenshot(path=tmp_path/f'widget-{i}-before.png')
        handle = box.locator('.noUi-handle').first
        handle.focus()
        for _ in range(3): handle.press('ArrowRight')
        page.wait_for_function('([e, old]) => e.querySelector("img") && e.querySelector("img").src !== old', arg=[box.element_handle(), before], timeout=30_000)
        page.wait_for_timeout(1500)
        box.screenshot(path=tmp_path/f'widget-{i}-after.png')


def test_an_error_is_seen(lab, page, tmp_path):
    "The test above sees an error, a bar and a line on stderr where there are some"
    url, folder = lab
    code = lambda s: dict(cell_type='code', id=f'c{len(s)}', metadata={}, source=s, outputs=[], execution_count=None)
    cells = [code('import sys; print("careful", file=sys.stderr)'), code('from IPython.display import HTML; HTML("<progress value=1 max=2></progress>")'), code('1/0'), code('"never reached"')]
    (folder/'broken.ipynb').write_text(json.dumps(dict(cells=cells, metadata=json.loads(notebooks[0].read_text(encoding='utf-8'))['metadata'], nbformat=4, nbformat_minor=5)))
    open_and_run(page, url, 'broken.ipynb', minutes=2)
    seen = page.evaluate(sights)
    take_picture(page, tmp_path/'broken.png')
    assert 'careful' in seen['red'][0] and 'Traceback (most recent' in seen['red'][1] and seen['bars'] and not seen['plots']
    assert page.evaluate(prompts)[-1] == '[ ]:'


@pytest.mark.parametrize('path', [pytest.param(p, id=p.stem, marks=[] if p.stem == '10_photos' else pytest.mark.slow) for p in notebooks])
def test_nbval(path, tmp_path):
    "`nbval --nbval-lax` runs every cell in a kernel. It calls outputs without an execution count an error, and `nbdev_clean` takes the counts away, so a copy gets them back"
    pytest.importorskip('nbval')
    nb = json.loads(path.read_text(encoding='utf-8'))
    for i, c in enumerate(c for c in nb['cells'] if c['cell_type'] == 'code'):
        c['execution_count'] = i+1
        for o in c['outputs']:
            if o['output_type'] == 'execute_result': o['execution_count'] = i+1
    shutil.copytree(root/'nbs', tmp_path/'nbs', ignore=shutil.ignore_patterns('.*', '_*'))
    copy = tmp_path/'nbs'/path.relative_to(root/'nbs')
    copy.write_text(json.dumps(nb), encoding='utf-8')
    args = ['-q', '-p', 'no:cacheprovider', '--nbval-lax', '--nbval-cell-timeout=1800', f'--rootdir={tmp_path}', str(copy)]
    res = subprocess.run([sys.executable, '-m', 'pytest', *args], cwd=copy.parent, env=dict(os.environ, PYTHONPATH=str(root)), capture_output=True, text=True)
    assert res.returncode == 0, res.stdout[-2000:]
    assert int(re.search(r'(\d+) passed', res.stdout)[1]) == sum(c['cell_type'] == 'code' for c in nb['cells'])
