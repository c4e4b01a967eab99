"Edge cases of chapter 04: tiny sets, ties, missing classes, vanished files."
import json, math
import matplotlib
matplotlib.use('Agg')
import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from fastai.vision.all import Callback, ClassificationInterpretation, plt, set_seed
from cable_classifier.workspace import CableError
from cable_classifier.data import get_dls, get_items
from cable_classifier.train import get_learner
from cable_classifier.interpret import (Known, class_table, ece, familiarity, fit_temperature, fit_threshold, get_features, get_logits, get_test_result, grad_cam, known_classes,
                                        loss_table, mcnemar, none_auroc, plot_losses, reliability, share_refused)


# ---- figures from probabilities

def random_probs(n=300, c=3, seed=0, scale=2.):
    g = torch.Generator().manual_seed(seed)
    logits = scale*torch.randn(n, c, generator=g)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=g)[:,0]


def brute_ece(probs, targs, n_bins):
    conf,pred,total = probs.max(1),probs.argmax(1),0.
    for b in range(n_bins):
        lo,hi = b/n_bins,(b+1)/n_bins
        inside = (conf >= lo) & ((conf < hi) | (b == n_bins-1))
        if inside.any(): total += inside.mean()*abs((pred[inside] == targs[inside]).mean() - conf[inside].mean())
    return total


@pytest.mark.parametrize('n_bins', [1, 2, 7, 10, 15, 1000])
@pytest.mark.parametrize('seed', range(4))
def test_ece_agrees_with_a_plain_loop(n_bins, seed):
    logits,targs = random_probs(seed=seed)
    probs = logits.double().softmax(1)
    assert ece(probs, targs, n_bins) == pytest.approx(brute_ece(probs.numpy(), targs.numpy(), n_bins), abs=1e-9)


def test_ece_takes_lists_arrays_and_tensors_alike():
    logits,targs = random_probs(n=20)
    probs = logits.softmax(1)
    assert ece(probs, targs) == ece(probs.numpy(), targs.numpy()) == pytest.approx(ece(probs.tolist(), targs.tolist()), abs=1e-7)


@pytest.mark.parametrize('probs,targs,want', [
    ([[1.,0.]], [0], 0.), ([[1.,0.]], [1], 1.), ([[.5,.5]], [0], .5), ([[1.,0.],[0.,1.]], [0,1], 0.), ([[.75,.25]]*4, [0,0,0,1], 0.)])
def test_ece_of_cases_done_by_hand(probs, targs, want): assert ece(probs, targs) == pytest.approx(want)


def test_ece_is_between_zero_and_one_and_ignores_order():
    logits,targs = random_probs()
    probs,order = logits.softmax(1),torch.randperm(len(targs))
    assert 0 <= ece(probs, targs) <= 1
    assert ece(probs[order], targs[order]) == pytest.approx(ece(probs, targs))


def test_reliability_counts_every_photo_once_and_a_sure_one_in_the_last_bin():
    logits,targs = random_probs()
    t = reliability(logits.softmax(1), targs)
    assert t.n.sum() == len(targs) and t.index.max() <= 9 and (t.n > 0).all()
    assert reliability([[1.,0.]], [0]).index.tolist() == [9]
    assert ((t.confidence >= t.index/10-1e-9) & (t.confidence <= (t.index+1)/10+1e-9)).all()


@pytest.mark.parametrize('true_t', [0.4, 1., 2.5])
def test_the_temperature_is_found_again(true_t):
    logits,targs = random_probs(n=8000)
    assert fit_temperature(logits*true_t, targs) == pytest.approx(true_t, rel=0.1)


def test_the_temperature_lowers_the_loss_and_keeps_the_winner():
    logits,targs = random_probs(n=500)
    t = fit_temperature(4*logits, targs)
    loss = torch.nn.functional.cross_entropy
    assert loss(4*logits/t, targs) < loss(4*logits, targs)
    assert (4*logits/t).argmax(1).equal(logits.argmax(1))


@pytest.mark.parametrize('n', [1, 2, 5, 14])
def test_a_small_set_without_mistakes_does_not_make_it_certain(n):
    logits = 8*torch.eye(3)[torch.arange(n) % 3]
    assert 0.3 < fit_temperature(logits, torch.arange(n) % 3) < 1.05


def test_a_small_set_of_nothing_but_mistakes_stays_finite():
    t = fit_temperature(20*torch.eye(3), [1,2,0])
    assert 1 < t <= math.exp(3)


def test_without_a_prior_the_fit_is_plain_maximum_likelihood():
    logits,targs = random_probs(n=30)
    ts = np.exp(np.linspace(-3, 3, 4001))
    losses = [float(torch.nn.functional.cross_entropy(logits.double()/t, targs)) for t in ts]
    assert fit_temperature(logits, targs, spread=float('inf')) == pytest.approx(ts[np.argmin(losses)], rel=0.01)


@pytest.mark.parametrize('logits', [[[0.,0.,0.]]*4, [[1e4,-1e4,0.]]*4])
def test_flat_and_huge_scores_give_a_finite_temperature(logits): assert 0 < fit_temperature(logits, [0,1,2,0]) < 25


def test_lists_will_do_for_the_temperature():
    logits,targs = random_probs(n=12)
    assert fit_temperature(logits.tolist(), targs.tolist()) == pytest.approx(fit_temperature(logits, targs), rel=1e-4)


@pytest.mark.parametrize('refuse', [0., 0.01, 0.05, 0.2, 0.5, 0.99])
@pytest.mark.parametrize('n', [1, 3, 19, 20, 21, 120])
def test_a_threshold_never_refuses_more_than_it_may(n, refuse):
    probs = random_probs(n=n, seed=n)[0].softmax(1)
    t = fit_threshold(probs, refuse)
    assert share_refused(probs, t) <= refuse + 1e-12
    assert share_refused(probs, t) >= refuse - 1/n - 1e-12


def test_a_threshold_with_ties():
    probs = [[.9,.1]]*10
    assert share_refused(probs, fit_threshold(probs)) == 0.
    assert fit_threshold(torch.eye(3)) == 1.


@pytest.mark.parametrize('refuse', [-0.1, 1., 2., float('nan')])
def test_a_threshold_for_no_share_is_refused(refuse):
    with pytest.raises(CableError, match='cannot refuse'): fit_threshold([[.9,.1]], refuse)


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    a,b = random_probs(n=40, seed=1, scale=4.)[0].softmax(1),random_probs(n=30, seed=2, scale=1.)[0].softmax(1)
    ca,cb = a.max(1).values[:,None],b.max(1).values[None]
    assert none_auroc(a, b) == pytest.approx(float(((ca > cb).double() + 0.5*(ca == cb).double()).mean()))
    assert none_auroc(a, a) == pytest.approx(0.5)
    assert none_auroc(a, b) + none_auroc(b, a) == pytest.approx(1.)


def test_mcnemar_is_symmetric_and_knows_a_tie():
    a,b = [1,1,1,0,0,1],[1,0,0,1,0,1]
    assert mcnemar(a, b)[:2] == (1, 2) and mcnemar(b, a)[:2] == (2, 1)
    assert mcnemar(a, b)[2] == mcnemar(b, a)[2]
    assert mcnemar(a, a) == (0, 0, 1.)
    assert mcnemar(torch.tensor(a).bool(), torch.tensor(b).bool()) == mcnemar(a, b)
    assert mcnemar([0]*10, [1]*10)[2] == pytest.approx(2*0.5**10)


def test_class_table_with_a_class_without_photos():
    t = class_table(torch.tensor([0,0,1]), [0,1,1], ['a','b','c'])
    assert t.n.tolist() == [1,2,0] and t.n_wrong.tolist() == [0,1,0]
    assert math.isnan(t.error_rate['c']) and t.loc['c', ['low','high']].tolist() == [0,1]
    assert (t.low <= t.error_rate.fillna(0)).all() and (t.error_rate.fillna(1) <= t.high).all()


# ---- a small learner on small photos

@pytest.fixture(scope='module')
def small(tmp_path_factory):
    path,rng,rows = tmp_path_factory.mktemp('photos'),np.random.default_rng(0),[]
    for i,(label,colour) in enumerate(dict(a=(220,60,60), b=(60,220,60), c=(60,60,220)).items()):
        (path/label).mkdir()
        for n in range(8):
            noise = rng.integers(0, 60, (40+8*i, 60, 3))
            Image.fromarray((noise*(n%3+1)/3 + np.array(colour)*0.7).astype(np.uint8)).save(path/label/f'{label}_{n}.jpg')
            rows.append((f'{label}/{label}_{n}.jpg', label, f'{label}_{n}', ['train','train','train','train','valid','valid','test','test'][n]))
    items = pd.DataFrame(rows, columns=['fname','label','group','split'])
    set_seed(0, reproducible=True)
    learn = get_learner(get_dls(path, items, size=64, bs=4), pretrained=False, path=path)
    return path, items, learn


@pytest.fixture(scope='module')
def interp(small):
    with small[2].no_bar(): return ClassificationInterpretation.from_learner(small[2])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close('all')


def test_logits_are_plain_quiet_and_in_order(small, capfd):
    path,items,learn = small
    logits,targs = get_logits(learn)
    assert capfd.readouterr().out == ''
    assert type(logits) is torch.Tensor and logits.dtype == torch.float32 and logits.shape == (6,3)
    assert targs.tolist() == [0,0,1,1,2,2]
    probs,_ = learn.get_preds()
    assert torch.allclose(logits.softmax(1), torch.as_tensor(probs), atol=2e-2)


def test_logits_of_photos_without_labels(small):
    path,items,learn = small
    logits,targs = get_logits(learn, learn.dls.test_dl([path/f for f in items.fname[:5]]))
    assert logits.shape == (5,3) and targs is None


@pytest.mark.parametrize('k,n', [(1,1), (4,4), (6,6), (99,6)])
def test_losses_table_has_as_many_rows_as_there_are_photos(interp, k, n, capfd):
    t = loss_table(interp, k)
    assert capfd.readouterr().out == ''
    assert len(t) == n and t.loss.tolist() == sorted(t.loss, reverse=True)
    assert (t.p_actual <= t.p_predicted + 1e-6).all()
    assert np.allclose(t.loss, -np.log(t.p_actual), atol=2e-2)
    assert [f.parent.name for f in t.fname] == t.actual.tolist()
    assert ((t.actual == t.predicted) == np.isclose(t.p_actual, t.p_predicted)).all()


def test_the_lowest_losses_come_lowest_first(interp):
    assert loss_table(interp, 6, largest=False).loss.tolist() == pytest.approx(loss_table(interp, 6).loss.tolist()[::-1], abs=1e-4)


@pytest.mark.parametrize('k,ncols', [(1,3), (2,3), (3,3), (4,3), (5,2), (6,6)])
def test_as_many_photos_are_drawn_as_were_asked_for(interp, k, ncols):
    axs = plot_losses(interp, k, ncols=ncols)
    assert len(axs) == k and all(len(ax.images) == 1 and len(ax.get_title().splitlines()) == 3 for ax in axs)
    assert sum(len(ax.images) for ax in plt.gcf().axes) == k


def test_a_title_has_both_probabilities_and_the_file(interp):
    row,title = loss_table(interp, 1).iloc[0],plot_losses(interp, 1)[0].get_title()
    for part in (row.actual, row.predicted, f'{row.p_actual:.3f}', f'{row.p_predicted:.3f}', row.fname.name): assert part in title


def test_fastai_draws_nine_or_as_many_as_there_are(interp):
    with interp.learn.no_bar(): interp.plot_top_losses(5, figsize=(15,11))
    assert sum(len(ax.images) for ax in plt.gcf().axes) == 5


def test_a_photo_that_is_gone_is_named(small, interp):
    fname = loss_table(interp, 1).fname[0]
    kept = fname.rename(fname.with_suffix('.away'))
    try:
        with pytest.raises(CableError, match=fname.name): plot_losses(interp, 1)
    finally: kept.rename(fname)


@pytest.mark.parametrize('cls', [None, 'a', 'b', 'c'])
def test_a_heat_map_fits_its_picture_and_leaves_no_gradients(small, cls):
    path,items,learn = small
    picture,heat,p = grad_cam(learn, path/items.fname[0], cls)
    assert picture.shape == (64,64,3) and picture.dtype == np.uint8 and heat.shape == (64,64)
    assert np.isfinite(heat).all() and 0 <= heat.min() and heat.max() <= 1.0001 and 0 <= p <= 1
    assert all(q.grad is None for q in learn.model.parameters())


def test_heat_maps_of_all_classes_share_out_the_probability(small):
    path,items,learn = small
    ps = {c: grad_cam(learn, str(path/items.fname[3]), c)[2] for c in 'abc'}
    assert sum(ps.values()) == pytest.approx(1., abs=1e-4)
    assert grad_cam(learn, path/items.fname[3])[2] == pytest.approx(max(ps.values()))


def test_the_heat_map_s_picture_is_the_photo_not_its_normalised_self(small):
    path,items,learn = small
    picture = grad_cam(learn, path/items.fname[0])[0]
    whole = np.asarray(Image.open(path/items.fname[0]))
    assert np.abs(picture.mean((0,1)) - whole.mean((0,1))).max() < 10


def test_a_frozen_learner_has_heat_maps_too(small):
    path,items,learn = small
    learn.freeze()
    try: assert grad_cam(learn, path/items.fname[1])[1].shape == (64,64)
    finally: learn.unfreeze()


def test_a_heat_map_of_no_class_or_no_photo_is_refused(small, tmp_path):
    path,items,learn = small
    with pytest.raises(CableError, match="no class 'hdmi'"): grad_cam(learn, path/items.fname[0], 'hdmi')
    with pytest.raises(CableError, match='not a file'): grad_cam(learn, tmp_path/'nothing.jpg')
    (tmp_path/'text.jpg').write_text('no photo')
    with pytest.raises(CableError, match='not a picture'): grad_cam(learn, tmp_path/'text.jpg')


def test_the_test_result_fits_the_table_and_json(small, capfd):
    path,items,learn = small
    r = get_test_result(learn, path, items)
    assert capfd.readouterr().out == ''
    assert r == json.loads(json.dumps(r)) | dict(error_rate_ci95=r['error_rate_ci95'])
    assert r['n'] == 6 and r['error_rate'] == r['n_wrong']/6
    assert r['error_rate_ci95'][0] <= r['error_rate'] <= r['error_rate_ci95'][1]
    assert all(0 <= r[k] <= 1 for k in ('ece','ece_as_trained','threshold','refused')) and r['temperature'] > 0
    assert 'other_n' not in r


def test_the_test_result_counts_the_test_photos_and_no_others(small):
    path,items,learn = small
    r = get_test_result(learn, str(path), items.sample(frac=1, random_state=1))
    logits,_ = get_logits(learn, learn.dls.test_dl([path/f for f in items[items.split == 'test'].fname]))
    assert r['n_wrong'] == sum(learn.dls.vocab[i] != l for i,l in zip(logits.argmax(1), items[items.split == 'test'].label))


def test_scores_are_taken_as_they_are():
    assert none_auroc([.9, .8], [.1, .85]) == .75 and fit_threshold(torch.tensor([.1, .2, .3]), 0) == pytest.approx(.1)
    assert share_refused([.1, .2, .3], .25) == pytest.approx(2/3)


def test_what_was_trained_on_is_familiar(small, capfd):
    "Unit vectors in the order of the photos; the middle of a class is more familiar than what points elsewhere; at most `most` photos are looked at"
    path,items,learn = small
    known,(feats,logits) = known_classes(learn),get_features(learn)
    assert capfd.readouterr().out == ''
    n = feats.shape[1]
    assert known.means.shape == (learn.dls.c, n) and known.precision.shape == (n, n) and feats.shape == (6, n) and logits.shape == (6, learn.dls.c)
    assert torch.allclose(feats.norm(dim=1), torch.ones(6), atol=1e-3)
    own,away = familiarity(feats, logits, known),familiarity(-feats, logits, known)
    assert own.shape == (6,) and (0 <= away).all() and (own <= 1).all() and away.max() < own.min()
    assert (familiarity(known.means[:1].expand(6, n), logits, known) >= own).all()
    few = known_classes(learn, most=5)
    assert familiarity(feats, logits, few).isfinite().all() and not torch.equal(few.means[0], known.means[0])


def test_familiarity_is_softmax_with_a_distance_as_one_more_logit():
    "Far in a direction in which the training photos scatter is nearer than as far in one in which they agree; a sure head makes up for some of it"
    known = Known(torch.tensor([[1., 0.], [0., 1.]]), torch.linalg.inv(torch.tensor([[.04, 0.], [0., .01]])), torch.tensor(2.), torch.tensor(4.))
    x = torch.tensor([[1., 0.], [1.2, 0.], [1., .2], [0., .9]])
    for logits in (torch.zeros(4, 2), torch.tensor([[3., 0.]]*4)):
        odds = logits.logsumexp(1)/2 - torch.tensor([0., 1., 4., 1.])/4
        want = (1 + odds/(1+odds.abs()))/2
        assert torch.allclose(familiarity(x, logits, known), want, atol=1e-5)


def test_the_test_result_with_other_photos(small):
    path,items,learn = small
    other = [path/f for f in items.fname[:3]]
    r = get_test_result(learn, path, items, other=other)
    assert r['other_n'] == 3 and 0 <= r['other_refused'] <= 1 and 0 <= r['other_auroc'] <= 1
    assert {k: v for k,v in r.items() if not k.startswith('other')} == get_test_result(learn, path, items, other=[])


def test_the_test_result_of_several_looks(small):
    "Mean logits and mean scores of the turned photos, for temperature, threshold and figures alike"
    path,items,learn = small
    known,fnames = known_classes(learn),[path/f for f in items[items.split == 'test'].fname]
    def looks(dl):
        class Turn(Callback):
            def __init__(self, k): self.k = k
            def before_batch(self): self.learn.xb = (torch.rot90(self.x, self.k, (2,3)),)
        said = [get_features(learn, dl, Turn(k)) for k in range(4)]
        return sum(known(*s) for s in said)/4,sum(z for _,z in said)/4
    (own,_),(score,logits) = looks(learn.dls.valid),looks(learn.dls.test_dl(fnames))
    r = get_test_result(learn, path, items, known=known, turns=4)
    targs = torch.tensor([learn.dls.vocab.o2i[c] for c in items[items.split == 'test'].label])
    assert r['threshold'] == pytest.approx(fit_threshold(own), abs=1e-4) and r['n_wrong'] == int((logits.argmax(1) != targs).sum())
    assert r['refused'] == pytest.approx(float((score < r['threshold']).float().mean()), abs=.5/len(targs))
    assert r['temperature'] != get_test_result(learn, path, items, known=known)['temperature']


def test_no_test_photos_is_said(small):
    path,items,learn = small
    with pytest.raises(CableError, match='no test photos'): get_test_result(learn, path, items[items.split != 'test'])


def test_one_test_photo_is_enough(small):
    path,items,learn = small
    few = items[(items.split != 'test') | (items.fname == 'a/a_6.jpg')]
    assert get_test_result(learn, path, few)['n'] == 1


def test_a_class_that_test_lacks_keeps_its_number(small):
    path,items,learn = small
    few = items[(items.split != 'test') | (items.label == 'c')]
    r = get_test_result(learn, path, few)
    logits,targs = get_logits(learn, learn.dls.test_dl([path/f for f in few[few.split == 'test'].fname], with_labels=True))
    assert targs.tolist() == [2,2] and r['n_wrong'] == int((logits.argmax(1) != 2).sum())


def test_the_table_of_a_folder_without_a_split_has_no_test_photos(small):
    path,items,learn = small
    with pytest.raises(CableError, match='no test photos'): get_test_result(learn, path, get_items(path))
