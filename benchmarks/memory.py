"""Does `estimate_memory` tell what training takes? `python -m benchmarks.memory`. Estimate against the peak of a fresh process (or of the GPU)."""
import json
import subprocess
import sys

from benchmarks.clock import gpu_or_leave, parser


def measure(**kwargs):
    "`step_memory` in a process that has done nothing big before"
    code = f'from cable_classifier.finetune import step_memory; print(step_memory(**{kwargs!r}))'
    return int(subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, capture_output=True, text=True).stdout.split()[-1])


def main():
    args = parser(__doc__, repeat=1).parse_args()
    gpu_or_leave(args)
    from cable_classifier.finetune import estimate_memory
    cases = [('resnet18', 64, 4)] if args.small else [('resnet18', 160, 32), ('resnet18', 224, 16), ('resnet18', 224, 32), ('resnet34', 224, 16),
                                                      ('resnet50', 160, 8), ('resnet50', 224, 16), ('squeezenet1_1', 224, 16)]
    rows = []
    print(f"{'':28} {'estimate, MB':>13} {'peak, MB':>9} {'ratio':>6}   one measurement each")
    for arch, size, bs in cases:
        told = estimate_memory(arch, size, bs)['total']
        seen = measure(arch=arch, size=size, bs=bs, device='cuda' if args.gpu else 'cpu')
        rows.append(dict(arch=arch, size=size, bs=bs, estimate=told, peak=seen, ratio=told/seen))
        print(f'{arch}, {size} px, batch {bs:<5} {told:13} {seen:9} {told/seen:6.2f}')
    if args.json: args.json.write_text(json.dumps(dict(rows=rows), indent=1), encoding='utf-8')


if __name__ == '__main__': main()
