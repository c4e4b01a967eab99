"Looking at a photo in several ways up."
import shutil

import numpy as np
import pytest

from cable_classifier.turns import turned, ways
from cable_classifier.workspace import CableError

from test_predict import model as means_model


def test_eight_ways_are_all_there_are():
    "Eight different squares, each of the pixels of the first; fewer ways are some of these"
    x = np.arange(2*3*5*5, dtype=np.float32).reshape(2, 3, 5, 5)
    all8 = list(turned(x, 8))
    assert len({y.tobytes() for y in all8}) == 8 and (all8[0] == x).all()
    for y in all8:
        assert y.shape == x.shape and y.dtype == x.dtype and y.flags.c_contiguous
        assert (np.sort(y.reshape(6, -1)) == x.reshape(6, -1)).all(), 'no photo and no channel mixes with another'
    for n in (1, 2, 4):
        few = list(turned(x, n))
        assert len(few) == n and {y.tobytes() for y in few} <= {y.tobytes() for y in all8[:4]}
    again = {z.tobytes() for y in all8 for z in turned(y, 8)}
    assert again == {y.tobytes() for y in all8}, 'turning what was turned leads to nothing new'


@pytest.mark.parametrize('turns', [0, 3, -1, 16, 2.5, None, '4'])
def test_other_numbers_are_refused(turns):
    for f in (ways, lambda t: list(turned(np.zeros((1, 3, 4, 4)), t))):
        with pytest.raises(CableError, match='1, 2, 4 or 8'): f(turns)


class TopRow:
    "A session that answers with the colours of the uppermost row and a familiarity of its own, so that every way up gives another answer"
    def run(self, _, feed): return [x := feed['photos'][:, :, 0].mean(2), x.sum(1)]


def test_mean_of_the_logits_by_hand():
    from cable_classifier.deploy import softmax
    m = means_model()
    m.session = TopRow()
    x = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
    z = (x[:, :, 0].mean(2) + x[:, :, -1].mean(2) + x[:, :, :, 0].mean(2) + x[:, :, :, -1].mean(2))/4
    probs, scores = m.answers(x, 4)
    assert np.allclose(probs, softmax(z, m.temperature), atol=1e-6) and np.allclose(scores, z.sum(1), atol=1e-5)
    assert np.allclose(m.answers(x, 1)[0], softmax(x[:, :, 0].mean(2), m.temperature), atol=1e-6)


def test_a_turned_photo_gets_the_same_answer(tmp_path):
    "Four ways up, it does not matter which of them the camera took; one way up it does"
    from PIL import Image
    from cable_classifier.deploy import predict_photos
    m = means_model()
    m.session = TopRow()
    im = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    paths = [tmp_path/f'{k}.png' for k in range(4)]
    for k, p in enumerate(paths): im.rotate(90*k).save(p)
    first, *others = predict_photos(m, paths, turns=4)
    for r in others: assert r['label'] == first['label'] and np.allclose(list(r['probs'].values()), list(first['probs'].values()), atol=1e-6)
    first, *others = predict_photos(m, paths, turns=1)
    assert any(not np.allclose(list(r['probs'].values()), list(first['probs'].values()), atol=1e-3) for r in others)
    (tmp_path/'none.jpg').write_text('no photo')
    assert [r['error'] is None for r in predict_photos(m, [paths[0], tmp_path/'none.jpg', paths[1]], turns=8)] == [True, False, True]


@pytest.fixture
def folder(small_run):
    "A small model folder and some photos"
    model, data = small_run
    return model, sorted((data/'usb_c').iterdir())[:4]


def test_command_line(folder, cables):
    import json
    from cable_classifier.deploy import load_model, predict_photos
    model, photos = folder
    def says(*words):
        r = cables('predict', model, *photos, '--json', *words)
        assert r.returncode == 0, r.stderr
        return [list(json.loads(l)['probs'].values()) for l in r.stdout.splitlines()]
    for turns in (1, 4):
        want = [list(r['probs'].values()) for r in predict_photos(load_model(model), photos, turns=turns)]
        assert np.allclose(says('--turns', turns), want, atol=1e-6)
    assert says() == says('--turns', 4) != says('--turns', 1) # `cables run` makes models that look four times
    r = cables('predict', model, *photos, '--turns', '3')
    assert r.returncode == 2 and '--turns' in r.stderr and 'Traceback' not in r.stderr


def test_answers_of_other_turns_are_not_mixed(folder, tmp_path, cables):
    "A job goes on with the turns it was begun with, and only with these"
    pytest.importorskip('ray', reason="needs pip install 'cable_classifier[scale]'")
    import pandas as pd
    from cable_classifier.batch import predict_many
    from cable_classifier.deploy import load_model, predict_photos
    model, photos = folder
    (tmp_path/'data').mkdir()
    for p in photos: shutil.copy(p, tmp_path/'data')
    with pytest.raises(CableError, match='1, 2, 4 or 8'): predict_many(model, [tmp_path/'data'], tmp_path/'out', turns=3)
    assert predict_many(model, [tmp_path/'data'], tmp_path/'out', workers=1)['errors'] == 0
    t = pd.read_parquet(tmp_path/'out').sort_values('path')
    want = list(predict_photos(load_model(model), sorted((tmp_path/'data').iterdir()), turns=4))
    assert np.allclose(t.confidence, [r['confidence'] for r in want], atol=1e-6)
    assert predict_many(model, [tmp_path/'data'], tmp_path/'out', workers=1, turns=4) == dict(photos=0, errors=0, parts=0, before=1)
    r = cables('predict', model, tmp_path/'data', '--engine', 'ray', '--out', tmp_path/'out', '--turns', 1)
    assert r.returncode == 2 and 'something else' in r.stderr
