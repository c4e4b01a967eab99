"Folders as people have them, and splits that keep their promise."
import shutil

import pytest
from PIL import Image

from cable_classifier.data import get_dls, get_items, load_split, save_split, split_items
from cable_classifier.workspace import CableError


def test_no_group_on_two_sides(embedded):
    "For any seed: groups whole, every class on every side, the fixed test photos in test and nowhere else"
    items = get_items(embedded/'plugs', groups=embedded/'manifest.csv')
    fixed = set(items.fname[items.split == 'test'])
    assert fixed
    for seed in range(10):
        s = split_items(items, seed=seed)
        assert s.groupby('group').split.nunique().max() == 1
        assert set(s.fname[s.split == 'test']) == fixed
        assert all(set(s.label[s.split == k]) == set(items.label) for k in ('train', 'valid', 'test'))


def test_groups_from_csv_of_another_column_name(photos, tmp_path):
    "`name` serves as well as `fname`; a photo the file does not list is its own group"
    csv = tmp_path/'g.csv'
    names = sorted(p.name for p in photos.rglob('*.jpg'))
    csv.write_text('name,group\n' + ''.join(f'{n},{n[:-6]}\n' for n in names[:-1]))
    items = get_items(photos, groups=csv)
    assert items.group.nunique() == len({n[:-6] for n in names[:-1]}) + 1
    csv.write_text('name,other\na,b\n')
    with pytest.raises(CableError, match="a column 'group'"): get_items(photos, groups=csv)
    csv.write_text('')
    with pytest.raises(CableError, match="a column 'group'"): get_items(photos, groups=csv)
    with pytest.raises(CableError, match='cannot read groups'): get_items(photos, groups=tmp_path/'none.csv')


def test_all_photos_of_one_cable(photos):
    "A class whose photos all show one cable cannot be split, and the sentence says which"
    items = get_items(photos)
    items.loc[items.label == 'usb_c', 'group'] = 'one'
    with pytest.raises(CableError, match='usb_c'): split_items(items)


def test_odd_names_and_stray_files(photos):
    "Names with spaces, quotes, newlines and emoji are photos; other files, loose photos and hidden folders are not"
    one = next(photos.rglob('*.jpg'))
    odd = [photos/'usb_c'/n for n in ('a b.jpg', "it's.JPG", 'new\nline.jpg', '\N{ELECTRIC PLUG}.jpeg', '<b>.jpg', 'a,b.jpg')]
    for f in odd: shutil.copy(one, f)
    shutil.copy(one, photos/'loose.jpg')
    (photos/'.trash').mkdir()
    shutil.copy(one, photos/'.trash')
    (photos/'usb_c'/'notes.txt').write_text('x')
    items = get_items(photos)
    assert len(items) == 72 + len(odd) and items.label.nunique() == 3
    file = save_split(split_items(items), photos.parent/'split.csv')
    assert set(load_split(file).fname) == set(items.fname)


def test_photos_of_every_mode_make_one_batch(photos):
    "Grey, palette, alpha, 16-bit, CMYK, sideways: all become three channels of one size"
    for i, mode in enumerate(('L', 'P', 'RGBA', 'LA', 'I;16', '1')):
        Image.new(mode, (50 + 10*i, 90)).save(photos/'usb_c'/f'm{i}.png')
    Image.new('CMYK', (40, 300)).save(photos/'usb_c'/'cmyk.jpg')
    dls = get_dls(photos, split_items(get_items(photos)), size=64, bs=8)
    assert {tuple(xb.shape[1:]) for xb, _ in list(dls.train) + list(dls.valid)} == {(3, 64, 64)}


def test_the_same_seed_gives_the_same_split_and_another_seed_another(photos):
    items = get_items(photos, groups=r'^(.+)_\d+\.jpg$')
    a = split_items(items, seed=7)
    assert a.equals(split_items(items, seed=7)) and not a.equals(split_items(items, seed=8))


def test_groups_say_which_class_they_mean(photos, tmp_path):
    "Photos of one name in two classes keep their own groups and splits; a bare name that fits both, a row that contradicts another, and an unknown split are named"
    for k in ('usb_c', 'lightning'):
        for i, f in enumerate(sorted((photos/k).iterdir())[:12]): f.rename(photos/k/f'{i}.jpg')
    csv = tmp_path/'g.csv'
    csv.write_text('fname,group,split\n' + ''.join(f'{k}/{i}.jpg,{k}-{i//3},{"Test " if i < 3 else "train"}\n' for k in ('usb_c', 'lightning') for i in range(12)))
    items = get_items(photos, groups=csv).set_index('fname')
    assert [items.group[f'{k}/4.jpg'] for k in ('usb_c', 'lightning')] == ['usb_c-1', 'lightning-1'] and items.split['usb_c/0.jpg'] == 'test'
    for rows, said in (('1.jpg,a,\n', 'which two classes have'), ('usb_c/1.jpg,a,\nusb_c/1.jpg,b,\n', 'row 3 .* something else than a row above'), ('usb_c/1.jpg,a,valid\n', "row 2 .* has the split 'valid'"),
                       ('usb_c/nowhere.jpg,a,\n', 'names none of the photos'), ('usb_c/1.jpg,,\n', 'row 2 .* lacks')):
        csv.write_text('fname,group,split\n' + rows)
        with pytest.raises(CableError, match=said): get_items(photos, groups=csv)


def test_groups_of_cut_photos(photos, tmp_path):
    "`cables crop` makes x.png.jpg of x.png; the list that was written for the one serves for the other"
    f = sorted((photos/'usb_c').iterdir())[0]
    f.rename(photos/'usb_c'/'x.png.jpg')
    (tmp_path/'g.csv').write_text('fname,group\nusb_c/x.png,one\n')
    assert get_items(photos, groups=tmp_path/'g.csv').set_index('fname').group['usb_c/x.png.jpg'] == 'one'


@pytest.mark.parametrize('rule', [r'(3)?_[01]\.jpg$', r'(zzz)?jpg$'])
def test_a_rule_that_fits_without_its_bracket(photos, rule):
    "Where the bracket finds nothing the photo is its own group; where it finds nothing anywhere, the rule fits nothing"
    if 'zzz' in rule:
        with pytest.raises(CableError, match='fits no file name'): get_items(photos, groups=rule)
    else: assert get_items(photos, groups=rule).group.notna().all()


def test_a_split_of_odd_names(tmp_path):
    "A line's end in a name, either kind, comes back"
    import pandas as pd
    items = pd.DataFrame([[f'a/x{c}y.jpg', 'a', 'g', 'train'] for c in ('\r', '\n', ',', '"', '')], columns=['fname', 'label', 'group', 'split'])
    assert load_split(save_split(items, tmp_path/'s.csv')).values.tolist() == items.values.tolist()
