"Work past one process: parts, shards, what is broken, and what goes on."
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import pytest

pytest.importorskip('ray', reason="needs pip install 'cable_classifier[scale]'")


@pytest.fixture
def model(small_run):
    "A small model folder"
    return small_run[0]


def photos_in(folder, embedded, n):
    folder.mkdir()
    for i, f in zip(range(n), sorted((embedded/'plugs').rglob('*.jpg'))): shutil.copy(f, folder/f'{i:04}.jpg')
    return folder


def test_broken_sources(model, embedded, tmp_path):
    "A shard that is cut short, a shard that is none, a photo that is none: a line each, and everything else is predicted; what is in a shard stays in it"
    import pandas as pd
    from cable_classifier.batch import predict_many
    data = photos_in(tmp_path/'data', embedded, 6)
    with tarfile.open(data/'whole.tar', 'w') as tar:
        for i, name in enumerate(('in/0.jpg', 'in/1.jpg', '../../up/2.jpg', '/etc/up.jpg')): tar.add(data/f'{i:04}.jpg', name)
        tar.add(data/'0000.jpg', '.hidden.jpg')
    cut = (data/'whole.tar').read_bytes()
    (data/'cut.tar').write_bytes(cut[:700])
    (data/'none.tar').write_text('no shard')
    (data/'none.jpg').write_text('no photo')
    did = predict_many(model, [data], tmp_path/'out', n=3, workers=2)
    t = pd.read_parquet(tmp_path/'out')
    wrong = t[t.error.notna()]
    assert did['errors'] == len(wrong) == 3 and {p.rsplit('/')[-1] for p in wrong.path} >= {'none.jpg', 'none.tar'}
    assert t.path.is_unique and t.label.notna().sum() == 6+3 and not any(tmp_path.rglob('up*'))
    assert all(s[0] != '.' for s in t.path.str.rsplit('/').str[-1])


def test_refusals(model, embedded, tmp_path, cables):
    "One sentence each, exit code 2"
    from cable_classifier.batch import predict_many
    from cable_classifier.workspace import CableError
    data, out = photos_in(tmp_path/'data', embedded, 2), tmp_path/'out'
    out.mkdir()
    (tmp_path/'empty').mkdir()
    (out/'part-0123.parquet').write_bytes(b'PAR1 and nothing more')
    for path, where, why in ((tmp_path/'nowhere', tmp_path/'o', 'no folder'), (tmp_path/'empty', tmp_path/'o', 'no photo'), (data, out, 'none of our parts'),
                             ('nosuch://bucket/x', tmp_path/'o', 'cannot reach')):
        with pytest.raises(CableError, match=why): predict_many(model, [path], where)
    for words, why in ((('--engine', 'ray'), '--out DIR'), (('--engine', 'ray', '--out', tmp_path/'o', '--address', '127.0.0.1:9'), 'no Ray cluster')):
        r = cables('predict', model, data, *words)
        assert r.returncode == 2 and why in r.stderr and 'Traceback' not in r.stderr


def test_other_model(model, embedded, tmp_path):
    "Answers of two models are not mixed"
    from cable_classifier.batch import finished_parts, predict_many, write_part
    from cable_classifier.workspace import CableError
    import pyarrow as pa
    write_part(str(tmp_path/'out'), dict(file='part-0.parquet', sources=['a.jpg']), [dict(path='a.jpg')], pa.schema([('path', pa.string())]), 'another model')
    assert finished_parts(str(tmp_path/'out'), 'another model') == {str(tmp_path/'out'/'part-0.parquet'): ['a.jpg']}
    with pytest.raises(CableError, match='something else'): predict_many(model, [photos_in(tmp_path/'data', embedded, 2)], tmp_path/'out')


def test_what_was_not_read_is_tried_again(model, embedded, tmp_path):
    "A photo that was mended is read by the next call, in the same file; what is still broken counts again. `tar cf x.tar .` is a shard as any other, an empty one is an error"
    import pandas as pd
    from cable_classifier.batch import predict_many
    data, out = photos_in(tmp_path/'data', embedded, 5), tmp_path/'out'
    with tarfile.open(data/'dot.tar', 'w') as tar: tar.add(data/'0000.jpg', './in/0.jpg')
    with tarfile.open(data/'empty.tar', 'w') as tar: tar.add(data/'0000.jpg', 'notes.txt')
    whole = (data/'0001.jpg').read_bytes()
    (data/'0001.jpg').write_bytes(whole[:99])
    first = predict_many(model, [data], out, n=3, workers=1)
    assert (first['photos'], first['errors'], first['parts']) == (5+1+1, 2, 4)
    (data/'0001.jpg').write_bytes(whole)
    second = predict_many(model, [data], out, n=3, workers=1)
    assert (second['errors'], second['parts'], second['before']) == (1, 2, 2)
    t = pd.read_parquet(out)
    assert len(t) == 7 and list(t.path[t.error.notna()]) == [str(data/'empty.tar')] and f"{data/'dot.tar'}/in/0.jpg" in set(t.path)


@pytest.mark.parametrize('name', ['answers[1]', 'a*b', 'what?'])
def test_folder_with_a_name_like_a_pattern(tmp_path, name):
    "Answers in a folder whose name would be a pattern are found, and nothing of the folders beside or below it"
    import pyarrow as pa
    from cable_classifier.batch import count_try, end_tries, finished_parts, list_sources, write_part
    out, part, schema = tmp_path/name, dict(file='part-0.parquet', sources=['a.jpg']), pa.schema([('path', pa.string())])
    for folder in (out, out/'below', tmp_path/'answers1', tmp_path/'aXb'): write_part(str(folder), part, [dict(path='a.jpg')], schema, 'me')
    assert [count_try(str(out), part) for _ in range(2)] == [0, 1]
    end_tries(str(out), part)
    (out/'notes.txt').write_text('none of ours')
    assert finished_parts(str(out), 'me') == {str(out/'part-0.parquet'): ['a.jpg']}
    (out/'a.jpg').write_bytes(b'x')
    assert list_sources(out) == [str(out/'a.jpg')]


def test_job_killed(model, embedded, tmp_path):
    "The whole job is killed in the middle, and started again: every photo once, nothing done twice"
    import pandas as pd
    from cable_classifier.batch import predict_many
    data, out = photos_in(tmp_path/'data', embedded, 300), tmp_path/'out'
    code = f'from cable_classifier.batch import predict_many; predict_many({str(model)!r}, [{str(data)!r}], {str(out)!r}, n=5)'
    p = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while len(list(out.glob('part-*.parquet'))) < 5: time.sleep(.02); assert p.poll() is None
    os.killpg(p.pid, signal.SIGKILL)
    p.wait()
    time.sleep(1) # workers notice that their master is gone
    before = {f: f.stat().st_mtime_ns for f in out.glob('part-*.parquet')}
    did = predict_many(model, [data], out, n=5)
    t = pd.read_parquet(out)
    assert len(t) == t.path.nunique() == 300 and did['before'] >= 5 and did['photos'] < 300
    assert all(f.stat().st_mtime_ns == then for f, then in before.items())
    assert not list(out.glob('.part-*.tries'))


def test_photo_that_ends_workers(model, embedded, tmp_path):
    "A part that ends every worker is given up after three, and the rest is done"
    import pandas as pd
    import ray.cloudpickle
    from cable_classifier.batch import PredictPart, make_parts, run_parts
    class Frail(PredictPart):
        def photos(self, part):
            for name, data in super().photos(part):
                if name.endswith('0003.jpg'): os._exit(1)
                yield name, data
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    data = photos_in(tmp_path/'data', embedded, 8)
    parts = make_parts(sorted(map(str, data.iterdir())), n=2)
    assert len(list(run_parts(Frail, (str(model), str(tmp_path/'out')), parts, workers=1))) == 4
    t = pd.read_parquet(tmp_path/'out')
    assert len(t) == t.path.nunique() == 8 and t.label.notna().sum() == 6
    assert t.error[t.label.isna()].str.contains('ended its worker three times').all()
    assert not list((tmp_path/'out').glob('.*.tries'))


def test_check(embedded, tmp_path, cables):
    "`cables check` says the same with Ray, looks again at what has changed, and at nothing else"
    data = tmp_path/'data'
    for c in ('one', 'two'): (data/c).mkdir(parents=True)
    for i, f in zip(range(24), sorted((embedded/'plugs').rglob('*.jpg'))): shutil.copy(f, data/('one', 'two')[i % 2])
    (data/'one'/'none.jpg').write_text('no photo')
    os.rename(data/'two'/sorted(os.listdir(data/'two'))[0], os.fsencode(data/'two')+b'/\xff\n.jpg')
    def report(*words):
        r = cables('check', data, '--json', *words)
        assert r.returncode == 1, r.stderr[-1000:]
        return json.loads(r.stdout)['findings']
    plain = report()
    assert report('--engine', 'ray', '--out', tmp_path/'looks') == plain
    shutil.copy(next((data/'two').glob('u*.jpg'), next((data/'two').glob('l*.jpg'))), data/'one'/'none.jpg')
    assert report('--engine', 'ray', '--out', tmp_path/'looks') == report() != plain


def test_names_that_are_not_text(model, embedded, tmp_path):
    "A photo whose name is no text is answered, as `cables check` looks at one"
    import pyarrow.parquet as pq
    from cable_classifier.batch import PredictPart, make_parts
    name = tmp_path/os.fsdecode(b'a\xff.jpg')
    try: shutil.copy(next((embedded/'plugs'/'usb_c').iterdir()), name)
    except OSError: pytest.skip('this file system takes text only')
    part, = make_parts([str(name)])
    PredictPart(str(model), str(tmp_path/'out'))(dict(part=[json.dumps(part)]))
    row, = pq.read_table(tmp_path/'out'/part['file']).to_pylist()
    assert row['path'].endswith('a\\udcff.jpg') and row['label'] and not row['error']
