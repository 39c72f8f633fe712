"""The README's two commands: their shell is sound, and what the README names exists."""
import os
import re
import shutil
import subprocess

from cli import ROOT, CliTest, main

SCRIPTS = ["tools/demo", "tools/test", "tools/lib/setup.sh", ".ci/run"]


class Scripts(CliTest):
    def test_they_parse(self):
        for script in SCRIPTS:
            with self.subTest(script=script):
                subprocess.run(["bash", "-n", os.path.join(ROOT, script)], check=True)

    def test_shellcheck_finds_nothing(self):
        if not shutil.which("shellcheck"):
            self.skipTest("shellcheck is not installed")
        done = subprocess.run(["shellcheck", "-x", *SCRIPTS], cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(done.stdout, "")

    def test_those_that_users_start_are_executable(self):
        for script in "tools/demo", "tools/test", ".ci/run":
            self.assertTrue(os.access(os.path.join(ROOT, script), os.X_OK), script)

    def test_every_file_the_readme_names_exists(self):
        for document in "README.md", "CONTRIBUTING.md":
            with open(os.path.join(ROOT, document), encoding="utf-8") as file:
                text = file.read()
            named = re.findall(r"\]\(([^)#:]+)\)", text)
            named += re.findall(r"(?<![\w/.])((?:tools|docs|src|tests|models|examples|backends)/[\w./-]*\w)", text)
            self.assertTrue(named)
            for path in sorted(set(named)):
                with self.subTest(document=document, path=path):
                    self.assertTrue(os.path.exists(os.path.join(ROOT, path)), path)


if __name__ == "__main__":
    main()
