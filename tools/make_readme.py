#!/usr/bin/env python3
"""README.md from nbs/index.ipynb, so that the front page exists once: `python tools/make_readme.py`.

Markdown cells are taken as they are, pictures found from where README.md lies; code cells are for the notebook alone.
The project's public home is named in settings.ini alone: links to Colab and Binder in index.ipynb are brought into line with it.
The map of the course has a small picture of each chapter's main result, taken from the chapter's own outputs.
"""
import base64
import io
import json
import re
from configparser import ConfigParser
from pathlib import Path

from PIL import Image

root = Path(__file__).resolve().parents[1]


def home_links(text):
    "`text` with its links to Colab, Binder and the repository leading to the home that settings.ini names"
    parser = ConfigParser(delimiters=['='])
    parser.read(root/'settings.ini', encoding='utf-8')
    cfg = parser['DEFAULT']
    where = f"{cfg['user']}/{cfg['repo']}"
    text = re.sub(r'(https://colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+/blob/[\w.-]+/', rf"\g<1>{where}/blob/{cfg['branch']}/", text)
    text = re.sub(r'(https://mybinder\.org/v2/gh/)[\w.-]+/[\w.-]+/[\w.-]+(?=\?)', rf"\g<1>{where}/{cfg['branch']}", text)
    return re.sub(r'git\+https://[\w./-]+', f"git+{cfg['git_url']}", text)


# The cell of each chapter whose picture stands in the map
pictures = {'00_data': '9842e738', '01_train': '8d60d46a', '02_lr_find': '4eb67916', '03_finetune': '53207733', '04_interpret': '08047fca'}


def picture(chapter, most=(400, 260)):
    "The picture of the chapter's main result as JPEG, no wider and higher than `most`"
    cells = json.loads((root/'nbs'/f'{chapter}.ipynb').read_text(encoding='utf-8'))['cells']
    cell, = (c for c in cells if c['id'] == pictures[chapter])
    data, = (o['data']['image/jpeg'] for o in cell['outputs'] if 'image/jpeg' in o.get('data', {}))
    im, buf = Image.open(io.BytesIO(base64.b64decode(data))), io.BytesIO()
    im.thumbnail(most, Image.LANCZOS)
    im.save(buf, 'JPEG', quality=88)
    return buf.getvalue()


def readme():
    "The text README.md should have"
    cells = json.loads((root/'nbs'/'index.ipynb').read_text(encoding='utf-8'))['cells']
    text = '\n\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown') + '\n'
    text = re.sub(r'\]\((images/[^)]+)\)', r'](nbs/\1)', text)
    text = text.replace('](../', '](')
    return re.sub(r'\]\(((?!http|nbs/|\.\./)[\w/]+\.ipynb)\)', r'](nbs/\1)', text)


if __name__ == '__main__':
    index = root/'nbs'/'index.ipynb'
    text = index.read_text(encoding='utf-8')
    if home_links(text) != text: index.write_text(home_links(text), encoding='utf-8')
    for chapter in pictures: (root/'nbs'/'images'/f'{chapter}.jpg').write_bytes(picture(chapter))
    (root/'README.md').write_text(readme(), encoding='utf-8')
