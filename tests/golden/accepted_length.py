#!/usr/bin/env python3
"""Mean accepted length of the drafters in models/tiny over a set of questions, to hold against the reference implementation's.

    tests/golden/accepted_length.py build/tools/dspark QUESTIONS.jsonl [--count 40] [--strip SUFFIX] [--drafter dspark,dflash,eagle3] [--seed S] [-- OPTIONS]

QUESTIONS.jsonl has one {"turns": [TEXT, ..]} a line; first turns are asked, greedily, at most 128 new tokens, weights and cache in
f32, as the reference ran. Printed are the mean over all rounds (the token of the target counted), its standard error over questions, and the
acceptance rate by draft position. OPTIONS go to `dspark run`: `--temp 1 --sampling rejection` samples as the reference does; question i then has seed S + i. The comparison of every draft is tests/golden/test_drafter_golden.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def ask(program, drafter, question, tokens, options):
    """(tokens committed, rounds, [(drafts verified, accepted)]) of one answer."""
    with tempfile.TemporaryDirectory() as folder:
        trace = os.path.join(folder, "trace")
        command = [program, "run", "-m", os.path.join(ROOT, "models/tiny/target"), "-d", os.path.join(ROOT, "models/tiny", drafter), "--chat",
                   "-p", question, "-n", str(tokens), "--kv", "f32", "--weights", "f32", "--spec", "fixed:7", "--json", "--trace", trace] + options
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        with open(trace) as f:
            rounds = [json.loads(line) for line in f]
    return answer["tau"] * answer["rounds"], answer["rounds"], [(r["verified"], r["accepted"]) for r in rounds]


def measure(program, drafter, questions, tokens, options, seed):
    answers = [ask(program, drafter, q, tokens, options + (["--seed", str(seed + i)] if seed is not None else [])) for i, q in enumerate(questions)]
    committed, rounds = sum(a[0] for a in answers), sum(a[1] for a in answers)
    tau = committed / rounds
    # A ratio of sums over questions: its error by linearisation.
    n = len(answers)
    spread = sum((a[0] - tau * a[1]) ** 2 for a in answers) / max(n - 1, 1)
    error = (spread / n) ** 0.5 * n / rounds
    each = sum(a[0] / a[1] for a in answers if a[1]) / n
    most = max((v for a in answers for v, _ in a[2]), default=0)
    reached = [sum(v > k and c >= k for a in answers for v, c in a[2]) for k in range(most)]
    passed = [sum(v > k and c > k for a in answers for v, c in a[2]) for k in range(most)]
    rates = " ".join("%.2f" % (p / r) if r else "-" for p, r in zip(passed, reached))
    print("%-8s tau %.3f +- %.3f (mean of the answers' own %.3f), %d rounds of %d answers; by position: %s" % (drafter, tau, error, each, rounds, n, rates))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("questions")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--strip", default="\nPlease reason", help="what follows this text in a question is left out")
    parser.add_argument("--drafter", default="dspark,dflash,eagle3")
    parser.add_argument("--seed", type=int)
    own = sys.argv[1:sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    options = sys.argv[sys.argv.index("--") + 1:] if "--" in sys.argv else []
    args = parser.parse_args(own)
    with open(args.questions) as f:
        questions = [json.loads(line)["turns"][0].split(args.strip)[0].rstrip("\n") for line in f][:args.count]
    for drafter in args.drafter.split(","):
        measure(args.program, drafter, questions, args.tokens, options, args.seed)


if __name__ == "__main__":
    main()
