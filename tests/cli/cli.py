"""What the tests of the program share: running it, the places of things, and a TAP report for meson.

Each test is a method whose name is its claim. The program is the one named by DSPARK, the source tree by DSPARK_SOURCE_ROOT.
"""
import fcntl
import json
import os
import subprocess
import sys
import unittest

ROOT = os.environ["DSPARK_SOURCE_ROOT"]
PROGRAM = os.environ["DSPARK"]
TARGET = os.path.join(ROOT, "models", "tiny", "target")
DRAFTER = os.path.join(ROOT, "models", "tiny", "dspark")
QUESTION = "How many legs do three cats and two birds have together?"
TIMEOUT = 240  # seconds; only a hang takes that long, sanitizers included


class Result:
    def __init__(self, done):
        self.code = done.returncode
        self.out_bytes = done.stdout
        self.out = done.stdout.decode("utf-8")  # all output is valid UTF-8: a claim of its own
        self.err = done.stderr.decode("utf-8", "replace")

    def json(self):
        return json.loads(self.out)


def dspark(*args, stdin=b"", env=None):
    """Runs the program to its end."""
    environment = dict(os.environ, **(env or {}))
    done = subprocess.run([PROGRAM, *map(str, args)], input=stdin, capture_output=True, timeout=TIMEOUT, env=environment)
    return Result(done)


def start(*args, **kwargs):
    """Starts the program; the caller waits."""
    return subprocess.Popen([PROGRAM, *map(str, args)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **kwargs)


def start_talking(*args, **kwargs):
    """Starts the program with a stdout that takes one page. What has more to say cannot end before the caller reads or closes it."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = start(*args, stdout=writer, **kwargs)
    os.close(writer)
    return process, open(reader, "rb", buffering=0)


class CliTest(unittest.TestCase):
    maxDiff = None

    def expect(self, code, *args, says=(), **kwargs):
        """Runs the program and checks its exit code and that stderr holds each of `says`."""
        result = dspark(*args, **kwargs)
        self.assertEqual(result.code, code, f"{args}\nstderr: {result.err}")
        for part in [says] if isinstance(says, str) else says:
            self.assertIn(part, result.err, f"{args}")
        return result

    def expect_usage(self, *args, says):
        """Wrong usage: exit code 2, nothing on stdout, the message, and where help is."""
        result = self.expect(2, *args, says=says)
        self.assertEqual(result.out, "", args)
        self.assertIn("--help", result.err, args)

    def run_json(self, *args, code=0):
        """`dspark run --json` on the tiny target."""
        return self.expect(code, "run", "-m", TARGET, "--json", *args).json()


class TapResult(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.number = 0
        self.failed = False

    def startTest(self, test):
        super().startTest(test)
        self.number += 1
        self.failed = False
        self.skipped_because = None

    def tell(self, text):
        for line in text.splitlines():
            print("# " + line)
        self.failed = True

    def addError(self, test, err):
        super().addError(test, err)
        self.tell(self._exc_info_to_string(err, test))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.tell(self._exc_info_to_string(err, test))

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.tell(str(subtest) + "\n" + self._exc_info_to_string(err, test))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.skipped_because = reason

    def stopTest(self, test):
        skip = f" # SKIP {self.skipped_because}" if self.skipped_because else ""
        print(f"{'not ok' if self.failed else 'ok'} {self.number} - {test.id().split('.')[-1]}{skip}", flush=True)
        super().stopTest(test)


def main():
    """Runs the tests of the calling file and reports them as TAP. Arguments choose tests by a part of their names."""
    suite = unittest.TestSuite()
    for test in unittest.TestLoader().loadTestsFromName("__main__"):
        for case in test:
            for one in case if isinstance(case, unittest.TestSuite) else [case]:
                if not sys.argv[1:] or any(part in one.id() for part in sys.argv[1:]):
                    suite.addTest(one)
    print(f"1..{suite.countTestCases()}", flush=True)
    result = TapResult()
    suite.run(result)
    sys.exit(0 if result.wasSuccessful() else 1)
