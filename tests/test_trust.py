"Edge cases of 13d_trust: folds that tear nothing apart, lists in the right order, maps without heat."
import numpy as np
import pandas as pd
import pytest
from cable_classifier.trust import heat_share, out_of_fold, suspects
from cable_classifier.workspace import CableError


def cables(n=60, views=4, seed=0):
    "Features that name the cable and nothing else, its label drawn by lot"
    r = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n), views)
    return np.eye(n)[groups] + 0.01*r.standard_normal((n*views, n)), r.permutation(np.repeat(['a', 'b'], n//2))[groups], groups


def test_a_judge_does_not_know_the_cable_from_its_other_photos():
    feats, labels, groups = cables()
    def error(g): return (out_of_fold(feats, labels, g).idxmax(axis=1).to_numpy() != labels).mean()
    assert error(groups) > 0.3
    assert error(np.arange(len(groups))) < 0.05


def clusters(n=90, seed=0):
    r = np.random.default_rng(seed)
    labels = np.repeat(['x', 'y', 'z'], n//3)
    return 3*np.eye(3)[np.repeat([0, 1, 2], n//3)] + 0.5*r.standard_normal((n, 3)), labels, np.arange(n)//2


def test_names_that_are_not_text():
    feats, labels, groups = clusters()
    names = [f'{i}\udcff.jpg' for i in range(len(labels))]
    assert set(suspects(out_of_fold(feats, labels, groups), labels, names).fname) == set(names)


def test_planted_errors_lead_the_list():
    feats, labels, groups = clusters()
    wrong = labels.copy()
    wrong[[3, 40, 77]] = ['y', 'z', 'x']
    listed = suspects(out_of_fold(feats, wrong, groups), wrong, range(len(wrong)))
    assert set(listed.fname[:3]) == {3, 40, 77}
    assert list(listed.predicted[:3][listed.fname[:3].argsort()]) == ['x', 'y', 'z']
    assert listed.loss.is_monotonic_decreasing and np.allclose(listed.loss, -np.log(listed.p_actual))


def test_one_seed_gives_one_answer():
    feats, labels, groups = clusters()
    pd.testing.assert_frame_equal(out_of_fold(feats, labels, groups, seed=3), out_of_fold(feats, labels, groups, seed=3))
    p = out_of_fold(feats, labels, groups)
    assert list(p.columns) == ['x', 'y', 'z'] and np.allclose(p.sum(axis=1), 1)


def test_a_probability_of_zero_has_a_loss_that_can_be_sorted():
    df = suspects(pd.DataFrame({'a': [1., 0.], 'b': [0., 1.]}), ['b', 'b'], ['1.jpg', '2.jpg'])
    assert list(df.fname) == ['1.jpg', '2.jpg'] and np.isfinite(df.loss).all()


@pytest.mark.parametrize('labels, word', [(['a']*8 + ['b']*2, "class 'b' has fewer than 5 groups"), (['b']*3 + ['c']*7, "class 'b'")])
def test_a_class_of_few_groups_is_refused(labels, word):
    with pytest.raises(CableError, match=word): out_of_fold(np.zeros((10, 2)), labels, range(10))


def test_heat_share():
    mask = np.zeros((6, 6)); mask[:3] = 1
    heat = np.zeros((6, 6)); heat[2, 2], heat[4, 4] = 3, 1
    assert heat_share(heat, mask) == 0.75
    assert heat_share(heat, np.ones((6, 6))*0.5) == 0.5
    for h, m, word in ((heat, mask[:5], 'shape'), (0*heat, mask, 'no heat'), (heat*np.nan, mask, 'no heat')):
        with pytest.raises(CableError, match=word): heat_share(h, m)


def test_heat_lies_on_what_a_mask_says_is_plug():
    pytest.importorskip('mitsuba', reason='needs the render extra')
    from cable_classifier.render import render_mask
    from cable_classifier.worlds import draw_scene
    s = draw_scene('usb_c', 4200001, 0)
    mask = render_mask(s, 64, 2)
    assert 0.02 < mask.mean() < 0.9 and (mask == render_mask(s, 64, 2)).all()
    assert heat_share(np.ones(mask.shape), mask) == pytest.approx(mask.mean(), abs=1e-6)
    assert heat_share(mask, mask) > 0.8 > heat_share(1-mask, mask)
