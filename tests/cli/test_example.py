"""The example of the C API does what the program does."""
import os
import subprocess

from cli import DRAFTER, TARGET, TIMEOUT, CliTest, main

EXAMPLE = os.environ["DSPARK_EXAMPLE"]
PROMPT = "def area(radius):\n    "


class Example(CliTest):
    def test_it_gives_the_text_of_run_with_and_without_a_drafter(self):
        sampling = ["--temp", "0.8", "--top-p", "0.95", "--seed", "42", "-n", "64"]
        expected = self.expect(0, "run", "-m", TARGET, "-p", PROMPT, *sampling).out_bytes
        for arguments in [TARGET], [TARGET, DRAFTER]:
            done = subprocess.run([EXAMPLE, *arguments], input=PROMPT.encode(), capture_output=True, timeout=TIMEOUT)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout, expected)

    def test_answers_made_together_are_those_of_run(self):
        prompts = [PROMPT.strip(), "Tom has 5 apples", "Tom has 5 pears and", "x"]
        expected = b""
        for prompt in prompts:
            expected += prompt.encode() + self.expect(0, "run", "-m", TARGET, "-p", prompt, "-n", "48").out_bytes + b"\n---\n"
        for arguments in [TARGET], [TARGET, DRAFTER]:
            done = subprocess.run([os.environ["DSPARK_TOGETHER"], *arguments], input="\n".join(prompts).encode(), capture_output=True, timeout=TIMEOUT)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(sorted(done.stdout.split(b"\n---\n")), sorted(expected.split(b"\n---\n")))

    def test_it_explains_failures(self):
        done = subprocess.run([EXAMPLE, "/nonexistent"], input=b"", capture_output=True, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"/nonexistent", done.stderr)
        self.assertEqual(subprocess.run([EXAMPLE], capture_output=True, timeout=TIMEOUT).returncode, 2)


if __name__ == "__main__":
    main()
