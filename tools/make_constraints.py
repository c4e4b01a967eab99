#!/usr/bin/env python3
"""The versions installed here, written to constraints.txt: `python tools/make_constraints.py`, in an environment where all tests have passed.

Only what the project needs, directly or through something else, so that a stray package of yours does not get in.
"""
import platform
import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

root = Path(__file__).resolve().parents[1]


def key(name): return re.sub(r'[-_.]+', '-', name).lower()


def needed(name, extras=('dev',)):
    "Installed versions of what `name` with `extras` needs, and what that needs in turn"
    found, todo, seen = {}, [(name, tuple(extras))], set()
    while todo:
        name, extras = item = todo.pop()
        if item in seen: continue
        seen.add(item)
        try: dist = metadata.distribution(name)
        except metadata.PackageNotFoundError: continue # for another platform
        found[key(name)] = dist.version
        for req in map(Requirement, dist.requires or []):
            if not req.marker or any(req.marker.evaluate({'extra': e}) for e in extras or ('',)): todo.append((key(req.name), tuple(sorted(req.extras))))
    return found


def constraints():
    "The text constraints.txt should have"
    found = needed('cable-classifier')
    del found['cable-classifier']
    return ''.join([f"# Versions used together on Python {'.'.join(platform.python_version_tuple()[:2])} and {platform.system()}: pip install -c constraints.txt -e '.[dev]'\n",
                    '# Written by tools/make_constraints.py\n', *(f'{n}=={v}\n' for n, v in sorted(found.items()))])


if __name__ == '__main__': (root/'constraints.txt').write_text(constraints(), encoding='utf-8')
