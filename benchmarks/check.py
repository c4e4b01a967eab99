"""Check a folder of photos beside fastai's `verify_images` and cleanvision, on the same files in the same run: `python -m benchmarks.check`.

The files are small JPEGs made from a seed; one in a hundred is cut short, one in a hundred is a copy, one in a hundred is saved again smaller.
`cpu s` counts all processes, imports included: on a busy machine it says more than the clock.
Each contender runs in a process of its own, after the files have been read once, so that the disk is warm for all.
"""
import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def make_files(folder, n, side=128, seed=0):
    "`n` small JPEGs in four classes under `folder`; gives how many are cut short, copied, saved again smaller"
    rng = np.random.default_rng(seed)
    planted, last = dict(cut=0, copies=0, near=0), None
    for i in range(n):
        d = folder/f'class_{i % 4}'
        d.mkdir(parents=True, exist_ok=True)
        if i % 100 == 97 and last: data, planted['copies'] = last[1], planted['copies'] + 1
        elif i % 100 == 98 and last:
            buf = io.BytesIO()
            last[0].resize((side*3//4, side*3//4)).save(buf, 'JPEG', quality=60)
            data, planted['near'] = buf.getvalue(), planted['near'] + 1
        else:
            im = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
            buf = io.BytesIO()
            im.save(buf, 'JPEG', quality=80)
            data = buf.getvalue()
            if i % 100 == 99: data, planted['cut'] = data[:len(data)//2], planted['cut'] + 1
            else: last = im, data
        (d/f'{i:06}.jpg').write_bytes(data)
    return planted


contenders = {
    'cables check': """
from cable_classifier.check import check_folder
start = time.perf_counter()
found = check_folder(folder).summary['kinds']""",
    'cables check, decode only': """
from cable_classifier.check import check_folder
start = time.perf_counter()
found = check_folder(folder, full=False).summary['kinds']""",
    'fastai verify_images': """
from fastai.vision.utils import verify_images, get_image_files
start = time.perf_counter()
found = dict(cut_short=len(verify_images(get_image_files(folder))))""",
    'cleanvision': """
import cleanvision
from PIL import ImageFile
ImageFile.LOAD_TRUNCATED_IMAGES = True # without this it stops at the first file cut short, and reports nothing
start = time.perf_counter()
lab = cleanvision.Imagelab(data_path=folder)
lab.find_issues()
s = lab.issue_summary.set_index('issue_type').num_images
found = {k: int(v) for k, v in s.items() if v}""",
}

frame = """
import sys, time, json, os, threading, psutil, resource
folder, out = sys.argv[1:]
me, peak = psutil.Process(), [0]
def rss(): return sum(p.memory_info().rss for p in [me, *me.children(recursive=True)])
def watch():
    while True:
        try: peak[0] = max(peak[0], rss())
        except psutil.Error: pass
        time.sleep(0.05)
threading.Thread(target=watch, daemon=True).start()
{code}
seconds = time.perf_counter() - start
cpu = sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
open(out, 'w').write(json.dumps(dict(seconds=seconds, cpu_seconds=cpu, peak_rss_mb=round(peak[0]/1e6), found=found)))
"""


def measure(name, folder, timeout):
    "Seconds, peak memory of all processes together, and what was found; or why it could not be run"
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp)/'out.json'
        try: r = subprocess.run([sys.executable, '-W', 'ignore', '-c', frame.replace('{code}', contenders[name]), str(folder), str(out)], capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired: return dict(error=f'over {timeout} s')
        return json.loads(out.read_text()) if out.exists() else dict(error=(r.stderr.strip().splitlines() or ['?'])[-1])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--sizes', type=int, nargs='+', default=[1_000, 10_000, 100_000], help='numbers of files')
    p.add_argument('--only', nargs='+', choices=list(contenders), help='contenders to run')
    p.add_argument('--timeout', type=float, default=3600, help='seconds for one contender')
    p.add_argument('--folder', type=Path, help='where to make the files; a temporary folder by default')
    p.add_argument('--json', type=Path, help='also write the figures here')
    args = p.parse_args()
    rows, cpus = [], len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    print(f'{platform.processor() or platform.machine()}, {cpus} cores, Python {platform.python_version()}')
    print(f"{'files':>7}  {'contender':27}{'seconds':>9}{'cpu s':>9}{'files/s':>9}{'peak MB':>9}  found", flush=True)
    for n in args.sizes:
        with tempfile.TemporaryDirectory(dir=args.folder) as tmp:
            folder = Path(tmp)/'photos'
            planted = make_files(folder, n)
            print(f'{n:7}  planted: {planted}', flush=True)
            for name in args.only or contenders:
                r = dict(files=n, contender=name, planted=planted, **measure(name, folder, args.timeout))
                rows.append(r)
                if 'error' in r: print(f"{n:7}  {name:27} not measured: {r['error']}", flush=True)
                else: print(f"{n:7}  {name:27}{r['seconds']:9.2f}{r['cpu_seconds']:9.2f}{n/r['seconds']:9.0f}{r['peak_rss_mb']:9}  {r['found']}", flush=True)
            if args.json: args.json.write_text(json.dumps(dict(when=time.strftime('%Y-%m-%d'), cpus=cpus, python=platform.python_version(), rows=rows), indent=1))
    for name in args.only or contenders:
        t = [(r['files'], r['seconds']) for r in rows if r['contender'] == name and 'seconds' in r]
        if len(t) > 1: print(f"{name}: time grows as files to the power {np.polyfit(*np.log(t).T, 1)[0]:.2f} (1 is linear)")


if __name__ == '__main__': main()
