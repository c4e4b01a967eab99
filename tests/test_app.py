"The page of `cables app`: what a stranger sends, what a browser shows, and what nobody may get at."
import io
import json
import os
import re
import signal
import socket as socketlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cable_classifier.app import Page, PhotoBox, answer_html, clean_name, heat_picture, log_odds, max_upload, occlusion_map, open_upload, serve_app, show_page
from cable_classifier.deploy import Model
from cable_classifier.photos import PhotoError
from cable_classifier.workspace import CableError
from conftest import root
from test_cli import refused

nasty = '<img src=x onerror="window.hacked=1">'


class Plain:
    "A session that says what it is told to"
    def __init__(self, logits): self.logits = np.float32(logits)
    def run(self, _, feed): return [np.repeat(self.logits[None], len(feed['photos']), 0)]


def model(logits=(1, 2, 0), vocab=('a', nasty, 'c'), threshold=0.5, temperature=1.):
    return Model(Path('m'), dict(arch='x', vocab=list(vocab), size=32, fit='crop', mean=[.5]*3, std=[.5]*3, temperature=temperature, threshold=threshold), Plain(logits))


class Twofold(Plain):
    "A session with a second answer: every photo is as familiar as it is told"
    def __init__(self, logits, familiar): super().__init__(logits); self.familiar = familiar
    def run(self, _, feed): return [*super().run(_, feed), np.full(len(feed['photos']), self.familiar, np.float32)]


def as_bytes(im, fmt='JPEG', **kw):
    buf = io.BytesIO()
    im.save(buf, fmt, **kw)
    return buf.getvalue()


def bomb():
    "A PNG of a few kilobytes that claims 30,000 by 30,000 pixels"
    import struct
    import zlib
    chunk = lambda k, d: struct.pack('>I', len(d)) + k + d + struct.pack('>I', zlib.crc32(k+d))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 30_000, 30_000, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b'')


grey = Image.new('RGB', (60, 40), (90, 90, 90))
bad = dict(empty=b'', text=b'<script>alert(1)</script>', svg=b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', html=b'<!doctype html><b>hi', program=b'MZ'+bytes(99), zip=b'PK\x03\x04'+bytes(99), pdf=b'%PDF-1.7\n',
           pickle=b'\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.', postscript=b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n',
           cut=as_bytes(Image.effect_noise((300, 300), 80))[:3000], bomb=bomb(), huge=b'\xff\xd8\xff\xe0' + bytes(max_upload))


@pytest.mark.parametrize('data', bad.values(), ids=bad.keys())
def test_bad_uploads(data):
    "A sentence with the name in it, escaped on the page; no picture, no answer"
    with pytest.raises(PhotoError) as e: open_upload('x.jpg', data)
    assert str(e.value).startswith("'x.jpg' ") and ';' in str(e.value) and '\n' not in str(e.value)
    p = Page(model())
    p.got(nasty, data)
    assert 'role="alert"' in p.answer.value and p.pictures.value == '' and '<img' not in p.answer.value and '&lt;img' in p.answer.value


def test_good_uploads_of_all_sizes():
    "One pixel, one line, transparent, grey, turned: all are answered, with two pictures"
    for im in (Image.new('RGB', (1, 1)), Image.new('L', (900, 1)), Image.new('RGBA', (50, 70), (1, 2, 3, 0)), Image.effect_noise((64, 30), 50).convert('P')):
        p = Page(model())
        p.got('x', as_bytes(im, 'PNG'))
        assert p.answer.value.count('role="meter"') == 3 and p.pictures.value.count('<img') == 2 and 'No map' in p.pictures.value
    p.box._arrived(p.box, dict(refused=True), [])
    assert p.answer.value == p.pictures.value == ''


def test_whatever_breaks_is_a_sentence(monkeypatch):
    "An error nobody thought of leaves the page alive"
    from cable_classifier import app
    monkeypatch.setattr(app, 'preprocess', lambda *a: 1/0)
    p = Page(model())
    p.got('x.jpg', as_bytes(grey))
    assert 'ZeroDivisionError' in p.answer.value and 'Traceback' not in p.answer.value


def test_what_the_browser_sends_is_not_trusted():
    "Names and buffers of any kind: answered or dropped, never an exception"
    p = Page(model())
    for name in (None, 7, ['a'], {'b': 1}, '', '\0', 'x'*100_000, '\ud800', '../../../etc/passwd', nasty):
        p.box._arrived(p.box, dict(name=name), [as_bytes(grey)])
        assert p.answer.value.count('role="meter"') == 3 and len(p.answer.value) < 5000 and '<img' not in p.answer.value
    before = p.answer.value
    for content, buffers in ((None, [b'1']), ('x', [b'1']), ({}, []), ({}, None), ({}, [b'1', b'2']), ([], [b'1'])): p.box._arrived(p.box, content, buffers)
    assert p.answer.value == before
    for content, buffers in (({'name': 'x'}, [b'1']), ({'refused': True}, [])): PhotoBox()._arrived(None, content, buffers) # a box that nobody listens to


def test_nothing_of_an_upload_is_kept(tmp_path, monkeypatch):
    "No file is opened for writing, and the bytes that came are on no widget"
    opened, whole = [], as_bytes(Image.effect_noise((400, 300), 80).convert('RGB'))
    monkeypatch.chdir(tmp_path)
    p = Page(model())
    sys.addaudithook(lambda event, args: opened.append(args[0]) if event == 'open' and isinstance(args[1], str) and set(args[1]) & set('wax+') else None)
    p.got('photo.jpg', whole)
    assert [o for o in opened if 'photo' in str(o) or str(tmp_path) in str(o)] == [] and not list(tmp_path.iterdir())
    assert not any(whole == v for v in vars(p).values()) and whole not in [v for v in p.box.get_state().values()]


def test_answer_says_what_the_model_says():
    "The three probabilities after temperature, 'none of these' under the threshold, and what a model without one cannot say"
    def said(**kw):
        p = Page(model(**kw))
        p.got('x.jpg', as_bytes(grey))
        return p.answer.value
    z = np.array([1, 2, 0])/2
    want = [f'{v:.3f}' for v in np.exp(z)/np.exp(z).sum()]
    assert re.findall(r'aria-valuenow="([\d.]+)"', said(temperature=2.)) == want
    assert '<h2>None of these</h2>' in said(temperature=2., threshold=0.6) and 'class="main"' not in said(temperature=2., threshold=0.6)
    assert '<h2>a</h2>' in said(logits=(9, 0, 0)) and 'class="main" style="width:100.0%"' in said(logits=(9, 0, 0))
    assert 'cannot say' in said(threshold=None) and 'None of these' not in said(threshold=None)


@pytest.mark.parametrize('logits, familiar, none', [((20, 0, 0), .1, True), ((20, 0, 0), .9, False), ((1, 1.1, 1), .9, False), ((1, 1.1, 1), .1, True)])
def test_a_familiarity_decides_where_there_is_one(logits, familiar, none):
    "The page refuses what `predict_photos` refuses: what is not familiar, however sure the model is; and says nothing of a low confidence"
    m = model(logits, vocab=('a', 'b', 'c'))
    m.session = Twofold(logits, familiar)
    p = Page(m)
    p.got('x.jpg', as_bytes(grey))
    assert m.predict([('x.jpg', as_bytes(grey))])[0]['none_of_these'] is none
    assert ('<h2>None of these</h2>' in p.answer.value) is none and ('class="main"' in p.answer.value) is not none
    if none: assert 'not like enough' in p.answer.value and 'confiden' not in p.answer.value and 'sure' not in p.answer.value


def test_many_classes():
    "Of a thousand classes the likeliest ten"
    m = model(logits=np.arange(1000)/10, vocab=[f'c{i}' for i in range(1000)])
    p = Page(m)
    p.got('x', as_bytes(grey))
    assert p.answer.value.count('role="meter"') == 10 and 'c999' in p.answer.value and 'c989' not in p.answer.value


def test_log_odds():
    z = np.random.default_rng(0).normal(size=(50, 5))*3
    p = np.exp(z)/np.exp(z).sum(1, keepdims=True)
    for c in range(5): assert np.allclose(log_odds(z, c), np.log(p[:, c]/(1-p[:, c])))
    assert np.isfinite(log_odds(np.array([[1e4, 0., -1e4]]), 0)).all()


class Spot:
    "Logits from how uneven the pixels of one square are, and nothing else"
    def __init__(self, top, left): self.top, self.left = top, left
    def run(self, _, feed):
        v = feed['photos'][:, :, self.top:self.top+8, self.left:self.left+8].std((1, 2, 3))
        return [np.stack([5*v, 0*v], 1).astype(np.float32)]


def test_the_map_finds_the_place():
    "Wherever the evidence lies, it is hot (at the rim fewer covers are averaged, so another cell may be a little hotter), and cells that share no cover with it stay cold"
    x = np.random.default_rng(1).normal(size=(3, 64, 64)).astype(np.float32)
    for i in range(8):
        for j in range(8):
            m = model(vocab=('a', 'b'))
            m.session = Spot(8*i, 8*j)
            heat = occlusion_map(m, x, 0)
            assert heat.shape == (8, 8) and heat[i, j] > 0.9*heat.max() > 0
            far = [heat[a, b] for a in range(8) for b in range(8) if max(abs(a-i), abs(b-j)) > 1]
            assert np.abs(far).max() < 1e-6


def test_heat_picture_of_odd_maps():
    for h in (np.zeros((8, 8)), -np.ones((8, 8)), np.full((8, 8), 1e300), np.eye(8)): assert heat_picture(grey, h).size == grey.size


def test_no_torch():
    "The page's notebook loads no torch"
    code = "import sys, cable_classifier.app; print([m for m in ('torch', 'fastai', 'onnx', 'pandas', 'voila') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=root).stdout.strip() == '[]'


# ---- before the server starts

def test_refused_before_anything_listens(cables, tmp_path, exported):
    "A missing or broken model, a taken port, an address of somebody else: one sentence, exit code 2"
    import shutil
    refused(cables('app', tmp_path/'nowhere'), 'no model in')
    refused(cables('app', tmp_path), 'no model in')
    broken = Path(shutil.copytree(exported, tmp_path/'broken'))
    (broken/'model.onnx').write_bytes(b'')
    refused(cables('app', broken, '--no-browser'), 'get the whole folder again')
    with socketlib.create_server(('127.0.0.1', 0)) as s: refused(cables('app', exported, '--no-browser', '--port', s.getsockname()[1]), '--port')
    refused(cables('app', exported, '--no-browser', '--host', '192.0.2.1'), '--host')
    refused(cables('app', exported, '--no-browser', '--host', ''), '--host')
    assert cables('app').returncode == 2 and cables('app', exported, '--port', '70000').returncode == 2


def test_page_of_a_model_that_went_away(monkeypatch, tmp_path, capsys):
    "Removed after the start: the page says so"
    shown = []
    import IPython.display
    monkeypatch.setattr(IPython.display, 'display', shown.append)
    monkeypatch.setenv('CABLES_APP_MODEL', str(tmp_path/'<b>gone'))
    show_page()
    assert 'no model in' in shown[0].value and '<b>' not in shown[0].value


# ---- a server, a browser

@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    "A model folder, tiny and untrained, with names of classes that are to be escaped"
    import torch
    from fastai.vision.all import CrossEntropyLossFlat, ImageDataLoaders, Learner, Normalize, Resize, imagenet_stats, nn
    from cable_classifier.deploy import export_model
    out = tmp_path_factory.mktemp('app')
    for i in range(18):
        f = out/'photos'/('lightning', 'micro_usb', 'usb <c>')[i % 3]/f'{i:02d}.png'
        f.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((60+i, 50+2*i), 60).convert('RGB').save(f)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    dls = ImageDataLoaders.from_folder(out/'photos', valid_pct=0.5, seed=1, bs=4, num_workers=0, item_tfms=Resize(64), batch_tfms=[Normalize.from_stats(*imagenet_stats)])
    return export_model(Learner(dls, net, loss_func=CrossEntropyLossFlat()), out/'model', arch='tiny', temperature=0.1, threshold=0.2)


@pytest.fixture(scope='module')
def served(exported, tmp_path_factory):
    "Address of a page that runs, and the folder it was started in, where it may not take up anybody's settings"
    cwd = tmp_path_factory.mktemp('cwd')
    (cwd/'voila.py').write_text(f'open({str(cwd/"executed")!r}, "w")')
    (cwd/'voila.json').write_text('{"Voila": {"ip": "0.0.0.0"}, "VoilaConfiguration": {"file_allowlist": [".*"], "file_denylist": []}}')
    code = 'import sys; sys.path.remove(""); from cable_classifier.cli import main; sys.argv[1:] = ["app", sys.argv[1], "--port", "0", "--no-browser"]; main()'
    err = open(tmp_path_factory.mktemp('said')/'stderr', 'w+')
    p = subprocess.Popen([sys.executable, '-u', '-c', code, str(exported)], cwd=cwd, stdout=subprocess.PIPE, stderr=err, text=True, env=dict(os.environ, PYTHONPATH=str(root), TMPDIR=str(cwd)))
    said = [p.stdout.readline(), p.stdout.readline()]
    found = re.search(r'http://127\.0\.0\.1:\d+/', said[1])
    assert found, (said, Path(err.name).read_text())
    yield found[0], cwd, p
    p.terminate()
    p.wait(20)


def ask(url, **headers):
    "Status and body of an address"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as r: return r.status, r.read(), dict(r.headers)
    except urllib.error.HTTPError as e: return e.code, e.read(), dict(e.headers)


@pytest.mark.slow
def test_what_the_server_gives_away(served, exported):
    "The page and what it needs: no file of the machine, no other notebook, no answer to another site; no settings of the folder it was started in"
    url, cwd, _ = served
    assert not (cwd/'executed').exists()
    status, body, headers = ask(url)
    assert status == 200 and b'show_page' not in body and b'cable_classifier' not in body and str(exported).encode() not in body
    assert "default-src 'none'" in headers['Content-Security-Policy'] and "frame-ancestors 'none'" in headers['Content-Security-Policy']
    for path in ('voila/files/cables.ipynb', 'voila/files/../../etc/passwd', 'voila/files/%2e%2e/%2e%2e/etc/passwd', 'cables.ipynb', 'voila/tree', 'api/contents', 'api/kernels', 'api/terminals', 'voila/api/contents',
                 'voila/static/../../../../etc/passwd', 'voila/templates/../../../etc/passwd', 'voila/render/cables.ipynb'):
        status, body, _ = ask(url + path)
        assert status >= 400 and b'root:' not in body and b'show_page' not in body, (path, status)
    assert ask(url, Host='evil.example')[0] == 403
    kernel = json.loads(re.search(rb'<script id="jupyter-config-data" type="application/json">(.*?)</script>', ask(url)[1], re.S)[1])['kernelId']
    socket = f'{url}api/kernels/{kernel}/channels'
    assert [handshake(socket, o) for o in (url.rstrip('/'), 'http://evil.example', 'null')] == [101, 403, 403]


def handshake(url, origin):
    "Status of the answer to a page of `origin` that wants to talk to a kernel"
    host, port, path = re.match(r'http://([^:]+):(\d+)(.*)', url).groups()
    with socketlib.create_connection((host, int(port)), timeout=30) as s:
        s.sendall(f'GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin}\r\n\r\n'.encode())
        return int(s.recv(100).split()[1])


@pytest.fixture
def page(chromium, served):
    "The page as a visitor sees it, and what it asked of other machines"
    context = chromium.new_context(viewport=dict(width=900, height=1000), permissions=['camera'])
    page = context.new_page()
    page.outside = []
    page.on('response', lambda r: None if r.url.startswith((served[0], 'data:', 'blob:')) else page.outside.append(r.url))
    page.goto(served[0])
    page.locator('.cables-box').wait_for(timeout=60_000)
    yield page
    context.close()


drop = """async ([name, data, type]) => { const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0)), t = new DataTransfer()
    t.items.add(new File([bytes], name, { type })); document.querySelector('.cables-box').dispatchEvent(new DragEvent('drop', { dataTransfer: t, bubbles: true, cancelable: true })) }"""


def status(page): return page.locator('.cables-box [role=status]').inner_text()
def settle(page): page.wait_for_function("() => !document.querySelector('.cables-box [role=status]').textContent.startsWith('Looking')", timeout=60_000)


def give(page, name, data, mime='image/jpeg'):
    "Choose a file in the page's dialog and wait for what the page says"
    page.locator('.cables-file').set_input_files(dict(name=name, mimeType=mime, buffer=data))
    page.wait_for_timeout(300)
    settle(page)


@pytest.mark.slow
def test_in_a_browser(page, embedded, tmp_path):
    "Good, bad, huge and wrong files, chosen and dropped: an answer or a sentence each time, and the page lives on"
    import base64
    good = next((embedded/'plugs'/'usb_c').glob('*.jpg')).read_bytes()
    meters = page.locator('[role=meter]')
    page.screenshot(path=tmp_path/'1-empty.png')

    give(page, 'plug.jpg', good)
    assert meters.count() == 3 and page.locator('.cables-pictures img').count() == 2 and page.locator('.cables-page h2').inner_text() in ('lightning', 'micro_usb', 'usb <c>', 'None of these')
    assert page.evaluate("[...document.querySelectorAll('.cables-pictures img')].every(i => i.naturalWidth == 320 && i.alt)")
    assert page.evaluate("new Set([...document.querySelectorAll('.cables-pictures img')].map(i => i.clientWidth)).size") == 1, 'both pictures of one size, however long their captions'
    page.screenshot(path=tmp_path/'2-good.png', full_page=True)

    for name, data in (('notes.txt', b'hello'), ('page.html', b'<script>window.hacked=1</script>'), ('cut.jpg', good[:3000]), ('empty.jpg', b''), ('bomb.png', bomb())):
        give(page, name, data)
        assert name in page.locator('[role=alert]').inner_text() and meters.count() == 0 and page.locator('.cables-pictures').count() == 0
        page.screenshot(path=tmp_path/f'3-{name}.png')

    give(page, nasty, good)
    assert nasty in page.locator('.cables-page p').nth(1).inner_text() and page.evaluate('window.hacked') is None
    page.screenshot(path=tmp_path/'4-nasty-name.png', full_page=True)

    give(page, 'huge.jpg', good + bytes(max_upload))
    assert 'huge.jpg has 20.0 MB, more than 20' in status(page)
    page.wait_for_function("() => !document.querySelector('[role=meter]')", timeout=10_000) # the answer to another photo is gone
    page.screenshot(path=tmp_path/'5-huge.png')
    largest = good + bytes(max_upload-len(good))
    give(page, 'largest.jpg', largest)
    assert meters.count() == 3, 'a file of just the limit still comes through'

    page.get_by_role('button', name='Take a photo').click()
    page.wait_for_function("() => document.querySelector('.cables-box [role=status]').textContent.includes('No camera here')", timeout=10_000)
    page.evaluate(drop, ['dropped.jpg', base64.b64encode(good).decode(), 'image/jpeg'])
    page.wait_for_timeout(300)
    settle(page)
    assert 'dropped.jpg' in page.locator('.cables-page p').nth(1).inner_text() and meters.count() == 3
    assert page.outside == []


@pytest.mark.slow
def test_a_browser_that_does_not_play_by_the_rules(page, served, tmp_path):
    "More than the limit sent past the page's own check: the server hangs up and goes on serving others; code sent to the kernel is not run"
    url, cwd, p = served
    kernel = page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
    talk = """([url, text, wait]) => new Promise(done => { const s = new WebSocket(url), got = []
        s.onopen = () => s.send(text); s.onmessage = m => got.push(typeof m.data); s.onclose = e => done(['closed', e.code, got.length])
        setTimeout(() => done(['open', 0, got.length]), wait) })"""
    socket = f"{url.replace('http', 'ws')}api/kernels/{kernel}/channels"
    state, code, _ = page.evaluate(talk.replace('s.send(text)', "s.send('x'.repeat(+text))"), [socket, str(max_upload+1_000_000), 20_000])
    assert state == 'closed' and code in (1009, 1006) # too big, or cut off before that could be said
    message = dict(header=dict(msg_id='1', username='', session='1', msg_type='execute_request', version='5.3'), parent_header={}, metadata={}, channel='shell', buffers=[],
                   content=dict(code=f'open({str(cwd/"executed")!r}, "w")', silent=False, store_history=False, user_expressions={}, allow_stdin=False, stop_on_error=True))
    page.evaluate(talk, [socket, json.dumps(message), 3000])
    assert not (cwd/'executed').exists() and p.poll() is None and ask(url)[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize('sign', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=['Ctrl-C', 'kill', 'terminal closed'])
def test_leaves_nothing_behind(exported, tmp_path, sign):
    "Ctrl-C, a plain kill or a closed terminal end it with its notebooks; of its temporary folder nothing is left"
    code = 'import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from cable_classifier.cli import main; sys.argv[1:] = ["app", sys.argv[1], "--port", "0", "--no-browser"]; main()'
    p = subprocess.Popen([sys.executable, '-u', '-c', code, str(exported)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ, PYTHONPATH=str(root), TMPDIR=str(tmp_path)))
    p.stdout.readline()
    url = re.search(r'http://\S+', p.stdout.readline())[0]
    assert ask(url)[0] == 200 and list(tmp_path.iterdir())
    p.send_signal(sign)
    _, err = p.communicate(timeout=30)
    assert 'Traceback' not in err and p.returncode in (0, 130)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_too_many_visitors_and_other_addresses(exported, tmp_path, chromium):
    "One more than it can serve is asked to wait until somebody leaves; `--host` opens it to other names, and says so"
    code = 'import sys; import cable_classifier.app as app; app.max_visitors = 2; from cable_classifier.cli import main; sys.argv[1:] = ["app", sys.argv[1], "--port", "0", "--no-browser", "--host", "0.0.0.0"]; main()'
    p = subprocess.Popen([sys.executable, '-u', '-c', code, str(exported)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=dict(os.environ, PYTHONPATH=str(root), TMPDIR=str(tmp_path)))
    try:
        said = [p.stdout.readline() for _ in range(3)]
        assert 'no password' in said[0] and 'http://0.0.0.0:' in said[2]
        url = re.search(r'http://\S+', said[2])[0].replace('0.0.0.0', '127.0.0.1')
        context = chromium.new_context() # of its own: a page's own one would go with it, before it has said goodbye
        page = context.new_page()
        page.goto(url)
        page.locator('.cables-box').wait_for(timeout=60_000)
        assert ask(url, Host='my-machine.local')[0] == 200
        status, body, _ = ask(url)
        assert status == 503 and b'Traceback' not in body
        page.close(run_before_unload=True)
        for _ in range(20):
            time.sleep(0.5)
            if (status := ask(url)[0]) == 200: break
        assert status == 200, 'a page that is closed makes room at once'
        context.close()
    finally:
        p.terminate()
        p.wait(20)
