"Collecting photos: both APIs' shapes, and a server that does what servers do on bad days. No network: all of it is on this machine."
import csv
import io
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cable_classifier import collect
from cable_classifier.collect import Web, collect_photos, fetch, find_commons, find_csv, find_openverse, public_address, read_attribution
from cable_classifier.workspace import CableError


def photo(seed, fmt='JPEG', size=96):
    b = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)).save(b, fmt)
    return b.getvalue()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *a): pass

    def reply(self, body=b'', status=200, **headers):
        self.send_response(status)
        for k, v in (dict(Content_Length=len(body)) | headers).items(): self.send_header(k.replace('_', '-'), str(v))
        self.end_headers()
        try: self.wfile.write(body)
        except OSError: pass

    def do_GET(self):
        s, u = self.server, urlsplit(self.path)
        s.hits.append((u.path, time.monotonic()))
        n, q = sum(p == u.path for p, _ in s.hits), {k: v[0] for k, v in parse_qs(u.query).items()}
        if u.path == '/v1/images/': return self.openverse(s, q)
        if u.path == '/w/api.php': return self.commons(s, q)
        if u.path.startswith('/ok/'): return self.reply(photo(int(u.path.split('/')[2])))
        getattr(self, u.path.strip('/').split('.')[0], lambda n: self.reply(status=404))(n)

    def openverse(self, s, q):
        page = int(q['page'])
        self.reply(json.dumps(dict(result_count=40, page_count=2, page_size=20, page=page, results=[dict(
            id=str(i), url=f'{s.base}/ok/{i}', foreign_landing_url=f'https://a.example/{i}', title=f'{q["q"]} {i}', creator=None if i == 0 else 'Ada',
            license='by-sa', license_version='4.0', license_url='https://creativecommons.org/licenses/by-sa/4.0/', provider='flickr')
            for i in range(20*page-20, 20*page)])).encode())

    def commons(self, s, q):
        at = int(q['gsroffset'])
        page = lambda i: dict(pageid=i, ns=6, title=f'File:Plug {i}.jpg', index=i, imageinfo=[dict(
            url=f'{s.base}/ok/{100+i}', thumburl=f'{s.base}/ok/{100+i}', descriptionurl=f'https://commons.example/wiki/File:{i}', extmetadata=dict(
                Artist=dict(value='<a href="//x">Grace &amp; Co</a>'), LicenseShortName=dict(value='CC BY 4.0'), LicenseUrl=dict(value='https://cc.example')))])
        res = dict(batchcomplete=True, query=dict(pages=[page(i) for i in (at+2, at+1)]))
        if at == 0: res['continue'] = {'gsroffset': 2, 'continue': 'gsroffset||'}
        self.reply(json.dumps(res).encode())

    def busy(self, n): return self.reply(photo(1)) if n > 1 else self.reply(status=429, Retry_After=1)
    def ill(self, n): return self.reply(photo(2)) if n > 2 else self.reply(status=500)
    def dead(self, n): self.reply(status=500)
    def short(self, n): self.reply(photo(3)[:500], Content_Length=len(photo(3)))
    def mended(self, n): self.reply(photo(4)) if n > 1 else self.short(n)
    def cut(self, n): self.reply(photo(5)[:2000])
    def html(self, n): self.reply(b'<html>not here</html>', Content_Type='image/jpeg')
    def png(self, n): self.reply(photo(6, 'PNG'))
    def huge(self, n): self.reply(b'x', Content_Length=2_000_000_000)
    def to_file(self, n): self.reply(status=302, Location='file:///etc/passwd')
    def to_inside(self, n): self.reply(status=302, Location='http://10.0.0.1/')
    def to_cloud(self, n): self.reply(status=307, Location='http://169.254.169.254/latest/meta-data/')
    def to_neighbour(self, n): self.reply(status=302, Location=f'http://127.0.0.1:{self.server.other}/secret')
    def to_name(self, n): self.reply(status=302, Location=f'http://localhost:{self.server.other}/secret')
    def round(self, n): self.reply(status=302, Location='/round.jpg')
    def moved(self, n): self.reply(status=301, Location='/ok/7')
    def silent(self, n): time.sleep(2)

    def endless(self, n):
        self.send_response(200)
        self.end_headers()
        try:
            while True: self.wfile.write(b'x'*100_000)
        except OSError: self.server.cut_off.set()

    def drip(self, n):
        self.send_response(200)
        self.send_header('Content-Length', '1000')
        self.end_headers()
        try:
            for _ in range(1000): self.wfile.write(b'x'); self.wfile.flush(); time.sleep(0.05)
        except OSError: pass


@pytest.fixture(scope='module')
def server():
    s, other = (ThreadingHTTPServer(('127.0.0.1', 0), Handler) for _ in range(2))
    for x in (s, other):
        x.hits, x.daemon_threads, x.base, x.cut_off = [], True, f'http://127.0.0.1:{x.server_port}', threading.Event()
        threading.Thread(target=x.serve_forever, args=(0.05,), daemon=True).start()
    s.other, s.neighbour = other.server_port, other
    yield s
    for x in (s, other): x.shutdown(); x.server_close()


@pytest.fixture
def web(server):
    server.hits.clear()
    return Web(trusted=server.base, timeout=0.5, deadline=1, retries=2, backoff=0, pause=0)


def paths(server): return [p for p, _ in server.hits]


@pytest.mark.parametrize('path,tries', [('busy', 2), ('ill', 3), ('mended', 2)])
def test_patience(server, web, path, tries):
    assert fetch(web, f'{server.base}/{path}.jpg', 10**6)[:2] == b'\xff\xd8' and len(server.hits) == tries


def test_retry_after_is_waited_for_but_not_a_day(server, web):
    fetch(web, f'{server.base}/busy.jpg', 10**6)
    (_, a), (_, b) = server.hits
    assert 0.95 < b-a < 5
    class Answer: headers = {'Retry-After': '86400'}
    assert web.retry.get_retry_after(Answer) == 60
    Answer.headers = {'Retry-After': 'soon'}
    assert web.retry.get_retry_after(Answer) is None


def test_back_off_doubles_and_the_rate_is_polite(server):
    server.hits.clear()
    with pytest.raises(CableError, match='500'): fetch(Web(trusted=server.base, retries=3, backoff=0.1, pause=0.02), f'{server.base}/dead.jpg', 10**6)
    t = [t for _, t in server.hits]
    assert len(t) == 4 and t[3]-t[2] > 0.35 and t[2]-t[1] > 0.15
    server.hits.clear()
    w = Web(trusted=server.base, pause=0.3)
    for i in range(3): fetch(w, f'{server.base}/ok/{i}', 10**6)
    t = [t for _, t in server.hits]
    assert min(np.diff(t)) > 0.25


@pytest.mark.parametrize('path,why,tries', [
    ('dead', '500', 3), ('short', 'cut short', 3), ('silent', 'timed out', 3), ('huge', 'larger than 1 MB', 1), ('endless', 'larger than 1 MB', 1), ('drip', 'longer than', 1),
    ('to_file', 'not an http', 1), ('to_inside', 'public net', 1), ('to_cloud', 'public net', 1), ('to_neighbour', 'public net', 1), ('to_name', 'public net', 1),
    ('round', 'redirect', 3), ('nothing', '404', 1)])
def test_no(server, web, path, why, tries):
    "Each refused with a sentence, soon, and not asked more often than it helps"
    start = time.monotonic()
    with pytest.raises(CableError, match=why): fetch(web, f'{server.base}/{path}.jpg', 10**6)
    assert len(server.hits) == tries and time.monotonic()-start < 5
    assert not server.neighbour.hits


@pytest.mark.parametrize('url', ['file:///etc/passwd', 'ftp://a.example/1.jpg', 'data:image/png;base64,AA', '/etc/passwd', '', 'http://', 'http://[::1', 'javascript:1', 'gopher://a.example', '//a.example/1.jpg'])
def test_only_http(url):
    with pytest.raises(CableError, match='not an http'): fetch(Web(pause=0), url, 10)


@pytest.mark.parametrize('host', ['127.0.0.1', '127.1', '2130706433', '0x7f000001', 'localhost', '10.1.2.3', '172.16.0.1', '192.168.0.1', '169.254.169.254', '100.64.0.1', '0.0.0.0',
                                  '255.255.255.255', '224.0.0.1', '::1', '::', 'fe80::1', 'fc00::1', '::ffff:10.0.0.1', '64:ff9b::a00:1', '2002:7f00:1::', 'ff02::1'])
def test_private_addresses(host):
    with pytest.raises(CableError, match='public net'): public_address(host, 80)


def test_a_name_is_resolved_once_and_connected_as_looked_at(server, monkeypatch):
    "A name with one private address among public ones is refused; a second answer is never asked for"
    asked = []
    def names(*addrs):
        def getaddrinfo(host, port, *a, **k):
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', (x, port)) for x in addrs]
        return getaddrinfo
    monkeypatch.setattr(socket, 'getaddrinfo', names('93.184.216.34', '192.168.0.1'))
    with pytest.raises(CableError, match='192.168.0.1'): fetch(Web(pause=0), 'http://rebind.example/', 10)
    monkeypatch.setattr(socket, 'getaddrinfo', names('93.184.216.34'))
    gone = []
    def create_connection(addr, *a, **k): gone.append(addr); raise OSError('stop here')
    monkeypatch.setattr(collect, 'create_connection', create_connection)
    asked.clear()
    with pytest.raises(CableError): fetch(Web(pause=0, retries=0), 'http://rebind.example/', 10)
    assert gone == [('93.184.216.34', 80)] and asked == ['rebind.example']


def test_proxies_of_the_environment_are_not_asked(server, web, monkeypatch):
    "A proxy would resolve names itself, past our look at the address"
    monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')
    assert fetch(web, f'{server.base}/moved.jpg', 10**6) == photo(7)


def test_openverse(server, web):
    found = list(find_openverse(web, 'usb-c plug', server.base))
    assert len(found) == 40 and paths(server) == ['/v1/images/']*2
    assert found[1]._asdict() == dict(url=f'{server.base}/ok/1', page='https://a.example/1', title='usb-c plug 1', creator='Ada', licence='by-sa 4.0',
                                      licence_url='https://creativecommons.org/licenses/by-sa/4.0/', source='openverse')
    assert found[0].creator == ''


def test_commons(server, web):
    found = list(find_commons(web, 'plug', server.base))
    assert [f.title for f in found] == [f'File:Plug {i}.jpg' for i in (1, 2, 3, 4)]
    assert found[0].creator == 'Grace & Co' and found[0].licence == 'CC BY 4.0' and found[0].page.endswith('File:1')


def answers(monkeypatch, *found):
    "Has the services answer with `found`, the last one again and again; gives what they were asked for"
    asked = []
    def fetch(web, url, max_bytes):
        asked.append(url)
        assert len(asked) < 300, 'asked for ever'
        return json.dumps(found[min(len(asked), len(found))-1]).encode()
    monkeypatch.setattr(collect, 'fetch', fetch)
    return asked


odd = ['x', 5, [1], ['a'], [[1]], {'a': 'b'}, {'a': [1]}, True, 1.5]


@pytest.mark.parametrize('answer', [dict(results=['a']), dict(results=[{}], page_count='many'), dict(results=[{}], page_count=float('inf')), *(dict(results=x) for x in odd),
                                    *(dict(results=[{}], page_count=x) for x in odd if not isinstance(x, (int, float)))], ids=json.dumps)
def test_openverse_of_another_shape(monkeypatch, answer):
    answers(monkeypatch, answer)
    with pytest.raises(CableError, match='^Openverse answered in a form') as e: list(find_openverse(None, 'x'))
    assert '\n' not in str(e.value)


def page(**info): return dict(query=dict(pages=[dict(title='A', imageinfo=[info])]))


@pytest.mark.parametrize('answer', [dict(query=[1]), dict(query=dict(pages={'12': dict(imageinfo=[])})), page() | {'continue': 'x'}, page(extmetadata=dict(Artist='me')),
                                    dict(query=dict(pages=[dict(index=1), dict(index='a')])), *(dict(query=x) for x in odd if x != {'a': 'b'} and x != {'a': [1]}),
                                    *(dict(query=dict(pages=x)) for x in odd), *(dict(query=dict(pages=[dict(imageinfo=x)])) for x in odd),
                                    *(page(extmetadata=x) for x in odd), *(page(extmetadata=dict(Artist=x)) for x in odd if not isinstance(x, dict)),
                                    *(page() | {'continue': x} for x in odd if not isinstance(x, dict))], ids=json.dumps)
def test_commons_of_another_shape(monkeypatch, answer):
    answers(monkeypatch, answer)
    with pytest.raises(CableError, match='^Wikimedia Commons answered in a form') as e: list(find_commons(None, 'x'))
    assert '\n' not in str(e.value)


@pytest.mark.parametrize('more,tries', [(dict(gsroffset=0), 1), (dict(gsroffset=50), 2), (dict(url='x', action='y', web=1, params=2), 2), (None, 1), ([], 1)])
def test_commons_is_not_asked_for_ever(monkeypatch, more, tries):
    "A place to go on from that was there before ends it, and so does a page with nothing"
    asked = answers(monkeypatch, page(url='u') | {'continue': more})
    assert [f.url for f in find_commons(None, 'x')] == ['u']*tries and len(asked) == tries and all('action=query&' in u for u in asked)
    for empty in ({}, dict(query={}), dict(query=dict(pages=[]))):
        asked = answers(monkeypatch, empty | {'continue': more})
        assert list(find_commons(None, 'x')) == [] and len(asked) == 1


def test_commons_ends_with_what_it_gives_of_one_search(monkeypatch):
    asked = answers(monkeypatch, *(page(url='u') | {'continue': dict(gsroffset=i)} for i in range(1, 299)))
    assert len(list(find_commons(None, 'x'))) == len(asked) == 200


def test_openverse_ends_with_an_empty_page(monkeypatch):
    asked = answers(monkeypatch, dict(results=[dict(url='u')], page_count=12), dict(results=[], page_count=12))
    assert len(list(find_openverse(None, 'x'))) == 1 and len(asked) == 2


@pytest.mark.parametrize('url', [5, ['a'], {'a': 1}, None, True, '\ud800'])
def test_an_address_that_is_none(monkeypatch, web, tmp_path, url):
    "Named with its reason among those that failed; one more page brings a photo, and one of another shape ends it"
    real = collect.fetch
    for source, res, bad in (('openverse', [dict(results=[dict(url=x)], page_count=3) for x in (url, 'http://ok.example/')], dict(results=['a'])),
                             ('commons', [page(url=x) | {'continue': dict(gsroffset=i)} for i, x in enumerate((url, 'http://ok.example/'), 1)], dict(query=[1]))):
        answers(monkeypatch, *res, bad)
        service = collect.fetch
        monkeypatch.setattr(collect, 'fetch', lambda w, u, n: photo(1) if u == 'http://ok.example/' else service(w, u, n) if 'images' in u or 'api.php' in u else real(w, u, n))
        res = collect_photos(tmp_path/source, dict(a='x'), source, web=web)
        assert len(res['new']) == 1 and len(res['failed']) == 2 and 'not an http or https address' in [*res['failed'].values()][0] and 'in a form' in res['failed']['a']


def test_half_a_character_is_none(monkeypatch, web, tmp_path):
    "JSON may hold what UTF-8 cannot; and lists in lists without end"
    answers(monkeypatch, page(url='http://a.example/\ud800', descriptionurl='\ud800', extmetadata=dict(Artist=dict(value='A\udc80\ud83d'), LicenseUrl=dict(value=' http://a.example?a&amp;b'))))
    f, = find_commons(None, 'x')
    assert f.creator == 'A??' and f.page == '?' and f.licence_url == 'http://a.example?a&amp;b'
    monkeypatch.setattr(collect, 'fetch', lambda *a: b'['*200_000)
    with pytest.raises(CableError, match='did not answer in JSON'): list(find_commons(None, 'x'))


def test_attribution_and_resuming(server, web, tmp_path):
    res = collect_photos(tmp_path/'o', dict(usb_c='plug'), limit=3, base=server.base, web=web)
    assert len(res['new']) == 3
    rows = read_attribution(tmp_path/'o')
    assert sorted(rows) == sorted(res['new']) and all(r['licence'] == 'by-sa 4.0' and r['class'] == 'usb_c' for r in rows.values())
    (tmp_path/'o'/res['new'][1]).unlink()
    server.hits.clear()
    again = collect_photos(tmp_path/'o', dict(usb_c='plug'), limit=4, base=server.base, web=web)
    assert (again['there'], len(again['new'])) == (2, 2) and len(server.hits) == 3
    with (tmp_path/'o/ATTRIBUTION.csv').open(encoding='utf-8') as f: assert len(list(csv.DictReader(f))) == 4


@pytest.mark.parametrize('to', ['lightning/{}', 'quarantine/usb_c/{}', 'lightning/{} (1)'])
def test_a_row_follows_its_photo(server, web, tmp_path, to):
    "Relabelled or put aside, a photo keeps maker and licence, and is not fetched again; put back, it has its first name"
    out = tmp_path/'o'
    def collect(cls='usb_c', limit=3): return collect_photos(out, {cls: 'plug'}, limit=limit, base=server.base, web=web)
    first = out/collect()['new'][1]
    moved = out/f'{to.format(first.stem)}{first.suffix}'
    moved.parent.mkdir(parents=True)
    first.rename(moved)
    rows = read_attribution(out)
    assert len(rows) == 3 and rows[moved.relative_to(out).as_posix()]['creator'] == 'Ada'
    server.hits.clear()
    assert (collect()['there'], len(server.hits)) == (3, 1)
    assert len(collect(limit=4)['new']) == 1 # which writes the list anew
    rows = read_attribution(out)
    assert len(rows) == 4 and rows[moved.relative_to(out).as_posix()]['class'] == 'usb_c'
    before = moved.read_bytes()
    again = collect('lightning', 3)
    assert moved.read_bytes() == before and again['there'] == (moved.parent.name == 'lightning') and len(read_attribution(out)) == 4 + len(again['new'])
    moved.rename(first)
    assert read_attribution(out)[first.relative_to(out).as_posix()]['creator'] == 'Ada'


def edited(out, change):
    "The list as a spreadsheet or an editor leaves it: `change` takes its rows and gives others"
    with (out/'ATTRIBUTION.csv').open(newline='', encoding='utf-8') as f: rows = list(csv.reader(f))
    with (out/'ATTRIBUTION.csv').open('w', newline='', encoding='utf-8') as f: csv.writer(f).writerows(change(rows))


@pytest.mark.parametrize('change', [lambda rows: [r[1:]+r[:1] for r in rows[:2]]+[rows[2][1:]]+[r[1:]+r[:1] for r in rows[3:]], lambda rows: rows[:2]+[rows[2][:-1]]+rows[3:],
                                    lambda rows: rows[:2]+[rows[2]+['more']]+rows[3:], lambda rows: rows[:2]+[rows[2][:1]]+rows[3:]], ids=['file last', 'short', 'long', 'one value'])
def test_a_row_that_does_not_fit_is_told_with_its_line(server, web, tmp_path, change):
    out = tmp_path/'o'
    collect_photos(out, dict(a='plug'), limit=3, base=server.base, web=web)
    edited(out, change)
    before = (out/'ATTRIBUTION.csv').read_bytes()
    for call in (lambda: read_attribution(out), lambda: collect_photos(out, dict(a='plug'), limit=4, base=server.base, web=web)):
        with pytest.raises(CableError, match="^line 3 of '.*ATTRIBUTION.csv' has more or fewer values") as e: call()
        assert '\n' not in str(e.value) and (out/'ATTRIBUTION.csv').read_bytes() == before


def test_columns_of_the_users_own_stay(server, web, tmp_path):
    "Also where not every row has a value; the new rows have none, and the order of the others does not matter"
    out = tmp_path/'o'
    def more(n): return collect_photos(out, dict(a='plug'), limit=n, base=server.base, web=web)['new']
    first, second = more(2)
    edited(out, lambda rows: [['note', *rows[0][::-1], 'seen'], ['blurred, a little', *rows[1][::-1], 'yes'], ['', *rows[2][::-1]]])
    for n in (3, 4):
        new, = more(n)
        rows = read_attribution(out)
        assert len(rows) == n and [rows[first][k] for k in ('note', 'seen', 'creator')] == ['blurred, a little', 'yes', '']
        assert [rows[f][k] for f in (second, new) for k in ('note', 'seen')] == ['']*4 and rows[new]['creator'] == 'Ada'
    assert list(rows[first]) == [*collect._columns, 'note', 'seen']


@pytest.mark.skipif(sys.platform != 'linux', reason='names are text elsewhere')
def test_a_class_folder_whose_name_is_no_text(server, web, tmp_path):
    "Its photos keep their rows, and the next call finds them there"
    out = tmp_path/'o'
    def collect(n): return collect_photos(out, dict(a='plug'), limit=n, base=server.base, web=web)
    first, = collect(1)['new']
    name = os.fsdecode(b'\xe9t\xe9')
    (out/'a').rename(out/name)
    assert len(collect(2)['new']) == 1
    rows = read_attribution(out)
    assert len(rows) == 2 and rows[first.replace('a/', f'{name}/', 1)]['class'] == 'a'
    assert collect(2)['there'] == 2 and b'\xe9t\xe9/' in (out/'ATTRIBUTION.csv').read_bytes()


def test_a_file_name_that_no_disk_takes_is_no_photo(server, web, tmp_path):
    out = tmp_path/'o'
    collect_photos(out, dict(a='plug'), limit=2, base=server.base, web=web)
    edited(out, lambda rows: [rows[0], ['x'*5000, *rows[1][1:]], rows[2]])
    assert len(read_attribution(out)) == 1


def test_photos_of_one_address_in_two_classes_keep_a_row_each(server, web, tmp_path):
    "One name in two folders: the photo that is at its place keeps its row, and the other row is lost with its photo only"
    a, b = (listed(tmp_path, server, 'ok/1', cls=c).read_text().splitlines()[1] for c in 'ab')
    (tmp_path/'l.csv').write_text(f'url,class\n{a}\n', encoding='utf-8')
    name, = collect_photos(tmp_path/'o', {}, source=tmp_path/'l.csv', web=web)['new']
    rows = read_attribution(tmp_path/'o')
    other = f"b/{name.split('/')[1]}"
    (tmp_path/'o/b').mkdir()
    (tmp_path/'o'/other).write_bytes(photo(9))
    collect._write_attribution(tmp_path/'o', rows | {other: rows[name] | {'file': other, 'class': 'b', 'sha256': 'x'}})
    assert sorted(read_attribution(tmp_path/'o')) == [name, other]
    (tmp_path/'o'/name).unlink()
    assert sorted(read_attribution(tmp_path/'o')) == [other]


def test_two_at_once_are_one_too_many(server, web, tmp_path):
    "The second says so and writes nothing; the first ends, and the folder is free"
    out, seen = tmp_path/'o', []
    def meanwhile(steps):
        for f in steps:
            if not seen:
                with pytest.raises(CableError, match='another run is writing') as e: collect_photos(out, dict(b='plug'), limit=1, base=server.base, web=web)
                seen.append(str(e.value))
            yield f
    collect_photos(out, dict(a='plug'), limit=2, base=server.base, web=web, progress=meanwhile)
    assert '\n' not in seen[0] and not (out/'b').exists() and len(read_attribution(out)) == 2
    assert len(collect_photos(out, dict(b='plug'), limit=3, base=server.base, web=web)['new']) == 3


def test_a_stop_between_photo_and_row_leaves_no_photo_without_its_row(server, web, tmp_path, monkeypatch):
    def stop(*a): raise KeyboardInterrupt
    monkeypatch.setattr(collect, 'open_photo', stop)
    with pytest.raises(KeyboardInterrupt): collect_photos(tmp_path/'o', dict(a='plug'), limit=1, base=server.base, web=web)
    assert not list(tmp_path.iterdir())


def listed(tmp_path, server, *names, head='url,class', cls='a'):
    (tmp_path/'l.csv').write_text('\n'.join([head]+[f'{server.base}/{n},{cls}' for n in names]), encoding='utf-8')
    return tmp_path/'l.csv'


def test_bad_photos_of_a_list_go_and_the_rest_stay(server, web, tmp_path):
    f = listed(tmp_path, server, 'html.jpg', 'cut.jpg', 'huge.jpg', 'png.jpg', 'to_inside.jpg', 'ok/1', 'ok/1?again', '..%2f..%2fx.jpg')
    res = collect_photos(tmp_path/'o', {}, source=f, web=web)
    assert len(res['new']) == 2 and res['same'] == 1 and len(res['failed']) == 5
    assert sorted(p.suffix for p in (tmp_path/'o/a').iterdir()) == ['.jpg', '.png'] # named by what they are
    assert sorted(p.name for p in tmp_path.iterdir()) == ['l.csv', 'o'] and sorted(p.name for p in (tmp_path/'o').iterdir()) == ['.lock', 'ATTRIBUTION.csv', 'a']


@pytest.mark.parametrize('cls', ['..', '../x', '/x', 'a/b', '.hidden', 'a b', 'quarantine', 'CON', '-x', 'a\\b'])
def test_no_class_leaves_the_folder(server, web, tmp_path, cls):
    for args in (dict(classes={cls: 'x'}), dict(classes={}, source=listed(tmp_path, server, 'ok/1', cls=cls))):
        with pytest.raises(CableError, match='name of a class'): collect_photos(tmp_path/'o', web=web, base=server.base, **args)
    assert not (tmp_path/'o').exists() and not server.hits


def test_a_class_that_is_a_link_is_not_followed(server, web, tmp_path):
    for n in ('o', 'elsewhere'): (tmp_path/n).mkdir()
    (tmp_path/'o/a').symlink_to(tmp_path/'elsewhere')
    with pytest.raises(CableError, match='not a folder'): collect_photos(tmp_path/'o', dict(a='x'), web=web, base=server.base)


@pytest.mark.parametrize('text', ['link\nhttp://a.example/1.jpg\n', '', 'url,class\n', '\x00\xff', 'http://a.example/1.jpg\n'])
def test_a_csv_without_urls(tmp_path, text):
    (tmp_path/'l.csv').write_bytes(text.encode('latin-1'))
    r = run(tmp_path, '--class', 'a=a', '--source', str(tmp_path/'l.csv'))
    assert r.exit_code == 2 and r.stderr.count('\n') == 1 and 'l.csv' in r.stderr and not (tmp_path/'o').exists()


def test_an_address_is_left_as_it_is(server, web, tmp_path):
    "No tag is cut out of it, no &amp; made &, none is cut short; so too from Openverse"
    url = f'{server.base}/ok/1?a=1&amp;b=<x>&c=' + 'y'*600
    (tmp_path/'l.csv').write_text(f'url,page,title,creator,licence_url\n  {url} ,{url},<b>A</b> &amp; B,Ada,{url}\n', encoding='utf-8')
    (_, f), = find_csv(tmp_path/'l.csv')
    assert (f.url, f.page, f.title, f.licence_url) == (url, url, 'A & B', url)
    new, = collect_photos(tmp_path/'o', dict(a='x'), source=tmp_path/'l.csv', web=web)['new']
    assert read_attribution(tmp_path/'o')[new]['url'] == url


def test_openverse_addresses_are_left_as_they_are(monkeypatch):
    url = 'http://a.example/1.jpg?a=1&amp;b=<x>'
    monkeypatch.setattr(collect, '_json', lambda *a, **k: dict(page_count=1, results=[dict(url=url, foreign_landing_url=url, license_url=url, title='A &amp; B')]))
    f, = find_openverse(None, 'x')
    assert f.url == f.page == f.licence_url == url and f.title == 'A & B'


def test_a_bad_address_is_told_with_its_line(server, web, tmp_path):
    (tmp_path/'l.csv').write_text(f'title,url,class\n"two\nlines",{server.base}/ok/1,a\n\nx,no address,a\ny,,a\nz,{server.base}/html.jpg,a\n')
    res = collect_photos(tmp_path/'o', {}, source=tmp_path/'l.csv', web=web)
    assert len(res['new']) == 1 and [w.split(' is ')[0] for w in res['failed'].values()] == ["line 5: 'no address'", "line 6: ''", f"line 7: '{server.base}/html.jpg'"]


def test_a_class_that_the_list_does_not_have(server, web, tmp_path):
    r = run(tmp_path, '--source', str(listed(tmp_path, server, 'ok/1')), '--class', 'b=x')
    assert r.exit_code == 2 and r.stderr.endswith("l.csv' has no class 'b'; it has a\n") and not (tmp_path/'o').exists()


def test_nothing_kept_leaves_no_folder(server, web, tmp_path):
    "Unless it was there before, or holds something"
    f = listed(tmp_path, server, 'html.jpg', 'nothing')
    for there in (False, True):
        if there: (tmp_path/'o').mkdir()
        assert len(collect_photos(tmp_path/'o', {}, source=f, web=web)['failed']) == 2 and (tmp_path/'o').exists() == there
    with pytest.raises(CableError, match='JSON'): collect_photos(tmp_path/'p', dict(a='x'), base=f'{server.base}/html.jpg?', web=web)
    assert not (tmp_path/'p').exists()


def test_spellings_of_a_list(tmp_path):
    (tmp_path/'l.csv').write_text('\ufeffURL ,License\nhttp://a.example/1.jpg,CC0\n', encoding='utf-8')
    (cls, f), = find_csv(tmp_path/'l.csv')
    assert (cls, f.url, f.licence) == ('', 'http://a.example/1.jpg', 'CC0')


def run(tmp_path, *args):
    from cable_classifier.cli import main
    return CliRunner().invoke(main, ['collect', str(tmp_path/'o'), *args])


def test_the_verb(server, web, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, 'Web', lambda: web)
    f = listed(tmp_path, server, 'ok/1', 'html.jpg')
    r = run(tmp_path, '--source', str(f))
    assert r.exit_code == 1 and '1 new' in r.stdout and 'not a picture' in r.stderr
    listed(tmp_path, server, 'ok/1')
    r = run(tmp_path, '--source', str(f))
    assert r.exit_code == 0 and '0 new' in r.stdout and '1 there' in r.stdout


@pytest.mark.parametrize('args,why', [((), 'no class'), (('--class', 'a'), 'NAME='), (('--class', 'a='), 'NAME='), (('--source', 'nowhere.csv'), "cannot read the list 'nowhere.csv' (No such file or directory)"), (('--source', 'Openverse'), "no such source 'Openverse': openverse, commons, or a CSV file"), (('--source', '/dev/zero'), 'plain file'), (('--class', '../a=x'), 'name of a class')])
def test_wrong_usage(tmp_path, args, why):
    r = run(tmp_path, *args)
    assert r.exit_code == 2 and why in r.stderr and 'Traceback' not in r.stderr and not (tmp_path/'o').exists()
