"""Counts what `meson test` recorded in a build folder and names what failed on stderr. Prints "PASSED FAILED SKIPPED".

A program that reports its tests one by one (TAP) counts as that many; another one counts as one.
"""
import json
import sys
import xml.etree.ElementTree

PASSING, SKIPPED = ("OK", "EXPECTEDFAIL"), ("SKIP",)


def cases_by_program(junit_path):
    """Names and outcomes of the single tests of each program, by meson's name of it."""
    programs = {}
    for suite in xml.etree.ElementTree.parse(junit_path).getroot():
        # a program with single tests is a suite of its own, "project.NAME"; the others share one
        for case in suite.findall("testcase"):
            outcome = "passed"
            if case.find("failure") is not None or case.find("error") is not None:
                outcome = "failed"
            elif case.find("skipped") is not None:
                outcome = "skipped"
            programs.setdefault(suite.get("name"), []).append((case.get("name"), outcome))
    return programs


def main():
    logs = sys.argv[1] + "/meson-logs/"
    passed = failed = skipped = 0
    singles = cases_by_program(logs + "testlog.junit.xml")
    with open(logs + "testlog.json", encoding="utf-8") as file:
        programs = [json.loads(line) for line in file]
    for program in programs:
        name = program["name"].split(" / ")[-1]
        cases = next((cases for suite, cases in singles.items() if suite.endswith("." + program["name"])), [(name, None)])
        good = program["result"] in PASSING
        bad = [case for case, outcome in cases if outcome == "failed"]
        if program["result"] in SKIPPED:
            skipped += 1
            continue
        if len(cases) == 1 and cases[0][1] is None:
            passed, failed = passed + good, failed + (not good)
        else:
            passed += sum(outcome == "passed" for _, outcome in cases)
            skipped += sum(outcome == "skipped" for _, outcome in cases)
            failed += len(bad) or (not good)  # a crash fails, though no single test did
        if not good:
            print(f"FAILED  {name} ({program['result'].lower()}) {', '.join(bad)}", file=sys.stderr)
            output = program.get("stdout", "") + program.get("stderr", "")
            print("\n".join("        " + line for line in output.splitlines()[-40:]), file=sys.stderr)
    print(passed, failed, skipped)


if __name__ == "__main__":
    main()
